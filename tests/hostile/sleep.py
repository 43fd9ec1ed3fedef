# verdict: timeout
# limits: short
import time

time.sleep(99)
