# verdict: passed
# ptrace, process_vm_readv, mount, bpf, perf_event_open, keyctl, userfaultfd, io_uring_setup, memfd_create, pidfd_open, personality
import ctypes
import platform

call = ctypes.CDLL(None, use_errno=True).syscall
arm = platform.machine() == "aarch64"
intel_numbers = (101, 310, 165, 321, 298, 250, 323, 425, 319, 434, 135, 29, 240, 272)
arm_numbers = (117, 270, 40, 280, 241, 219, 282, 425, 279, 434, 92, 194, 180, 97)
for number in arm_numbers if arm else intel_numbers:
    assert call(number, 0, 0, 0, 0, 0, 0) == -1, number
    assert ctypes.get_errno() == 1, (number, ctypes.get_errno())
assert call(5000, 0) == -1
assert ctypes.get_errno() == 38  # newer than this was written
