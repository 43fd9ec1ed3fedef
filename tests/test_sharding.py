"""Models divided among processes: the steps of one process, whole checkpoints, and what is refused. DeepSpeed's tests need DeepSpeed."""

from __future__ import annotations

import importlib.util
import json
import math
import signal
from dataclasses import replace
from types import SimpleNamespace

import accelerate
import pytest
import torch

from contracts.test_packing_contract import rows
from etude import checkpoints, launching, sharding, training
from etude.failures import RecipeError, Stopped
from etude.sharding import SHARDINGS, Launch, zero
from etude.sharding.fsdp import Fsdp
from etude.sharding.zero import Zero
from etude.steps import Tune
from etude.tunings.adalora import Adalora
from etude.tunings.full import Full
from etude.tunings.ia3 import IA3
from etude.tunings.lora import Lora
from etude.tunings.p_tuning import PTuning
from etude.tunings.prefix import Prefix
from meeting import CLOSE, Scaled, apart, losses, together, tuned, weights

WEIGHED = [replace(row, weight=1.0 + 2 * (i % 2)) for i, row in enumerate(rows(13, seed=4))]
"""13 rows in steps of 4, of several passes each: beside the last step's one row, the other process takes a pass that does not count."""

HELD = rows(5, seed=9)

CASES = {
    "full": {"method": Full(), "clip": 0.1, "weight_decay": 0.1, "evaluate_every": 2},
    "lora": {"method": Lora(r=2), "epochs": 2, "gradient_checkpointing": True},
    "adalora": {"method": Adalora(init_r=4, target_r=1, target_modules=("q_proj", "v_proj")), "epochs": 3, "evaluate_every": "never"},
    "ia3": {"method": IA3()},
    "prefix": {"method": Prefix(num_virtual_tokens=3)},
    "p_tuning": {"method": PTuning(num_virtual_tokens=3)},
}

needs_deepspeed = pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="DeepSpeed is not installed (etude[deepspeed])")


@pytest.fixture(scope="module")
def small(tiny):
    """A factory of one-layer models."""
    return lambda **given: tiny("llama", num_hidden_layers=1, **given)


def same_steps(small, place, tune: Tune, divided, close: float = CLOSE) -> None:
    """One process and two with a divided model: the same losses and norms, and the same weights in what is saved."""
    one, outcome = training.train(small(), WEIGHED, tune, place / "one", validation=HELD)
    tune.method.save(one, place / "one" / "model")

    def part(group):
        model, told = training.train(small(), WEIGHED, tune, place / "two", validation=HELD, group=group, sharding=divided)
        if not group.first:
            return None
        tune.method.save(model, place / "two" / "model")
        return weights(model), told

    (found, told), _ = together(place / "meet", part)
    assert apart(found, weights(one)) < close
    for key, near in {"loss": 1e-5, "gradient_norm": 1e-4, "validation_loss": 1e-6}.items():
        assert losses(place / "two", key) == pytest.approx(losses(place / "one", key), rel=near * close / CLOSE), key
    assert (told.trainable, told.parameters, told.best_step) == (outcome.trainable, outcome.parameters, outcome.best_step)
    ids = torch.arange(2, 12)[None]
    loaded = [tune.method.load(small(), place / side / "model").eval()(input_ids=ids).logits for side in ("one", "two")]
    torch.testing.assert_close(*loaded, atol=10 * close, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_a_divided_model_takes_the_steps_of_a_whole_one(small, tmp_path, case):
    same_steps(small, tmp_path, tuned(**CASES[case]), Fsdp())


def test_half_of_every_weight_is_in_each_process(small, tmp_path):
    def part(group):
        found = {}

        class Watched(Fsdp):
            def stepper(self, model, *given):
                made = super().stepper(model, *given)
                found.update({name: (weight.to_local().numel(), weight.numel()) for name, weight in model.named_parameters()})
                return made

        training.train(small(), rows(4), tuned(method=Full()), tmp_path / "run", group=group, sharding=Watched())
        return found

    for found in together(tmp_path / "meet", part):
        assert found
        assert all(own <= math.ceil(whole / 2) + 64 for own, whole in found.values())
        assert sum(own for own, _ in found.values()) <= 0.6 * sum(whole for _, whole in found.values())


def halted(small, place, folder, tune, group=None, divided=None, at=2):
    """A run that is stopped by SIGTERM behind a step."""

    def halt(step):
        if step.step == at:
            signal.raise_signal(signal.SIGTERM)

    given = {"group": group, "sharding": divided} if group else {}
    with pytest.raises(Stopped):
        training.train(small(), WEIGHED, tune, place / folder, progress=halt, **given)


@pytest.mark.parametrize("first", ["whole", "divided"])
def test_a_checkpoint_passes_between_divided_and_whole(small, tmp_path, first):
    tune = tuned(method=Full(), evaluate_every="never")
    model, _ = training.train(small(), WEIGHED, tune, tmp_path / "alone")

    def part(group):
        if first == "divided":
            return halted(small, tmp_path, "run", tune, group, Fsdp())
        training.train(small(), WEIGHED, tune, tmp_path / "run", group=group, sharding=Fsdp())
        return None

    if first == "divided":
        together(tmp_path / "meet", part)
        assert checkpoints.newest(tmp_path / "run" / "checkpoints").step == 2
        training.train(small(), WEIGHED, tune, tmp_path / "run")
    else:
        halted(small, tmp_path, "run", tune)
        together(tmp_path / "meet", part)
    last = checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert last.step == 4
    assert apart(checkpoints.weights_of(last), weights(model)) < CLOSE


def test_weights_put_back_behind_a_pass_without_gradients_stay(small, tmp_path):
    """Such a pass leaves the outermost weights together, and what is written into them then would be lost."""
    wanted = {name: weight + 1 for name, weight in weights(small()).items()}

    def part(group):
        model = Full().prepare(small(), 0)
        stepper = Fsdp().stepper(model, tuned(method=Full()), accelerate.Accelerator(), group)
        with torch.no_grad():
            model.eval()(input_ids=torch.arange(2, 12)[None])
        stepper.restore(checkpoints.State(wanted, {}))
        stepper.gather()
        return weights(model) if group.first else None

    found, _ = together(tmp_path / "meet", part)
    assert apart(found, wanted) == 0


def test_an_overflow_in_one_process_s_part_is_passed_over_by_all(small, tmp_path, monkeypatch):
    """float16's scaler sees the own part alone; the step is one for all."""
    monkeypatch.setattr(accelerate, "Accelerator", Scaled)
    tune = tuned(method=Full(), max_steps=3, warmup=0, pack_tokens=4096, evaluate_every="never", save_every=1, keep_last=9)

    def part(group):
        training.train(small(), rows(12), tune, tmp_path / "run", group=group, sharding=Overflowing(at=2, rank=1))

    together(tmp_path / "meet", part)
    found = losses(tmp_path / "run", "gradient_norm")
    assert not math.isfinite(found[1])
    assert math.isfinite(found[0])
    assert math.isfinite(found[2])
    saved = [checkpoints.weights_of(checkpoints.read(tmp_path / "run" / "checkpoints" / f"step-{step:06d}")) for step in (1, 2, 3)]
    assert apart(saved[0], saved[1]) == 0, "no process changed a weight"
    assert 0 < apart(saved[1], saved[2]) < 1
    state = torch.load(checkpoints.newest(tmp_path / "run" / "checkpoints").folder / "state.pt", weights_only=True)
    assert state["scaler"]["scale"] == 2.0**7


class Overflowing(Fsdp):
    """FSDP in which the part that one process has of one gradient overflows at a step."""

    at: int
    rank: int

    def stepper(self, model, tune, accelerator, group):
        made = super().stepper(model, tune, accelerator, group)
        norm, count = made.norm, [0]

        def overflowing(clip):
            count[0] += 1
            if count[0] == self.at and group.rank == self.rank:
                next(iter(made.learning().values())).grad.to_local().view(-1)[0] = math.inf
            return norm(clip)

        made.norm = overflowing
        return made


def test_bfloat16_is_that_of_one_process_to_its_rounding(small, tmp_path):
    tune = tuned(method=Full(), precision="bfloat16", max_steps=3, evaluate_every="never")
    training.train(small(), WEIGHED, tune, tmp_path / "one")
    together(
        tmp_path / "meet", lambda group: training.train(small(), WEIGHED, tune, tmp_path / "two", group=group, sharding=Fsdp())[1].steps
    )
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-3)


def test_what_does_not_go_with_a_divided_model(small, tmp_path):
    def refused(group, **given):
        evaluate = given.pop("evaluate", None)
        with pytest.raises(RecipeError) as error:
            training.train(small(), rows(4), tuned(**given), tmp_path / "run", group=group, sharding=Fsdp(), evaluate=evaluate)
        return str(error.value)

    cases = [
        ({"method": Full(), "optimizer": "adafactor"}, "tune.optimizer 'adafactor' does not work on divided weights; use adamw"),
        ({"metrics_every": 1, "evaluate": lambda model: {"facts.score": 1.0}}, "tune.metrics_every: no process can answer questions alone"),
    ]
    for found in together(tmp_path / "meet", lambda group: [refused(group, **given) for given, _ in cases]):
        for said, (_, words) in zip(found, cases, strict=True):
            assert words in said
    with pytest.raises(RecipeError, match="there is one: add --processes"):
        launching.check(Launch(sharding=Fsdp()))
    launching.check(Launch(group=SimpleNamespace(size=2), sharding=Fsdp()))


# ---- names, and what accelerate says ---------------------------------------------------------------


def named(given):
    return SHARDINGS.chosen(given, "--sharding")


def test_a_sharding_by_its_name_and_back():
    assert named("fsdp") == Fsdp()
    offloaded = named("{type: fsdp, offload: true}")
    assert offloaded == Fsdp(offload=True)
    assert named(SHARDINGS.plain(offloaded)) == offloaded
    assert named("deepspeed").config == {"zero_optimization": {"stage": 2}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("fspd", "no sharding named 'fspd'; did you mean 'fsdp'"),
        ("{type: fsdp, ofload: true}", "unknown key 'ofload'"),
        ("{type: fsdp", "not YAML"),
        ("3", "no sharding named"),
        ("{type: fsdp, offload: maybe}", "offload: Input should be a valid boolean"),
    ],
)
def test_a_sharding_that_is_none(given, words):
    with pytest.raises(RecipeError) as error:
        named(given)
    assert words in str(error.value)


def test_accelerates_configuration_is_followed(monkeypatch):
    assert sharding.from_environment() is None
    for name, value in {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "false",
        "FSDP_OFFLOAD_PARAMS": "false",
    }.items():
        monkeypatch.setenv(name, value)
    assert sharding.from_environment() == Fsdp(reshard_after_forward=False)
    assert sharding.from_environment() is None, "accelerate must not divide the model a second time"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(RecipeError, match="fsdp_version: 2"):
        sharding.from_environment()


# ---- DeepSpeed -------------------------------------------------------------------------------------


def test_a_configuration_of_deepspeed_passes_through():
    given = {
        "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "reduce_bucket_size": "auto"},
        "bf16": {"enabled": "auto"},
        "train_batch_size": "auto",
        "gradient_accumulation_steps": 8,
        "steps_per_print": 7,
    }
    found = zero.configuration(given, tuned(clip=0.5))
    assert found["zero_optimization"] == {"stage": 3, "offload_param": {"device": "cpu"}}
    assert found["steps_per_print"] == 7
    assert (found["gradient_accumulation_steps"], found["gradient_clipping"]) == (1, 0.5)
    assert "train_batch_size" not in found
    assert "bf16" not in found
    assert zero.configuration(given, tuned(precision="bfloat16"))["bf16"] == {"enabled": True}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimizer": {"type": "Adam"}}, "has 'optimizer'; the recipe's tune section says that"),
        ({"scheduler": {"type": "WarmupLR"}}, "has 'scheduler'"),
        ({"zero_optimization": {"stage": 1}, "fp16": {"enabled": True}}, "enables fp16, and tune.precision is float32"),
        ({"zero_optimization": {"stage": 0}}, "stage is 0; 1, 2 and 3 divide something"),
        ({}, "stage is 0"),
    ],
)
def test_a_configuration_that_contradicts_the_recipe(given, words):
    with pytest.raises(RecipeError, match=words):
        zero.configuration(given, tuned())


def test_a_file_of_deepspeed_s(tmp_path):
    path = tmp_path / "ds.json"
    for text, words in (("{", "Expecting"), ("[]", "no JSON object")):
        path.write_text(text)
        with pytest.raises(RecipeError, match=words):
            zero.read(str(path))
    path.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    assert zero.read(str(path)) == {"zero_optimization": {"stage": 1}}
    with pytest.raises(RecipeError, match="No such file"):
        zero.read(str(tmp_path / "missing.json"))


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is not None, reason="DeepSpeed is installed here")
def test_without_deepspeed_its_sharding_says_what_to_install(small):
    with pytest.raises(RecipeError, match=r"pip install 'etude\[deepspeed\]'; fsdp needs nothing more"):
        Zero().stepper(small(), tuned(), None, None)


@needs_deepspeed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("case", ["full", "lora"])
def test_deepspeed_takes_the_steps_of_one_process(small, tmp_path, case, stage):
    same_steps(small, tmp_path, tuned(**CASES[case]), Zero(config={"zero_optimization": {"stage": stage}}))


@needs_deepspeed
@pytest.mark.filterwarnings("ignore")
def test_deepspeed_with_virtual_tokens(small, tmp_path):
    same_steps(small, tmp_path, tuned(**CASES["prefix"]), Zero())
    divided = Zero(config={"zero_optimization": {"stage": 3}})
    with pytest.raises(RecipeError, match="use stage 2, or fsdp"):
        training.train(small(), WEIGHED, tuned(**CASES["prefix"]), tmp_path / "refused", sharding=divided)


@needs_deepspeed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_goes_on_from_its_own_checkpoint_alone(small, tmp_path, stage):
    tune, divided = tuned(method=Full(), evaluate_every="never"), Zero(config={"zero_optimization": {"stage": stage}})
    model, _ = training.train(small(), WEIGHED, tune, tmp_path / "alone")
    together(tmp_path / "meet", lambda group: halted(small, tmp_path, "run", tune, group, divided))
    assert checkpoints.newest(tmp_path / "run" / "checkpoints").step == 2
    with pytest.raises(RecipeError, match="DeepSpeed's: go on with --processes 2 --sharding deepspeed"):
        training.train(small(), WEIGHED, tune, tmp_path / "run")

    def part(group):
        found, _ = training.train(small(), WEIGHED, tune, tmp_path / "run", group=group, sharding=divided)
        return weights(found) if group.first else None

    found, _ = together(tmp_path / "meet", part)
    assert apart(found, weights(model)) < CLOSE
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
