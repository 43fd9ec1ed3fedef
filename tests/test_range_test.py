"""The learning-rate finder: a rate that trains well, far below divergence, and a model that is left alone."""

from __future__ import annotations

import math

import pytest
import torch

from contracts.test_packing_contract import rows
from etude import journal, training
from etude.failures import DataError, NonFinite
from etude.range_test import find_learning_rate, steepest
from etude.records import IGNORED
from etude.steps import Tune
from etude.tunings.full import Full
from etude.tunings.lora import Lora


@pytest.fixture(scope="module")
def small(tiny):
    return lambda **given: tiny("llama", num_hidden_layers=1, **given)


def settings(**given) -> Tune:
    return Tune(**{"method": Full(), "rows_per_step": 4, "pack_tokens": 256, **given})


def test_the_suggestion_trains_better_than_rates_far_from_it(small, tmp_path):
    data = rows(8, seed=3)
    curve = find_learning_rate(small(), data, settings(), lowest=1e-5, highest=10.0, steps=50)
    assert curve.diverged or len(curve.rates) == 50
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed)
    assert curve.suggestion in curve.rates
    factors = [b / a for a, b in zip(curve.rates, curve.rates[1:], strict=False)]
    assert max(factors) == pytest.approx(min(factors)) == pytest.approx((10.0 / 1e-5) ** (1 / 49))
    last = {}
    for rate in (curve.suggestion / 1000, curve.suggestion):
        training.train(small(), data, settings(learning_rate=rate, epochs=6), tmp_path / f"{rate}")
        last[rate] = [row["loss"] for row in journal.read(tmp_path / f"{rate}" / "metrics.jsonl")][-1]
    assert last[curve.suggestion] < last[curve.suggestion / 1000] - 0.5


@pytest.mark.parametrize("method", [Full(), Lora(r=2, dropout=0.1)], ids=["full", "lora"])
def test_the_model_and_the_random_draws_are_left_alone(small, method):
    model, data = small(), rows(5)
    before, names = {k: v.clone() for k, v in model.state_dict().items()}, [n for n, _ in model.named_modules()]
    learns = [p.requires_grad for p in model.parameters()]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = find_learning_rate(model, data, settings(method=method), steps=12)
    assert torch.equal(torch.rand(3), expected)
    assert [n for n, _ in model.named_modules()] == names
    assert [p.requires_grad for p in model.parameters()] == learns
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    torch.rand(9)
    assert find_learning_rate(model, data, settings(method=method), steps=12) == first


def test_the_steepest_fall_before_the_lowest_point_is_suggested():
    rates = [10.0**i for i in range(-6, 3)]
    assert steepest(rates, [5, 5, 4.9, 4.0, 2.5, 2.4, 2.3, 6, 30]) == rates[3]
    assert steepest(rates, [5, 5, 5, 5, 2, 1.9, 9, 20, 0.0 + 40]) in (rates[3], rates[4])
    falling = [9 - i for i in range(9)]
    assert steepest(rates, falling) in rates


def test_what_cannot_be_tested_is_said(small):
    with pytest.raises(DataError, match="no training row has a trained token"):
        find_learning_rate(small(), [r.__class__(r.id, r.ids, r.labels * 0 + IGNORED) for r in rows(2)], settings())
    model = small()
    model.lm_head.register_forward_hook(lambda module, given, output: output * math.nan)
    with pytest.raises(NonFinite, match="begin below"):
        find_learning_rate(model, rows(4), settings(), steps=10)
