# verdict: error PermissionError
import os

os.chmod(OUTSIDE, 0)
# ruff: noqa: F821
