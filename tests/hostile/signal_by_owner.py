# verdict: error PermissionError|OSError
# a descriptor's owner is sent a signal of one's choice when it becomes ready
import fcntl
import os

read, write = os.pipe()
fcntl.fcntl(read, fcntl.F_SETOWN, os.getppid())
fcntl.fcntl(read, 10, 9)
fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC)
os.write(write, b"x")
