"""How far two lists of verdicts agree: a judge's with people's, or with another judge's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from etude.comparison import wilson


@dataclass(frozen=True, slots=True)
class Agreement:
    """`share` of the items with the same verdict, its Wilson 95 % interval, and Cohen's kappa (1960): what is left of the agreement
    after the part that chance alone would give, 1 at most; None where both say one and the same thing throughout."""

    items: int
    share: float
    interval: tuple[float, float]
    kappa: float | None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"items": self.items, "share": self.share, "interval": list(self.interval), "kappa": self.kappa}


def agreement(first: Sequence[Hashable], second: Sequence[Hashable]) -> Agreement:
    """The agreement of two lists of verdicts over the same items. Raises ValueError for lists of different lengths, or none."""
    if len(first) != len(second) or not first:
        raise ValueError(f"verdicts over the same items are needed, one at least, not {len(first)} and {len(second)}")
    items = len(first)
    same = sum(a == b for a, b in zip(first, second, strict=True))
    counts, others = Counter(first), Counter(second)
    chance = sum(counts[verdict] * others[verdict] for verdict in counts) / items**2
    between = wilson(same, items)
    kappa = (same / items - chance) / (1 - chance) if chance < 1 else None
    return Agreement(items, same / items, (between.low, between.high), kappa)
