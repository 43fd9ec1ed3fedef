"""A study's curves: losses while arms learn, and scores over training rows. As in the other charts, positions in percent of the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude.reporting.charts import Tick, percent, smoothed, thinned
from etude.reporting.findings import finite
from etude.reporting.studied import Arm, Studied
from etude.reporting.study_charts import extent, known, linear, logarithm
from etude.reporting.study_words import compact
from etude.reporting.words import name, number, span

STEEP = 3
"""The loss axis is logarithmic where the largest value is over so many times the smallest: the first steps would take all the room."""


# ---- learning curves ---------------------------------------------------------------------------------


class Curve(NamedTuple):
    """One arm's losses, as SVG point lists in a box of 1000 by 1000, and the validation points in percent."""

    name: str
    train: str
    trend: str
    validation: str
    points: tuple[tuple[str, str], ...]
    others: tuple[str, ...]
    last: str


@dataclass(frozen=True, slots=True)
class Curves:
    """The losses of all arms on the same axes; `unit`: what goes across."""

    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    unit: str
    logarithmic: bool


def curves(found: Studied) -> Curves | None:
    """The learning curves; by tokens where arms end at unequal steps, else by step. None where no arm has a loss."""
    ends = {arm.curve[-1].step for arm in found.arms if arm.curve}
    unit = "tokens" if len(ends) > 1 and all(arm.curve[-1].tokens > 0 for arm in found.arms if arm.curve) else "steps"
    train, validation = {}, {}
    for arm in found.arms:
        points = [(float(point.tokens if unit == "tokens" else point.step), point) for point in arm.curve]
        train[arm.name] = thinned([(x, value) for x, point in points if (value := finite(point.loss)) is not None])
        validation[arm.name] = [(x, value) for x, point in points if (value := finite(point.validation)) is not None]
    pairs = [pair for lines in (train, validation) for line in lines.values() for pair in line]
    if not pairs:
        return None
    low, high = min(y for _, y in pairs), max(y for _, y in pairs)
    logarithmic = low > 0 and high > STEEP * low
    up = logarithm([low, high], lambda value: f"{value:g}".removeprefix("0"), 6, 1.04) if logarithmic else linear([low, high], 4)
    across = linear([0.0, max(1.0, *(x for x, _ in pairs))], 4, compact, whole=True)

    def drawn(line: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{10 * across.at(x):.1f},{1000 - 10 * up.at(y):.1f}" for x, y in line)

    made = []
    for arm in found.arms:
        own, checked = train[arm.name], validation[arm.name]
        if not own and not checked:
            continue
        others = tuple(drawn(line) for other, line in validation.items() if other != arm.name and line)
        last = f"validation {checked[-1][1]:.3f}" if checked else f"training {own[-1][1]:.3f}"
        places = tuple((percent(across.at(x)), percent(100 - up.at(y))) for x, y in (checked if len(checked) <= 40 else []))
        made.append(Curve(name(arm.name, 40), drawn(own), drawn(smoothed(own)), drawn(checked), places, others, last))
    return Curves(tuple(made), across.across(), up.up(), unit, logarithmic)


# ---- would more data help? ---------------------------------------------------------------------------


class Size(NamedTuple):
    """One arm of the curve over rows."""

    name: str
    rows: int
    x: str
    y: str
    low: str | None
    high: str | None
    seeds: tuple[tuple[str, str], ...]
    title: str


@dataclass(frozen=True, slots=True)
class Growth:
    """Score against training rows; `line` in a box of 1000 by 1000."""

    sizes: tuple[Size, ...]
    line: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def ordered(found: Studied) -> list[tuple[str, int, float]]:
    """(arm, rows, score) of the arms in `sizes` that have a score, the smallest first."""
    arms: Mapping[str, Arm] = {arm.name: arm for arm in found.arms}
    rows = [(key, rows, known(arms[key].reached.get(found.metric))[0]) for key, rows in found.sizes.items() if key in arms and rows > 0]
    return sorted(((key, rows, value) for key, rows, value in rows if value is not None), key=lambda row: row[1])


def growth(found: Studied) -> Growth | None:
    """The curve; None for fewer than two arms."""
    rows = ordered(found)
    if len(rows) < 2:
        return None
    across, marks = logarithm([count for _, count, _ in rows], compact, 6), []
    up = linear(extent(found))
    for key, count, value in rows:
        _, ends, seeds = known(found.arm(key).reached[found.metric])
        between = span((ends[0], ends[1]) if ends else None, found.scale)
        marks.append(
            Size(
                name(key, 16),
                count,
                percent(across.at(count)),
                percent(100 - up.at(value)),
                percent(100 - up.at(ends[0])) if ends else None,
                percent(100 - up.at(ends[1])) if ends else None,
                tuple((percent(100 - up.at(one)), f"seed {seed}: {number(one, found.scale)}") for seed, one in seeds.items()),
                f"{name(key, 40)}: {count:,} rows, {number(value, found.scale)} {between}".strip(),
            )
        )
    line = " ".join(f"{10 * across.at(count):.1f},{1000 - 10 * up.at(value):.1f}" for _, count, value in rows)
    return Growth(tuple(marks), line, across.across(), up.up())
