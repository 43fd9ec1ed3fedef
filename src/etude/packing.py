"""Rows -> packs without padding: documents one after the other, each with positions of its own.

Tokens that rows share at the start (system prompt, instruction, few-shot examples) stand in a pack
once, and every document attends to them. So a pack carries (source position, target) pairs instead of
shifted labels: the prefix's last position may predict the first token of every document behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude.records import IGNORED, Encoded


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Documents laid end to end behind an optional shared prefix.

    ids, positions: int64 (tokens,). `prefix`: tokens at the start that every document attends to.
    `bounds`: each document's own tokens, [start, end) in the pack. sources, targets, rows: int64
    (targets,): the logits at `sources[i]` predict token `targets[i]` of document `rows[i]`. weights: float32
    (targets,), what each target counts in the loss, or None where all count 1. `members`: the row of each document.
    """

    ids: np.ndarray
    positions: np.ndarray
    prefix: int
    bounds: tuple[tuple[int, int], ...]
    sources: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
    weights: np.ndarray | None = None
    members: tuple[int, ...] = ()

    @property
    def counted(self) -> float:
        """What the loss is divided by: the targets, each with its weight."""
        return float(len(self.targets) if self.weights is None else self.weights.sum(dtype=np.float64))


def pairs(row: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """(source positions, targets) of one row: position i predicts token i + 1 where that is trained."""
    sources = np.flatnonzero(row.labels[1:] != IGNORED)
    return sources, row.labels[1:][sources]


def concatenate(rows: Sequence[Encoded], members: Sequence[int], prefix: int = 0) -> Pack:
    """One pack of the rows with these indices, whose first `prefix` tokens are the same and stand in it once.

    Tokens behind a row's last source predict nothing and are left out.
    """
    ids, positions = [rows[members[0]].ids[:prefix]], [np.arange(prefix)]
    bounds, sources, targets, owners = [], [], [], []
    start = prefix
    for index in members:
        source, target = pairs(rows[index])
        end = max(prefix, int(source[-1]) + 1 if len(source) else len(rows[index].ids))
        ids.append(rows[index].ids[prefix:end])
        positions.append(np.arange(prefix, end))
        bounds.append((start, start + end - prefix))
        # a source inside the prefix stays there; the others move with their document
        sources.append(np.where(source < prefix, source, source + start - prefix))
        targets.append(target)
        owners.append(np.full(len(source), index))
        start += end - prefix
    return Pack(
        np.concatenate(ids).astype(np.int64),
        np.concatenate(positions).astype(np.int64),
        prefix,
        tuple(bounds),
        np.concatenate(sources).astype(np.int64),
        np.concatenate(targets).astype(np.int64),
        np.concatenate(owners).astype(np.int64),
        np.array([rows[i].weight for i in np.concatenate(owners)], np.float32) if any(rows[i].weight != 1 for i in members) else None,
        tuple(members),
    )


def pack(rows: Sequence[Encoded], most_tokens: int, share: bool = False) -> list[Pack]:
    """Packs of at most `most_tokens` (a longer row has a pack of its own), by first fit over rows
    of falling length; the same rows give the same packs. `Pack.rows` are indices into `rows`.

    With `share`, rows that begin alike are packed together behind what they share.
    """
    groups = prefix_groups(rows) if share else [(0, list(range(len(rows))))]
    return [concatenate(rows, members, prefix) for prefix, group in groups for members in bins(rows, group, prefix, most_tokens)]


def bins(rows: Sequence[Encoded], group: Sequence[int], prefix: int, most_tokens: int) -> list[list[int]]:
    """The group's rows in bins of at most `most_tokens`, each bin holding the prefix once: as few as first fit
    over falling lengths needs, filled evenly where that fits too, because products of few rows are slower."""
    first = first_fit(rows, group, prefix, most_tokens)
    even = evenly(rows, group, prefix, len(first))
    return even if all(prefix + sum(len(rows[i].ids) - prefix for i in members) <= most_tokens for members in even) else first


def evenly(rows: Sequence[Encoded], group: Sequence[int], prefix: int, count: int) -> list[list[int]]:
    """The rows in `count` bins, each row, the longest first, in the bin that is least full."""
    found: list[list[int]] = [[] for _ in range(count)]
    used = [0] * count
    for index in sorted(group, key=lambda i: (-len(rows[i].ids), i)):
        slot = used.index(min(used))
        found[slot].append(index)
        used[slot] += len(rows[index].ids) - prefix
    return found


def first_fit(rows: Sequence[Encoded], group: Sequence[int], prefix: int, most_tokens: int) -> list[list[int]]:
    """The rows, the longest first, each in the first bin with room for it."""
    found: list[tuple[list[int], int]] = []
    for index in sorted(group, key=lambda i: (-len(rows[i].ids), i)):
        own = len(rows[index].ids) - prefix
        for slot, (members, used) in enumerate(found):
            if used + own <= most_tokens:
                members.append(index)
                found[slot] = (members, used + own)
                break
        else:
            found.append(([index], prefix + own))
    return [members for members, _ in found]


LEAST_SHARED = 8
"""A shorter prefix saves less than attending to it apart costs."""


def prefix_groups(rows: Sequence[Encoded]) -> list[tuple[int, list[int]]]:
    """(tokens shared at the start, row indices): the grouping by common prefixes that saves most tokens.

    Rows sorted by their tokens are the leaves of a trie. At each of its nodes either all rows below
    share the node's prefix, which saves it for all but one of them, or the branches are grouped apart.
    A prefix never reaches beyond the position that predicts a row's first trained token.
    """
    shareable = []
    for row in rows:
        sources, _ = pairs(row)
        shareable.append(row.ids[: int(sources[0]) + 1 if len(sources) else 0].tolist())
    order = sorted(range(len(rows)), key=lambda i: (shareable[i], i))
    common = [shared_start(shareable[a], shareable[b]) for a, b in itertools.pairwise(order)]
    chosen: list[tuple[int, list[int]]] = []
    loose: list[int] = []
    for depth, low, high in best_split(common, 0, len(order))[1]:
        if depth >= LEAST_SHARED and high - low > 1:
            chosen.append((depth, sorted(order[low:high])))
        else:
            loose += order[low:high]
    return [*chosen, (0, sorted(loose))] if loose else chosen


def best_split(common: Sequence[int], low: int, high: int) -> tuple[int, list[tuple[int, int, int]]]:
    """(tokens saved, groups as (depth, low, high)) for the sorted rows low..high; `common[i]` is what
    rows i and i + 1 share. Split where the least is shared, wherever the parts together save more."""
    if high - low < 2:
        return 0, [(0, low, high)] if high > low else []
    depth = min(common[low : high - 1])
    cuts = [i + 1 for i in range(low, high - 1) if common[i] == depth]
    whole = depth * (high - low - 1)
    if len(cuts) == high - low - 1:
        return whole, [(depth, low, high)]
    parts = [best_split(common, a, b) for a, b in zip([low, *cuts], [*cuts, high], strict=True)]
    apart = sum(saved for saved, _ in parts)
    return (apart, [group for _, groups in parts for group in groups]) if apart > whole else (whole, [(depth, low, high)])


def shared_start(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two rows share at the start."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


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
