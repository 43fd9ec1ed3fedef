# verdict: error PermissionError|FileNotFoundError
print(open(OUTSIDE + "/secret.txt").read())
# ruff: noqa: F821
