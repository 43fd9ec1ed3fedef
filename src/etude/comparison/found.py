"""What a comparison finds, and how it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from etude.comparison.intervals import LEVEL, Interval

ONE_SEED = "these checkpoints only"
"""What one training seed can speak for: two checkpoints, not two methods."""
DISCOVERY = 0.10
"""The share of false ones among what exploratory comparisons call different (Benjamini and Hochberg)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned minus base. `p` is two-sided, and 1 where nothing could be tested; `verdict` begins with "better", "worse",
    "equivalent within", "no difference shown" or "cannot test".

    `smallest`: the difference it could have seen (80 % power; infinity: none that there can be; NaN: not known); `adjusted`: p after the
    correction for `family` comparisons; `seeds`: of base and tuned; `groups`: of items, 0 where every item stands for itself; `won` and
    `lost`: items on which tuned is the better and the worse one (seeds averaged; 0 of corpus metrics); `equivalent`: by two one-sided
    tests, None without a `margin`; `why`: "" or why nothing can be tested; `scale` and `lower` (less is better): the metric's.
    """

    difference: float
    interval: Interval
    p: float
    items: int
    method: str
    label: str
    verdict: str
    smallest: float = float("nan")
    adjusted: float = 1.0
    family: int = 1
    seeds: tuple[int, int] = (1, 1)
    groups: int = 0
    won: int = 0
    lost: int = 0
    margin: float | None = None
    equivalent: bool | None = None
    why: str = ""
    exploratory: bool = False
    scale: float = 1.0
    lower: bool = False


def worded(found: Comparison) -> Comparison:
    """The comparison with its verdict, by its adjusted p."""
    return replace(found, verdict=verdict(found))


def verdict(found: Comparison) -> str:
    """The comparison in words."""
    if found.why:
        return f"cannot test: {found.why}"
    digits = 3 if found.scale <= 1 else 2
    level = DISCOVERY if found.exploratory else LEVEL
    name = "q" if found.exploratory else "adjusted p" if found.family > 1 else "p"
    same = f"equivalent within +-{found.margin:g}" if found.equivalent else ""
    if found.adjusted < level and found.difference:  # never NaN: that cannot be tested
        side = "better" if (found.difference > 0) != found.lower else "worse"
        between = f"[{found.interval.low:+.{digits}f}, {found.interval.high:+.{digits}f}]"
        said = f"{side}: {found.difference:+.{digits}f} {between}, {probability(name, found.adjusted)}"
        return f"{said}; yet {same}" if same else said
    if same:
        return same
    seen = f" after the correction for {found.family} comparisons" if found.p < LEVEL <= found.adjusted else ""
    if not math.isfinite(found.smallest):
        return f"no difference shown{seen}; too little to have seen one"
    return f"no difference shown{seen}; could have seen >= {found.smallest:.{digits}f}"


def probability(name: str, value: float) -> str:
    """A p or q for people."""
    return f"{name} < .001" if value < 0.001 else f"{name} = {value:.3f}"
