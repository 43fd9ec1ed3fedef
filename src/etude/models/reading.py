"""Prompts read into a cache of keys and values: what they share at the start once, the rest with little padding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from etude import virtual_tokens
from etude.models.caches import Layer, new_cache

SHORTEST_PREFIX = 16
"""A shared start of fewer tokens costs more (one forward pass of its own) than it saves."""
FULL = 0.8
"""A prompt is read together with longer ones when it is at least this share of their length; padding is work too."""
READ_TOKENS = 4096
"""Most tokens, padding included, of one forward pass over prompts."""


def padded(rows: Sequence[Sequence[int]], pads: Sequence[int]) -> torch.Tensor:
    """Rows of ids as int64 (rows, longest), each filled up on the left with its own pad."""
    width = max(len(row) for row in rows)
    return torch.tensor([[pad] * (width - len(row)) + list(row) for row, pad in zip(rows, pads, strict=True)])


def shared_start(rows: Sequence[tuple[int, ...]]) -> int:
    """Tokens at the start that all rows have in common, leaving each row at least one of its own."""
    most = min(len(row) for row in rows) - 1
    first, last = min(rows), max(rows)
    return next((i for i in range(most) if first[i] != last[i]), most)


def accepted(model: PreTrainedModel) -> frozenset[str]:
    """Names of the arguments of the model's forward pass, seen through an adapter."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(inner.forward).parameters)


def last_logits(
    model: PreTrainedModel, names: frozenset[str], cache: Cache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Read `ids` (rows, tokens) behind what the cache holds; float32 logits (rows, vocabulary) of the last token."""
    given: dict[str, Any] = {"position_ids": positions} if "position_ids" in names else {}
    if "logits_to_keep" in names:
        given["logits_to_keep"] = 1
    output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given)
    return output.logits[:, -1].float()  # type: ignore[no-any-return]


def read_prompts(
    model: PreTrainedModel, names: frozenset[str], prompts: Sequence[tuple[int, ...]]
) -> tuple[Cache, bool, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The prompts, the longest first, read: their cache; whether all its layers are plain attention; int64 (rows, columns),
    1 where a column of the cache is the row's own; int64 (rows,), the position of each row's next token; its logits, float32
    (rows, vocabulary). `names`: the arguments of the model's forward pass."""
    device = next(model.parameters()).device
    ahead, bare = virtual_tokens.count(model), virtual_tokens.bare(model)
    shared, plain = new_cache(model)
    prefix = shared_start(prompts) if plain and len(prompts) > 1 else 0
    if prefix < SHORTEST_PREFIX:
        prefix = 0
    if ahead and plain:
        virtual_tokens.begin(model, shared, 1)
    if prefix:
        head = torch.tensor([prompts[0][:prefix]], device=device)
        mask = head.new_ones(1, ahead + prefix)
        last_logits(bare, names, shared, head, mask, torch.arange(ahead, ahead + prefix, device=device)[None])
    caches, masks, following, logits = [], [], [], []
    for low, high in alike([len(row) - prefix for row in prompts]) if plain else [(0, len(prompts))]:
        cache = new_cache(model)[0]
        if ahead and not plain:
            virtual_tokens.begin(model, cache, high - low)
        elif ahead or prefix:
            repeat_start(shared, cache, high - low)
        rest = [row[prefix:] for row in prompts[low:high]]
        # a pad is masked everywhere; token 0 exists in every vocabulary
        ids = padded(rest, [0] * len(rest)).to(device)
        own = padded([[1] * len(row) for row in rest], [0] * len(rest)).to(device)
        mask = torch.cat([own.new_ones(len(rest), ahead + prefix), own], 1)
        positions = (own.cumsum(1) - 1).clamp(min=0) + ahead + prefix
        logits.append(last_logits(bare, names, cache, ids, mask, positions))
        following.append(positions[:, -1] + 1)
        caches.append(cache)
        masks.append(mask)
    width = max(mask.shape[1] for mask in masks)
    real = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
    return merged(caches), plain, real, torch.cat(following), torch.cat(logits)


def alike(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs [low, high) of rows whose falling lengths are so alike that padding them to the longest wastes little."""
    low = 0
    for high in range(1, len(lengths) + 1):
        if high == len(lengths) or lengths[high] < FULL * lengths[low] or (high + 1 - low) * lengths[low] > READ_TOKENS:
            yield low, high
            low = high


def repeat_start(shared: Cache, cache: Cache, rows: int) -> None:
    """Begin a cache with the one row of another, once for each of `rows`."""
    for index, layer in enumerate(shared.layers):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)


def merged(caches: Sequence[Cache]) -> Cache:
    """One cache of the rows of all, each group's columns moved to the end; takes the others apart."""
    first = caches[0]
    if len(caches) > 1:
        first.layers = [Layer.stacked([cache.layers[index] for cache in caches]) for index in range(len(first.layers))]
    return first
