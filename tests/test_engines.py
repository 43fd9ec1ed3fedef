"""The same jobs, wherever they run: results, deaths, stops, and what is left behind (nothing)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etude.engines import ENGINES, stopping
from etude.engines import processes as room
from etude.engines.here import Here
from etude.engines.processes import Processes
from etude.failures import NoSpace, RecipeError, Stopped

TESTS = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def done(engine: Any, work: str, jobs: list[dict[str, Any]]) -> list[Any]:
    """The results in the order of the jobs; each index must come once."""
    found = dict(pairs := list(engine.map(f"engine_work:{work}", jobs)))
    assert sorted(index for index, _ in pairs) == list(range(len(jobs)))
    return [found[index] for index in range(len(jobs))]


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def gone(pid: int) -> bool:
    """Whether the process has ended (one that nobody has asked after yet counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def begun(folder: Path, count: int) -> list[int]:
    """The process ids that `count` jobs have left in the folder, once all have."""
    return until(
        lambda: (
            len(found := [p for p in folder.glob("*.began") if p.read_text()]) >= count
            and sorted(int(pid) for path in found for pid in path.read_text().split())
        )
    )


def test_results_are_the_same_whatever_the_engine(capfd):
    jobs = [{"number": number} for number in (3, 1, 20_000)]  # the last result is larger than a pipe
    assert done(Processes(slots=2), "square", jobs) == done(Here(), "square", jobs)
    assert list(Processes().map("engine_work:square", [])) == []
    assert {name for name, kind in ENGINES.items() if hasattr(kind, "map")} == {"here", "processes", "ray"}


def test_each_job_has_a_process_with_its_share_of_the_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    first, second = done(Processes(slots=2), "surroundings", [{}, {}])
    assert first["pid"] not in (second["pid"], os.getpid())
    assert first["pid"] == first["group"]
    assert (first["OMP_NUM_THREADS"], first["OMP_WAIT_POLICY"], first["input"]) == ("3", "PASSIVE", "")
    assert first["folder"] == str(tmp_path)


def test_the_cores_and_devices_are_dealt_out(monkeypatch):
    monkeypatch.setattr(room, "cores", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert room.surroundings(0, 4, [])["OMP_NUM_THREADS"] == "3", "the user asked for fewer"
    monkeypatch.delenv("OMP_NUM_THREADS")
    alone = room.surroundings(0, 1, [])
    assert alone["OMP_NUM_THREADS"] == "16"
    assert "OMP_WAIT_POLICY" not in alone
    assert [room.surroundings(slot, 3, ["GPU-a", "5"])["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["GPU-a", "5", "GPU-a"]
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert room.devices() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-a")
    assert room.devices() == ["5", "GPU-a"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert room.devices() == ["0", "1"]


@pytest.mark.parametrize(("given", "slots"), [({}, 2), ({"threads_per_slot": 4}, 5), ({"slots": 3}, 3), ({"threads_per_slot": 64}, 1)])
def test_as_many_slots_as_the_machine_has_room_for(monkeypatch, given, slots):
    made = []
    monkeypatch.setattr(room, "cores", lambda: 20)
    monkeypatch.setattr(room, "Pool", lambda asked, places, retries: made.append(len(places)) or pytest.skip.Exception)
    with pytest.raises((TypeError, AttributeError)):
        list(Processes(**given).map("engine_work:square", [{"number": 1}] * 9))
    assert made == [slots]


@pytest.mark.parametrize("how", [signal.SIGKILL, "exit"])
def test_a_job_whose_process_dies_is_begun_again_and_then_given_up(tmp_path, how):
    once = {"marker": str(tmp_path / "once"), "times": 1, "how": how}
    always = {"marker": str(tmp_path / "always"), "times": 9, "how": how}
    lucky = {"marker": str(tmp_path / "lucky"), "times": 0}
    found = done(Processes(slots=2, retries=1), "dies", [always, once, lucky])
    assert found[1:] == [{"began": 2}, {"began": 1}]
    why = "died by SIGKILL (out of memory?)" if how == signal.SIGKILL else "ended without an answer (exit code 3)"
    assert found[0] == {"failed": f"the process {why} 2 times", "exit_code": 1}
    assert (tmp_path / "always").stat().st_size == 2


def test_deaths_are_told():
    assert stopping.gave_up(["died by SIGSEGV"])["failed"] == "the process died by SIGSEGV once"
    assert stopping.gave_up(["died by SIGSEGV", "died by SIGKILL"])["failed"] == "the process died by SIGSEGV; then it died by SIGKILL"


def test_what_a_job_raises_is_its_result():
    failure, fault, left, path, fine = done(
        Processes(slots=2), "raises", [{"what": what} for what in ("failure", "fault", "exit", "path", "fine")]
    )
    assert failure == {"failed": "rows.jsonl:3: no such thing", "exit_code": 3}
    assert (fault["exit_code"], left["exit_code"], fine) == (1, 1, {"fine": "fine"})
    assert fault["failed"].startswith("KeyError: 'a key'\n")
    assert "engine_work.py" in fault["failed"], "where it happened is told"
    assert left["failed"].startswith("SystemExit: enough")
    assert path["failed"].startswith("TypeError: Object of type"), "not plain data"
    (missing,) = done(Processes(slots=1), "no_such_work", [{}])
    assert missing["failed"].startswith("AttributeError")


@pytest.mark.parametrize(
    ("what", "kind", "said", "code"),
    [("budget", Stopped, "the budget is spent", 75), ("full", NoSpace, "cannot write here", 9), ("disk", NoSpace, "No space left", 9)],
)
def test_what_concerns_all_ends_the_map(tmp_path, what, kind, said, code):
    waiting = {"what": "wait", "folder": str(tmp_path), "name": "other"}
    results = Processes(slots=2).map("engine_work:raises", [waiting, {"what": "fine"}, {"what": what}, {"what": "never begun"}])
    assert next(results) == (1, {"fine": "fine"})
    begun(tmp_path, 1)
    with pytest.raises(kind, match=said) as raised:
        list(results)
    assert raised.value.exit_code == code
    assert (tmp_path / "other.checkpoint").exists(), "the other was told, and waited for"


def test_who_stops_listening_leaves_nothing_behind(tmp_path):
    results = Processes(slots=2).map("engine_work:raises", [{"what": "fine"}, {"what": "wait", "folder": str(tmp_path), "name": "a"}])
    next(results)
    pids = begun(tmp_path, 1)
    results.close()
    until(lambda: all(map(gone, pids)))


PARENT = """
import sys
from etude.engines.processes import Processes
from etude.failures import Failure
try:
    for index, result in Processes(slots=2).map(sys.argv[2], [{"folder": sys.argv[1], "name": name} for name in "abc"]):
        print(index, result)
except Failure as failure:
    print(failure)
    sys.exit(failure.exit_code)
"""


@pytest.fixture
def parent(tmp_path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(work: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])}
        command = [sys.executable, "-c", PARENT, str(tmp_path), f"engine_work:{work}"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_signal_stops_the_workers_at_a_checkpoint(parent, tmp_path):
    process = parent("waits")
    pids = begun(tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 143
    assert out.startswith("stopped by SIGTERM: 0 of 3 jobs are done;")
    assert "waiting for 2 workers" in error
    assert sorted(path.stem for path in tmp_path.glob("*.checkpoint")) == ["a", "b"]
    assert all(map(gone, pids))


def test_work_that_takes_no_care_of_signals_stops_too_and_its_children_with_it(parent, tmp_path):
    process = parent("sleeps")
    pids = begun(tmp_path, 2)
    assert len(pids) == 4
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, "0 of 3 jobs are done" in out) == (130, True)
    until(lambda: all(map(gone, pids)))


def test_a_second_signal_kills(parent, tmp_path):
    process = parent("waits_long")
    pids = begun(tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    assert "waiting" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=15)
    assert (process.returncode, out[:18]) == (143, "stopped by SIGTERM")
    assert all(map(gone, pids))
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_parent_that_is_killed_leaves_no_orphan(parent, tmp_path):
    process = parent("sleeps")
    pids = begun(tmp_path, 2)
    process.kill()
    process.wait()
    until(lambda: all(map(gone, pids)), 5.0)


def test_a_signal_that_came_too_late_to_stop_anything_is_not_lost():
    results = Here().map("engine_work:raises", [{"what": "fine"}])
    assert next(results)
    before = signal.getsignal(signal.SIGTERM)
    came = []
    signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        results = Processes(slots=1).map("engine_work:raises", [{"what": "fine"}])
        next(results)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped, match="1 of 1 jobs are done"):
            next(results)
        assert came == []
        results = Processes(slots=1).map("engine_work:raises", [{"what": "fine"}, {"what": "fine"}])
        next(results)
        signal.raise_signal(signal.SIGTERM)
        results.close()
        assert came == [signal.SIGTERM], "nobody had heeded it: whoever listens now does"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"pip install 'etude\[ray\]'"):
        next(ENGINES["ray"]().map("engine_work:square", [{"number": 1}]))


@pytest.mark.parametrize(
    ("given", "nodes", "found"),
    [
        ({}, [{"CPU": 2}], (2, 0)),
        ({}, [{"CPU": 64}, {"CPU": 4}], (4, 0)),
        ({}, [{"CPU": 64}], (8, 0)),
        ({}, [{"CPU": 64}, {"CPU": 32, "GPU": 4}], (8, 1)),
        ({"gpus_per_job": 0.5}, [{"CPU": 8, "GPU": 1}], (4, 0.5)),
        ({"gpus_per_job": 0, "cpus_per_job": 3}, [{"CPU": 8, "GPU": 1}], (3, 0)),
        ({"gpus_per_job": 2}, [{"CPU": 8, "GPU": 1}], r"engine.gpus_per_job: 2; the largest node has 1"),
        ({"cpus_per_job": 9}, [{"CPU": 8}], r"engine.cpus_per_job: 9; the largest node that fits has 8"),
        ({}, [], "no node with a core"),
    ],
)
def test_what_a_job_needs_of_a_ray_cluster(given, nodes, found):
    from etude.engines import on_ray

    if isinstance(found, tuple):
        assert on_ray.needs(on_ray.OnRay(**given), nodes) == found
    else:
        with pytest.raises(RecipeError, match=found):
            on_ray.needs(on_ray.OnRay(**given), nodes)


def test_the_folder_that_all_nodes_must_see(tmp_path):
    from etude.engines import on_ray

    assert on_ray.shared_folder([{"folder": f"{tmp_path}/study/{name}"} for name in ("a-0", "b-0")]) == str(tmp_path)
    assert on_ray.shared_folder([{}]) == os.getcwd()
