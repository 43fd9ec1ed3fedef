"""Which system calls a jailed program may make: a list of what is allowed, as a seccomp filter.

A list of what is forbidden rots with every kernel (`fchmodat2`, `setxattrat` ... came after most such lists were written), so all is
refused with EPERM but what stands here: reading and writing files (which ones is Landlock's to say), memory, threads, time, and
signals to itself. No process can be made (`fork`, `vfork`, `clone` without CLONE_THREAD), none signalled or traced, no socket
opened but a pair that is connected to itself, nothing executed, no mode, owner, time or attribute of a file changed (Landlock does
not mediate those), no resource limit raised. `clone3` and calls newer than this table answer ENOSYS, at which the C library falls
back to older ones.

Numbers: the Linux kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64); structures:
seccomp(2), include/uapi/linux/{filter,seccomp,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of the machines that there are tables for."""

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # files, as far as Landlock lets them be reached
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "access": (21, None),
    "sendfile": (40, 71), "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "truncate": (76, 45), "ftruncate": (77, 46),
    "getdents": (78, None), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "mkdir": (83, None),
    "rmdir": (84, None), "creat": (85, None), "link": (86, None), "unlink": (87, None), "symlink": (88, None), "readlink": (89, None),
    "umask": (95, 166), "statfs": (137, 43), "fstatfs": (138, 44), "getdents64": (217, 61), "fadvise64": (221, 223), "openat": (257, 56),
    "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38), "linkat": (265, 37),
    "symlinkat": (266, 36), "readlinkat": (267, 78), "faccessat": (269, 48), "fallocate": (285, 47), "preadv": (295, 69),
    "pwritev": (296, 70), "renameat2": (316, 276), "copy_file_range": (326, 285), "statx": (332, 291), "faccessat2": (439, 439),
    # descriptors and waiting for them
    "poll": (7, None), "ioctl": (16, 29), "pipe": (22, None), "select": (23, None), "dup": (32, 23), "dup2": (33, None), "fcntl": (72, 25),
    "epoll_wait": (232, None), "epoll_ctl": (233, 21), "pselect6": (270, 72), "ppoll": (271, 73), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "dup3": (292, 24), "pipe2": (293, 59), "close_range": (436, 436),
    "epoll_pwait2": (441, 441),
    # two connected sockets, which event loops wake themselves with
    "socketpair": (53, 199), "sendto": (44, 206), "recvfrom": (45, 207), "shutdown": (48, 210), "getsockopt": (55, 209),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "msync": (26, 227),
    "mincore": (27, 232), "madvise": (28, 233), "pkey_mprotect": (329, 288), "pkey_alloc": (330, 289), "pkey_free": (331, 290),
    # threads, signals to oneself, time
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sched_yield": (24, 124), "nanosleep": (35, 101),
    "getitimer": (36, 102), "alarm": (37, None), "setitimer": (38, 103), "clone": (56, 220), "exit": (60, 93), "kill": (62, 129),
    "sigaltstack": (131, 132), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "arch_prctl": (158, None), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "set_tid_address": (218, 96), "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "tgkill": (234, 131), "set_robust_list": (273, 99),
    "membarrier": (324, 283), "rseq": (334, 293), "gettimeofday": (96, 169), "time": (201, None),
    # what a process may know of itself
    "getpid": (39, 172), "uname": (63, 160), "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "getpgrp": (111, None), "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150), "getpgid": (121, 155),
    "getsid": (124, 156), "capget": (125, 90), "prctl": (157, 167), "gettid": (186, 178), "prlimit64": (302, 261), "getcpu": (309, 168),
    "getrandom": (318, 278),
    # only for interpreters that are started, not forked
    "execve": (59, 221),
}  # fmt: skip
"""Name -> its number on (x86_64, aarch64); None where that machine has no such call."""

CLONE3 = 435
NEWEST = 500
"""A call above is newer than any kernel this was written for, and answers ENOSYS."""

X32 = 0x40000000
"""The bit that marks the x32 calls of an x86_64 kernel."""


@dataclass(frozen=True, slots=True)
class Among:
    """The lower 32 bits of an argument are one of these values."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HasBit:
    """An argument has one of these bits."""

    argument: int
    bits: int


@dataclass(frozen=True, slots=True)
class IsZero:
    """All 64 bits of an argument are zero."""

    argument: int


Condition = Among | HasBit | IsZero


def conditions(pid: int) -> dict[str, tuple[Condition, ...]]:
    """What must hold of a call's arguments; a call that is not here is allowed with any.

    `fcntl` without F_SETOWN and F_SETSIG (which send signals), `ioctl` of terminals' questions and of flags, `kill` and `tgkill` of
    the process itself, `prlimit64` for reading, `prctl` for names (PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ,
    PR_SET_VMA), `clone` of threads (CLONE_THREAD), `socketpair` of UNIX streams, which reach nothing but each other, and `sendto`
    without an address.
    """
    return {
        "clone": (HasBit(0, 0x00010000),),
        "fcntl": (Among(1, (0, 1, 2, 3, 4, 5, 6, 7, 1030)),),
        "ioctl": (Among(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),),
        "kill": (Among(0, (pid,)),),
        "tgkill": (Among(0, (pid,)),),
        "prctl": (Among(0, (3, 15, 16, 23, 0x53564D41)),),
        "prlimit64": (Among(0, (0, pid)), IsZero(2)),
        "socketpair": (Among(0, (1,)), Among(1, (1, 0x801, 0x80001, 0x80801))),
        "sendto": (IsZero(4),),
    }


LOAD, EQUALS, ABOVE, BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of classic BPF: load a word, jump if equal, if at least, if any bit is set, return."""
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, k)"""


def program(machine: str, pid: int, *, execute: bool = False, truncate: bool = True) -> list[Instruction]:
    """The filter for the process `pid` on a machine of `AUDIT`. `execute`: execve is allowed; `truncate`: so is truncate by path,
    which Landlock mediates since its third version only. Raises ValueError for a machine that there is no table for."""
    column = list(AUDIT).index(machine)
    code: list[Instruction] = [(LOAD, 0, 0, 4), (EQUALS, 1, 0, AUDIT[machine]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    if machine == "x86_64":
        code += [(ABOVE, 0, 1, X32), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    code += [(EQUALS, 0, 1, CLONE3), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    code += [(ABOVE, 0, 1, NEWEST), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    wanted = conditions(pid)
    for name, numbers in NUMBERS.items():
        number = numbers[column]
        if number is None or (name == "execve" and not execute) or (name == "truncate" and not truncate):
            continue
        body = checked(wanted.get(name, ()))
        code += [(EQUALS, 0, len(body), number), *body]
    return [*code, (RETURN, 0, 0, REFUSE | errno.EPERM)]


def checked(wanted: tuple[Condition, ...]) -> list[Instruction]:
    """Allow if all conditions hold, else refuse with EPERM."""
    sizes = [1 + len(c.values) if isinstance(c, Among) else 2 if isinstance(c, HasBit) else 4 for c in wanted]
    refuse = sum(sizes) + 1  # the place of the last instruction, after that which allows
    code: list[Instruction] = []
    for condition in wanted:
        low = 16 + 8 * condition.argument
        code.append((LOAD, 0, 0, low))
        if isinstance(condition, Among):
            for place, value in enumerate(condition.values):
                left = len(condition.values) - place - 1
                code.append((EQUALS, left, 0 if left else refuse - len(code) - 1, value & 0xFFFFFFFF))
        elif isinstance(condition, HasBit):
            code.append((BITS, 0, refuse - len(code) - 1, condition.bits))
        else:
            code.append((EQUALS, 0, refuse - len(code) - 1, 0))
            code.append((LOAD, 0, 0, low + 4))
            code.append((EQUALS, 0, refuse - len(code) - 1, 0))
    return [*code, (RETURN, 0, 0, ALLOW), *([(RETURN, 0, 0, REFUSE | errno.EPERM)] if wanted else [])]


def install(filter: list[Instruction]) -> None:
    """Put this thread and all it starts under the filter for good; no_new_privs must be set. Raises OSError."""

    class Fprog(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    data = b"".join(struct.pack("=HBBI", *one) for one in filter)
    kept = ctypes.create_string_buffer(data, len(data))
    given = Fprog(len(filter), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.byref(given), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), f"seccomp: {errno.errorcode.get(ctypes.get_errno(), '?')}")
