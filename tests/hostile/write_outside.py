# verdict: error PermissionError|FileNotFoundError|OSError
open(OUTSIDE + "/new.txt", "w").write("x")
