"""`python -m etude.tuning_worker JOB.json`: one of the processes that `launching` starts through torchrun for a tune stage."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etude import catalog, distributed, journal, launching, preparing, runs, tuning
from etude.failures import Failure
from etude.models import weights
from etude.screen import Silent
from etude.sharding import SHARDINGS, Launch
from etude.working import Student, Work

INTERVAL = 0.2
"""Seconds between progress reports, at least."""


class Reported(Silent):
    """A Watch whose bar is drawn by the parent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Write how far it is into a file, now and then."""
        last = 0.0

        def update(done: float, text: str) -> None:
            nonlocal last
            if time.monotonic() - last >= INTERVAL:
                last = time.monotonic()
                journal.write_text(self.path, json.dumps([done, text]))

        yield update


def end_with(parent: int) -> None:
    """End this process when its parent is gone: the run folder's lock is gone with it, and another run may begin there."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def tune(folder: Path, launch: Launch, place: Path) -> dict[str, Any]:
    """This process's part of the tune stage of the run in `folder`."""
    recipe = runs.recipe_of(folder)
    student = Student(weights.locate(recipe.model), recipe)
    work = Work(recipe, folder, student, Reported(place / "progress.json") if launch.group.first else Silent(), launch)
    return tuning.trained(work, preparing.stored(folder / "curated", recipe))[1]


def main(job: Path) -> int:
    """Do the job; what came of it is in outcome-<rank>.json beside it. Returns the exit code."""
    told = json.loads(job.read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))  # until training handles it
    (job.parent / f"{os.getpid()}.pid").touch()
    end_with(told["parent"])
    warnings.simplefilter("ignore")  # as the command does
    os.dup2(2, 1)  # standard output is the command's
    rank, code = int(os.environ["RANK"]), 0
    try:
        divided = SHARDINGS.chosen(told["sharding"], "--sharding") if told["sharding"] else None
        launch = Launch(group=distributed.join(), sharding=divided)
        outcome: dict[str, Any] = {"facts": tune(Path(told["folder"]), launch, job.parent)}
        distributed.leave()
    except Failure as failure:
        outcome, code = launching.explained(failure), failure.exit_code
    except Exception:
        outcome, code = {"traceback": traceback.format_exc()}, 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the agent ends the others when one has ended; there is little left to end
    journal.write_json(job.parent / f"outcome-{rank}.json", {**outcome, "notes": catalog.NOTES})
    return code


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do, and a group whose peer has died may wait for it
