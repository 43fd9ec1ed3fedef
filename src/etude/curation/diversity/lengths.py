"""How long instructions, inputs and answers are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from etude.curation.diversity.sampling import chosen
from etude.curation.rows import Row
from etude.curation.texts import count_words

EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384)
"""Where the bars of a histogram begin: two to each doubling. They are the same for all data sets, so that two can be held
against each other, and they widen as lengths do, since lengths of texts spread by factors, not by words."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
COUNTED = 5_000
"""Rows whose tokens are counted; a tokenizer takes far longer than everything else here."""
PARTS = ("instruction", "input", "answer")

Bars = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Length:
    """The lengths of one part of the rows (instruction, input, answer) in one unit (words, tokens). `rows`: measured;
    `empty`: of them without text; `mean` and `quantiles` (at QUANTILES, each one that occurs) of the others; `bars`: (from, rows) for
    every bar from the first to the last that holds rows, each up to the next of EDGES."""

    part: str
    unit: str
    rows: int
    empty: int
    mean: float
    quantiles: tuple[int, ...]
    bars: Bars

    @property
    def median(self) -> int:
        """The length that half of the texts have at most; 0 where there is no text."""
        return self.quantiles[QUANTILES.index(0.5)] if self.quantiles else 0


def lengths(rows: Sequence[Row], count: Callable[[str], int] | None = None, seed: int = 0) -> tuple[Length, ...]:
    """Words of every row's instruction, input and answer (the last turns); with `count` (as in `Beside`), tokens too, of at
    most 5,000 rows chosen by their hashes. Words as `Length` the check counts them: in Chinese and Japanese, characters.

    An input that no row has is left out.
    """
    found = [measured(part, "words", [count_words(text) for text in texts(rows, part)]) for part in PARTS]
    if count is not None:
        some = chosen(rows, COUNTED, seed)
        found += [measured(part, "tokens", [count(text) if text.strip() else 0 for text in texts(some, part)]) for part in PARTS]
    return tuple(one for one in found if one.part != "input" or one.empty < one.rows)


def texts(rows: Iterable[Row], part: str) -> Iterable[str]:
    """One part of every row."""
    return (getattr(row, part) for row in rows)


def measured(part: str, unit: str, sizes: Sequence[int]) -> Length:
    """The figures of some lengths; those of 0 are empty texts."""
    there = sorted(size for size in sizes if size)
    counts = [0] * len(EDGES)
    for size in sizes:
        counts[bisect_right(EDGES, size) - 1] += 1
    held = [place for place, n in enumerate(counts) if n]
    bars = tuple((EDGES[place], counts[place]) for place in range(held[0], held[-1] + 1)) if held else ()
    return Length(
        part,
        unit,
        len(sizes),
        len(sizes) - len(there),
        round(sum(there) / len(there), 2) if there else 0.0,
        # the nearest rank
        tuple(there[max(0, -int(-q * len(there) // 1) - 1)] for q in QUANTILES) if there else (),
        bars,
    )
