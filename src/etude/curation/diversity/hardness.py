"""How difficulty is spread over the rows: from IFD (the check `difficulty`), or from losses somebody measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Measure = Literal["ifd", "loss"]


@dataclass(frozen=True, slots=True)
class Hardness:
    """`measure`: IFD (ratio of perplexities) or loss (nats a token); `rows`: measured; `quartiles`: least, quarter, half, three
    quarters, most; `bars`: (from, below, rows), the last one open at its end; `above`: rows with an IFD over 1, whose instruction misleads
    (None for losses, where no number is special)."""

    measure: Measure
    rows: int
    quartiles: tuple[float, ...]
    bars: tuple[tuple[float, float, int], ...]
    above: int | None = None


def hardness_of_facts(facts: Mapping[str, Any]) -> Hardness | None:
    """The histogram in the facts of the check `difficulty` (all rows it judged, those it dropped too); None of facts without one."""
    counts, judged = facts.get("tenths"), facts.get("judged")
    if not counts or not judged:
        return None
    bars = tuple((k / 10, (k + 1) / 10, int(n)) for k, n in enumerate(counts))
    return Hardness("ifd", int(judged), tuple(facts.get("quartiles", ())), bars, sum(int(n) for n in counts[10:]))


def hardness(values: Mapping[str, float], measure: Measure = "ifd") -> Hardness:
    """The histogram of a number a row (id -> IFD, or loss in nats a token); numbers that are not finite are left out."""
    ordered = sorted(value for value in values.values() if math.isfinite(value))
    step, most = (0.1, 15) if measure == "ifd" else (0.25, 24)
    counts = [0] * most
    for value in ordered:
        counts[min(most - 1, max(0, int(value / step + 1e-9)))] += 1
    while len(counts) > 1 and not counts[-1]:
        counts.pop()
    quartiles = tuple(round(ordered[int(q * (len(ordered) - 1))], 3) for q in (0, 0.25, 0.5, 0.75, 1)) if ordered else ()
    bars = tuple((round(k * step, 2), round((k + 1) * step, 2), n) for k, n in enumerate(counts)) if ordered else ()
    return Hardness(measure, len(ordered), quartiles, bars, sum(value > 1 for value in ordered) if measure == "ifd" else None)
