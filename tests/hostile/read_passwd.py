# verdict: error PermissionError|FileNotFoundError
print(open("/etc/passwd").read())
