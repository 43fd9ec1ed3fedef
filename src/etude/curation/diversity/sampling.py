"""Rows to look at where all would take too long: chosen by the hash of their ids, so that the same rows are chosen
again when others leave or come, and before and after are compared on what they share."""

from __future__ import annotations

from collections.abc import Sequence

from etude import seeds
from etude.curation.rows import Row


def chosen(rows: Sequence[Row], most: int | None, seed: int = 0) -> list[Row]:
    """At most `most` rows (None: all) with the smallest hashes of (seed, id), in that order; all of them as given where
    there are no more."""
    if most is None or len(rows) <= most:
        return list(rows)
    return shuffled(rows, seed)[:most]


def shuffled(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """The rows in the order of their hashes; equal ids in the order given."""
    return sorted(rows, key=lambda row: (seeds.number(seed, "looked at", row.id), row.id))
