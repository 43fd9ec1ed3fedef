"""From weights to whole numbers of rows: pure functions of sizes and settings."""

from __future__ import annotations

import math
from collections.abc import Mapping

from etude.failures import DataError
from etude.mixing.settings import PRESETS, Mixture


def rate(rows: int, cap: int | None = None, temperature: float = 1.0) -> float:
    """The examples-proportional rate of a source: rows, at most `cap` of them, to the power 1 / temperature.

    The cap comes before the temperature, as in seqio's `mixing_rate_num_examples` (seqio/utils.py; Raffel et
    al. 2020, arXiv 1910.10683, section 3.5.2).
    """
    counted = min(rows, cap) if cap is not None else rows
    return math.pow(counted, 1.0 / temperature)


def shares(mixture: Mixture, sizes: Mapping[str, int]) -> dict[str, float]:
    """Each source's share of the rows drawn; they sum to 1. `sizes`: rows of each source.

    A submixture of a preset to which no source belongs leaves its share to the others; a source that has no row keeps its
    weight. Raises RecipeError for names that do not fit, DataError where there is no row at all.
    """
    mixture.check(sizes)
    rates = {name: rate(rows, mixture.cap_of(name, mixture.group_of(name)), mixture.temperature) for name, rows in sizes.items()}
    weights: Mapping[str, float]
    if mixture.counts is not None:
        weights = {name: mixture.counts[name] for name in sizes}
    else:
        given = mixture.weights if isinstance(mixture.weights, dict) else PRESETS[mixture.preset].weights if mixture.preset else {}
        groups: dict[str, list[str]] = {}
        for name in sizes:
            groups.setdefault(mixture.group_of(name), []).append(name)
        weights = {}
        for group, members in groups.items():
            if not given and mixture.weights != "equal":  # examples-proportional
                weights = {**weights, **{name: rates[name] for name in members}}
                continue
            weight = given[group] if given else 1.0
            inside = sum(rates[name] for name in members)
            # a source alone keeps its weight even when it has no row: that is a shortfall, not another mixture
            parts = {name: rates[name] / inside for name in members} if inside else dict.fromkeys(members, 1 / len(members))
            weights = {**weights, **{name: weight * part for name, part in parts.items()}}
    whole = math.fsum(weights.values())
    if not whole or not any(sizes[name] for name, weight in weights.items() if weight > 0):
        raise DataError("mixture: no source that has a weight has a row")
    return {name: weight / whole for name, weight in weights.items()}


def apportion(total: int, parts: Mapping[str, float]) -> dict[str, int]:
    """`total` divided in proportion to `parts` into whole numbers, each within one of its exact part: the largest
    remainders are rounded up (Hamilton's method), of equal ones the first."""
    whole = math.fsum(parts.values())
    if not whole:
        return dict.fromkeys(parts, 0)
    exact = {name: total * part / whole for name, part in parts.items()}
    # a float a hair below a whole number is that number
    given = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    left = total - sum(given.values())
    by_remainder = sorted((name for name in parts if parts[name] > 0), key=lambda name: given[name] - exact[name])
    for name in by_remainder[:left]:
        given[name] += 1
    return given


def fill(total: int, parts: Mapping[str, float], most: Mapping[str, int]) -> dict[str, int]:
    """`total` divided in proportion to `parts`, none above its `most`: what one cannot give, the others do in
    the proportion of theirs. The sum is below `total` only where all are used up."""
    given = dict.fromkeys(parts, 0)
    open_parts = {name: part for name, part in parts.items() if part > 0}
    while open_parts:
        tried = apportion(total - sum(given[name] for name in parts if name not in open_parts), open_parts)
        over = [name for name in open_parts if tried[name] > most[name]]
        if not over:
            return {**given, **tried}
        for name in over:
            given[name] = most[name]
            del open_parts[name]
    return given


def largest_total(parts: Mapping[str, float], most: Mapping[str, int]) -> int:
    """The most rows that can be drawn in proportion to `parts` with none above its `most`."""
    return math.floor(min(most[name] / part for name, part in parts.items() if part > 0) + 1e-9)
