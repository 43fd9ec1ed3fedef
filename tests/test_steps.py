"""The tune section: schedules against transformers' own, limits of a run, what counts as best, and other tools' names."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.test_packing_contract import rows
from etude import catalog, steps
from etude.steps import LOSS, Best, Tune


def tune(**given) -> Tune:
    return Tune(**{"learning_rate": 1.0, "warmup": 0, "tokens_per_step": 120, **given})


def theirs(schedule, total: int) -> list[float]:
    """The rates of a transformers schedule at every step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules_without_warmup_are_transformers_own():
    from transformers import optimization as o

    total = 40
    pairs = [
        (tune(), lambda opt: o.get_cosine_schedule_with_warmup(opt, 0, total)),
        (tune(schedule="linear"), lambda opt: o.get_linear_schedule_with_warmup(opt, 0, total)),
        (tune(schedule="constant"), o.get_constant_schedule),
        (tune(schedule="inverse_sqrt"), lambda opt: o.get_inverse_sqrt_schedule(opt, 0)),
        (tune(min_learning_rate=0.1), lambda opt: o.get_cosine_with_min_lr_schedule_with_warmup(opt, 0, total, min_lr_rate=0.1)),
        *[
            (
                tune(schedule="wsd", decay=12, decay_shape=ours, min_learning_rate=0.05),
                lambda opt, name=name: o.get_wsd_schedule(opt, 0, 12, total, decay_type=name, min_lr_ratio=0.05),
            )
            for ours, name in (("sqrt", "1-sqrt"), ("linear", "linear"), ("cosine", "cosine"))
        ],
    ]
    for ours, schedule in pairs:
        assert [steps.rate(i, total, ours) for i in range(total)] == pytest.approx(theirs(schedule, total), abs=1e-12), ours.schedule


def test_schedules_behind_a_warmup_are_transformers_own():
    from transformers import optimization as o

    total, warm = 50, 10
    for ours, schedule in (
        (tune(warmup=warm, schedule="inverse_sqrt"), lambda opt: o.get_inverse_sqrt_schedule(opt, warm)),
        (tune(warmup=warm, schedule="wsd", decay=0.2), lambda opt: o.get_wsd_schedule(opt, warm, 10, total, decay_type="1-sqrt")),
        (tune(warmup=0.2), lambda opt: o.get_cosine_schedule_with_warmup(opt, warm, total)),
    ):
        mine = [steps.rate(i, total, ours) for i in range(total)]
        assert mine[warm:] == pytest.approx(theirs(schedule, total)[warm:], abs=1e-12)
        assert mine[:warm] == [(i + 1) / (warm + 1) for i in range(warm)]


@settings(max_examples=60)
@given(
    st.sampled_from(["cosine", "linear", "constant", "wsd", "inverse_sqrt"]),
    st.integers(1, 80),
    st.one_of(st.floats(0, 0.99), st.integers(1, 100)),
    st.one_of(st.floats(0.01, 0.99), st.integers(1, 100)),
    st.floats(0, 1),
)
def test_a_rate_is_never_above_the_peak_nor_below_the_lowest(schedule, total, warmup, decay, low):
    one = tune(schedule=schedule, warmup=warmup, decay=decay, min_learning_rate=low)
    found = [steps.rate(i, total, one) for i in range(total)]
    warm = steps.portion(one.warmup, total)
    assert all(0 < rate <= 1 for rate in found[:warm])
    assert all(low - 1e-12 <= rate <= 1 for rate in found[warm:])
    assert found[warm:] == sorted(found[warm:], reverse=True)


def test_whichever_limit_comes_first_ends_the_run():
    data = rows(20, seed=1)
    whole = steps.plan_steps(data, tune(epochs=3), 0)
    order = [i for step in whole for i in step]
    lengths = [len(data[i].ids) for i in order]
    for budget in (1, 300, 900):
        cut = [i for step in steps.plan_steps(data, tune(epochs=3, token_budget=budget), 0) for i in step]
        assert cut == order[: len(cut)]
        assert sum(lengths[: len(cut)]) >= budget > sum(lengths[: len(cut) - 1])
    assert steps.plan_steps(data, tune(epochs=3, token_budget=10**9), 0) == whole
    assert len(steps.plan_steps(data, tune(epochs=3, token_budget=10**9, max_steps=2), 0)) == 2
    assert len(steps.plan_steps(data, tune(epochs=3, token_budget=130, max_steps=50), 0)) <= 2


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=12), st.booleans(), st.sampled_from([0, 1.5]))
def test_best_is_what_a_look_at_all_measurements_says(values, higher, gain):
    one = tune(best_by="task.f1", higher_is_better=higher, least_gain=gain)
    best = Best()
    for step, value in enumerate(values, 1):
        best = best.after(value, step, one)
    known = [v for v in values if v is not None]
    wanted = (max if higher else min)(known, default=None)
    assert best.value == wanted
    assert best.step == (0 if wanted is None else values.index(wanted) + 1)
    last = top = 0
    for step, value in enumerate(values, 1):
        before = [v for v in values[: step - 1] if v is not None]
        if value is not None and (not before or (value - max(before) > gain if higher else min(before) - value > gain)):
            last = step
        top = step
    assert best.since == top - last


def test_losses_and_error_rates_are_better_lower():
    assert not tune().higher()
    assert not tune(best_by="web.perplexity").higher()
    assert not tune(best_by="x.ter").higher()
    assert tune(best_by="news.accuracy").higher()
    assert not tune(best_by="news.accuracy", higher_is_better=False).higher()


def test_metrics_are_measured_when_asked():
    plan = [[0, 1]] * 10
    assert steps.metrics_steps(plan, 4, tune()) == set()
    assert steps.metrics_steps(plan, 4, tune(metrics_every=4)) == {4, 8, 10}
    assert steps.metrics_steps(plan, 4, tune(metrics_every="evaluation")) == steps.evaluation_steps(plan, 4, tune()) == {2, 4, 6, 8, 10}
    assert steps.metrics_steps(plan, 4, tune(best_by="a.b", evaluate_every=5)) == {5, 10}


SPELLINGS = {
    "neftune_noise_alpha": (5, "neftune_alpha", 5.0),
    "label_smoothing_factor": (0.1, "label_smoothing", 0.1),
    "lr_scheduler_type": ("warmup_stable_decay", "schedule", "wsd"),
    "warmup_ratio": (0.1, "warmup", 0.1),
    "min_lr": (1e-6, "min_learning_rate", 1e-6),
    "optim": ("adamw_torch_fused", "optimizer", "adamw"),
    "adam_epsilon": (1e-6, "epsilon", 1e-6),
    "max_grad_norm": (0, "clip", None),
    "use_gradient_checkpointing": (True, "gradient_checkpointing", True),
    "metric_for_best_model": ("eval_loss", "best_by", LOSS),
    "greater_is_better": (False, "higher_is_better", False),
    "early_stopping_patience": (3, "patience", 3),
    "early_stopping_threshold": (0.01, "least_gain", 0.01),
    "save_total_limit": (3, "keep_last", 3),
    "report_to": ("none", "trackers", {}),
}


@pytest.mark.parametrize("old", SPELLINGS)
def test_other_tools_names_are_taken_with_a_note(old):
    given, name, value = SPELLINGS[old]
    catalog.NOTES.clear()
    assert getattr(Tune(**{old: given}), name) == value
    assert any(repr(old) in said and repr(name) in said for said in catalog.NOTES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"patience": 2, "evaluate_every": "never"}, "patience needs validation_loss to be measured"),
        ({"learning_rate": 1e-4, "min_learning_rate": 1e-3}, "min_learning_rate 0.001 is above the learning rate 0.0001"),
        ({"trackers": {"wandb": {"api_key": "x"}}}, "a recipe holds no secrets"),
        ({"report_to": "all"}, "name the trackers"),
        ({"report_to": ["tensorbord"]}, "tensorboard"),
        ({"optim": "sgd"}, "adafactor"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"schedule": "polynomial"}, "inverse_sqrt"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        Tune(**given)


def test_trackers_by_name_by_list_and_with_settings():
    assert tune(trackers="tensorboard").trackers == {"tensorboard": {}}
    assert tune(report_to=["wandb", "mlflow"]).trackers == {"wandb": {}, "mlflow": {}}
    assert tune(trackers={"wandb": {"mode": "offline"}}).trackers == {"wandb": {"mode": "offline"}}
    assert math.isinf(tune(clip=None).clip or math.inf)
