"""The geometry of a study's pictures: positions in percent of the plot, texts, nothing drawn yet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude.reporting.charts import Forest, Tick, percent, spaced, tick_text
from etude.reporting.findings import bounds, finite
from etude.reporting.studied import Arm, Reached, Studied
from etude.reporting.study_words import compact, tone
from etude.reporting.words import MISSING, count, name, number, span

STRIP = 58
"""Pixels an arm takes in the dot plot."""
WIDE, TALL = 250.0, 230.0
"""Pixels of the smallest plot that labels are placed for."""
LETTER = 6.8
"""Pixels a letter takes on average."""
FAR = 2.5
"""The start model is left out of an axis that it would make so many times longer."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from `low` to `high` with round marks."""

    low: float
    high: float
    logarithmic: bool
    marks: tuple[float, ...]
    text: Callable[[float], str]

    def at(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        if self.logarithmic:
            return 100 * math.log(value / self.low) / math.log(self.high / self.low)
        return 100 * (value - self.low) / (self.high - self.low)

    def across(self) -> tuple[Tick, ...]:
        """The marks from left to right."""
        return tuple(Tick(percent(self.at(mark)), self.text(mark)) for mark in self.marks)

    def up(self) -> tuple[Tick, ...]:
        """The marks from the bottom to the top."""
        return tuple(Tick(percent(100 - self.at(mark)), self.text(mark)) for mark in self.marks)


def linear(values: Sequence[float], most: int = 5, text: Callable[[float], str] | None = None, whole: bool = False) -> Axis:
    """An axis that holds all values, from one round mark to another."""
    marks, step = spaced(min(values), max(values), most, whole=whole)
    return Axis(marks[0], marks[-1], False, tuple(marks), text or (lambda value: tick_text(value, step)))


def logarithm(values: Sequence[float], text: Callable[[float], str], most: int = 5, margin: float = 1.25) -> Axis:
    """A logarithmic axis longer than the values, which are above 0, by the factor `margin` on both sides; never shorter than threefold."""
    low, high = min(values), max(values)
    more = max(margin, math.sqrt(3.0 * low / high))
    low, high = low / more, high * more
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        marks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(marks) <= most:
            break
    return Axis(low, high, True, tuple(marks[:: max(1, -(-len(marks) // most))]), text)


# ---- seeds of every arm ------------------------------------------------------------------------------


class Strip(NamedTuple):
    """One arm of the dot plot; `y` in pixels, `at`, `low` and `high` None where there is no number; `seeds` are (x, title)."""

    name: str
    tone: str
    text: str
    interval: str
    y: int
    at: str | None
    low: str | None
    high: str | None
    seeds: tuple[tuple[str, str], ...]


class Guide(NamedTuple):
    """A line across the plot, `at` None where it lies outside; `text` tells its value."""

    role: str
    at: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Dots:
    """Every arm's seeds, mean and interval on one axis."""

    strips: tuple[Strip, ...]
    guides: tuple[Guide, ...]
    ticks: tuple[Tick, ...]
    height: int


def known(reached: Reached | None) -> tuple[float | None, list[float] | None, dict[int, float]]:
    """An arm's mean, interval and seeds, without what is no number."""
    if reached is None:
        return None, None, {}
    seeds = {seed: value for seed, given in reached.seeds.items() if (value := finite(given)) is not None}
    return finite(reached.value), bounds((reached.interval.low, reached.interval.high)), seeds


def extent(found: Studied) -> list[float]:
    """Every number of the primary metric that a plot must have room for, without the start model."""
    values: list[float] = []
    for arm in found.arms:
        middle, ends, seeds = known(arm.reached.get(found.metric))
        values += [value for value in (middle, *(ends or ()), *seeds.values()) if value is not None]
    return values


def dots(found: Studied) -> Dots | None:
    """The dot plot; None where no arm has a number."""
    values = extent(found)
    if not values:
        return None
    start = finite(found.start)
    low, high = min(values), max(values)
    near = start is not None and max(high, start) - min(low, start) <= FAR * ((high - low) or abs(high) or 1.0)
    axis = linear([*values, start] if near and start is not None else values, 6)
    strips = []
    for index, arm in enumerate(found.arms):
        middle, ends, seeds = known(arm.reached.get(found.metric))
        strips.append(
            Strip(
                name(arm.name, 28),
                tone(arm, found),
                number(middle, found.scale) if middle is not None else "no run" if arm.failed else MISSING,
                span((ends[0], ends[1]) if ends else None, found.scale),
                index * STRIP,
                None if middle is None else percent(axis.at(middle)),
                percent(axis.at(ends[0])) if ends else None,
                percent(axis.at(ends[1])) if ends else None,
                tuple((percent(axis.at(value)), f"seed {seed}: {number(value, found.scale)}") for seed, value in seeds.items()),
            )
        )
    return Dots(tuple(strips), guides(found, axis, near), axis.across(), len(strips) * STRIP)


def guides(found: Studied, axis: Axis, near: bool) -> tuple[Guide, ...]:
    """The lines of the baseline and the start model."""
    lines = []
    first = next((arm.reached.get(found.metric) for arm in found.arms if arm.name == found.baseline), None)
    if (base := known(first)[0]) is not None:
        lines.append(Guide("base", percent(axis.at(base)), f"baseline {name(found.baseline, 40)} {number(base, found.scale)}"))
    if (start := finite(found.start)) is not None:
        side = "" if near else ", left of this axis" if start < axis.low else ", right of this axis"
        lines.append(Guide("begin", percent(axis.at(start)) if near else None, f"start model {number(start, found.scale)}{side}"))
    return tuple(lines)


# ---- quality against cost ----------------------------------------------------------------------------


class Spot(NamedTuple):
    """One arm in a plot of two quantities; `low` and `high`: its interval; `dx`, `dy` (pixels) and `anchor`: where its name goes."""

    name: str
    x: str
    y: str
    low: str | None
    high: str | None
    front: bool
    dx: int
    dy: int
    anchor: str
    title: str


class Segment(NamedTuple):
    """A straight line."""

    x1: str
    y1: str
    x2: str
    y2: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Quality against one cost; `front`: no other arm is better and cheaper."""

    title: str
    unit: str
    spots: tuple[Spot, ...]
    front: tuple[Segment, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    logarithmic: bool


def costs(found: Studied) -> tuple[Scatter, ...]:
    """Quality against trained parameters, time and memory: those of the three in which arms differ."""
    hours = max((value for arm in found.arms if (value := finite(arm.cost.seconds)) is not None), default=0.0)
    unit, each = ("hours", 3600.0) if hours > 3 * 3600 else ("minutes", 60.0) if hours > 180 else ("seconds", 1.0)
    wanted: list[tuple[str, str, Callable[[Arm], float | None], bool]] = [
        ("Trained parameters", "trained parameters, logarithmic", lambda arm: arm.cost.trainable, True),
        ("Training time", unit, lambda arm: None if arm.cost.seconds is None else arm.cost.seconds / each, False),
        ("Peak memory", "GiB", lambda arm: arm.cost.memory_gb, False),
    ]
    return tuple(plot for title, unit, take, log in wanted if (plot := scatter(found, title, unit, take, log)))


def alike(found: Studied) -> list[str]:
    """What costs the same in every arm, in words."""
    said = []
    for what, values, text in (
        ("trained parameters", {arm.cost.trainable for arm in found.arms}, count),
        (
            "peak memory in GiB",
            {None if (gb := arm.cost.memory_gb) is None else round(gb, 2) for arm in found.arms},
            lambda gb: f"{gb:.2f}",
        ),
    ):
        if len(values) == 1 and (value := finite(values.pop())) is not None:
            said.append(f"{what}: {text(value)}")
    return said


def scatter(found: Studied, title: str, unit: str, take: Callable[[Arm], float | None], log: bool) -> Scatter | None:
    """One of them; None where fewer than two arms have both numbers, or all cost the same."""
    rows = []
    for arm in found.arms:
        cost, (middle, ends, _) = finite(take(arm)), known(arm.reached.get(found.metric))
        if cost is not None and middle is not None and (cost > 0 or not log):
            rows.append((arm, cost, middle, ends))
    spread = [cost for _, cost, _, _ in rows]
    if len(rows) < 2 or max(spread) - min(spread) <= 0.005 * abs(max(spread)):
        return None
    across = logarithm(spread, compact) if log else linear([*spread, 0.0] if min(spread) < max(spread) / 2 else spread, 4)
    up = linear([value for _, _, middle, ends in rows for value in (middle, *(ends or ()))])
    best = pareto([(cost, middle) for _, cost, middle, _ in rows], found.lower)
    names = [name(arm.name, 16) for arm, *_ in rows]
    labels = placed([(across.at(cost), 100 - up.at(middle)) for _, cost, middle, _ in rows], names)
    spots = []
    for place, (arm, cost, middle, ends) in enumerate(rows):
        told = compact(cost) if log else f"{cost:,.3g} {unit}"
        spots.append(
            Spot(
                names[place],
                percent(across.at(cost)),
                percent(100 - up.at(middle)),
                percent(100 - up.at(ends[0])) if ends else None,
                percent(100 - up.at(ends[1])) if ends else None,
                place in best,
                *labels[place],
                f"{name(arm.name, 40)}: {number(middle, found.scale)} at {told}{', on the front' if place in best else ''}",
            )
        )
    return Scatter(title, unit, tuple(spots), stairs([spots[place] for place in best]), across.across(), up.up(), log)


def pareto(points: Sequence[tuple[float, float]], lower: bool) -> list[int]:
    """The places of (cost, quality) that no other point beats in one and reaches in the other, the cheapest first."""
    sign = -1.0 if lower else 1.0
    found, most = [], -math.inf
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], -sign * points[place][1])):
        if sign * points[place][1] > most:
            found.append(place)
            most = sign * points[place][1]
    return found


def stairs(front: Sequence[Spot]) -> tuple[Segment, ...]:
    """The front as steps: along at the quality reached so far, then to the next."""
    lines = []
    for one, following in itertools.pairwise(front):
        lines += [Segment(one.x, one.y, following.x, one.y), Segment(following.x, one.y, following.x, following.y)]
    return tuple(lines)


SPOTS = ((11, 5, "start"), (-11, 5, "end"), (0, -12, "middle"), (0, 22, "middle"), (9, -9, "start"), (-9, -9, "end"), (9, 19, "start"),
         (-9, 19, "end"))  # fmt: skip
"""Where a name may go about its point: pixels right and down, and which end of it stands there."""


def placed(points: Sequence[tuple[float, float]], names: Sequence[str]) -> list[tuple[int, int, str]]:
    """A place for each name that covers as little as can be of points, other names and the margins; in turn, until none moves."""
    pixels = [(x * WIDE / 100, y * TALL / 100) for x, y in points]
    dots = [(x - 7, y - 7, x + 7, y + 7) for x, y in pixels]
    found: dict[int, tuple[int, int, str]] = {}

    def box(place: int, spot: tuple[int, int, str]) -> tuple[float, float, float, float]:
        (x, y), width = pixels[place], LETTER * len(names[place])
        left = x + spot[0] - {"start": 0.0, "middle": width / 2, "end": width}[spot[2]]
        return left, y + spot[1] - 12, left + width, y + spot[1] + 3

    def covers(place: int, spot: tuple[int, int, str]) -> float:
        left, top, right, bottom = box(place, spot)
        taken = [*dots, *(box(other, own) for other, own in found.items() if other != place)]
        shared = sum(max(0.0, min(right, r) - max(left, a)) * max(0.0, min(bottom, d) - max(top, b)) for a, b, r, d in taken)
        outside = max(0.0, -left) + max(0.0, right - WIDE - 20) + max(0.0, -top - 6) + max(0.0, bottom - TALL + 2)
        return shared + 20 * outside

    for _ in range(4):
        before = dict(found)
        for place in range(len(names)):
            found[place] = min(SPOTS, key=lambda spot: covers(place, spot))
        if found == before:
            break
    return [found[place] for place in range(len(names))]


# ---- differences in the table ------------------------------------------------------------------------


def reach(found: Studied) -> float:
    """The half width of the axis that all arms' differences share."""
    ends = [
        abs(value)
        for arm in found.arms
        if (one := arm.against.get(found.metric)) and not one.why
        for value in (finite(one.difference), *(bounds((one.interval.low, one.interval.high)) or ()))
        if value is not None
    ]
    return max(ends, default=0.0) * 1.08 or 1.0


def forest(arm: Arm, found: Studied, half: float) -> Forest | None:
    """An arm's difference on an axis from -half to +half; None where there is none."""
    one = arm.against.get(found.metric)
    middle = finite(one.difference) if one and not one.why else None
    if one is None or middle is None:
        return None
    low, high = bounds((one.interval.low, one.interval.high)) or (middle, middle)
    at, left, right = (percent(50 + 50 * value / half) for value in (middle, low, high))
    return Forest(left, right, at)
