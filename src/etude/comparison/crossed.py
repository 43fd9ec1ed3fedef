"""Items x seeds: how sure a score, or the difference of two, is when both the items and the training seeds are samples.

The squared standard error of the mean difference is

    Var_items(d) / N  +  the sum over arms of Var_seeds / S  -  residual / (S N)

with d the items' differences of seed means. The first two terms both hold the residual (what neither item nor seed explains), so it
is taken off once; no less than the larger of the two is used. Degrees of freedom are Satterthwaite's (1946). Items in groups: the first
term is the clustered one (CR1), with groups - 1 degrees of freedom (Liang and Zeger 1986; Miller 2024, arXiv 2411.00640).

Corpus metrics (BLEU, macro F1) come in as jackknife pseudo-values (Tukey 1958), whose mean is the score, nearly, and whose variance is its.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude.comparison.arms import summed
from etude.metrics import Metric


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard error of a mean, or of a difference, and its degrees of freedom; `items` and `seeds`: the two parts, squared."""

    error: float
    df: float
    items: float
    seeds: float


def spread(arms: Sequence[np.ndarray], codes: np.ndarray | None = None) -> Spread:
    """Of the mean of one arm, or of the second arm's less the first's; an arm: float64, shape (seeds, items), at least two of both."""
    count = arms[0].shape[1]
    seeds = [float(arm.mean(axis=1).var(ddof=1)) / len(arm) for arm in arms]
    overlap = sum(residual(arm) / arm.size for arm in arms)
    means = [arm.mean(axis=0) for arm in arms]
    differences = means[-1] - means[0] if len(means) == 2 else means[0]
    rows = summed(differences - differences.mean(), codes)
    groups = len(rows)
    items = groups / (groups - 1) * float((rows**2).sum()) / count**2
    total: float = max(items + sum(seeds) - overlap, items, sum(seeds))
    below = items**2 / (groups - 1) + sum(part**2 / (len(arm) - 1) for part, arm in zip(seeds, arms, strict=True))
    return Spread(math.sqrt(total), total**2 / below if below > 0 else math.inf, items, sum(seeds))


def residual(arm: np.ndarray) -> float:
    """The variance that neither the item nor the seed explains (the mean square of the two-way layout without repeats)."""
    seeds, items = arm.shape
    rest = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0, keepdims=True) + arm.mean()
    square = float((rest**2).sum())
    return square / int((seeds - 1) * (items - 1))


def values(arm: np.ndarray, metric: Metric, corpus: bool) -> np.ndarray:
    """float64, shape (seeds, items): the items' own values; of a corpus metric, N score(all) - (N - 1) score(all but the item)."""
    if not corpus:
        return np.ascontiguousarray(arm[..., 0])
    items = arm.shape[1]
    found = np.empty(arm.shape[:2])
    for row, stats in zip(found, arm, strict=True):
        totals = stats.sum(axis=0)
        left_out = np.array([metric.score(totals - own) for own in stats])
        row[:] = items * metric.score(totals) - (items - 1) * left_out
    return found
