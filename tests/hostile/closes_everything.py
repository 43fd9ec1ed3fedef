# verdict: exited
import os

os.closerange(0, 64)
os._exit(0)
