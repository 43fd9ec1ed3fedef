# verdict: error PermissionError
import os
import time

if os.fork() == 0:
    time.sleep(60)
