# verdict: error PermissionError|FileNotFoundError
import os

print(open(f"/proc/{os.getppid()}/environ", "rb").read())
