"""Several comparisons at once: arms against one baseline (Holm), slices and secondary metrics (Benjamini and Hochberg).

Sources: Holm 1979; Benjamini and Hochberg 1995.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from etude.comparison.arms import stacked
from etude.comparison.found import Comparison, worded
from etude.comparison.pairs import compare
from etude.metrics import Metric

Key = TypeVar("Key", bound=Hashable)
EXPLORATORY = "exploratory; "


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p of each, in the order given: the chance of a single false claim among all stays below the level."""
    found, most = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        most = max(most, min(1.0, (len(ps) - rank) * ps[place]))
        found[place] = most
    return found


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Adjusted p (q) of each, in the order given: the share of false claims among all that are made stays below the level."""
    found, least = [0.0] * len(ps), 1.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__, reverse=True)):
        least = min(least, ps[place] * len(ps) / (len(ps) - rank))
        found[place] = least
    return found


def compare_arms(
    base: np.ndarray,
    others: Mapping[Key, np.ndarray],
    metric: Metric,
    seed: int = 0,
    *,
    groups: Sequence[Hashable] | None = None,
    margin: float | None = None,
) -> dict[Key, Comparison]:
    """Every arm against the baseline in the primary metric, p adjusted by Holm over all of them, also those that cannot be tested.

    Arrays and errors as for `etude.comparison.compare`.
    """
    found = {name: compare(base, arm, metric, seed, groups=groups, margin=margin, family=len(others)) for name, arm in others.items()}
    adjusted = holm([one.p for one in found.values()])
    return {name: worded(replace(one, adjusted=p)) for (name, one), p in zip(found.items(), adjusted, strict=True)}


def exploratory(found: Mapping[Key, Comparison]) -> dict[Key, Comparison]:
    """Comparisons that nobody announced, as such: q by Benjamini and Hochberg over all of them, judged at 10 %, and labelled."""
    qs = benjamini_hochberg([one.p for one in found.values()])
    return {
        key: worded(replace(one, adjusted=q, family=len(found), exploratory=True, label=EXPLORATORY + one.label.removeprefix(EXPLORATORY)))
        for (key, one), q in zip(found.items(), qs, strict=True)
    }


def compare_slices(
    base: np.ndarray,
    others: Mapping[Key, np.ndarray],
    metric: Metric,
    names: Sequence[str],
    seed: int = 0,
    *,
    groups: Sequence[Hashable] | None = None,
) -> dict[tuple[Key, str], Comparison]:
    """Every arm against the baseline on each slice of the items (`names`: the slice of each item): (arm, slice) -> the comparison, all of
    them one family, exploratory."""
    base = stacked(base)
    found: dict[tuple[Key, str], Comparison] = {}
    for arm, stats in others.items():
        tuned = stacked(stats)
        for name in sorted(set(names)):
            places = np.flatnonzero([own == name for own in names])
            own = None if groups is None else [groups[int(place)] for place in places]
            found[arm, name] = compare(base[:, places], tuned[:, places], metric, seed, groups=own)
    return exploratory(found)
