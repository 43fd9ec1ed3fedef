# verdict: error PermissionError|FileNotFoundError
import os

open(f"/proc/{os.getppid()}/mem", "rb").read(1)
