"""The training and validation rows as the model sees them: written, encoded and checked once, and kept on disk.

The file depends on the data, the templates, the format, the tokenizer and the limits on length alone (its stage's
digest holds them all), so a run with another learning rate takes it over, and a changed template makes a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from etude import journal, previewing
from etude.encoding import Limit, Truncation
from etude.previewing import Examiner
from etude.records import IGNORED, Conversation, Encoded, Fate


@dataclass(frozen=True, slots=True)
class Rows:
    """The encoded rows of one part, in order, and the Fates of those that truncation dropped. `sources`: the source of each
    row, where they were just encoded."""

    rows: list[Encoded] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def sized(self) -> Iterator[tuple[str, int, int]]:
        """(source, tokens, trained tokens) of every row."""
        for source, row in zip(self.sources, self.rows, strict=True):
            yield source, len(row.ids), int((row.labels != IGNORED).sum())


def encode(conversations: Iterable[Conversation], examiner: Examiner, most_tokens: Limit, truncation: Truncation) -> Rows:
    """Write and encode each conversation once and show it to the examiner, whose findings say what is broken."""
    found = Rows()
    for row in previewing.seen(conversations, examiner, most_tokens, truncation):
        for one in row.results:
            if isinstance(one, Encoded):
                found.rows.append(replace(one, weight=row.conversation.notes.get("weight", 1.0)))
                found.sources.append(str(row.conversation.notes.get("source", "")))
            else:
                found.fates.append(one)
    return found


def save(found: Rows, path: Path) -> None:
    """Write one part to an .npz file."""
    lengths = np.array([len(row.ids) for row in found.rows], dtype=np.int64)
    nothing = np.zeros(0, np.int32)
    ids, labels = (np.concatenate([nothing, *parts]) for parts in ([r.ids for r in found.rows], [r.labels for r in found.rows]))
    names = np.array([row.id for row in found.rows], dtype=np.str_)
    weights = np.array([row.weight for row in found.rows], dtype=np.float64)
    cuts = np.array([row.cut for row in found.rows], dtype=np.int64)
    with journal.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, ids=ids, labels=labels, lengths=lengths, names=names, cuts=cuts, weights=weights)
    fates = [{"id": fate.id, "reason": fate.reason} for fate in found.fates]
    journal.write_rows(path.with_suffix(".dropped.jsonl"), fates)


def load(path: Path) -> Rows:
    """One part as `save` wrote it."""
    with np.load(path, allow_pickle=False) as stored:
        ends = np.cumsum(stored["lengths"])[:-1]
        parts = [np.split(stored[key], ends) for key in ("ids", "labels")]
        names, cuts, weights = (stored[key].tolist() for key in ("names", "cuts", "weights"))
    rows = [Encoded(*one) for one in zip(names, *parts, cuts, weights, strict=True)] if names else []
    return Rows(rows, [Fate.drop(row["id"], row["reason"]) for row in journal.read(path.with_suffix(".dropped.jsonl"))])


def facts(found: Rows) -> dict[str, Any]:
    """The rows in numbers: rows, tokens, trained tokens, rows cut or dropped, histogram of lengths."""
    lengths = np.array([len(row.ids) for row in found.rows], dtype=np.int64)
    edges = np.unique(np.linspace(0, lengths.max(initial=0) + 1, 13).astype(int))
    counts, edges = np.histogram(lengths, edges)
    return {
        "rows": len(found.rows),
        "tokens": int(lengths.sum()),
        "trained": int(sum((row.labels != IGNORED).sum() for row in found.rows)),
        "truncated": sum(1 for row in found.rows if row.cut),
        "dropped": len(found.fates),
        "lengths": [[int(low), int(high), int(n)] for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)],
    }
