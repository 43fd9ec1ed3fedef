"""A process that forks one jailed child a program, watches it, ends it, and sweeps up after it.

It runs `python -P -s -S -c ...` with an environment of its own and speaks frames (four bytes of length, then JSON) on its standard
streams: the first it writes says whether its jail holds, which it has just tried; then one frame in, a program, gives one out, its
verdict. It never runs a program itself. Its interpreter is started once, with the modules that programs import: a fork costs
milliseconds where a start costs tens of them, and each fork is locked up anew. End of input ends it and whatever it watches.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from etude.sandbox import candidate, jail, javascript, landlock
from etude.sandbox.programs import Limits, Program
from etude.sandbox.sweeping import measure, sweep

COMMON = (
    "math", "collections", "itertools", "functools", "re", "string", "heapq", "bisect", "random", "typing", "datetime", "json", "copy",
    "decimal", "fractions", "statistics", "operator", "hashlib", "dataclasses", "enum", "abc", "cmath", "textwrap", "contextlib", "io",
)  # fmt: skip
"""Modules that programs import often: read once, forked with the rest."""

TICK = 0.05
"""Seconds between looks at a child's memory, threads and files."""


def read_frame(source: int) -> Any | None:
    """The next frame; None at the end of input."""
    head = read_whole(source, 4)
    data = read_whole(source, struct.unpack(">I", head)[0]) if head else None
    return json.loads(data) if data else None


def read_whole(source: int, length: int) -> bytes | None:
    """Exactly so many bytes; None where the input ends before."""
    data = bytearray()
    while len(data) < length:
        part = os.read(source, min(1 << 20, length - len(data)))
        if not part:
            return None
        data += part
    return bytes(data)


def write_frame(target: int, value: Any) -> None:
    """Write one frame."""
    data = json.dumps(value).encode()
    view = memoryview(struct.pack(">I", len(data)) + data)
    while view:
        view = view[os.write(target, view) :]


@dataclass
class Watched:
    """A child under watch: what it said, and why it was ended, if it was."""

    pid: int
    pidfd: int
    output: int
    report: int
    folder: str
    limits: Limits
    began: float = field(default_factory=time.monotonic)
    printed: int = 0
    kept: bytearray = field(default_factory=bytearray)
    said: bytes = b""
    reason: str = ""

    def end(self, reason: str) -> None:
        """Kill it, and all of its session."""
        self.reason = self.reason or reason
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def take(self) -> None:
        """Read what waits in both pipes, and end a child that says too much."""
        for source in (self.output, self.report):
            while True:
                try:
                    part = os.read(source, 65536)
                except BlockingIOError:
                    break
                if not part:
                    break
                if source == self.output:
                    self.printed += len(part)
                    if self.printed > self.limits.output_bytes:
                        self.end("output")
                        return
                    if self.limits.keep_output:
                        self.kept += part
                elif len(self.said) < 8192:
                    self.said += part
                else:
                    self.end("output")
                    return

    def look(self) -> None:
        """End a child that takes too much time, memory, threads or disk."""
        if time.monotonic() - self.began > self.limits.seconds:
            self.end("timeout")
        facts = status(self.pid)
        if facts.get("Threads", 0) > self.limits.threads:
            self.end("threads")
        if facts.get("VmRSS", 0) > self.limits.memory_mb << 10:
            self.end("memory")
        size, entries = measure(self.folder, self.limits.files)
        if size > self.limits.disk_bytes or entries > self.limits.files:
            self.end("disk")


def status(pid: int) -> dict[str, int]:
    """Threads, and resident KiB, of a process; {} of one that has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return {}
    return {line[0][:-1]: int(line[1]) for line in lines if line and line[0] in ("Threads:", "VmRSS:")}


def watch(child: Watched) -> resource.struct_rusage:
    """Wait for the end of a child, or bring it about; what it used."""
    waiting = select.poll()
    for source in (child.output, child.report, child.pidfd, 0):
        os.set_blocking(source, source in (0, child.pidfd))
        waiting.register(source, select.POLLIN)
    looked = time.monotonic()
    open_ends = {child.output, child.report}
    while True:
        left = child.began + child.limits.seconds - time.monotonic()
        ready = dict(waiting.poll(max(0.0, min(TICK, left + 0.001)) * 1000))
        if 0 in ready:  # the other side is gone: nothing is asked while a program runs
            child.end("gone")
        for source in open_ends & set(ready):
            child.take()
            if not ready[source] & select.POLLIN:  # closed by the child
                waiting.unregister(source)
                open_ends.discard(source)
        if child.pidfd in ready:
            break
        if time.monotonic() - looked > TICK or left <= 0:
            child.look()
            looked = time.monotonic()
        if child.reason == "gone":
            break
    child.end("")  # before it is waited for, while its number can be nobody else's
    _, child_status, used = os.wait4(child.pid, 0)
    child.take()
    if not child.reason:
        size, entries = measure(child.folder, child.limits.files)
        if size > child.limits.disk_bytes or entries > child.limits.files:
            child.reason = "disk"
    if not child.said and not child.reason:
        child.reason = ended(child_status, used, child.limits)
    return used


def ended(child_status: int, used: resource.struct_rusage, limits: Limits) -> str:
    """Why a child ended that neither reported nor was ended by us."""
    if not os.WIFSIGNALED(child_status):
        return f"exited:with code {os.waitstatus_to_exitcode(child_status)}, before its checks were done"
    number = os.WTERMSIG(child_status)
    if number == signal.SIGXCPU or (number == signal.SIGKILL and used.ru_utime + used.ru_stime >= limits.cpu_seconds):
        return "cpu"
    return f"killed:by {signal.Signals(number).name if number in set(signal.Signals) else number}"


def judge(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run one program: `{"said", "reason", "seconds", "cpu", "output"}`; `said` is the nonce, or a report as JSON."""
    limits = Limits(**asked["limits"])
    program = Program(**asked["program"])
    folder = tempfile.mkdtemp(prefix="box-", dir=os.getcwd())
    pipes = [os.pipe() for _ in range(3)]
    (output, _), (report, _), (_, challenge) = pipes
    os.write(challenge, asked["nonce"].encode())
    os.close(challenge)
    warden = os.getpid()
    pid = os.fork()
    if pid == 0:
        child(program, limits, asked, folder, (pipes[0][1], pipes[1][1], pipes[2][0]), warden)
    for end in (pipes[0][1], pipes[1][1], pipes[2][0]):
        os.close(end)
    watched = Watched(pid, os.pidfd_open(pid), output, report, folder, limits)
    try:
        used = watch(watched)
    finally:
        for end in (output, report, watched.pidfd):
            os.close(end)
        sweep(folder)
    if watched.reason == "gone":
        sys.exit(0)
    seconds = round(time.monotonic() - watched.began, 4)
    said = watched.said.decode("utf-8", "replace")
    printed = watched.kept.decode("utf-8", "replace")
    return {"said": said, "reason": watched.reason, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "output": printed}


def child(program: Program, limits: Limits, asked: Mapping[str, Any], folder: str, ends: tuple[int, int, int], warden: int) -> NoReturn:
    """The forked process: locks itself up and runs the program; without its jail it runs nothing."""
    try:
        os.setsid()
        node = shutil.which(asked["node"]) if program.language == "javascript" else None
        environment = {"PATH": "/nonexistent", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OPENSSL_CONF": "/dev/null"}
        given = None
        if program.language == "javascript" and not node:
            raise FileNotFoundError("there is no node here")
        if node:
            given = os.memfd_create("program")
            write_all(given, json.dumps({"code": program.code, "tests": program.tests, "entry_point": program.entry_point}).encode())
            os.lseek(given, 0, os.SEEK_SET)
        jail.streams(*ends, given)
        executes = tuple(path for path in (node, javascript.loader(node)) if path) if node else ()
        jail.enter(folder, limits, jail.Walls(asked["files"], executes), environment, warden)
    except BaseException as error:
        with suppress(BaseException):
            os.write(jail.REPORT, json.dumps({"kind": "unjailed", "detail": f"{type(error).__name__}: {error}"}).encode())
        os._exit(70)
    if node:
        with suppress(BaseException):
            os.execve(node, javascript.command(node, limits.memory_mb), environment)
        os._exit(71)
    if asked.get("prove"):
        os.write(jail.REPORT, json.dumps({"kind": "proof", "detail": jail.proof(asked["files"])}).encode())
        os._exit(0)
    candidate.run(program)


def write_all(target: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def hello(files: bool) -> str:
    """Why the jail does not hold here, "" if it does: what must be refused is tried inside it."""
    files = files or bool(landlock.version())
    if why := jail.refusal(files):
        return why
    asked = {"program": {"code": "", "tests": ""}, "limits": Limits(seconds=20, cpu_seconds=10).as_json(), "nonce": "-", "prove": True}
    found = judge({**asked, "files": files})
    try:
        said = json.loads(found["said"])
    except ValueError:
        return f"a jailed process ended without a word ({found['reason']})"
    return str(said["detail"])


def serve(files: bool) -> None:
    """Say whether the jail holds, then judge programs until the input ends. `files`: whether Landlock must be there."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = jail.MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(jail.MOST_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    sys.path[:] = [path for path in sys.path if path and "site-packages" not in path]
    for name in COMMON:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children copy fewer pages
    why = hello(files)
    write_frame(1, {"ready": not why, "why": why, "python": sys.version.split()[0]})
    if why:
        return
    while (asked := read_frame(0)) is not None:
        write_frame(1, judge({**asked, "files": files}))
