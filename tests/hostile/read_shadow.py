# verdict: error PermissionError|FileNotFoundError
print(open("/etc/shadow").read())
