# verdict: error PermissionError
import os

os.chown(OUTSIDE + "/secret.txt", 1, 1)
# ruff: noqa: F821
