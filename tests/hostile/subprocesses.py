# verdict: error PermissionError
import subprocess

print(subprocess.run(["ls"], capture_output=True))
