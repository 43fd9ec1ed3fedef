"""The geometry of the page's pictures: positions in percent of the plot, texts, nothing drawn yet.

The template draws them as SVG without a view box, so that letters keep their size at any width.
Every position is a string such as `14.2%`, or a number of pixels down the picture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude.reporting.findings import Measure, Point, Source, Tokens, bounds, finite
from etude.reporting.findings import ends as ends_of
from etude.reporting.words import MISSING, SHORT, count, name, number, span

MOST_POINTS = 400
"""A longer curve is drawn through the means of as many stretches."""


class Tick(NamedTuple):
    """A mark on an axis."""

    at: str
    text: str


class Bar(NamedTuple):
    """One bar with its whisker; `width`, `low` and `high` are None where there is no number."""

    role: str
    name: str
    text: str
    interval: str
    y: int
    width: str | None
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class Bars:
    """Start, tuned and baselines of one measure on an axis that begins at zero."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    height: int


class Forest(NamedTuple):
    """A difference and its interval about zero, which is in the middle."""

    low: str
    high: str
    at: str


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss by step. Lines are SVG point lists in a box of 1000 by 1000; dots are (x, y) in percent."""

    train: str
    trend: str
    validation: str
    dots: tuple[tuple[str, str], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    best: str | None
    logarithmic: bool


class Piece(NamedTuple):
    """A stretch of a bar: a role (its colour), where it begins, how wide it is, and what it holds."""

    role: str
    x: str
    width: str
    rows: int


class Column(NamedTuple):
    """One column of a histogram; `label` is "" where the axis has no room for one."""

    x: str
    width: str
    y: str
    height: str
    label: str
    title: str


def percent(value: float) -> str:
    """A position as SVG takes it, kept inside the plot."""
    return f"{min(100.0, max(0.0, value)):.2f}%"


def step_between(low: float, high: float, most: int) -> float:
    """The smallest of 1, 2, 5 x 10^k that cuts [low, high] into at most `most` parts."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def spaced(low: float, high: float, most: int = 5, whole: bool = False) -> tuple[list[float], float]:
    """Round values from at or below `low` to at or above `high`, evenly spaced, and their distance."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = step_between(low, high, most)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * index for index in range(first, last + 1)], step


def tick_text(value: float, step: float) -> str:
    """A round value with as many decimals as its spacing needs: `0`, `.2`, `1,000`."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return "0"
    return ("−" if value < 0 else "") + text.removeprefix("0")


def bars(measure: Measure) -> Bars:
    """The bars of one measure, start and tuned first, baselines after."""
    scale = measure.scale
    lines = [("start", "Start model", measure.base, measure.base_interval), ("tuned", "Tuned", measure.tuned, measure.tuned_interval)]
    for key, baseline in measure.baselines.items():
        lines.append(("rival", SHORT.get(key, name(key, 24)), baseline["value"], ends_of(baseline)))
    reach = max(
        (value for _, _, middle, ends in lines for value in (finite(middle), *(bounds(ends) or ())) if value is not None), default=0.0
    )
    # perplexity and the like have no upper bound, whatever their scale says; an interval alone may pass a bound by rounding
    most = scale if all((finite(middle) or 0.0) <= scale for _, _, middle, _ in lines) else math.inf
    values, step = spaced(0.0, min(most, reach) if reach > 0 else scale, 5)
    top = min(values[-1], most)
    drawn = []
    for index, (role, words, middle, ends) in enumerate(lines):
        known, limits = finite(middle), bounds(ends)
        drawn.append(
            Bar(
                role,
                words,
                number(middle, scale),
                span(ends, scale),
                index * 46,
                None if known is None else percent(100 * known / top),
                percent(100 * limits[0] / top) if limits and known is not None else None,
                percent(100 * limits[1] / top) if limits and known is not None else None,
            )
        )
    marks = tuple(Tick(percent(100 * value / top), tick_text(value, step)) for value in values if value <= top * (1 + 1e-9))
    return Bars(tuple(drawn), marks, len(lines) * 46)


def reach(measures: Sequence[Measure]) -> float:
    """The half width of a shared axis for differences, as a part of each metric's scale."""
    ends = [
        abs(value) / measure.scale
        for measure in measures
        for value in (finite(measure.difference), *(bounds(measure.interval) or ()))
        if value is not None
    ]
    return max(ends, default=0.0) * 1.08 or 1.0


def forest(measure: Measure, half: float) -> Forest | None:
    """The difference of one measure on an axis from -half to +half of its scale."""
    middle = finite(measure.difference)
    if middle is None:
        return None
    low, high = bounds(measure.interval) or [middle, middle]
    at, left, right = (percent(50 + 50 * value / measure.scale / half) for value in (middle, low, high))
    return Forest(left, right, at)


def thinned(pairs: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: the means of equal stretches of a longer line."""
    if len(pairs) <= most:
        return list(pairs)
    cuts = [len(pairs) * index // most for index in range(most + 1)]
    stretches = [pairs[start:stop] for start, stop in itertools.pairwise(cuts)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]


def smoothed(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A centred running mean over about a tenth of the line; nothing for a line too short to need it."""
    if len(pairs) < 24:
        return []
    half = max(1, len(pairs) // 20)
    windows = (pairs[max(0, index - half) : index + half + 1] for index in range(len(pairs)))
    return [(pairs[index][0], sum(y for _, y in window) / len(window)) for index, window in enumerate(windows)]


def loss(curve: Sequence[Point], best_step: int | None = None) -> Loss | None:
    """The training and validation loss; None when no point has either.

    The loss axis is logarithmic when the largest value is over eight times the smallest.
    """
    train = thinned([(point.step, value) for point in curve if (value := finite(point.loss)) is not None])
    validation = thinned([(point.step, value) for point in curve if (value := finite(point.validation_loss)) is not None])
    values = [y for _, y in train + validation]
    if not values:
        return None
    low, high, last = min(values), max(values), max(x for x, _ in train + validation)
    logarithmic = low > 0 and high > 8 * low
    if logarithmic:
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        levels = [level for level in every if low / 2.6 < level < high * 2.6]
        levels = [level for level in levels if level >= max((v for v in levels if v <= low), default=low)]
        levels = [level for level in levels if level <= min((v for v in levels if v >= high), default=high)]
        up = [(level, tick_text(level, 10.0 ** math.floor(math.log10(level) + 1e-9))) for level in levels]
    else:
        levels, step = spaced(low, high, 5)
        up = [(level, tick_text(level, step)) for level in levels]

    def height(value: float) -> float:
        if logarithmic:
            return 100 * (1 - math.log(value / levels[0]) / math.log(levels[-1] / levels[0]))
        return 100 * (1 - (value - levels[0]) / (levels[-1] - levels[0]))

    marks, step = spaced(0, max(1.0, last), 6, whole=True)
    end = max(1.0, last)

    def line(pairs: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{1000 * x / end:.1f},{10 * height(y):.1f}" for x, y in pairs)

    return Loss(
        train=line(train),
        trend=line(smoothed(train)),
        validation=line(validation),
        dots=tuple((percent(100 * x / end), percent(height(y))) for x, y in (validation if len(validation) <= 60 else [])),
        across=tuple(Tick(percent(100 * mark / end), tick_text(mark, step)) for mark in marks if mark <= end),
        up=tuple(Tick(percent(height(level)), text) for level, text in up),
        best=None if best_step is None or not 0 <= best_step <= end else percent(100 * best_step / end),
        logarithmic=logarithmic,
    )


def pieces(source: Source) -> tuple[Piece, ...]:
    """What became of a source's rows, as stretches of one bar; the rest of the bar is rows nothing used."""
    parts = [
        ("train", source.train),
        ("validation", source.validation),
        ("test", source.test),
        ("dropped", sum(source.dropped.values())),
        ("bad", source.bad),
    ]
    whole = max(source.read, sum(rows for _, rows in parts)) or 1
    drawn, begun = [], 0
    for role, rows in parts:
        if rows > 0:
            drawn.append(Piece(role, percent(100 * begun / whole), percent(100 * rows / whole), rows))
            begun += rows
    return tuple(drawn)


def histogram(tokens: Tokens) -> tuple[Column, ...]:
    """The columns of tokens a row; every column is as wide as the others and about eight are labelled."""
    most = max((rows for _, _, rows in tokens.lengths), default=0)
    if most <= 0:
        return ()
    width, every = 100 / len(tokens.lengths), math.ceil(len(tokens.lengths) / 8)
    return tuple(
        Column(
            percent(index * width + width * 0.06),
            percent(width * 0.88),
            percent(100 * (1 - rows / most)),
            percent(100 * rows / most),
            count(start) if index % every == 0 else "",
            f"{count(start)} to {count(below - 1)} tokens: {count(rows)} rows",
        )
        for index, (start, below, rows) in enumerate(tokens.lengths)
    )


def spoken(measure: Measure, title: str) -> str:
    """The bars of a measure in one line, for those who cannot see them."""
    chart = bars(measure)
    return f"{title}: " + ", ".join(f"{bar.name} {bar.text} {bar.interval}".strip() for bar in chart.bars if bar.text != MISSING)
