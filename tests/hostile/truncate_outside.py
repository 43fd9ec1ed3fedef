# verdict: error PermissionError|FileNotFoundError
import os

os.truncate(OUTSIDE + "/secret.txt", 0)
# ruff: noqa: F821
