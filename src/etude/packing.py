"""Rows -> packs without padding: documents one after the other, each with positions of its own.

A pack carries (source position, target) pairs instead of shifted labels, because a shared prefix's
last position predicts the first token of every document behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude.records import IGNORED, Encoded


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Documents laid end to end behind an optional shared prefix.

    ids, positions: int64 (tokens,). `prefix`: tokens at the start that every document attends to.
    `bounds`: each document's own tokens, [start, end) in the pack. sources, targets, rows: int64
    (targets,): the logits at `sources[i]` predict token `targets[i]` of document `rows[i]`.
    """

    ids: np.ndarray
    positions: np.ndarray
    prefix: int
    bounds: tuple[tuple[int, int], ...]
    sources: np.ndarray
    targets: np.ndarray
    rows: np.ndarray


def pairs(row: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """(source positions, targets) of one row: position i predicts token i + 1 where that is trained."""
    sources = np.flatnonzero(row.labels[1:] != IGNORED)
    return sources, row.labels[1:][sources]


def concatenate(rows: Sequence[Encoded], members: Sequence[int]) -> Pack:
    """One pack of the rows with these indices, without a prefix.

    Tokens behind a row's last source predict nothing and are left out.
    """
    ids, positions, bounds, sources, targets, owners = [], [], [], [], [], []
    start = 0
    for index in members:
        source, target = pairs(rows[index])
        length = int(source[-1]) + 1 if len(source) else len(rows[index].ids)
        ids.append(rows[index].ids[:length])
        positions.append(np.arange(length))
        bounds.append((start, start + length))
        sources.append(source + start)
        targets.append(target)
        owners.append(np.full(len(source), index))
        start += length
    return Pack(
        np.concatenate(ids).astype(np.int64),
        np.concatenate(positions).astype(np.int64),
        0,
        tuple(bounds),
        np.concatenate(sources).astype(np.int64),
        np.concatenate(targets).astype(np.int64),
        np.concatenate(owners).astype(np.int64),
    )


def pack(rows: Sequence[Encoded], most_tokens: int) -> list[Pack]:
    """Packs of at most `most_tokens` (a longer row has a pack of its own), by first fit over rows
    of falling length; the same rows give the same packs. `Pack.rows` are indices into `rows`."""
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].ids), i))
    bins: list[tuple[list[int], int]] = []
    for index in order:
        length = len(rows[index].ids)
        for slot, (members, used) in enumerate(bins):
            if used + length <= most_tokens:
                members.append(index)
                bins[slot] = (members, used + length)
                break
        else:
            bins.append(([index], length))
    return [concatenate(rows, members) for members, _ in bins]


def branches(prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> Pack:
    """One prompt as the shared prefix, each continuation a document behind it, all of whose tokens
    are targets: the first is predicted by the prompt's last position. The prompt must not be empty."""
    prefix = len(prompt)
    ids, positions = [list(prompt)], [list(range(prefix))]
    bounds: list[tuple[int, int]] = []
    sources: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    start = prefix
    for index, tokens in enumerate(continuations):
        own = list(tokens[:-1])
        ids.append(own)
        positions.append(list(range(prefix, prefix + len(own))))
        bounds.append((start, start + len(own)))
        sources.extend([prefix - 1, *range(start, start + len(own))] if tokens else [])
        targets.extend(tokens)
        owners.extend([index] * len(tokens))
        start += len(own)
    return Pack(
        np.array([i for part in ids for i in part], dtype=np.int64),
        np.array([p for part in positions for p in part], dtype=np.int64),
        prefix,
        tuple(bounds),
        np.array(sources, dtype=np.int64),
        np.array(targets, dtype=np.int64),
        np.array(owners, dtype=np.int64),
    )
