# verdict: error PermissionError|FileNotFoundError
open(OUTSIDE + "/secret.txt", "r+").write("x")
# ruff: noqa: F821
