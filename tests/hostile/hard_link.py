# verdict: error OSError|PermissionError|FileNotFoundError
import os

os.link(OUTSIDE + "/secret.txt", "mine")
# ruff: noqa: F821
