"""Jobs on a Ray cluster: Ray chooses the node, and a fresh process there does the job."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings
from etude.engines import Job, Result, processes, stopping
from etude.failures import Failure, NoSpace, RecipeError, Stopped

TICK = 0.5
"""Seconds after which signals are looked for."""
PATIENCE = 120.0
"""Seconds in which a node must answer; Ray may have to start a process there."""
CONNECT = 10.0
"""Seconds in which a cluster's address must take a connection."""
NUMBERS = ("etude", "torch", "transformers", "peft", "tokenizers", "numpy")
"""Packages of which another version gives other numbers."""
MOST_CPUS = 8
"""Cores of a job where `cpus_per_job` is not given; as `threads_per_slot` of Processes."""


class OnRay(Settings):
    """The nodes of a Ray cluster (`pip install 'etude[ray]'`). Ray hands out the jobs; each runs in a process of its own, as in Processes.

    The folders that jobs name, and the folder that the command is started in, must be on storage that all nodes share, at the same path.
    Both are tried before the first job, and so is whether the nodes have the same versions of what makes the numbers. Of a node that
    joins later only its view of the second folder is looked at.
    """

    address: str | None = None
    """The cluster: `auto` (the one this machine belongs to) or `host:port`; by default RAY_ADDRESS where it is set, else Ray is started on
    this machine and ended with the map."""
    cpus_per_job: Annotated[int, Field(ge=1)] | None = None
    """Cores, and so threads, of a job; by default those that come with its GPU, or up to 8 of the smallest node."""
    gpus_per_job: Annotated[float, Field(ge=0)] | None = None
    """GPUs of a job, which sees no others; by default 1 where the cluster has any. Ray shares a GPU below 1."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a job is begun again whose process died, and how often one whose node or Ray process died."""

    def map(self, work: str, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """(index, result) as they come in.

        SIGINT and SIGTERM are passed on: running jobs stop at a checkpoint and are waited for, and Stopped is raised; a second signal
        kills them. Stopped or NoSpace in a job ends the others the same way and is raised. Raises RecipeError where Ray is not installed,
        the cluster cannot be reached, no node is large enough, or a node cannot see the folders or has other versions; TypeError for a job
        that JSON cannot hold.
        """
        texts = [json.dumps(dict(job)) for job in jobs]
        if not texts:
            return
        with connected(self) as ray, stopping.noticed() as signals:
            nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
            cpus, gpus = needs(self, [node["Resources"] for node in nodes])
            for node in nodes:
                if node["NodeID"] != ray.get_runtime_context().get_node_id():
                    probe(ray, node, shared_folder(jobs))
            task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=self.retries, retry_exceptions=False)(job_on_node)
            there = {"path": sys.path, "folder": os.getcwd(), "cpus": cpus, "retries": self.retries}
            asked = {task.remote(work, text, there): index for index, text in enumerate(texts)}
            yield from collected(ray, asked, signals, self.retries)


def collected(ray: Any, asked: dict[Any, int], signals: stopping.Signals, retries: int) -> Iterator[tuple[int, Result]]:
    """(index, result) of the tasks asked, as they are done; then raises what ended the map, if anything did."""
    jobs, done = len(asked), 0
    ending: Failure | None = None

    def stop(why: Failure) -> Failure:
        if ending is not None:
            return ending
        for task in asked:
            ray.cancel(task, force=False, recursive=False)
        return why

    try:
        while asked:
            if signals.count > 1 or (signals.number and ending and not signals.heeded):
                signals.heeded = True
                break
            if signals.number and not signals.heeded:
                stopping.tell_waiting(len(asked))
                ending = stop(stopping.by_signal(signals, done, jobs))
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=TICK)
            for task in ready:
                index = asked.pop(task)
                answer = received(ray, task, retries)
                why = stopping.concerns_all(answer)
                if why is not None:
                    ending = stop(why)
                elif "result" in answer:
                    done += 1
                    yield index, answer["result"]
        if ending is None and signals.number:
            ending = stopping.by_signal(signals, done, jobs)
        if ending is not None:
            raise ending
    finally:
        for task in asked:
            ray.cancel(task, force=True, recursive=False)


def received(ray: Any, task: Any, retries: int) -> Mapping[str, Any]:
    """The answer of a task that is done; nothing of one that was cancelled, and a failed result of one that was lost."""
    try:
        return dict(ray.get(task))
    except ray.exceptions.TaskCancelledError:
        return {}
    except ray.exceptions.RayError as error:  # its node or its Ray process died, was out of memory, or could not be started
        why = str(error).strip().partition("\n")[0]
        return {"result": stopping.gave_up([f"or its node was lost ({type(error).__name__}: {why})"] * (retries + 1))}


def job_on_node(work: str, text: str, there: Mapping[str, Any]) -> dict[str, Any]:
    """One job, on the node that Ray chose: an answer (worker.answer). Ray's cancellation is a SIGINT to this process."""
    try:
        os.chdir(there["folder"])
    except OSError as error:
        return {"result": {"failed": f"{where()} cannot see {there['folder']}: {error.strerror}", "exit_code": 2}}
    path = [*sys.path, *(place for place in there["path"] if place not in sys.path and os.path.isdir(place))]
    asked = processes.message(work, json.loads(text), path)
    place = processes.limited(there["cpus"], alone=False)
    try:
        with stopping.noticed() as signals, processes.Pool([asked], [place], there["retries"], lambda workers: None) as pool:
            return {"result": dict(next(result for _, result in pool.results(signals)))}
    except Stopped as stopped:
        return {"stopped": str(stopped), "signal": max(0, stopped.exit_code - 128)}
    except NoSpace as full:
        return {"no_space": f"{where()}: {full}"}


@contextlib.contextmanager
def connected(settings: OnRay) -> Iterator[Any]:
    """The ray module, connected; what was connected before stays so. Ray's own handler of SIGTERM is put aside."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise RecipeError("engine ray: the package ray is not installed; pip install 'etude[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))  # Ray would begin a job that is too large again for ever
    address = settings.address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {"num_cpus": processes.cores(), "include_dashboard": False, "object_store_memory": 128 << 20}
    try:
        knock(address)
        ray.init(address=address, logging_level="ERROR", **(own if address == "local" else {}))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise RecipeError(f"engine.address: no Ray cluster at {address!r}: {error}") from error
    try:
        if main:
            signal.signal(signal.SIGTERM, before)
        yield ray
    finally:
        ray.shutdown()


def knock(address: str) -> None:
    """Raise OSError at once where nothing listens at `host:port`; Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()


def needs(settings: OnRay, nodes: Sequence[Mapping[str, float]]) -> tuple[int, float]:
    """Cores and GPUs of a job; raises RecipeError where no node (its resources, as Ray counts them) has as many."""
    if not nodes:
        raise RecipeError("engine.address: the Ray cluster has no node with a core")
    gpus = settings.gpus_per_job
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    fitting = [node for node in nodes if node.get("GPU", 0) >= gpus]
    if not fitting:
        raise RecipeError(f"engine.gpus_per_job: {gpus:g}; the largest node has {max(node.get('GPU', 0) for node in nodes):g}")
    cpus = settings.cpus_per_job
    if cpus is None:
        shares = [node["CPU"] * gpus / node["GPU"] if gpus else min(node["CPU"], MOST_CPUS) for node in fitting]
        cpus = max(1, int(min(shares)))
    if not any(node["CPU"] >= cpus for node in fitting):
        raise RecipeError(f"engine.cpus_per_job: {cpus}; the largest node that fits has {max(node['CPU'] for node in fitting):g}")
    return cpus, gpus


def shared_folder(jobs: Sequence[Job]) -> str:
    """The deepest folder that exists and holds every folder the jobs name; this process's where they name none."""
    named = [os.path.abspath(str(job["folder"])) for job in jobs if "folder" in job]
    folder = os.path.commonpath(named) if named else os.getcwd()
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def probe(ray: Any, node: Mapping[str, Any], folder: str) -> None:
    """Let a job on the node read a file of ours in the folder and write one; raises RecipeError where either fails to arrive, or where
    the node has other versions."""
    strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
    only = strategies.NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
    name = f"node {node.get('NodeManagerHostname')} ({node.get('NodeManagerAddress')})"
    token = secrets.token_hex(16)
    ours, theirs = (Path(folder, f".etude-{token}.{end}") for end in ("asked", "answered"))
    try:
        ours.write_text(token, encoding="ascii")
        task = ray.remote(num_cpus=0, max_retries=1)(look).options(scheduling_strategy=only)
        found = ray.get(task.remote(str(ours), str(theirs), os.getcwd()), timeout=PATIENCE)
        trouble = found["trouble"]
        if not trouble and (not theirs.is_file() or theirs.read_text(encoding="ascii") != token[::-1]):
            trouble = f"what it wrote into {folder} is not here"
    except ray.exceptions.RayError as error:
        raise RecipeError(f"engine ray: {name} does not answer ({type(error).__name__}); is etude installed there?\n{error}") from error
    finally:
        ours.unlink(missing_ok=True)
        theirs.unlink(missing_ok=True)
    if trouble:
        raise RecipeError(
            f"engine ray: {name}: {trouble}; the folders of a study must be on storage that all nodes share, at the same path"
        )
    here = versions()
    if other := [
        f"{package} {found['versions'][package]} (here {here[package]})"
        for package in NUMBERS
        if found["versions"][package] != here[package]
    ]:
        raise RecipeError(f"engine ray: {name} has {', '.join(other)}, which would give other numbers; install the same versions")


def look(ours: str, theirs: str, folder: str) -> dict[str, Any]:
    """On a node: read one file, write the other; what the trouble is, if any, and the versions there."""
    trouble = "" if os.path.isdir(folder) else f"there is no folder {folder}"
    try:
        token = Path(ours).read_text(encoding="ascii")
        Path(theirs).write_text(token[::-1], encoding="ascii")
    except OSError as error:
        trouble = f"cannot read or write in {os.path.dirname(ours)}: {error.strerror}"
    return {"trouble": trouble, "versions": versions()}


def versions() -> dict[str, str]:
    """Installed versions of what makes the numbers."""
    found = dict.fromkeys(NUMBERS, "not installed")
    for name in NUMBERS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def where() -> str:
    """This node's name, for messages."""
    return f"node {os.uname().nodename}"
