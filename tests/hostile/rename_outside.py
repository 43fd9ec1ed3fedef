# verdict: error OSError|PermissionError|FileNotFoundError
import os

os.rename(OUTSIDE + "/secret.txt", "mine")
# ruff: noqa: F821
