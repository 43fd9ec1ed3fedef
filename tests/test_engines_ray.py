"""The Ray engine on a cluster of two nodes of this machine, of which one is killed. Skips where Ray is not installed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etude.engines import on_ray
from etude.engines.here import Here
from etude.engines.on_ray import OnRay
from etude.failures import RecipeError, Stopped
from test_engines import begun, done, gone, until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray takes its time, and leaves sockets to the collector


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each; this process is connected to the first."""
    pytest.importorskip("ray", reason="the extra etude[ray] is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # by default its workers stand behind all else that the machine does
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        small = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        started = Cluster(initialize_head=True, head_node_args=small)
        started.second = started.add_node(num_cpus=1, object_store_memory=100 << 20)
        patch.setenv("RAY_ADDRESS", started.address)
        yield started
        started.shutdown()


def test_results_are_the_same_as_here(cluster):
    jobs = [{"number": number} for number in (3, 1, 2, 20_000)]
    before = signal.getsignal(signal.SIGTERM)
    assert done(OnRay(), "square", jobs) == done(Here(), "square", jobs)
    assert signal.getsignal(signal.SIGTERM) is before, "Ray's handler is gone with it"


def test_deaths_of_a_job_and_of_a_ray_worker(cluster, tmp_path):
    jobs = [
        {"marker": str(tmp_path / "own"), "times": 1},
        {"marker": str(tmp_path / "worker"), "times": 1, "how": "parent"},
        {"marker": str(tmp_path / "never"), "times": 0},
        {"marker": str(tmp_path / "always"), "times": 99},
    ]
    own, worker, never, always = done(OnRay(retries=1), "dies", jobs)
    assert (own, worker, never) == ({"began": 2}, {"began": 2}, {"began": 1})
    assert always == {"failed": "the process died by SIGKILL (out of memory?) 2 times", "exit_code": 1}
    (lost,) = done(OnRay(retries=1), "dies", [{"marker": str(tmp_path / "workers"), "times": 99, "how": "parent"}])
    assert "its node was lost (WorkerCrashedError" in lost["failed"]
    assert (tmp_path / "workers").stat().st_size == 2


def test_a_signal_stops_the_jobs_at_a_checkpoint(cluster, tmp_path):
    def stop() -> None:
        begun(tmp_path, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    jobs = [{"folder": str(tmp_path), "name": name, "slow": 1.5} for name in "abc"]
    with pytest.raises(Stopped, match="stopped by SIGTERM: 0 of 3 jobs are done") as raised:
        list(OnRay().map("engine_work:waits", jobs))
    assert raised.value.exit_code == 143
    assert sorted(path.stem for path in tmp_path.glob("*.checkpoint")) == ["a", "b"], "waited for, and the third never begun"


def test_who_stops_listening_leaves_nothing_behind(cluster, tmp_path):
    results = OnRay().map("engine_work:raises", [{"what": "fine"}, {"what": "wait", "folder": str(tmp_path), "name": "a"}])
    assert next(results) == (0, {"fine": "fine"})
    pids = begun(tmp_path, 1)
    results.close()
    until(lambda: all(map(gone, pids)))


def test_a_budget_that_ran_out_ends_the_map(cluster, tmp_path):
    waiting = {"what": "wait", "folder": str(tmp_path), "name": "other"}
    with pytest.raises(Stopped, match="the budget is spent") as raised:
        list(OnRay().map("engine_work:raises", [waiting, {"what": "budget"}, {"what": "never begun"}]))
    assert raised.value.exit_code == 75


def test_nodes_that_would_go_wrong_are_refused(cluster, tmp_path, monkeypatch):
    handle = os.open(tmp_path, os.O_RDONLY)
    try:  # a folder whose path means something else in every process: what a folder of this machine's own disk is to another node
        with pytest.raises(RecipeError, match=r"cannot read or write in /proc/self/fd/\d+: .*storage that all nodes share"):
            next(OnRay().map("engine_work:square", [{"number": 1, "folder": f"/proc/self/fd/{handle}"}]))
    finally:
        os.close(handle)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(on_ray, "versions", lambda: dict.fromkeys(on_ray.NUMBERS, "1.0"))
    with pytest.raises(RecipeError, match=r"node .* has .*torch .* \(here 1.0\)"):
        next(OnRay().map("engine_work:square", [{"number": 1}]))
    with pytest.raises(RecipeError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        next(OnRay(address="127.0.0.1:1").map("engine_work:square", [{"number": 1}]))


def test_a_node_that_is_killed_costs_no_job(cluster, tmp_path):
    def kill() -> None:
        until(lambda: len(list(tmp_path.glob("*.on"))) == 2, 60)
        cluster.remove_node(cluster.second, allow_graceful=False)
        time.sleep(1)
        Path(tmp_path, "go").touch()

    threading.Thread(target=kill).start()
    jobs = [{"folder": str(tmp_path), "name": name} for name in "abcd"]
    assert done(OnRay(), "says_where", jobs) == [{"name": name} for name in "abcd"]
    assert sorted(len(path.read_text().split()) for path in tmp_path.glob("*.on")) == [1, 1, 1, 2], "one was begun again"
