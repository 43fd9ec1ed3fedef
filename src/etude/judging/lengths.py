"""The win rate that two answers of the same length would have: AlpacaEval's length-controlled one (Dubois et al. 2024, arXiv 2404.04475).

A logistic model of the verdicts, `logit P(win) = quality + slope * tanh(difference of lengths / its standard deviation)`, and its
prediction for no difference. As in AlpacaEval's `glm_winrate.py`: lengths in characters, a verdict of .5 as half a win and half a loss, L1
penalty (liblinear) without an intercept of its own, its strength (scikit-learn's ten from 1e-4 to 1e4) by log loss over five folds of
items, seed 123. Two of its terms are not here, for they come from files about AlpacaEval's own 805 instructions: each instruction's
difficulty, and the verdicts on shortened and lengthened answers of its baseline.

Without these, lengths tell nothing where one arm is always the longer one: then there is no number, but the reason.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.seeds import stream

FOLDS = 5
STRENGTHS: tuple[float, ...] = tuple(10.0 ** (-4 + 8 * step / 9) for step in range(10))
"""Inverse strengths of the penalty: what scikit-learn tries by default."""
FEWEST = 40
"""Items below which the penalty's choice is a coin's: of 20 simulated runs of 20 items, 4 came out at .5 sharp whatever the truth, and
their mean was .61 for .66. With 40 it was .53 for .50, where the plain win rate was .60."""
EACH_SIDE = 5
"""Items that either arm's answer must be the longer one of; else the prediction for equal lengths reaches beyond what was seen."""
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Controlled:
    """`win_rate` at equal lengths with its percentile bootstrap interval (95 %; items resampled, the penalty kept), and `slope`, the
    judge's taste for length: log odds from an equal answer to a much longer one. All are None where `why` says that they cannot be told."""

    win_rate: float | None
    interval: tuple[float, float] | None
    slope: float | None
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"win_rate": self.win_rate, "interval": list(self.interval) if self.interval else None, "slope": self.slope, "why": self.why}


def controlled(values: Sequence[float], lengths: Sequence[tuple[int, int]], seed: int = 0) -> Controlled:
    """The length-controlled win rate. `values`: 1 where the first arm won, 0 where the second did, .5 for a tie; `lengths`: characters of
    the two answers. Raises ValueError where these are not as many."""
    if len(values) != len(lengths):
        raise ValueError(f"{len(values)} verdicts, and {len(lengths)} pairs of lengths")
    gaps = np.array([first - second for first, second in lengths], dtype=np.float64)
    if why := untold(gaps):
        return Controlled(None, None, None, why)
    wins = np.array(values, dtype=np.float64)
    terms = np.column_stack([np.ones(len(gaps)), np.tanh(gaps / gaps.std(ddof=1))])
    try:
        strength = strongest(terms, wins)
    except ImportError:
        return Controlled(None, None, None, "it needs scikit-learn: pip install 'etude[baselines]'")
    quality, slope = fit(terms, wins, strength)
    draws = stream(seed, "judging", "lengths")
    found = []
    for _ in range(RESAMPLES):
        picks = draws.integers(len(wins), size=len(wins))
        found.append(logistic(fit(terms[picks], wins[picks], strength)[0]))
    low, high = np.quantile(found, (0.025, 0.975))
    return Controlled(logistic(quality), (float(low), float(high)), slope)


def untold(gaps: np.ndarray) -> str:
    """Why lengths tell nothing; "" where they do."""
    if len(gaps) < FEWEST:
        return f"{len(gaps)} items are too few; it takes {FEWEST}"
    longer, shorter = int((gaps > 0).sum()), int((gaps < 0).sum())
    if min(longer, shorter) < EACH_SIDE:
        return (
            f"the first arm's answer is the longer one {longer} times and the shorter one {shorter} times of {len(gaps)}; either must "
            f"happen {EACH_SIDE} times, or nobody knows how answers of one length would do"
        )
    return ""


def strongest(terms: np.ndarray, wins: np.ndarray) -> float:
    """The strength with the least log loss over folds of items, the strongest penalty of equals."""
    from sklearn.model_selection import GroupKFold

    twice, groups = np.concatenate([terms, terms]), np.tile(np.arange(len(wins)), 2)
    held = [np.unique(groups[test]) for _, test in GroupKFold(FOLDS).split(twice, groups=groups)]
    losses: list[float] = []
    for strength in STRENGTHS:
        parts: list[float] = []
        for items in held:
            kept = np.setdiff1d(np.arange(len(wins)), items)
            chance = logistic_each(terms[items] @ np.array(fit(terms[kept], wins[kept], strength)))
            parts.append(-float(np.mean(wins[items] * np.log(chance) + (1 - wins[items]) * np.log(1 - chance))))
        losses.append(round(float(np.mean(parts)), 12))
    return STRENGTHS[losses.index(min(losses))]


def fit(terms: np.ndarray, wins: np.ndarray, strength: float) -> tuple[float, float]:
    """The two coefficients, from each item once as a win and once as a loss, weighted by its verdict."""
    from sklearn.linear_model import LogisticRegression

    # scikit-learn 1.8 renamed the setting, and warns of the old name
    named = inspect.signature(LogisticRegression).parameters["penalty"].default == "deprecated"
    kind: dict[str, Any] = {"l1_ratio": 1.0} if named else {"penalty": "l1"}
    model = LogisticRegression(C=strength, solver="liblinear", fit_intercept=False, random_state=123, **kind)
    labels = np.repeat([1, 0], len(wins))
    model.fit(np.concatenate([terms, terms]), labels, sample_weight=np.concatenate([wins, 1 - wins]))
    return float(model.coef_[0][0]), float(model.coef_[0][1])


def logistic(value: float) -> float:
    """1 / (1 + e^-value)."""
    return 1 / (1 + math.exp(-min(max(value, -500.0), 500.0)))


def logistic_each(values: np.ndarray) -> np.ndarray:
    """The same for each, kept off 0 and 1, whose logarithm is none."""
    chances: np.ndarray = np.clip(1 / (1 + np.exp(-np.clip(values, -500, 500))), 1e-15, 1 - 1e-15)
    return chances
