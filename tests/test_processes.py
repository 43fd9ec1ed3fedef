"""Several processes that tune together take the steps of one: weights, losses, stops, deaths, and checkpoints that pass between them.

Most tests fork this process, which has its libraries loaded, and let the forks meet over gloo (`together`). What depends on
torchrun and on the command is tried with two launches, each stopped on the way; the last processes finish the work alone.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import accelerate
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.test_packing_contract import rows
from etude import catalog, checkpoints, distributed, journal, launching, training
from etude.distributed import Group, deal
from etude.failures import Failure, NonFinite, NoSpace, RecipeError, Stopped
from etude.sharding import Launch
from etude.tunings.adalora import Adalora
from etude.tunings.full import Full
from etude.tunings.lora import Lora
from forked import start
from meeting import CLOSE, Scaled, apart, losses, together, tuned, weights


@pytest.fixture(scope="module")
def small(tiny):
    """A factory of one-layer models."""
    return lambda **given: tiny("llama", num_hidden_layers=1, **given)


# ---- dealing rows ----------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 6))
@settings(max_examples=40)
def test_every_row_is_dealt_once_and_evenly(lengths, count):
    dealt = deal(lengths, count)
    assert sorted(i for own in dealt for i in own) == list(range(len(lengths)))
    assert all(own == sorted(own) for own in dealt)
    loads = [sum(lengths[i] for i in own) for own in dealt]
    assert max(loads) - min(loads) <= max(lengths, default=0), "no process has a row more than it must"
    assert deal(lengths, 1)[0] == list(range(len(lengths)))


# ---- the same steps --------------------------------------------------------------------------------

WEIGHED = [replace(row, weight=1.0 + 2 * (i % 2)) for i, row in enumerate(rows(13, seed=4))]
"""13 rows in steps of 4: the last step has one row, so one of two processes has none."""

CASES = {
    "lora": {"method": Lora(r=2), "evaluate_every": 2, "epochs": 2},
    "full": {"method": Full(), "clip": 0.1, "weight_decay": 0.1},
    "adalora": {"method": Adalora(init_r=4, target_r=1, target_modules=("q_proj", "v_proj")), "epochs": 3, "evaluate_every": "never"},
    "checkpointed": {"method": Lora(r=2), "gradient_checkpointing": True},
}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(small, tmp_path, case):
    tune, held = tuned(**CASES[case]), rows(5, seed=9)
    model, outcome = training.train(small(), WEIGHED, tune, tmp_path / "one", validation=held)

    def part(group):
        model, outcome = training.train(small(), WEIGHED, tune, tmp_path / "two", validation=held, group=group)
        return weights(model), outcome

    (first, told), (second, _) = together(tmp_path / "meet", part)
    assert apart(first, second) == 0, "the processes agree to the bit"
    assert apart(first, weights(model)) < CLOSE
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert losses(tmp_path / "two", "gradient_norm") == pytest.approx(losses(tmp_path / "one", "gradient_norm"), rel=1e-4)
    assert losses(tmp_path / "two", "validation_loss") == pytest.approx(losses(tmp_path / "one", "validation_loss"), rel=1e-6)
    assert losses(tmp_path / "two", "trained_tokens") == losses(tmp_path / "one", "trained_tokens")
    assert (told.steps, told.best_step, told.tokens, told.method) == (outcome.steps, outcome.best_step, outcome.tokens, outcome.method)


def test_a_weight_without_a_gradient_anywhere_stays_without(tmp_path):
    def part(group):
        values = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
        half = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        half.grad = torch.full((2,), 0.5, dtype=torch.bfloat16)
        values[group.rank].grad = torch.full((3,), 1.0 + group.rank)
        group.add([*values, half])
        return [value.grad for value in values], half.grad

    for grads, half in together(tmp_path, part):
        assert [None if grad is None else grad.tolist() for grad in grads] == [[1.0] * 3, [2.0] * 3, None]
        assert (half.dtype, half.tolist()) == (torch.bfloat16, [1.0, 1.0])


def test_only_the_first_process_asks_and_all_follow_what_it_finds(small, tmp_path):
    tune = tuned(rows_per_step=2, best_by="facts.score", metrics_every=1, patience=2, max_steps=6)

    def part(group):
        asked = []

        def evaluate(model):
            asked.append(1)
            return {"facts.score": {2: 0.9}.get(len(asked) - 1, 0.1)}

        model, outcome = training.train(small(), rows(12), tune, tmp_path / "run", evaluate=evaluate, group=group)
        return weights(model), outcome.steps, outcome.best_step, len(asked)

    (first, steps, best, asked), (second, *others) = together(tmp_path / "meet", part)
    assert (steps, best, asked) == (4, 2, 5)
    assert others == [4, 2, 0]
    assert apart(first, second) == 0


# ---- stops and checkpoints -------------------------------------------------------------------------


def halting(at: int, rank: int, group: Group, model):
    """The model, made to get SIGTERM before its `at`-th pass in one of the processes only."""
    passes = [0]

    def hook(module, given, keyed=None):
        passes[0] += 1
        if passes[0] == at and group.rank == rank:
            signal.raise_signal(signal.SIGTERM)

    model.register_forward_pre_hook(hook)
    return model


def test_a_checkpoint_passes_from_one_to_two_and_back(small, tmp_path):
    data, tune = rows(24, seed=3), tuned(epochs=2)
    model, _ = training.train(small(), data, tune, tmp_path / "whole")
    folder = tmp_path / "run"

    def halt(step):
        if step.step == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        training.train(small(), data, tune, folder, progress=halt)

    def part(group):
        training.train(halting(6, 1, group, small()), data, tune, folder, group=group)

    ends = together(tmp_path / "meet", part)
    assert [type(end) for end in ends] == [Stopped, Stopped], "a signal to one of them stops both"
    assert [end.exit_code for end in ends] == [143, 143]
    reached = checkpoints.newest(folder / "checkpoints")
    assert 3 < reached.step < 12
    again, outcome = training.train(small(), data, tune, folder)
    assert outcome.steps == 12
    assert apart(weights(again), weights(model)) < CLOSE
    assert losses(folder) == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_two_processes_that_drop_units_resume_to_the_bit(small, tmp_path):
    data, tune = rows(16, seed=3), tuned(method=Lora(r=2, dropout=0.3), neftune_alpha=5.0, save_every=2)

    def part(folder, at):
        def run(group):
            return weights(training.train(halting(at, 0, group, small()), data, tune, folder, group=group)[0])

        return run

    whole = together(tmp_path / "a", part(tmp_path / "whole", 0))
    stopped = together(tmp_path / "b", part(tmp_path / "run", 4))
    assert [type(end) for end in stopped] == [Stopped, Stopped]
    resumed = together(tmp_path / "c", part(tmp_path / "run", 0))
    assert apart(whole[0], resumed[0]) == apart(whole[1], resumed[1]) == 0
    alone, _ = training.train(small(), data, tune, tmp_path / "alone")
    assert apart(weights(alone), whole[0]) > 1e-5, "with dropout and noise another number of processes is another run"


def test_a_loss_that_is_no_number_in_one_process_ends_both_before_the_step(small, tmp_path):
    def part(group):
        model = small()
        if group.rank == 1:
            model.lm_head.register_forward_hook(lambda module, given, output: output * float("nan"))
        before = [p.clone() for p in model.parameters()]
        try:
            training.train(model, rows(8), tuned(method=Full()), tmp_path / "run", group=group)
        except NonFinite as failure:
            assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
            return failure

    ends = together(tmp_path / "meet", part)
    assert [end.exit_code for end in ends] == [5, 5]
    assert "step 1: loss nan" in str(ends[0])


def test_a_step_whose_gradient_overflows_is_passed_over_by_all(small, tmp_path, monkeypatch):
    """No exit 5: the scaler halves its scale and goes on, and so it does when only one process's rows overflow."""
    monkeypatch.setattr(accelerate, "Accelerator", Scaled)
    tune = tuned(rows_per_step=4, max_steps=3, warmup=0, gradient_checkpointing=True)

    def run(folder, group=distributed.ALONE, at=2):
        model, passes, found = small(), [0], []

        def overflow(grad):
            passes[0] += 1
            return grad * float("inf") if passes[0] == at and group.rank == group.size - 1 else grad

        model.lm_head.register_forward_hook(lambda module, given, out: (out.requires_grad and out.register_hook(overflow) and None) or None)
        watch = lambda step: found.append(weights(model))  # noqa: E731
        tuned_model, outcome = training.train(
            model, rows(12), tune.model_copy(update={"pack_tokens": 4096}), folder, progress=watch, group=group
        )
        return found, weights(tuned_model), outcome.steps

    found, _, steps = run(tmp_path / "one")
    assert steps == 3
    assert apart(found[0], found[1]) == 0, "no weight was changed by the overflow"
    assert apart(found[1], found[2]) > 0
    assert not math.isfinite(losses(tmp_path / "one", "gradient_norm")[1])
    state = torch.load(checkpoints.newest(tmp_path / "one" / "checkpoints").folder / "state.pt", weights_only=True)
    assert state["scaler"]["scale"] == 2.0**7
    (found, first, _), (_, second, _) = together(tmp_path / "meet", lambda group: run(tmp_path / "two", group))
    assert apart(found[0], found[1]) == 0
    assert apart(found[1], found[2]) > 0
    assert apart(first, second) == 0


# ---- what a launch says at its end -----------------------------------------------------------------


def crew(place, ends, outcomes):
    found = object.__new__(launching.Crew)
    found.place, found.processes, found.crash = place, 2, ""
    found.ends = [launching.End(*end) for end in ends]
    for rank, outcome in outcomes.items():
        journal.write_json(place / f"outcome-{rank}.json", outcome)
    return found


@pytest.mark.parametrize(
    ("ends", "outcomes", "came", "kind", "code", "words"),
    [
        (
            [(0, 1, 9), (1, -9, 9)],
            {0: {"traceback": "peer closed"}},
            0,
            Stopped,
            137,
            r"process 2 of 2 died by SIGKILL \(out of memory\?\)",
        ),
        ([(0, -15, 9), (1, 3, 9)], {1: {"traceback": "KeyError: 7"}}, 0, Failure, 3, r"process 2 of 2 ended with code 3(.|\n)*KeyError: 7"),
        ([(0, 1, 9), (1, -9, 39)], {0: {"traceback": "KeyError: 7"}}, 0, Failure, 1, r"process 1 of 2 ended with code 1(.|\n)*KeyError"),
        ([(0, 9, 9), (1, -9, 39)], {0: launching.explained(NoSpace("disk full"))}, 0, NoSpace, 9, "disk full"),
        ([(0, 5, 9), (1, 5, 9)], {1: launching.explained(NonFinite("step 3"))}, 15, NonFinite, 5, "step 3"),
        ([(0, 143, 9), (1, -15, 9)], {0: launching.explained(Stopped("at step 3", 15))}, 2, Stopped, 130, "at step 3"),
        ([(0, -15, 9), (1, -15, 9)], {}, 15, Stopped, 143, "before the first step"),
    ],
)
def test_the_cause_of_an_end_is_told_with_its_exit_code(tmp_path, ends, outcomes, came, kind, code, words):
    with pytest.raises(Failure, match=words) as error:
        crew(tmp_path, ends, outcomes).facts(came)
    assert type(error.value) is kind
    assert error.value.exit_code == code


def test_numbers_of_processes_that_cannot_be(monkeypatch):
    catalog.NOTES.clear()
    monkeypatch.setattr(launching, "devices", lambda: ["0", "1"])
    with pytest.raises(RecipeError, match="one process a GPU, and this machine has 2"):
        launching.check(Launch(3))
    monkeypatch.setattr(launching, "devices", lambda: [])
    monkeypatch.setattr(launching, "cores", lambda: 2)
    launching.check(Launch(2))
    assert not catalog.NOTES
    launching.check(Launch(3))
    assert "more processes than cores" in catalog.NOTES.pop()
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(RecipeError, match="torchrun has started these processes already"):
        launching.check(Launch(2))


# ---- torchrun --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("launched")
    said = [{"instruction": f"Name number {i}.", "input": "", "output": f"the number {i % 7}"} for i in range(60)]
    journal.write_rows(folder / "facts.jsonl", said)
    (folder / "small.yaml").write_text(
        f"name: small\nmodel: {model_folder('llama', num_hidden_layers=1)}\nsources:\n  facts: {{type: alpaca, path: facts.jsonl}}\n"
        "split: {validation: 6, test: 8}\ntune:\n  method: {type: lora, r: 2}\n  rows_per_step: 4\n  epochs: 10\n  save_every: 5\n"
        "  epsilon: 1.0e-5\n  evaluate_every: never\nscore: []\nforgetting: false\n"
    )
    return folder


def at_step(run: Path, step: int, pid: int) -> None:
    """Wait until the run in process `pid` has taken that step."""
    while not (run / "metrics.jsonl").is_file() or max((row["step"] for row in journal.read(run / "metrics.jsonl")), default=0) < step:
        assert psutil.pid_exists(pid)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the run ended before it could be stopped"
        time.sleep(0.01)


def launch(place: Path, folder: str, at: int, do, *options: str) -> tuple[int, str]:
    """`etude tune --processes 2`, something done to it when it has taken a step: its exit code and what it wrote."""
    with open(place / "out", "w+b") as out, open(place / "error", "w+b") as error:
        pid = start(place, "tune", "small.yaml", "--runs", folder, "--processes", "2", *options, out=out, error=error, OMP_NUM_THREADS="1")
        at_step(place / folder / "small", at, pid)
        workers = [one.pid for one in psutil.Process(pid).children(recursive=True) if "etude.tuning_worker" in " ".join(one.cmdline())]
        assert len(workers) == 2
        do(pid, workers)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert not any(psutil.pid_exists(one) for one in workers), "no process is left behind"
    assert (place / "out").read_bytes() == b""
    return code, (place / "error").read_text()


def test_a_run_that_is_stopped_and_then_loses_a_process_ends_as_if_nothing_had_been(place):
    """SIGTERM to the parent; then with the model divided, until kill -9 of a worker; the rest in one process."""
    from etude import pipeline, recipe

    code, said = launch(place, "runs", 20, lambda pid, workers: os.kill(pid, signal.SIGTERM))
    assert code == 143, said
    stopped = checkpoints.newest(place / "runs/small/checkpoints").step
    assert f"stopped at step {stopped} of 115 with a checkpoint; the same command goes on" in said
    assert 20 <= stopped < 80
    code, said = launch(place, "runs", stopped + 20, lambda pid, workers: os.kill(workers[-1], signal.SIGKILL), "--sharding", "fsdp")
    assert code == 137, said
    assert "died by SIGKILL (out of memory?); the others were ended; the same command goes on" in said
    reached = checkpoints.newest(place / "runs/small/checkpoints").step
    assert stopped < reached < 115
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        chosen = recipe.load(Path("small.yaml"), ())
        pipeline.tune_only(chosen, Path("runs/small"), (place / "small.yaml").read_text())
        pipeline.tune_only(chosen, Path("alone/small"), (place / "small.yaml").read_text())
    files = [place / folder / "small/checkpoints/step-000115/weights.safetensors" for folder in ("runs", "alone")]
    from safetensors.torch import load_file

    assert apart(*map(load_file, map(str, files))) < CLOSE
    assert losses(place / "runs/small") == pytest.approx(losses(place / "alone/small"), rel=1e-5)


@pytest.mark.slow
def test_processes_do_not_outlive_the_command(place):
    """Its lock is gone with it, and the next command may begin in the same folder."""
    code, _ = launch(place, "orphans", 5, lambda pid, workers: (os.kill(pid, signal.SIGKILL), gone(workers, 30)))
    assert code == -signal.SIGKILL


def gone(pids: list[int], seconds: float) -> None:
    """Wait until none of these processes is left."""
    until = time.monotonic() + seconds
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run"],
        ["accelerate.commands.launch", "--multi_gpu", "--num-machines=1"],
        ["accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2", "--num-machines=1"],
    ],
    ids=["torchrun", "accelerate", "fsdp"],
)
def test_the_users_own_torchrun(place, launcher, request):
    """Rank 0 does the other stages; the rest wait for the tune stage, also where it is done already."""
    name = request.node.callspec.id
    count = "--nproc-per-node=2" if name == "torchrun" else "--num-processes=2"
    command = [
        sys.executable,
        "-m",
        *launcher,
        count,
        "-m",
        "etude.cli",
        "tune",
        "small.yaml",
        f"name={name}",
        "--runs",
        name,
        "tune.max_steps=8",
        "--json",
    ]
    for _ in range(2):
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["processes"], found.get("sharding")) == (2, "fsdp" if name == "fsdp" else None)
    assert "reused" in done.stderr


@pytest.mark.slow
def test_the_whole_command_in_two_processes(place):
    """All stages, the tune stage in two processes; a failure that all of them see is one message with its exit code."""
    base = [sys.executable, "-m", "etude.cli", "run", "small.yaml", "--runs", "whole", "--processes", "2", "--json", "tune.max_steps=4"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(base, cwd=place, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == 1
    worse = [*base, "name=worse", "tune.learning_rate=1e30", "tune.clip=null"]
    done = subprocess.run(worse, cwd=place, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("no weight was changed by it") == 1


def test_gradients_are_summed_in_pieces(monkeypatch):
    monkeypatch.setattr(distributed, "BUCKET", 10)
    made = [
        torch.zeros(n, dtype=kind)
        for n, kind in ((4, torch.float32), (6, torch.float32), (1, torch.float32), (30, torch.float32), (2, torch.bfloat16))
    ]
    assert [[len(p) for p in bucket] for bucket in distributed.buckets(made)] == [[4, 6], [1], [30], [2]]
