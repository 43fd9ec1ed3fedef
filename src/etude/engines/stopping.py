"""What ends a map of jobs before its end: signals of this process, and what a worker says that concerns all of them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etude.engines import Job, Result
from etude.failures import Failure, NoSpace, Stopped
from etude.screen import Plain


@dataclass
class Signals:
    """SIGINT and SIGTERM that came: the first one's number, how many there were, and whether the map ended by them."""

    number: int = 0
    count: int = 0
    heeded: bool = False


@contextlib.contextmanager
def noticed() -> Iterator[Signals]:
    """Note SIGINT and SIGTERM in the place of obeying them; the third one interrupts at once.

    A signal that nobody heeded while they were noted is sent again when they no longer are. In a thread other than the main one no
    signal can be caught, and none is noted.
    """
    came = Signals()

    def note(number: int, frame: Any) -> None:
        came.number = came.number or number
        came.count += 1
        if came.count > 2:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came.number and not came.heeded:
            signal.raise_signal(signal.Signals(came.number))


def by_signal(came: Signals, done: int, jobs: int) -> Stopped:
    """The Stopped of a map that a signal ended; the signal is heeded by it."""
    came.heeded = True
    name = signal.Signals(came.number).name
    return Stopped(
        f"stopped by {name}: {done} of {jobs} jobs are done; what was finished is kept, and the same command goes on from there",
        came.number,
    )


def concerns_all(answer: Job) -> Failure | None:
    """The Stopped or NoSpace in a worker's answer (worker.answer), which ends the map; None where it has a result."""
    if "stopped" in answer:
        return Stopped(str(answer["stopped"]), int(answer["signal"]))
    return NoSpace(str(answer["no_space"])) if "no_space" in answer else None


def gave_up(deaths: list[str]) -> Result:
    """The result of a job whose process died so often: "died by SIGSEGV", a word a time."""
    times = "once" if len(deaths) == 1 else f"{len(deaths)} times"
    same = len(set(deaths)) == 1
    return {"failed": f"the process {deaths[-1]} {times}" if same else f"the process {'; then it '.join(deaths)}", "exit_code": 1}


def tell_waiting(workers: int) -> None:
    """Say on standard error that workers are waited for."""
    Plain().say(f"waiting for {workers} worker{'' if workers == 1 else 's'} to stop at a checkpoint; a further Ctrl-C kills")
