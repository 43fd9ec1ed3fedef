"""Jobs in processes of this machine: a fresh one for each job, as many at a time as there is room for."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings
from etude.engines import Job, Result, stopping, worker
from etude.failures import Failure

TICK = 0.25
"""Seconds after which signals and processes that vanished are looked for."""
GRACE = 10.0
"""Seconds that a process has for ending itself once its answer is there."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Processes(Settings):
    """Fresh processes of this machine, one a job, so that memory is given back and a crash costs one job.

    The cores are dealt out: a process gets cores // slots threads, and with several slots its idle threads sleep (OMP_WAIT_POLICY=PASSIVE).
    Left to themselves, two processes would each take a thread a core and spin while they wait for the other's: on two cores, two tunings of
    a 135M model were five times slower side by side than one after the other. So one slot, with all cores, is right for two cores.
    """

    slots: Annotated[int, Field(ge=1)] | None = None
    """Processes at a time; by default one a GPU, and without a GPU one for every `threads_per_slot` physical cores. Each holds a model."""
    threads_per_slot: Annotated[int, Field(ge=1)] = 8
    """Physical cores for one slot where `slots` is not given; a cautious choice of ours, for 135M models use fewer on large machines."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a job whose process died (a signal, memory) is begun again."""

    def map(self, work: str, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """(index, result) as the processes finish. Where they stand is where this process stands: folder, environment, `sys.path`.

        SIGINT and SIGTERM are passed on as SIGTERM; the workers stop at a checkpoint, are waited for, and Stopped is raised; a second
        signal kills them. Stopped or NoSpace in a worker ends the others the same way and is raised. A caller who stops listening kills
        them. Raises TypeError for a job that JSON cannot hold.
        """
        asked = [message(work, job, sys.path) for job in jobs]
        if not asked:
            return
        gpus = devices()
        slots = min(self.slots or len(gpus) or max(1, cores() // self.threads_per_slot), len(asked))
        with stopping.noticed() as signals, Pool(asked, [surroundings(slot, slots, gpus) for slot in range(slots)], self.retries) as pool:
            yield from pool.results(signals)


@dataclass
class Running:
    """A process at work, and what it has said."""

    index: int
    slot: int
    process: subprocess.Popen[bytes]
    received: bytearray = field(default_factory=bytearray)
    answered: float = 0.0
    """When its answer was whole (monotonic seconds); 0 before."""

    def receive(self) -> bool:
        """Take what is there; True at the end of it."""
        assert self.process.stdout is not None
        while True:
            try:
                part = os.read(self.process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return False
            if not part:
                return True
            self.received += part
            if self.received.endswith(b"\n"):
                self.answered = time.monotonic()

    def over(self) -> bool:
        """Whether nothing more will come: it ended, or it has answered and does not end."""
        vanished = self.process.poll() is not None  # asked first: what it wrote before its death is still read
        return self.receive() or vanished or bool(self.answered and time.monotonic() - self.answered > GRACE)

    def end(self) -> str:
        """Make sure that it and what it started are gone; says how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE if self.answered else 1.0)
        self.kill()
        code = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if code >= 0:
            return f"ended without an answer (exit code {code})"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"died by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"

    def kill(self) -> None:
        """Kill it and its group, which is its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def ask_to_stop(self) -> None:
        """Tell it, and not what it started, to stop at a checkpoint."""
        self.process.send_signal(signal.SIGTERM)


class Pool:
    """The processes of one map; leaving it kills those that still run."""

    def __init__(
        self,
        asked: Sequence[bytes],
        places: Sequence[Mapping[str, str]],
        retries: int,
        tell: Callable[[int], None] = stopping.tell_waiting,
    ) -> None:
        """`asked`: the jobs (`message`); `places`: environment variables, one mapping a slot; `tell`: told how many are waited for."""
        self.tell = tell
        self.asked = asked
        self.places = places
        self.retries = retries
        self.waiting = deque(range(len(asked)))
        self.free = deque(range(len(places)))
        self.running: list[Running] = []
        self.deaths: dict[int, list[str]] = {}
        self.done = 0
        self.ending: Failure | None = None
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        for one in self.running:
            one.end()
        self.selector.close()

    def kill(self) -> None:
        """Kill all that run."""
        for one in self.running:
            one.kill()

    def results(self, signals: stopping.Signals) -> Iterator[tuple[int, Result]]:
        """(index, result) as jobs are done, also of those done while the others stop; then raises what ended the map."""
        while self.running or (self.waiting and not self.ending):
            self.heed(signals)
            self.fill()
            self.selector.select(TICK)
            settled = [(one.index, self.settle(one)) for one in self.running.copy() if one.over()]
            finished = [(index, result) for index, result in settled if result is not None]
            self.done += len(finished)
            if finished:
                self.fill()  # before the caller takes its time over them
            yield from finished
        self.heed(signals)
        if self.ending:
            raise self.ending

    def heed(self, signals: stopping.Signals) -> None:
        """Begin to stop at a signal, and kill at one that comes while it stops."""
        if signals.count > 1 or (signals.number and self.ending and not signals.heeded):
            self.kill()
        if signals.number and not signals.heeded:
            self.stop(stopping.by_signal(signals, self.done, len(self.asked)))

    def stop(self, why: Failure) -> None:
        """End the map: nothing is started any more, and what runs is asked to stop, once; only the first reason counts."""
        if self.ending is not None:
            return
        self.ending = why
        if self.running:
            self.tell(len(self.running))
        for one in self.running:
            one.ask_to_stop()

    def fill(self) -> None:
        """Begin waiting jobs in free slots."""
        while self.waiting and self.free and not self.ending:
            self.start(self.waiting.popleft())

    def start(self, index: int) -> None:
        """Give a job to a new process."""
        slot = self.free.popleft()
        process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", str(Path(worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.places[slot]},
            start_new_session=True,  # Ctrl-C reaches it through us, once, and what it starts is killed with it
            bufsize=0,
        )
        one = Running(index, slot, process)
        self.running.append(one)
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self.selector.register(process.stdout, selectors.EVENT_READ)
        view = memoryview(self.asked[index])
        with contextlib.suppress(BrokenPipeError):  # it is gone, which is seen as the end of its output
            while view:
                view = view[os.write(process.stdin.fileno(), view) :]

    def settle(self, one: Running) -> Result | None:
        """What became of a job whose process is over; None where there is no result (yet)."""
        assert one.process.stdout is not None
        self.selector.unregister(one.process.stdout)
        self.running.remove(one)
        self.free.append(one.slot)
        ended = one.end()
        if not one.received.endswith(b"\n"):
            return self.mourn(one.index, ended)
        answer: dict[str, Any] = json.loads(one.received)
        why = stopping.concerns_all(answer)
        if why is None:
            return dict(answer["result"])
        self.stop(why)
        return None

    def mourn(self, index: int, ended: str) -> Result | None:
        """A process died: its job is begun again behind the others, or is given up."""
        deaths = self.deaths.setdefault(index, [])
        deaths.append(ended)
        if self.ending is None and len(deaths) > self.retries:
            return stopping.gave_up(deaths)
        self.waiting.append(index)
        return None


def message(work: str, job: Job, path: Sequence[str]) -> bytes:
    """What a worker is told: a line. `path`: its sys.path. Raises TypeError for a job that JSON cannot hold."""
    return json.dumps({"work": work, "path": list(path), "job": dict(job)}).encode() + b"\n"


def surroundings(slot: int, slots: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment variables of a slot: its threads, and its GPU where there are any."""
    found = limited(max(1, cores() // slots), alone=slots == 1)
    return {**found, "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else found


def limited(threads: int, alone: bool) -> dict[str, str]:
    """The environment variables that give a process so many threads; fewer, where the user has asked for fewer.

    torch takes OMP_NUM_THREADS for its own. OMP_WAIT_POLICY (GNU and LLVM OpenMP) lets the waiting threads of processes that are not
    `alone` sleep.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(threads, int(given)) if given.isdigit() and int(given) else threads
    found = dict.fromkeys(THREADS, str(threads))
    found["TOKENIZERS_PARALLELISM"] = os.environ.get("TOKENIZERS_PARALLELISM", "false")
    return found if alone else {**found, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}


def devices() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them. None is touched: that would take its memory."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None and not named.strip():
        return []
    import torch

    count = torch.cuda.device_count()
    return [name.strip() for name in named.split(",")][:count] if named else [str(number) for number in range(count)]


def cores() -> int:
    """Physical cores that this process may use: those of the machine, of its affinity, and of its container (cgroup v2), the fewest."""
    import psutil

    found = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        found = min(found, len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        found = min(found, -(-int(quota) // int(period)))  # "max" is a ValueError
    return max(1, found)
