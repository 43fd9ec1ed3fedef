"""A process locks itself up: streams, folder, environment, limits, capabilities, files, system calls, in this order, for good.

Nothing here can be undone by what runs afterwards, whatever it is: the limits are hard ones, capabilities are dropped from every
set, and Landlock and seccomp only ever add to what is refused.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass

from etude.sandbox import landlock, syscalls
from etude.sandbox.programs import Limits

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")
QUIET = ("/dev/null", "/dev/zero", "/dev/urandom")
REPORT, CHALLENGE = 3, 4
"""Descriptors of a jailed program: what it reports on, and where the nonce waits until its checks are done."""

MOST_DESCRIPTORS = 256
"""The warden lives with so few, so that all of them are quickly closed."""

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 24, 28, 38, 47


@dataclass(frozen=True, slots=True)
class Walls:
    """What a jailed process may do beside computing. `files`: whether Landlock is needed (not inside a container that has nothing but
    an interpreter, on a kernel without it); `execute`: the program that is started next and its loader, none for Python."""

    files: bool = True
    execute: tuple[str, ...] = ()


def refusal(files: bool = True) -> str:
    """Why this machine cannot hold a program, "" if it can."""
    if sys.platform != "linux":
        return f"needs Linux, not {sys.platform}"
    if platform.machine() not in syscalls.AUDIT:
        return f"there is no table of system calls for {platform.machine()} (there is for {' and '.join(syscalls.AUDIT)})"
    if struct.calcsize("P") != 8:
        return "needs a 64-bit Python"
    if files and not landlock.version():
        return "the kernel offers no Landlock (Linux 5.13 with the landlock module enabled)"
    return ""


def streams(output: int, report: int, challenge: int, given: int | None = None) -> None:
    """Standard input from /dev/null (or `given`), both outputs to `output`, REPORT and CHALLENGE; every other descriptor is closed."""
    source = os.open("/dev/null", os.O_RDONLY) if given is None else given
    # first out of the way of 0 to 4, so that none is overwritten before it is copied
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (source, output, output, report, challenge)]
    for target, fd in enumerate(high):
        os.dup2(fd, target)
    os.closerange(5, MOST_DESCRIPTORS)


def limit(limits: Limits, address_space: bool) -> None:
    """Set the hard limits. `address_space` bounds all of it, else the data alone (engines that reserve what they never touch)."""
    memory = limits.memory_mb << 20
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_seconds + 1,
        resource.RLIMIT_AS if address_space else resource.RLIMIT_DATA: memory,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for what, value in wanted.items():
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        soft = min(value, limits.cpu_seconds) if what == resource.RLIMIT_CPU else value
        resource.setrlimit(what, (soft, value))


def drop_capabilities(libc: ctypes.CDLL) -> None:
    """Empty every set of capabilities, and let no later program fill one; the user stays who it is (the interpreter may stand in a
    folder that only this user can read)."""
    for number in range(64):
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # refused to who has none: nothing is lost
    libc.prctl(PR_SET_SECUREBITS, 0x2F, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    if libc.capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "cannot drop capabilities")


def libraries() -> tuple[str, ...]:
    """Where this interpreter's standard library and shared objects are: folders that every program may read."""
    paths = sysconfig.get_paths()
    own = {paths["stdlib"], paths["platstdlib"], os.path.join(sys.base_prefix, "lib"), *(p for p in sys.path if p.endswith("lib-dynload"))}
    return (*sorted(own), *LIBRARIES)


def enter(folder: str, limits: Limits, walls: Walls, environment: Mapping[str, str], parent: int) -> None:
    """Lock this process up in `folder`. `streams` must have run. Raises OSError where anything is refused: then nothing may be run.

    `parent`: the process whose death ends this one.
    """
    for name in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL if name != signal.SIGXFSZ else signal.SIG_IGN)
    os.chdir(folder)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(environment)
    libc = ctypes.CDLL(None, use_errno=True)
    drop_capabilities(libc)
    limit(limits, address_space=not walls.execute)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        raise OSError(errno.ESRCH, "who watches this process is gone")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    offered = landlock.version()
    if walls.files or offered:
        landlock.restrict(libraries(), walls.execute, [folder], QUIET)
    execute = bool(walls.execute)
    syscalls.install(syscalls.program(platform.machine(), os.getpid(), execute=execute, truncate=offered >= 3 or not walls.files))


def proof(files: bool = True) -> str:
    """Try what must be refused, from inside; "" if all was, else what was not. `files`: other files must be out of reach too. Changes
    nothing where it succeeds."""
    import socket

    tries = {
        "reading /etc/passwd": lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)),
        "listing /": lambda: os.listdir("/"),
        "reading /proc/1/environ": lambda: os.close(os.open("/proc/1/environ", os.O_RDONLY)),
        "opening a socket": lambda: socket.socket(socket.AF_INET).close(),
        "opening a UNIX socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "signalling": lambda: os.kill(os.getppid(), 0),
        "changing a mode": lambda: os.chmod(".", 0o700),
        "changing times": lambda: os.utime(".", (0, 0)),
        "raising a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "making a process": fork,
        "starting another program": lambda: os.execv("/bin/true", ["true"]),
    }
    if not files:
        tries = {what: attempt for what, attempt in tries.items() if "/" not in what}
    for what, attempt in tries.items():
        try:
            attempt()  # type: ignore[no-untyped-call]
        except ValueError:  # how Python says that a limit may not be set
            continue
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                continue
            if error.errno == errno.ENOENT and "/" in what:
                continue  # not there to be read, as inside bubblewrap
            return f"{what} answered {errno.errorcode.get(error.errno or 0, '?')}, not a refusal"
        return f"{what} is not refused"
    return ""


def fork() -> None:
    """Make a process that ends at once."""
    if os.fork() == 0:
        os._exit(0)
