"""The win rate at equal lengths, on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from etude.judging import lengths


def simulated(items: int, quality: float, slope: float, gap: float, seed: int = 0):
    """Verdicts of a judge with a taste for length: (values, lengths)."""
    draws = np.random.default_rng(seed)
    gaps = draws.normal(gap, 300, items).round().astype(int)
    chance = 1 / (1 + np.exp(-(quality + slope * np.tanh(gaps / gaps.std(ddof=1)))))
    return (draws.random(items) < chance).astype(float).tolist(), [(2000 + int(g), 2000) for g in gaps]


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(lengths, "RESAMPLES", 8)


def test_a_judge_who_prefers_the_longer_answer_is_seen_through():
    values, pairs = simulated(200, 0.0, 2.5, 200)
    found = lengths.controlled(values, pairs)
    assert np.mean(values) > 0.65  # what the plain win rate says of two equal arms
    assert found.win_rate == pytest.approx(0.5, abs=0.08)
    assert found.interval[0] <= found.win_rate <= found.interval[1]
    assert found.slope == pytest.approx(2.5, abs=0.8)


def test_a_better_arm_whose_answers_are_shorter_is_given_its_due():
    values, pairs = simulated(200, 1.0, 1.5, -150, seed=1)
    found = lengths.controlled(values, pairs)
    assert found.win_rate == pytest.approx(0.731, abs=0.08)
    assert found.win_rate > np.mean(values)


def test_where_lengths_tell_nothing_there_is_no_number():
    values, pairs = simulated(39, 0.0, 1.0, 0)
    assert "39 items are too few" in lengths.controlled(values, pairs).why
    always = lengths.controlled([1.0] * 60, [(500 + i, 100) for i in range(60)])
    assert always.win_rate is None
    assert "the longer one 60 times" in always.why
    with pytest.raises(ValueError, match="2 verdicts, and 1 pairs"):
        lengths.controlled([1, 0], [(1, 2)])


def test_ties_alone_are_a_half():
    _, pairs = simulated(60, 0.0, 1.0, 0)
    found = lengths.controlled([0.5] * 60, pairs)
    assert found.win_rate == pytest.approx(0.5, abs=0.01)
    assert lengths.controlled([0.5] * 60, pairs) == found
