"""kill -9 at any write of any stage, then the same command: nothing is lost, doubled or half-made.

Each child is a fork of this process (the libraries are loaded once) that kills itself at its n-th
write; the parent then runs to the end and compares with a run that was never killed.
"""

from __future__ import annotations

import hashlib
import os
import signal

import pytest

from etude import checkpoints, journal, pipeline
from test_pipeline import facts, folder, recipe  # noqa: F401  (fixtures)


def fingerprint(place) -> dict[str, str]:
    """What a run's data, answers, weights and numbers are, without its timings."""
    names = [
        "data/train.jsonl",
        "data/test.jsonl",
        "curated/train.jsonl",
        "dropped.jsonl",
        "predictions/facts.start.jsonl",
        "predictions/facts.tuned.jsonl",
    ]
    names += ["predictions/facts.few_shot.jsonl", "predictions/probes.tuned.jsonl", "model/adapter_model.safetensors", "scorecard.json"]
    found = {}
    for name in names:
        lines = (place / name).read_bytes().splitlines() if name.startswith("predictions") else [(place / name).read_bytes()]
        found[name] = hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()
    return found


def arm(patch, at: int = 0, how: int = signal.SIGKILL) -> list[int]:
    """Make this process signal itself at its `at`-th append, whole-file write or checkpoint seal; a list with their count so far."""
    count = [0]

    def counted(function):
        def wrapper(*given, **named):
            count[0] += 1
            if count[0] == at:
                os.kill(os.getpid(), how)
            return function(*given, **named)

        return wrapper

    patch.setattr(journal.Journal, "append", counted(journal.Journal.append))
    patch.setattr(os, "replace", counted(os.replace))
    patch.setattr(checkpoints, "seal", counted(checkpoints.seal))
    return count


def killed(chosen, place, at: int, how: int = signal.SIGKILL) -> bool:
    """Run in a child that signals itself; whether it did not reach the end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if how != signal.SIGKILL:
                signal.signal(how, lambda number, frame: os._exit(128 + number))
            arm(pytest.MonkeyPatch(), at, how)
            pipeline.run(chosen, place)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return status != 0


@pytest.fixture(scope="module")
def reference(folder, tmp_path_factory):  # noqa: F811
    root = tmp_path_factory.mktemp("reference")
    rows = [{"instruction": f"Name number {i}.", "input": "" if i % 2 else f"item {i}", "output": f"the number {i % 7}"} for i in range(60)]
    journal.write_rows(root / "facts.jsonl", rows)
    chosen = recipe(folder, root / "facts.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        count = arm(patch)
        pipeline.run(chosen, root / "runs" / "small")
    return chosen, fingerprint(root / "runs" / "small"), count[0]


@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.parametrize(("how", "first", "times"), [(signal.SIGKILL, 1, 5), (signal.SIGINT, 12, 3)], ids=["kill -9", "ctrl-c"])
def test_a_run_killed_at_any_write_ends_as_if_it_had_not_been(reference, tmp_path, how, first, times):
    chosen, expected, writes = reference
    assert writes > 60
    last = writes - 3  # the first run of a process writes a file more than later ones
    for at in [first + n * (last - first) // (times - 1) for n in range(times)]:
        assert killed(chosen, tmp_path / f"{at}" / "small", at, how)
        pipeline.run(chosen, tmp_path / f"{at}" / "small")
        assert fingerprint(tmp_path / f"{at}" / "small") == expected, f"killed at write {at} of {writes}"


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_killed_again_and_again_it_still_arrives(reference, tmp_path):
    chosen, expected, _ = reference
    place = tmp_path / "small"
    rounds = 0
    while killed(chosen, place, 17):
        rounds += 1
        assert rounds < 60
    assert rounds >= 3
    assert fingerprint(place) == expected
