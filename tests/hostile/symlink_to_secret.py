# verdict: error PermissionError|FileNotFoundError
import os

os.symlink(OUTSIDE, "door")
open("door/secret.txt", "w").write("x")
# ruff: noqa: F821
