"""How near instructions are to those of another data set, and to the others of their own; by ROUGE-L, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude.curation.diversity.sampling import chosen
from etude.curation.material import material
from etude.curation.rows import Row
from etude.curation.texts import shown
from etude.similarity import shingles, tokens, words

SAMPLE = 1_000
"""Rows whose neighbours are looked for where nobody says how many."""
NEAR = 0.7
"""Self-Instruct's threshold: an instruction over it was not taken into its pool."""
COVERED = 0.5
"""ROUGE-L F1 from which an instruction counts as covered by another; a convention of ours, the histogram shows the rest."""
EXAMPLES = 5


class Neighbour(NamedTuple):
    """An instruction, the one nearest to it, and their ROUGE-L F1."""

    id: str
    text: str
    of: str
    nearest: str
    score: float


@dataclass(frozen=True, slots=True)
class Novelty:
    """How near each instruction's nearest neighbour in its own set is (Self-Instruct, figure 5, held against the whole set).
    `rows`: in the set; `looked`: of them looked at; `near`: with a neighbour over .7; `tenths`: rows by score, [0, .1) to [.9,
    1]; `mean` of the scores; `equal`: rows that another equals as far as ROUGE sees; `nearest`: examples, the nearest first."""

    rows: int
    looked: int
    near: int
    equal: int
    mean: float
    tenths: tuple[int, ...]
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of another set's instructions one set covers. `rows`: in the other set; `looked`: of them looked at; `pool`: rows of
    the set; `covered`: those with a neighbour of at least .5; `mean` and `tenths` of the nearest neighbour's score; `runs`: the
    share of the other's runs of three words (any language) that the set has anywhere; `nearest`, `farthest`: examples."""

    of: str
    rows: int
    looked: int
    pool: int
    covered: int
    mean: float
    tenths: tuple[int, ...]
    runs: float
    nearest: tuple[Neighbour, ...]
    farthest: tuple[Neighbour, ...]


def novelty(rows: Sequence[Row], most: int | None = SAMPLE, seed: int = 0, progress: Callable[[int], None] = lambda done: None) -> Novelty:
    """The largest ROUGE-L F1 of each instruction with any other row's: exact, for at most `most` rows (None: all) chosen by their
    hashes, each against the whole set. Instructions as the check `rouge_duplicate` compares them.

    Milliseconds a row looked at, in proportion to the rows. Rows without a word that ROUGE sees (a-z, 0-9) are not looked at.
    """
    from etude.similarity import NoveltyIndex  # needs numpy, and the page that shows these figures does not

    index = NoveltyIndex()
    said = [words(material(row).instruction) for row in rows]
    numbers: dict[int, int] = {}  # by identity: two rows may have one id
    for place, row in enumerate(rows):
        numbers[id(row)] = index.add(said[place])
    found = []
    asked = [row for row, text in zip(rows, said, strict=True) if text]
    for done, row in enumerate(chosen(asked, most, seed), 1):
        own = numbers[id(row)]
        near = next((one for one in index.neighbours(said[own], 2) if one.id != own), None)
        other = rows[near.id] if near else None
        found.append(
            Neighbour(row.id, text_of(row), other.id if other else "", text_of(other) if other else "", near.score if near else 0.0)
        )
        progress(done)
    return Novelty(
        rows=len(rows),
        looked=len(found),
        near=sum(one.score > NEAR for one in found),
        equal=sum(one.score == 1 for one in found),
        mean=mean([one.score for one in found]),
        tenths=tenths([one.score for one in found]),
        nearest=tuple(sorted(found, key=lambda one: (-one.score, one.id))[:EXAMPLES]),
    )


def coverage(rows: Sequence[Row], other: Sequence[Row], of: str, most: int | None = SAMPLE, seed: int = 0) -> Coverage:
    """How near the instructions of `other` (named `of`) are to those of `rows`: exact, for at most `most` of them."""
    from etude.similarity import NoveltyIndex  # needs numpy, and the page that shows these figures does not

    index = NoveltyIndex()
    for row in rows:
        index.add(words(material(row).instruction))
    found = []
    looked = chosen([row for row in other if words(material(row).instruction)], most, seed)
    for row in looked:
        near = index.nearest(words(material(row).instruction))
        there = rows[near.id] if near.id >= 0 else None
        found.append(Neighbour(row.id, text_of(row), there.id if there else "", text_of(there) if there else "", near.score))
    theirs = {run for row in looked for run in shingles(tokens(material(row).instruction), 3)}
    missing = set(theirs)
    for row in rows:
        missing -= shingles(tokens(material(row).instruction), 3)
    ordered = sorted(found, key=lambda one: (-one.score, one.id))
    return Coverage(
        of=of,
        rows=len(other),
        looked=len(found),
        pool=len(rows),
        covered=sum(one.score >= COVERED for one in found),
        mean=mean([one.score for one in found]),
        tenths=tenths([one.score for one in found]),
        runs=round(1 - len(missing) / len(theirs), 5) if theirs else 0.0,
        nearest=tuple(ordered[:EXAMPLES]),
        farthest=tuple(ordered[::-1][:EXAMPLES]),
    )


def text_of(row: Row) -> str:
    """An instruction's beginning, on one line."""
    return shown(material(row).instruction)


def tenths(scores: Sequence[float]) -> tuple[int, ...]:
    """Scores counted by tenths, 1 with the last."""
    counts = [0] * 10
    for score in scores:
        counts[min(9, int(10 * score + 1e-9))] += 1
    return tuple(counts)


def mean(values: Sequence[float]) -> float:
    """The mean, 0 of nothing."""
    return round(sum(values) / len(values), 4) if values else 0.0
