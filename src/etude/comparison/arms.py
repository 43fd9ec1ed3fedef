"""What an arm's statistics are: their kind, their groups, and why two arms cannot be tested."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from etude.metrics import Metric

Kind = Literal["binary", "mean", "corpus"]
FEWEST: dict[Kind, int] = {"binary": 5, "mean": 6, "corpus": 6}
"""With fewer items than this even a clean sweep has p > .05: mid-p 2^-n, sign flips 2 * 2^-n."""
FEWEST_GROUPS = 6
"""The same for groups, whose signs are flipped."""


def stacked(stats: np.ndarray) -> np.ndarray:
    """Statistics as (seeds, items, k); those of one seed may come as (items, k). Raises ValueError for anything else."""
    if stats.ndim not in (2, 3) or not stats.shape[-1] or (stats.ndim == 3 and not len(stats)):
        raise ValueError(f"statistics are (items, k) or (seeds, items, k), not of shape {stats.shape}")
    return stats[None] if stats.ndim == 2 else stats


def coded(groups: Sequence[Hashable] | None, items: int) -> np.ndarray | None:
    """int64, shape (items,): the number of each item's group; None without groups, or where every item is its own.

    Raises ValueError for another number of groups than items.
    """
    if groups is None:
        return None
    if len(groups) != items:
        raise ValueError(f"{len(groups)} groups for {items} items")
    places: dict[Hashable, int] = {}
    codes = np.array([places.setdefault(group, len(places)) for group in groups], dtype=np.int64)
    return codes if len(places) < items else None


def summed(rows: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """Rows (items, ...) summed by group, (groups, ...); as they are without groups."""
    if codes is None:
        return rows
    sums = np.zeros((int(codes.max()) + 1, *rows.shape[1:]))
    np.add.at(sums, codes, rows)
    return sums


def kind(*arms: np.ndarray) -> Kind:
    """What the rows are, by the metrics' convention."""
    rows = np.concatenate([arm.reshape(-1, arm.shape[-1]) for arm in arms])
    if rows.shape[1] != 2 or not (rows[:, 1] == 1).all():
        return "corpus"
    return "binary" if np.isin(rows[:, 0], (0, 1)).all() else "mean"


def score(arm: np.ndarray, metric: Metric) -> float:
    """The mean over seeds of the metric's number; `arm`: (seeds, items, k)."""
    return float(np.mean([metric.score(stats.sum(axis=0)) for stats in arm]))


def untestable(base: np.ndarray, tuned: np.ndarray, of: Kind, codes: np.ndarray | None) -> str:
    """Why these arms, (seeds, items, k) each, cannot be tested; "" if they can."""
    items, seeds = base.shape[1], (len(base), len(tuned))
    if items == 0:
        return "there are no items"
    broken = ~(np.isfinite(base).all(axis=(0, 2)) & np.isfinite(tuned).all(axis=(0, 2)))
    if broken.any():
        return f"{broken.sum()} of {items} items have a score that is NaN or infinite"
    if items < FEWEST[of]:
        return f"{items} item{'s' if items > 1 else ''}, and no outcome of fewer than {FEWEST[of]} has p < .05"
    if codes is not None and (count := int(codes.max()) + 1) < FEWEST_GROUPS:
        return f"{count} group{'s' if count > 1 else ''} of items, and no outcome of fewer than {FEWEST_GROUPS} has p < .05"
    if min(seeds) == 1 < max(seeds):
        return f"one arm has 1 seed and the other {max(seeds)}: how far a seed moves the one is not known"
    if all((arm == base[0]).all() for arm in (base, tuned)):
        return f"all {items} items are ties"
    return ""
