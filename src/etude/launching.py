"""The tune stage in several processes: torchrun's agent starts them, watches them, and ends the rest when one dies.

The parent keeps the run folder's lock, does every other stage, and passes a signal on to the processes, which stop together
at a checkpoint. They read the recipe and the encoded rows from the run folder; the first of them writes metrics, checkpoints
and the model. What they have to say comes back in files of a temporary folder, so that standard output stays the command's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude import distributed, failures, journal
from etude.catalog import note
from etude.engines.processes import cores, devices, limited
from etude.failures import Failure, RecipeError, Stopped
from etude.sharding import SHARDINGS, Launch
from etude.training import stopping

WORKER = "etude.tuning_worker"
TICK = 0.2
"""Seconds between looks at signals and progress."""

STANDING = "the others were ended; the same command goes on from the newest checkpoint"

Told = Callable[[float, str], None]


def check(launch: Launch) -> None:
    """Raise RecipeError for a number of processes that cannot be started here, or one too few to divide a model among."""
    processes = launch.processes
    if launch.sharding and max(processes, launch.group.size) < 2:
        raise RecipeError("--sharding divides a model among processes, and there is one: add --processes, or start them with torchrun")
    if processes < 2:
        return
    if distributed.launched():
        raise RecipeError(f"--processes {processes}: torchrun has started these processes already; leave the option out")
    gpus = len(devices())
    if gpus and processes > gpus:
        raise RecipeError(f"--processes {processes}: one process a GPU, and this machine has {gpus}")
    if not gpus and processes > cores():
        note(f"--processes {processes}: more processes than cores ({cores()}); they wait for each other and train slower than one")


def tuned(folder: Path, launch: Launch, told: Told) -> dict[str, Any]:
    """Run the tune stage of the run in `folder` in so many processes; returns its facts as `tuning.tune` does.

    Raises what the processes raised; Stopped after a signal (here, or one that killed a process); a Failure with the exit code of
    a process that ended otherwise. In every case the newest checkpoint stands and the same command goes on from there.
    """
    processes, divided = launch.processes, SHARDINGS.plain(launch.sharding) if launch.sharding else None
    with tempfile.TemporaryDirectory(prefix="etude-tune-") as name, stopping() as came:
        place = Path(name)
        journal.write_json(place / "job.json", {"folder": str(folder.resolve()), "parent": os.getpid(), "sharding": divided})
        with surrounded(processes):
            crew = Crew(place, processes)
            try:
                crew.watch(came, told)
            except BaseException:
                crew.signal(signal.SIGKILL)
                crew.thread.join()
                raise
        return crew.facts(came())


@contextlib.contextmanager
def surrounded(processes: int) -> Iterator[None]:
    """Inside the block processes that are started find the cores dealt out, and libraries say nothing but errors."""
    given = {**limited(max(1, cores() // processes), alone=False), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    before = {key: os.environ.get(key) for key in (*given, "TORCHELASTIC_SIGNALS_TO_HANDLE")}  # the agent sets the last one

    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed")]
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    os.environ.update(given)
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended that did not end well: its exit code, below 0 a signal's number, and when (seconds)."""

    rank: int
    code: int
    when: int


class Crew:
    """The processes of one tune stage and the agent that looks after them, in a thread of its own: signals are ours to handle."""

    def __init__(self, place: Path, processes: int) -> None:
        """`place`: a folder with job.json, which the processes write into."""
        self.place = place
        self.processes = processes
        self.ends: list[End] = []
        self.crash = ""
        self.signalled: set[int] = set()
        self.thread = threading.Thread(target=self.tend, daemon=True)
        self.thread.start()

    def tend(self) -> None:
        """Start the processes and wait for their end."""
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=self.processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=TICK,
        )
        try:
            elastic_launch(config, sys.executable)("-m", WORKER, str(self.place / "job.json"))
        except ChildFailedError as error:
            self.ends = [End(rank, failure.exitcode, failure.timestamp) for rank, failure in error.failures.items()]
        except Exception:  # the agent itself
            self.crash = traceback.format_exc()

    def watch(self, came: Callable[[], int], told: Told) -> None:
        """Tell the progress and pass a signal on, until all have ended."""
        while self.thread.is_alive():
            self.thread.join(TICK)
            with contextlib.suppress(OSError, ValueError):
                done, text = json.loads((self.place / "progress.json").read_text(encoding="utf-8"))
                told(done, text)
            if came():
                self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal to every process that has begun; SIGTERM once (a second one would interrupt its checkpoint)."""
        for path in self.place.glob("*.pid"):
            pid = int(path.stem)
            if number == signal.SIGKILL or pid not in self.signalled:
                self.signalled.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def outcome(self, rank: int) -> dict[str, Any]:
        """What a process said at its end; nothing where it could not."""
        try:
            return dict(json.loads((self.place / f"outcome-{rank}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def facts(self, came: int) -> dict[str, Any]:
        """What the first process found; raises what ended it otherwise. `came`: the signal that came here, or 0."""
        outcomes = [self.outcome(rank) for rank in range(self.processes)]
        for text in outcomes[0].get("notes", []):
            note(text)
        if not self.ends and not self.crash and "facts" in outcomes[0]:
            return dict(outcomes[0]["facts"])
        explained = next((found for found in outcomes if "kind" in found), None)
        if came and (not explained or explained["kind"] == "Stopped"):
            raise Stopped(explained["message"] if explained else "stopped before the first step; the same command begins anew", came)
        if explained:
            raise restored(explained)
        first = self.first()
        if first and first.code < 0:
            raise Stopped(f"process {first.rank + 1} of {self.processes} died by {died(-first.code)}; {STANDING}", -first.code)
        crashed = outcomes[first.rank].get("traceback") if first else None
        why = (
            f"process {first.rank + 1} of {self.processes} ended with code {first.code}" if first else "the processes could not be started"
        )
        raise coded(Failure(f"{why}; {STANDING}\n{crashed or self.crash}".rstrip()), first.code if first else 1)

    def first(self) -> End | None:
        """The process whose end was the cause of the others': the agent ends them with SIGTERM, and a peer's death is an error to them."""
        own = [end for end in self.ends if end.code != -signal.SIGTERM] or self.ends
        return min(own, key=lambda end: (end.when, end.code >= 0, end.rank), default=None)


def died(number: int) -> str:
    """A signal's name, with the likeliest reason of a kill."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


def explained(failure: Failure) -> dict[str, Any]:
    """A failure as plain data."""
    return {"kind": type(failure).__name__, "message": str(failure), "code": failure.exit_code}


def restored(found: Mapping[str, Any]) -> Failure:
    """The failure that `explained` made plain."""
    kind = getattr(failures, found["kind"], Failure)
    return coded(kind(found["message"]), found["code"])


def coded(failure: Failure, code: int) -> Failure:
    """The failure with another exit code."""
    failure.exit_code = code
    return failure
