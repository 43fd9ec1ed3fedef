# verdict: passed
import ctypes
import struct

libc = ctypes.CDLL(None, use_errno=True)
held = ctypes.create_string_buffer(24)
assert libc.capget(struct.pack("=Ii", 0x20080522, 0), held) == 0
assert held.raw == bytes(24), held.raw
assert libc.prctl(38, 1, 0, 0, 0) == -1
assert libc.setuid(0) == -1
