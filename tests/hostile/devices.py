# verdict: error PermissionError
import os

os.mkfifo("pipe")
