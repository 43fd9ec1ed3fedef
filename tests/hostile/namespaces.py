# verdict: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x20000, 0x40000000):
    assert libc.unshare(flags) == -1
    assert ctypes.get_errno() == 1
