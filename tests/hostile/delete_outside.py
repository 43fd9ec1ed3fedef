# verdict: error PermissionError|FileNotFoundError
import os
import shutil

shutil.rmtree(OUTSIDE, ignore_errors=True)
os.unlink(OUTSIDE + "/secret.txt")
# ruff: noqa: F821
