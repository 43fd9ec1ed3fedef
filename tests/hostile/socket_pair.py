# verdict: error PermissionError
# a pair of streams reaches nothing but itself; a pair of datagrams could be sent elsewhere
import socket

socket.socketpair()
socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
