"""Work for the engines' tests, importable by any process: each function is "engine_work:name"."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.failures import DataError, NoSpace, Stopped


def square(job: Mapping[str, Any]) -> dict[str, Any]:
    """Pure, and noisy on standard output, which belongs to nobody."""
    print("a library says something on standard output")
    os.write(1, b"and a C library, too\n")
    return {"square": job["number"] ** 2, "exactly": job["number"] / 3, "text": "é\u2028" * job["number"]}


def surroundings(job: Mapping[str, Any]) -> dict[str, Any]:
    """What the process has: its number, its group, its threads, its device, its folder; standard input, which is empty."""
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES")
    found = {name: os.environ.get(name) for name in names}
    return {**found, "pid": os.getpid(), "group": os.getpgrp(), "folder": os.getcwd(), "input": os.read(0, 10).decode()}


def dies(job: Mapping[str, Any]) -> dict[str, Any]:
    """Kill this process the first `times` times that the job is begun; a marker file counts."""
    marker = Path(job["marker"])
    began = marker.stat().st_size if marker.exists() else 0
    with open(marker, "ab") as file:
        file.write(b".")
    if began < job["times"]:
        how = job.get("how", signal.SIGKILL)
        if how == "exit":
            os._exit(3)
        if how == "parent":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)  # but the end of the parent is the end of this process
        os.kill(os.getpid(), how)
    return {"began": began + 1}


def raises(job: Mapping[str, Any]) -> Any:
    """Raise or return what the job says."""
    match job["what"]:
        case "failure":
            raise DataError("rows.jsonl:3: no such thing")
        case "fault":
            return {}["a key"]
        case "exit":
            raise SystemExit("enough")
        case "budget":
            raise Stopped("the budget is spent")
        case "full":
            raise NoSpace("cannot write here")
        case "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "here")
        case "path":
            return {"where": Path("not plain data")}
        case "wait":
            return waits(job)
        case _:
            return {"fine": job["what"]}


def waits(job: Mapping[str, Any]) -> dict[str, Any]:
    """Train, so to speak: stop at the next step after a signal, which takes a while, and leave a checkpoint."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    folder = Path(job["folder"])
    (folder / f"{job['name']}.began").write_text(str(os.getpid()))
    for _ in range(1200):
        time.sleep(0.05)
        if came:
            time.sleep(job.get("slow", 0.3))
            (folder / f"{job['name']}.checkpoint").write_text("")
            signal.signal(signal.SIGTERM, before)
            raise Stopped(f"stopped at step 7 by {came}", came[0])
    return {"waited": True}


def sleeps(job: Mapping[str, Any]) -> dict[str, Any]:
    """Work that takes no care of signals, with a child that would outlive it."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    Path(job["folder"], f"{job['name']}.began").write_text(f"{os.getpid()} {child}")
    time.sleep(60)
    return {}


def waits_long(job: Mapping[str, Any]) -> dict[str, Any]:
    """As `waits`, with a step of half a minute."""
    return waits({**job, "slow": 30})


def says_where(job: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the process's parent (on Ray: the node's worker) in a file and wait for another file, as long as it takes."""
    with open(Path(job["folder"], f"{job['name']}.on"), "a") as file:
        file.write(f"{os.getppid()}\n")
    while not Path(job["folder"], "go").exists():
        time.sleep(0.05)
    return {"name": job["name"]}
