# verdict: passed
# by number, past the C library: fork, vfork, clone without threads, clone3, and fork of the x32 kind
import ctypes
import platform

call = ctypes.CDLL(None, use_errno=True).syscall
tries = [(220, 17, 0, 0, 0, 0)] if platform.machine() == "aarch64" else [(57,), (58,), (56, 17, 0, 0, 0, 0), (0x40000000 + 57,)]
for numbers in [*tries, (435, 0, 88)]:
    assert call(*numbers) == -1, numbers
    assert ctypes.get_errno() in (1, 38), (numbers, ctypes.get_errno())
