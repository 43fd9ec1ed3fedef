"""Programs in, verdicts out: as many wardens as there are cores, each with one program at a time.

A warden that dies (killed, its container stopped) is replaced on the same rung and its program run once more; where no new one can be
started the rung is gone, and that is a NoSandbox, never a lower rung.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import selectors
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, cast, get_args

from etude.failures import NoSandbox
from etude.sandbox import ladder
from etude.sandbox.programs import Kind, Limits, Program, Verdict
from etude.sandbox.sweeping import sweep

START = 30.0
"""Seconds in which a warden must show that its jail holds."""
GRACE = 5.0
"""Seconds beyond a program's own that its warden has for ending it and sweeping up."""


class Warden:
    """A running warden; raises NoSandbox where none can be started, or its jail does not hold."""

    def __init__(self, rung: ladder.Rung) -> None:
        self.rung = rung
        self.folder = tempfile.mkdtemp(prefix="etude-jail-")
        self.container = f"etude-{secrets.token_hex(8)}"
        self.received = bytearray()
        self.asked: tuple[int, str, float] | None = None
        """(index of the program, its nonce, when it must be done)"""
        self.errors = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(
                rung.command(self.container),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                cwd=self.folder,
                env=ladder.environment(rung),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self.errors.close()
            sweep(self.folder)
            raise NoSandbox(f"{rung.name} cannot be started: {error}") from error
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin.fileno(), self.process.stdout.fileno()
        try:
            self.greet()
        except BaseException:
            self.close()
            raise

    def greet(self) -> None:
        """Wait for the warden's word that its jail holds."""
        said = self.await_frame(START)
        if said is None:
            self.errors.seek(0)
            last = self.errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()[-1:]
            raise NoSandbox(f"{self.rung.name} did not start" + (f": {last[0][:300]}" if last else ""))
        if not said.get("ready"):
            raise NoSandbox(f"{self.rung.name} does not hold: {said.get('why')}")

    def await_frame(self, seconds: float) -> dict[str, Any] | None:
        """The next frame; None where the warden ends, or says nothing for so long."""
        deadline = time.monotonic() + seconds
        while (frame := self.frame()) is None:
            ready, _, _ = select.select([self.output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or not self.receive():
                return None
        return frame

    def receive(self) -> bool:
        """Take what is there; False at the end of output."""
        part = os.read(self.output, 1 << 16)
        self.received += part
        return bool(part)

    def frame(self) -> dict[str, Any] | None:
        """A frame that is whole, or None."""
        if len(self.received) < 4:
            return None
        length = struct.unpack(">I", self.received[:4])[0]
        if len(self.received) < 4 + length:
            return None
        data = bytes(self.received[4 : 4 + length])
        del self.received[: 4 + length]
        return cast(dict[str, Any], json.loads(data))

    def ask(self, index: int, program: Program, limits: Limits) -> None:
        """Hand over one program, with a fresh nonce. Raises OSError where the warden is gone."""
        nonce = secrets.token_hex(16)
        self.asked = (index, nonce, time.monotonic() + limits.seconds + GRACE)
        asked = {"program": asdict(program), "limits": limits.as_json(), "nonce": nonce, "node": self.rung.node}
        data = json.dumps(asked).encode()
        view = memoryview(struct.pack(">I", len(data)) + data)
        while view:
            view = view[os.write(self.input, view) :]

    def close(self) -> None:
        """End the warden with all it watches, and remove its folder."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            ladder.stop(self.rung, self.container)
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        sweep(self.folder)


class Wardens:
    """The wardens of one call, ended with it whatever happens."""

    def __init__(self, rung: ladder.Rung, count: int) -> None:
        self.rung = rung
        self.selector = selectors.DefaultSelector()
        self.all: list[Warden] = []
        try:
            for _ in range(count):
                self.add()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def add(self) -> Warden:
        """One more."""
        warden = Warden(self.rung)
        self.all.append(warden)
        self.selector.register(warden.output, selectors.EVENT_READ, warden)
        return warden

    def remove(self, warden: Warden) -> None:
        """End one of them."""
        self.selector.unregister(warden.output)
        self.all.remove(warden)
        warden.close()

    def __enter__(self) -> Wardens:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for warden in self.all:
            warden.close()
        self.selector.close()


def judge(
    programs: Sequence[Program],
    rung: ladder.Rung,
    limits: Limits | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Verdict]:
    """The verdict on each program, in order; equal programs are run once.

    `workers`: programs at a time, by default as many as this process has cores. `progress` is told of each program that is done. Raises
    NoSandbox where the rung is gone.
    """
    limits = limits or Limits()
    places: dict[Program, list[int]] = {}
    for place, program in enumerate(programs):
        places.setdefault(program, []).append(place)
    verdicts: dict[int, Verdict] = {}
    different = list(places)

    def settle(index: int, verdict: Verdict) -> None:
        for place in places[different[index]]:
            verdicts[place] = verdict
            progress(1)

    waiting: list[int] = []
    for index, program in enumerate(different):
        if refused := unrunnable(program, rung, limits):
            settle(index, refused)
        else:
            waiting.append(index)
    waiting.reverse()
    if waiting:
        with Wardens(rung, max(1, min(workers or cores(), len(waiting)))) as wardens:
            run(wardens, different, waiting, limits, settle)
    return [verdicts[place] for place in range(len(programs))]


def run(wardens: Wardens, programs: Sequence[Program], waiting: list[int], limits: Limits, settle: Callable[[int, Verdict], None]) -> None:
    """Run the programs whose numbers wait (a stack), each settled as it is done."""
    lost: dict[int, int] = {}
    for warden in list(wardens.all):
        hand_over(warden, programs, waiting, limits)
    while busy := [warden for warden in wardens.all if warden.asked]:
        first = min(warden.asked[2] for warden in busy if warden.asked)
        ready = {key.data for key, _ in wardens.selector.select(max(0.0, first - time.monotonic()))}
        for warden in busy:
            assert warden.asked is not None
            index, nonce, deadline = warden.asked
            alive = warden.receive() if warden in ready else time.monotonic() < deadline
            frame = warden.frame() if alive else None
            if frame is None and alive:
                continue
            said = verdict(frame, nonce, wardens.rung) if frame else None
            if said:
                settle(index, said)
            else:  # the warden is gone or silent, or could not lock its child up: a new one, which tries its jail first
                wardens.remove(warden)
                lost[index] = lost.get(index, 0) + 1
                if lost[index] < 2:
                    waiting.append(index)
                else:
                    settle(index, Verdict("killed", "the jail ended twice while it ran", wardens.rung.described))
                warden = wardens.add()
            hand_over(warden, programs, waiting, limits)


def hand_over(warden: Warden, programs: Sequence[Program], waiting: list[int], limits: Limits) -> None:
    """Give a warden the next program that waits, if any does."""
    warden.asked = None
    if waiting:
        index = waiting.pop()
        with contextlib.suppress(BrokenPipeError):  # it is gone, which is seen as the end of its output
            warden.ask(index, programs[index], limits)


def verdict(frame: dict[str, Any], nonce: str, rung: ladder.Rung) -> Verdict | None:
    """What a warden's answer says; None where the program was not run. Only the nonce is a pass."""
    seconds, output = float(frame["seconds"]), str(frame.get("output", ""))
    if frame["reason"]:
        kind, _, detail = str(frame["reason"]).partition(":")
        return Verdict(cast(Kind, kind), detail, rung.described, seconds)
    if frame["said"] == nonce:
        return Verdict("passed", "", rung.described, seconds, output)
    try:
        said = json.loads(frame["said"])
        kind, detail = said["kind"], str(said["detail"])[:400]
    except (ValueError, TypeError, KeyError):
        return Verdict("exited", "after a report that is not ours", rung.described, seconds)
    if kind == "unjailed":
        return None
    if kind not in get_args(Kind) or kind == "passed":
        return Verdict("exited", "after a report that is not ours", rung.described, seconds)
    return Verdict(cast(Kind, kind), detail, rung.described, seconds)


def unrunnable(program: Program, rung: ladder.Rung, limits: Limits) -> Verdict | None:
    """The verdict on a program that need not be started. Raises NoSandbox for a language that the rung has no interpreter of."""
    length = len(program.code.encode("utf-8", "surrogatepass")) + len(program.tests.encode("utf-8", "surrogatepass"))
    if length > limits.code_bytes:
        return Verdict("too_long", f"{length:,} bytes of text; at most {limits.code_bytes:,} are run", rung.described)
    if program.language == "javascript" and not rung.node:
        raise NoSandbox(f"JavaScript needs node on the PATH, and there is none for the rung {rung.name}")
    return None


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
