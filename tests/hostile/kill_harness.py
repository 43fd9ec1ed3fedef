# verdict: error PermissionError
import os

os.kill(HARNESS, 9)
# ruff: noqa: F821
