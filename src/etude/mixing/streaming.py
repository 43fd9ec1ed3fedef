"""The same proportions from sources that do not fit into memory.

Which source comes next is the same rule as `mix`'s order: the j-th draw of a source with share p stands at
(j + lot) / p. Which of its rows comes next is drawn from a buffer of `buffer` rows that is filled in the source's
own order, as tf.data's shuffle does: with a buffer of the whole source it is a full shuffle, with less a local one. So
a stream draws in the same proportions as `mix`, not the same rows in the same order. It is a pure function of the
sources' rows, the settings, the seed, the buffer and the sizes; memory holds at most buffer x sources rows.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

from etude import seeds
from etude.failures import DataError, RecipeError
from etude.mixing.drawing import Drawn
from etude.mixing.rates import apportion, shares
from etude.mixing.settings import Mixture
from etude.mixing.tables import Line, Report, notes_of
from etude.records import Record

Open = Callable[[], Iterable[Record]]


@dataclass(slots=True)
class Feed:
    """What is left of one source. `seen`: rows of its first pass; `drawn`: rows given."""

    name: str
    opened: Open
    most: float | None
    seed: int
    buffer: int
    size: int | None
    seen: int = 0
    drawn: int = 0

    def rows(self) -> Iterator[Drawn]:
        """Its rows pass after pass, through the buffer, until `most` passes are done (None: without end)."""
        turn = 0
        while self.most is None or turn < self.most:
            left = self.allowed(turn)
            given = 0
            for record in shuffled(self.opened(), self.buffer, self.seed, self.name, turn):
                if left is not None and given >= left:
                    return
                given += 1
                self.seen += turn == 0
                yield Drawn(self.name, record, turn)
            if not given:
                again = "" if not turn else " when it was read again: give a function that opens it anew each time"
                raise DataError(f"mixture: source {self.name!r} has no row to draw{again}")
            turn += 1

    def allowed(self, turn: int) -> int | None:
        """Rows of this pass; None: all of them."""
        if self.most is None or self.most - turn >= 1:
            return None
        return math.floor((self.size or self.seen) * (self.most - turn) + 1e-9)


def shuffled(rows: Iterable[Record], buffer: int, seed: int, name: str, turn: int) -> Iterator[Record]:
    """The rows in an order of their own, at most `buffer` of them held at a time."""
    lots = seeds.stream(seed, "stream", name, turn)
    held: list[Record] = []
    for row in rows:
        if len(held) < buffer:
            held.append(row)
            continue
        place = int(lots.integers(len(held)))
        out, held[place] = held[place], row
        yield out
    for place in lots.permutation(len(held)):
        yield held[place]


def stream(
    sources: Mapping[str, Open], mixture: Mixture, seed: int, *, buffer: int = 10_000, sizes: Mapping[str, int] | None = None
) -> Generator[Drawn, None, Report]:
    """Draw from sources that are read as they come; each is a function that opens it (again, where a pass ends).

    Ends after `total` (or the counts); without one, where the first source has given its `epochs` (one pass unless
    said otherwise). The generator's return value is the Report. `sizes`, the rows of each source, are needed for
    examples-proportional rates and for `epochs` below 1. To go on at a position, draw and pass over what is before it.

    Raises RecipeError for settings that need all rows at once (`cot`, `balance`) or `sizes` that are not given, and
    DataError for a source without rows or where `stop` met a shortfall.
    """
    check(sources, mixture, sizes)
    part = shares(mixture, sizes if sizes is not None else dict.fromkeys(sources, 1))
    total = sum(mixture.counts.values()) if mixture.counts is not None else mixture.total
    asked = dict(mixture.counts) if mixture.counts is not None else apportion(total, part) if total else {}
    feeds = {name: feed_of(name, opened, mixture, seed, buffer, sizes) for name, opened in sources.items()}
    rows = {name: feed.rows() for name, feed in feeds.items()}

    lots = {name: seeds.stream(seed, "place", name, "") for name in sources}

    def place(name: str) -> float:
        return (feeds[name].drawn + float(lots[name].random())) / part[name]

    waiting = [(place(name), at, name) for at, name in enumerate(sources) if part[name] > 0]
    heapq.heapify(waiting)
    left = total
    while waiting and left != 0:
        _, at, name = heapq.heappop(waiting)
        feed = feeds[name]
        if asked and mixture.shortfall != "fill" and feed.drawn >= asked[name]:
            continue
        draw = next(rows[name], None)
        if draw is None:
            if total is None:
                break
            if mixture.shortfall == "stop":
                raise DataError(f"mixture: {name}: {asked[name]} rows asked, {feed.drawn} there; ask for fewer, or allow more `epochs`")
            continue
        feed.drawn += 1
        left = left - 1 if left is not None else None
        yield draw
        heapq.heappush(waiting, (place(name), at, name))
    lines = [Line(name, known(feed), asked.get(name, feed.drawn), feed.drawn, min(feed.drawn, feed.seen)) for name, feed in feeds.items()]
    return Report(tuple(lines), notes_of(lines, mixture.shortfall))


def known(feed: Feed) -> int:
    """Rows of a source as far as they are known: its size, or the rows seen."""
    return feed.size if feed.size is not None else feed.seen


def feed_of(name: str, opened: Open, mixture: Mixture, seed: int, buffer: int, sizes: Mapping[str, int] | None) -> Feed:
    """A source with as many passes as the mixture lets it have."""
    most = mixture.passes(name)
    again = mixture.shortfall == "oversample" and (mixture.total is not None or mixture.counts is not None)
    return Feed(name, opened, most if most is not None or again else 1.0, seed, buffer, sizes[name] if sizes is not None else None)


def check(sources: Mapping[str, Open], mixture: Mixture, sizes: Mapping[str, int] | None) -> None:
    """Raise RecipeError for what a stream cannot do."""
    for key in ("cot", "balance"):
        if getattr(mixture, key) is not None:
            raise RecipeError(f"mixture.{key} needs every row at once and cannot be streamed")
    if sizes is not None:
        if missing := sorted(set(sources) - set(sizes)):
            raise RecipeError(f"mixture: the number of rows of source {missing[0]!r} is not given")
        return
    if mixture.counts is None and (mixture.groups or not (mixture.weights == "equal" or isinstance(mixture.weights, dict))):
        raise RecipeError("mixture: examples-proportional rates need the number of rows of each source, which a stream does not know")
    if low := [name for name in sources if (mixture.passes(name) or 1) < 1]:
        raise RecipeError(f"mixture.epochs below 1 needs the number of rows of source {low[0]!r}, which a stream does not know")
