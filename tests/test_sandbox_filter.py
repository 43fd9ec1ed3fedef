"""The seccomp filter of both machines, run by an interpreter of classic BPF: no kernel, no second machine needed."""

from __future__ import annotations

import errno

import pytest

from etude.sandbox import landlock, syscalls

PID = 4321
ALLOWED, KILLED = syscalls.ALLOW, syscalls.KILL
REFUSED, UNKNOWN = syscalls.REFUSE | errno.EPERM, syscalls.REFUSE | errno.ENOSYS


def run(machine: str, number: int, *arguments: int, arch: int | None = None, execute: bool = False, truncate: bool = True) -> int:
    """What the filter answers to a call."""
    code = syscalls.program(machine, PID, execute=execute, truncate=truncate)
    words = {0: number, 4: syscalls.AUDIT[machine] if arch is None else arch}
    for place in range(6):
        value = (arguments[place] if place < len(arguments) else 0) & (1 << 64) - 1
        words[16 + 8 * place], words[20 + 8 * place] = value & 0xFFFFFFFF, value >> 32
    at = held = 0
    while True:
        what, yes, no, k = code[at]
        at += 1
        if what == syscalls.LOAD:
            held = words[k]
        elif what == syscalls.RETURN:
            return k
        else:
            true = {syscalls.EQUALS: held == k, syscalls.ABOVE: held >= k, syscalls.BITS: bool(held & k)}[what]
            at += yes if true else no


MACHINES = list(syscalls.AUDIT)


@pytest.fixture(params=MACHINES)
def machine(request):
    return request.param


def number(machine: str, name: str) -> int:
    found = syscalls.NUMBERS[name][MACHINES.index(machine)]
    assert found is not None
    return found


FORBIDDEN = {
    # name: (x86_64, aarch64), none of which stands in the table
    "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117), "socket": (41, 198), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "sendmsg": (46, 211), "sendmmsg": (307, 269), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55), "fchownat": (260, 54), "utimensat": (280, 88), "setxattr": (188, 5),
    "setxattrat": (463, 463), "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51),
    "pivot_root": (155, 41), "bpf": (321, 280), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "keyctl": (250, 219),
    "add_key": (248, 217), "userfaultfd": (323, 282), "perf_event_open": (298, 241), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "setuid": (105, 146), "setrlimit": (160, 164), "personality": (135, 92), "memfd_create": (319, 279), "execveat": (322, 281),
    "mknod": (133, None), "mknodat": (259, 33), "shmget": (29, 194), "msgget": (68, 186), "mq_open": (240, 180), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "setsid": (112, 157), "setpgid": (109, 154), "setpriority": (141, 140), "reboot": (169, 142),
    "kexec_load": (246, 104), "init_module": (175, 105), "acct": (163, 89), "swapon": (167, 224), "syslog": (103, 116),
    "seccomp": (317, 277),
    "capset": (126, 91), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "kcmp": (312, 272), "mlock": (149, 228),
}  # fmt: skip


def test_what_is_forbidden(machine):
    column = MACHINES.index(machine)
    for name, numbers in FORBIDDEN.items():
        if numbers[column] is not None:
            assert run(machine, numbers[column], 1, 1) == REFUSED, name
            assert name not in syscalls.NUMBERS


def test_what_programs_need(machine):
    for name in ("read", "write", "openat", "mmap", "futex", "exit_group", "unlinkat", "clock_gettime", "getrandom"):
        assert run(machine, number(machine, name), *[2**63] * 6) == ALLOWED
    column = MACHINES.index(machine)
    numbers = [row[column] for row in syscalls.NUMBERS.values() if row[column] is not None]
    assert len(numbers) == len(set(numbers))


def test_another_architecture_is_killed_and_newer_calls_are_unknown(machine):
    assert run(machine, 0, arch=0x40000003) == KILLED  # the 32-bit calls of an x86_64 kernel
    assert run(machine, 435, 0, 88) == UNKNOWN  # clone3
    assert run(machine, 501) == run(machine, 5000) == UNKNOWN
    assert run(machine, 499) == REFUSED


def test_x32_calls_are_refused():
    assert run("x86_64", 0x40000000) == run("x86_64", 0x40000000 + 57) == REFUSED


def test_clone_makes_threads_only(machine):
    clone = number(machine, "clone")
    assert run(machine, clone, 0x3D0F00) == ALLOWED  # glibc's pthread_create
    assert run(machine, clone, 17) == REFUSED
    assert run(machine, clone, 0x10000000 | 17) == REFUSED
    assert run(machine, clone, 0x10000 << 32) == REFUSED


def test_signals_reach_the_process_itself_alone(machine):
    for name in ("kill", "tgkill"):
        assert run(machine, number(machine, name), PID, 9) == ALLOWED
        for target in (1, 0, -1, -PID, PID + 1):
            assert run(machine, number(machine, name), target, 9) == REFUSED


def test_limits_can_be_read_not_raised(machine):
    assert run(machine, number(machine, "prlimit64"), 0, 7, 0, 0x7000) == ALLOWED
    assert run(machine, number(machine, "prlimit64"), 0, 7, 0x7000, 0) == REFUSED
    assert run(machine, number(machine, "prlimit64"), 0, 7, 1 << 32, 0) == REFUSED
    assert run(machine, number(machine, "prlimit64"), 1, 7, 0, 0x7000) == REFUSED


def test_arguments_of_the_others(machine):
    fcntl, ioctl, prctl = (number(machine, name) for name in ("fcntl", "ioctl", "prctl"))
    assert [run(machine, fcntl, 3, what) for what in (1, 3, 1030, 8, 10, 15)] == [ALLOWED] * 3 + [REFUSED] * 3
    assert [run(machine, ioctl, 3, what) for what in (0x5401, 0x5412, 0x8901)] == [ALLOWED, REFUSED, REFUSED]
    assert [run(machine, prctl, what) for what in (15, 1, 4, 22, 38)] == [ALLOWED] + [REFUSED] * 4
    pair, send = number(machine, "socketpair"), number(machine, "sendto")
    assert [run(machine, pair, *given) for given in ((1, 1), (1, 0x80001), (1, 2), (2, 1), (1, 5))] == [ALLOWED] * 2 + [REFUSED] * 3
    assert [run(machine, send, 3, 1, 1, 0, where) for where in (0, 8, 1 << 40)] == [ALLOWED, REFUSED, REFUSED]


def test_what_depends_on_the_jail(machine):
    assert run(machine, number(machine, "execve")) == REFUSED
    assert run(machine, number(machine, "execve"), execute=True) == ALLOWED
    assert run(machine, number(machine, "truncate")) == ALLOWED
    assert run(machine, number(machine, "truncate"), truncate=False) == REFUSED


def test_a_machine_without_a_table():
    with pytest.raises(ValueError, match="riscv64"):
        syscalls.program("riscv64", PID)


def test_landlock_rights_by_version():
    assert [bin(landlock.rights(version)).count("1") for version in (1, 2, 3, 4, 5, 7)] == [13, 14, 15, 15, 16, 16]
