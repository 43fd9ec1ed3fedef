# verdict: error PermissionError
import os

os.killpg(os.getpgid(os.getppid()), 9)
