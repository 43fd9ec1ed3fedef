"""The geometry of the curation page's pictures: rows that came and rows that stay, one in front of the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from etude.curation.diversity import Figures, Hardness, Length, Novelty, Topics
from etude.curation.diversity.lengths import EDGES
from etude.reporting.charts import percent, tick_text
from etude.reporting.findings import finite
from etude.reporting.words import MISSING, count, share

Bins = Sequence[tuple[float, float, int]]
"""(from, below, rows); below is infinite for the last bar of what has no end."""


class Pillar(NamedTuple):
    """One bar of a histogram: rows before as a wide column, rows after as a narrow one in front of it."""

    x: str
    width: str
    y: str
    height: str
    front_x: str
    front_width: str
    front_y: str
    front_height: str
    label: str
    title: str


class Line(NamedTuple):
    """One bar of a list: widths of the rows before and after, and their numbers as text."""

    width: str
    front: str | None
    before: str
    after: str


def pillars(before: Bins, after: Bins | None, form: Callable[[float], str] = count, unit: str = "") -> tuple[Pillar, ...]:
    """The bars of one or two histograms with the same bins, equally wide whatever they span; about eight are labelled."""
    spans = {low: below for low, below, _ in (*before, *(after or ()))}
    was, now = {low: n for low, _, n in before}, {low: n for low, _, n in after or ()}
    most = max([*was.values(), *now.values()], default=0)
    if most <= 0:
        return ()
    width, every = 100 / len(spans), math.ceil(len(spans) / 8)
    drawn = []
    for place, low in enumerate(sorted(spans)):
        old, new = was.get(low, 0), now.get(low, 0)
        title = f"{span_of(low, spans[low], form)}{unit}: {count(old)} rows" + (f", {count(new)} after" if after is not None else "")
        drawn.append(
            Pillar(
                percent(place * width + width * 0.06),
                percent(width * 0.88),
                percent(100 * (1 - old / most)),
                percent(100 * old / most),
                percent(place * width + width * (0.24 if after is not None else 0.06)),
                percent(width * (0.52 if after is not None else 0.88)),
                percent(100 * (1 - (new if after is not None else old) / most)),
                percent(100 * (new if after is not None else old) / most),
                form(low) if place % every == 0 else "",
                title,
            )
        )
    return tuple(drawn)


def span_of(low: float, below: float, form: Callable[[float], str]) -> str:
    """What a bar spans, in words."""
    if math.isinf(below):
        return f"{form(low)} and more"
    if form is count:
        return form(low) if below == low + 1 else f"{form(low)} to {form(below - 1)}"
    return f"{form(low)} to {form(below)}"


def lengths(one: Length) -> Bins:
    """The bins of a length, without the empty texts."""
    ends = dict(zip(EDGES, (*EDGES[1:], math.inf), strict=True))
    return [(low, ends[low], n) for low, n in one.bars if low > 0]


def filled(bins: Bins, other: Bins) -> Bins:
    """Bins of lengths with none left out between the first and the last of both."""
    ends = dict(zip(EDGES, (*EDGES[1:], math.inf), strict=True))
    lows = [low for low, _, _ in (*bins, *other)]
    known = {low: n for low, _, n in bins}
    return [(edge, ends[edge], known.get(edge, 0)) for edge in EDGES if lows and min(lows) <= edge <= max(lows)]


def length_pillars(before: Length, after: Length | None) -> tuple[Pillar, ...]:
    """The histogram of a length."""
    was, now = lengths(before), lengths(after) if after else []
    return pillars(filled(was, now), filled(now, was) if after else None, unit=f" {before.unit}")


def novelty_pillars(before: Novelty, after: Novelty | None) -> tuple[Pillar, ...]:
    """The histogram of the nearest neighbour's ROUGE-L: shares in percent, since equally many are not looked at."""

    def bins(one: Novelty) -> Bins:
        return [(k / 10, (k + 1) / 10, n) for k, n in enumerate(one.tenths)]

    return pillars(bins(before), bins(after) if after else None, lambda value: tick_text(value, 0.1))


def hardness_pillars(before: Hardness, after: Hardness | None) -> tuple[Pillar, ...]:
    """The histogram of difficulty; two measures are never drawn together."""
    step = 0.1 if before.measure == "ifd" else 0.01

    def bins(one: Hardness) -> Bins:
        return [(low, below, n) for low, below, n in one.bars]

    return pillars(bins(before), bins(after) if after and after.measure == before.measure else None, lambda value: tick_text(value, step))


def line(old: int, new: int | None, most: int) -> Line:
    """A bar of `old` rows with `new` in front, where the longest is `most`."""
    top = max(most, 1)
    return Line(
        percent(100 * old / top), None if new is None else percent(100 * new / top), count(old), MISSING if new is None else count(new)
    )


def verb_lines(before: Figures, after: Figures | None, most: int = 20) -> list[tuple[str, str, Line]]:
    """(verb, its commonest objects in words, bar) of the commonest verbs before curation."""
    now = {one.verb: one.rows for one in after.pairs.verbs} if after else {}
    found = before.pairs.verbs[:most]
    top = max((one.rows for one in found), default=0)
    return [
        (one.verb, ", ".join(f"{noun} {count(n)}" for noun, n in one.nouns), line(one.rows, now.get(one.verb) if after else None, top))
        for one in found
    ]


def topic_lines(found: Topics) -> list[tuple[str, tuple[str, ...], Line]]:
    """(marking words, nearest instructions, bar) of each topic."""
    top = max((one.rows for one in found.topics), default=0)
    return [(", ".join(one.terms) or "(no word marks it)", one.examples, line(one.rows, one.kept, top)) for one in found.topics]


def mixture_lines(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str], str | None, str | None]]:
    """(source, cells, width of the share asked, width of the share trained or drawn) of each source; the last row "all" has no widths."""
    drawn = []
    for row in rows:
        known = {key: finite(row.get(key)) for key in ("rows", "asked", "drawn", "repeats", "tokens", "trained_tokens")}
        asked, got = finite(row.get("asked_share")), finite(row.get("trained_tokens_share", row.get("drawn_share")))
        name = str(row.get("source", "")) + (f" ({row['kind']} rows)" if row.get("kind") else "")
        cells = [count(known[key]) for key in ("rows", "asked", "drawn", "repeats", "tokens", "trained_tokens")]
        cells += [MISSING if value is None else share(value, 1) for value in (asked, finite(row.get("drawn_share")), got)]
        whole = name == "all"
        drawn.append(
            (name, cells, None if whole or asked is None else percent(100 * asked), None if whole or got is None else percent(100 * got))
        )
    return drawn


def spoken(columns: Sequence[Pillar]) -> str:
    """A histogram in one line, for those who cannot see it."""
    return "; ".join(column.title for column in columns)
