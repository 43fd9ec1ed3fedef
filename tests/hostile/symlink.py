# verdict: error PermissionError|FileNotFoundError
import os

os.symlink("/etc/shadow", "s")
print(open("s").read())
