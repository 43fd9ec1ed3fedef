"""How many different words, and runs of words, a data set uses."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from etude.curation.diversity.sampling import shuffled
from etude.curation.rows import Row
from etude.similarity import tokens

EQUAL = 50_000
"""Words at which data sets of different sizes are compared: the longer a text, the smaller its share of new words."""
LONGEST = 3


@dataclass(frozen=True, slots=True)
class Variety:
    """The words of one side (`part`: instructions with their inputs, or answers). `words`: all; `types`: different ones (the
    type-token ratio is distinct-1). `distinct`: distinct-1, -2, -3, different runs of n words out of all (Li et al. 2016, arXiv
    1510.03055), over everything. `equal`: the same over the first 50,000 words of the rows in the order of their hashes, which alone
    may be held against another data set; None where there are fewer words."""

    part: str
    words: int
    types: int
    distinct: tuple[float, ...]
    equal: tuple[float, ...] | None


class Numbers(dict[str, int]):
    """Word -> its number, a new one for a new word."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


def variety(rows: Sequence[Row], seed: int = 0) -> tuple[Variety, ...]:
    """Distinct words and runs of the questions and of the answers. Words of any language (`similarity.tokens`); runs do not cross
    from one row to the next. About 1 microsecond a word, some 60 bytes a word while it counts."""
    order = shuffled(rows, seed)
    return (
        counted("question", order, lambda row: f"{row.instruction}\n{row.input}"),
        counted("answer", order, lambda row: row.answer),
    )


def counted(part: str, rows: Sequence[Row], text: Callable[[Row], str]) -> Variety:
    """The figures of one side."""
    known = Numbers()
    ids, sizes = array("i"), array("q")
    for row in rows:
        found = tokens(text(row))
        ids.extend(map(known.__getitem__, found))
        sizes.append(len(found))
    whole = tuple(distinct(ids, sizes))
    first = tuple(distinct(*beginning(ids, sizes, EQUAL))) if len(ids) >= EQUAL else None
    return Variety(part, len(ids), len(known), whole, first)


def beginning(ids: Sequence[int], sizes: Sequence[int], most: int) -> tuple[Sequence[int], Sequence[int]]:
    """The first `most` words, and the sizes of the rows that hold them."""
    kept, left = array("q"), most
    for size in sizes:
        kept.append(min(size, left))
        left -= min(size, left)
        if not left:
            break
    return ids[:most], kept


def distinct(ids: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Different runs of 1, 2 and 3 words out of all runs, 0 where there is none."""
    import numpy as np

    words, lengths = np.asarray(ids, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    shares = [unlike(words)]
    numbers = words
    for n in range(2, LONGEST + 1):
        if len(words) < n:
            shares.append(0.0)
            continue
        # a run is known by the number of the run without its last word, and that word
        runs = numbers[: len(words) - n + 1] * (int(words.max()) + 1) + words[n - 1 :]
        shares.append(unlike(runs[row[: len(runs)] == row[n - 1 :]]))
        if n < LONGEST:  # numbered from 0 again, so that the next product stays small
            order = np.argsort(runs, kind="stable")
            steps = np.concatenate([[0], np.cumsum(np.diff(runs[order]) != 0)])
            numbers = np.empty_like(runs)
            numbers[order] = steps
    return shares


def unlike(numbers: Any) -> float:
    """Different numbers out of all, 0 of none. (Sorting is many times quicker than numpy's hash for this.)"""
    import numpy as np

    return round((1 + int((np.diff(np.sort(numbers)) != 0).sum())) / len(numbers), 5) if len(numbers) else 0.0
