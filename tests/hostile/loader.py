# verdict: error PermissionError|FileNotFoundError
# the dynamic loader starts any program that can be read
import os

os.execv("/lib64/ld-linux-x86-64.so.2", ["ld.so", "/bin/sh", "-c", "echo hello"])
