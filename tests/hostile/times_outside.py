# verdict: error PermissionError
import os

os.utime(OUTSIDE + "/secret.txt", (0, 0))
# ruff: noqa: F821
