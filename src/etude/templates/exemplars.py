"""Exemplars: the worked examples a row is shown with, from the rows it is handed and no others."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from etude import seeds
from etude.failures import DataError
from etude.records import Record
from etude.templates.choices import has_reasoning
from etude.templates.filling import undeclared
from etude.templates.rows import worded
from etude.templates.template import Template

Count = Callable[[str], int]
"""The tokens of a text."""
GOLDEN = 5700357409661599241
"""2**63 / 1.618...: multiples of it, modulo 2**63, spread evenly (Knuth, The Art of Computer Programming 3, 6.4)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows that may be shown, by label, each group in the order of a lot: a ring on which a row's own
    lots point at its exemplars, so that a new candidate changes the exemplars of few rows."""

    groups: tuple[tuple[tuple[int, ...], tuple[Record, ...]], ...]
    inputs: Mapping[str, tuple[str, ...]]
    template: Template | None
    seed: int


def gather(records: Iterable[Record], template: Template | None, seed: int) -> Pool:
    """The pool of some rows, whatever their order; a row that comes twice is in it once."""
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        groups.setdefault(label_of(record, template), {})[record.id] = record
    rings = []
    for label in sorted(groups, key=lambda name: seeds.number(seed, "exemplar label", name)):
        ring = sorted((seeds.number(seed, "exemplar", id), id) for id in groups[label])
        rings.append((tuple(point for point, _ in ring), tuple(groups[label][id] for _, id in ring)))
    inputs = {record.id: asked(record, template) for group in groups.values() for record in group.values()}
    return Pool(tuple(rings), inputs, template, seed)


def draw(pool: Pool, record: Record, k: int, reasoned: bool = False) -> tuple[Record, ...]:
    """At most `k` exemplars of a row: of every label in turn, each input once, never the row's own; in an
    order drawn by lot. A pure function of the pool's rows and seed and the row's id and input.
    `reasoned`: only rows with their reasoning. Fewer where there are no more."""
    if not pool.groups:
        return ()
    lot = seeds.number(pool.seed, "exemplars of", record.id)
    taken = {asked(record, pool.template)}
    picked: list[tuple[int, Record]] = []
    empty: set[int] = set()
    turn = 0
    while len(picked) < k and len(empty) < len(pool.groups):
        which = (lot + turn) % len(pool.groups)
        points, rows = pool.groups[which]
        start = bisect_left(points, (lot + turn * GOLDEN) % 2**63)
        turn += 1
        for step in range(len(rows) if which not in empty else 0):
            place = (start + step) % len(rows)
            found = rows[place]
            if found.id != record.id and pool.inputs[found.id] not in taken and (not reasoned or reasons(found, pool.template)):
                picked.append((points[place] ^ lot, found))
                taken.add(pool.inputs[found.id])
                break
        else:
            empty.add(which)
    return tuple(found for _, found in sorted(picked, key=lambda pair: pair[0]))


def reasons(record: Record, template: Template | None) -> bool:
    """Whether a row comes with its reasoning."""
    return template is not None and has_reasoning(record, template)


def label_of(record: Record, template: Template | None) -> str:
    """A row's label, or "" in a task without."""
    return str(record.fields.get(template.label_field, "")) if template and template.label_field else ""


def asked(record: Record, template: Template | None) -> tuple[str, ...]:
    """What a row asks, to tell rows of the same input: without regard to case and white space."""
    if template is None:
        messages = worded(record)
        texts = [m.words() for m in (messages[:-1] if messages and messages[-1].role == "assistant" else messages) if m.role != "system"]
    else:
        words = template.phrasings[0]
        texts = [str(record.fields.get(field, "")) for field in read_by(words.instruction, words.input) or template.fields]
    return tuple(" ".join(text.split()).casefold() for text in texts)


@functools.lru_cache(maxsize=1024)
def read_by(instruction: str, material: str) -> tuple[str, ...]:
    """The fields that a question reads, sorted."""
    return tuple(sorted((undeclared(instruction) | undeclared(material)) - {"labels"}))


def pick_exemplars(records: Sequence[Record], k: int, seed: int, template: Template | None) -> tuple[Record, ...]:
    """`k` different rows to show with every row of a task: of every label alike (as nearly as k allows), rows
    no longer than the median of their label first, otherwise by lot; in an order drawn by lot. A pure function of
    seed and rows, whatever the order of the rows. Raises DataError when there are fewer than k rows."""
    if k <= 0:
        return ()
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        groups.setdefault(label_of(record, template), {})[record.id] = record
    total = sum(len(group) for group in groups.values())
    if total < k:
        raise DataError(f"{k} examples are asked for, but there are only {total} rows to take them from")
    queues = []
    for label in sorted(groups, key=lambda name: seeds.number(seed, "exemplar label", name)):
        rows = list(groups[label].values())
        bound = median_low(size(row, template) for row in rows)
        queues.append(sorted(rows, key=lambda row: (size(row, template) > bound, seeds.number(seed, "exemplar", row.id))))
    picked: list[Record] = []
    for turn in range(k):
        picked += [queue[turn] for queue in queues if turn < len(queue)]
    return tuple(sorted(picked[:k], key=lambda row: seeds.number(seed, "exemplar order", row.id)))


def size(record: Record, template: Template | None) -> int:
    """Characters of a row's fields."""
    keys: Iterable[str] = template.fields if template else record.fields
    return sum(len(str(record.fields.get(key, ""))) for key in keys)
