# verdict: error PermissionError
import os

os.execv("/bin/sh", ["sh", "-c", "cat /etc/passwd"])
