# verdict: error PermissionError|AssertionError
import os

names = os.listdir("/")
assert "home" in names, names
