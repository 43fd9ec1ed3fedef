# verdict: error PermissionError
import os

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/tmp/left-behind", "w").write("x")
