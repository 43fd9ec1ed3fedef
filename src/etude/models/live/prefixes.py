"""Prompts read behind starts that were read before: an earlier turn of the same chat, a system prompt that many share.

A start is the keys and values of one row. Those of finished answers and of prompts are kept, the least used forgotten,
so a second turn reads only what is new in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from etude import virtual_tokens
from etude.models.caches import new_cache
from etude.models.reading import SHORTEST_PREFIX, accepted, alike, last_logits, merged, padded

Pairs = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of each layer, each (1, heads, columns, width)."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What has been read: `ids`, and the keys and values of the virtual tokens (if any) and of these ids."""

    ids: tuple[int, ...]
    pairs: Pairs


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens at the start that both have."""
    most = min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    low = 0
    while low < most:  # halving: slices are compared in C
        middle = (low + most + 1) // 2
        low, most = (middle, most) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


class Prefixes:
    """Starts in the order of their last use, of at most `tokens` ids together."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.known: list[Start] = []

    def best(self, prompt: tuple[int, ...]) -> tuple[Start | None, int]:
        """The start with the longest beginning of `prompt`, and its length; None where that is too short to pay. At least
        one token of the prompt is left to read."""
        found, longest = None, SHORTEST_PREFIX - 1
        for start in self.known:
            length = min(common(start.ids, prompt), len(prompt) - 1)
            if length > longest:
                found, longest = start, length
        if found is None:
            return None, 0
        self.known.remove(found)
        self.known.append(found)
        return found, longest

    def keep(self, start: Start) -> None:
        """Remember a start instead of those it begins with, and forget the least used where there are too many."""
        if not SHORTEST_PREFIX <= len(start.ids) <= self.tokens or any(one.ids[: len(start.ids)] == start.ids for one in self.known):
            return
        self.known = [one for one in self.known if start.ids[: len(one.ids)] != one.ids]
        self.known.append(start)
        while sum(len(one.ids) for one in self.known) > self.tokens:
            del self.known[0]


def root(model: PreTrainedModel) -> Start:
    """The start of every row: the model's virtual tokens, or nothing."""
    if not virtual_tokens.count(model):
        return Start((), ())
    cache = new_cache(model)[0]
    virtual_tokens.begin(model, cache, 1)
    return Start((), tuple((layer.keys, layer.values) for layer in cache.layers))


def row_of(cache: Cache, place: int, columns: torch.Tensor) -> Pairs:
    """A copy of one row's keys and values at `columns`, int64 (kept,)."""
    return tuple((layer.keys[place : place + 1, :, columns], layer.values[place : place + 1, :, columns]) for layer in cache.layers)


def begun(cache: Cache, starts: Sequence[tuple[Pairs, int]]) -> torch.Tensor:
    """Put starts, of so many columns each, into an empty cache, ending together; int64 (rows, columns), 1 where a column is
    the row's own."""
    width = max(columns for _, columns in starts)
    if not width:
        return torch.zeros(len(starts), 0, dtype=torch.int64)
    filled = next(pairs for pairs, columns in starts if columns)
    for index, (like, _) in enumerate(filled):
        made = []
        for part in (0, 1):
            store = like.new_zeros(len(starts), like.shape[1], width, filled[index][part].shape[3])
            for row, (pairs, columns) in enumerate(starts):
                if columns:
                    store[row, :, width - columns :] = pairs[index][part][0, :, :columns]
            made.append(store)
        cache.update(made[0], made[1], index)
    return torch.tensor([[0] * (width - columns) + [1] * columns for _, columns in starts])


def read(
    model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], starts: Sequence[tuple[Start, int]]
) -> tuple[Cache, torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
    """The prompts behind their starts (and how many of a start's ids are theirs): a cache of them, whose rows are in the order
    of the indices given last; int64 (rows, columns), 1 where a column is the row's own; int64 (rows,) positions of the next
    tokens; their logits, float32 (rows, vocabulary). Only for caches of plain attention where a start is not the root."""
    device = next(model.parameters()).device
    names, ahead, bare = accepted(model), virtual_tokens.count(model), virtual_tokens.bare(model)
    rests = [prompt[length:] for prompt, (_, length) in zip(prompts, starts, strict=True)]
    order = sorted(range(len(prompts)), key=lambda index: -len(rests[index]))
    plain = new_cache(model)[1]
    caches, masks, following, logits = [], [], [], []
    for low, high in alike([len(rests[index]) for index in order]) if plain else [(0, len(order))]:
        rows = order[low:high]
        cache = new_cache(model)[0]
        if plain:
            before = begun(cache, [(starts[index][0].pairs, ahead + starts[index][1]) for index in rows]).to(device)
        else:
            before = torch.ones(len(rows), ahead, dtype=torch.int64, device=device)
            if ahead:
                virtual_tokens.begin(model, cache, len(rows))
        rest = [rests[index] for index in rows]
        # a pad is masked everywhere; token 0 exists in every vocabulary
        ids = padded(rest, [0] * len(rest)).to(device)
        own = padded([[1] * len(row) for row in rest], [0] * len(rest)).to(device)
        mask = torch.cat([before, own], 1)
        positions = (own.cumsum(1) - 1).clamp(min=0) + before.sum(1, keepdim=True)
        logits.append(last_logits(bare, names, cache, ids, mask, positions))
        following.append(positions[:, -1] + 1)
        caches.append(cache)
        masks.append(mask)
    width = max(mask.shape[1] for mask in masks)
    real = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
    return merged(caches), real, torch.cat(following), torch.cat(logits), order
