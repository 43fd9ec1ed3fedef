"""Which files a process may see and change: the Linux security module Landlock (kernel 5.13 and later), which needs no privilege.

Structures and rights: include/uapi/linux/landlock.h; system calls 444 to 446 on every machine. What Landlock does not mediate (chmod,
chown, times, attributes) `syscalls` refuses; that a file outside exists, and how long it is, a program may still learn (stat).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FIRST = (1 << 13) - 1
"""The rights that the first version knows."""


def version() -> int:
    """The version of Landlock's interface that the kernel offers; 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(444, None, ctypes.c_size_t(0), 1)))


def rights(offered: int) -> int:
    """Every right that a version knows, all of which are taken away unless a rule gives them back."""
    return FIRST | (REFER if offered >= 2 else 0) | (TRUNCATE if offered >= 3 else 0) | (IOCTL_DEV if offered >= 5 else 0)


def restrict(read: Iterable[str], execute: Iterable[str], write: Iterable[str], devices: Iterable[str] = ()) -> None:
    """Let this thread, and all it starts, read below `read` and `execute`, execute `execute`, read and change what is below `write`, and
    read and write `devices`, and nothing else, for good; no_new_privs must be set.

    A path that is not there is passed over. With version 4 no TCP port can be bound or connected to, with 6 no abstract UNIX
    socket reached and no process outside signalled. Raises OSError where Landlock is not there or refuses.
    """
    offered = version()
    if offered < 1:
        raise OSError(errno.ENOSYS, "the kernel offers no Landlock")
    libc = ctypes.CDLL(None, use_errno=True)
    every = rights(offered)
    ruled = struct.pack("=QQQ", every, 3 if offered >= 4 else 0, 3 if offered >= 6 else 0)
    size = 8 if offered < 4 else 16 if offered < 6 else 24
    ruleset = libc.syscall(444, ruled, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock: no ruleset")
    try:
        changes = every & ~(MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | MAKE_FIFO | IOCTL_DEV | EXECUTE)
        for paths, allowed in (
            (read, READ_FILE | READ_DIR),
            (execute, READ_FILE | READ_DIR | EXECUTE),
            (write, changes),
            (devices, READ_FILE | WRITE_FILE),
        ):
            for path in paths:
                add(libc, ruleset, path, allowed & every)
        if libc.syscall(446, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "Landlock: cannot restrict this process")
    finally:
        os.close(ruleset)


def add(libc: ctypes.CDLL, ruleset: int, path: str, allowed: int) -> None:
    """One rule: these rights below a folder, or of a file."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
        if libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, place), 0) != 0:
            raise OSError(ctypes.get_errno(), f"Landlock: no rule for {path}")
    finally:
        os.close(place)
