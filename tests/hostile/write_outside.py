# verdict: error PermissionError|FileNotFoundError|OSError
open(OUTSIDE + "/new.txt", "w").write("x")
# ruff: noqa: F821
