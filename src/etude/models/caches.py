"""Keys and values of rows that are being decoded: room made ahead, rows that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

SPARE = 64
"""Tokens of room a cache layer makes ahead when it has to grow."""


class Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values, each (rows, heads, tokens, width), as views of storage with room to grow.

    transformers' own layer copies everything at every step, which at batch 20 costs as much as the
    attention itself; this one writes the new token only.
    """

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool
    room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append along the tokens; returns all keys and values."""
        past = self.keys.shape[2] if self.is_initialized else 0
        rows, total = key_states.shape[0], past + key_states.shape[2]
        if self.room is None or self.room[0].shape[0] < rows or self.room[0].shape[2] < total:
            grown = tuple(s.new_empty(rows, s.shape[1], total + SPARE, s.shape[3]) for s in (key_states, value_states))
            if past:
                grown[0][:, :, :past], grown[1][:, :, :past] = self.keys, self.values
            self.room = (grown[0], grown[1])
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.keys, self.values = (store[:rows].narrow(2, 0, total) for store in self.room)
        self.keys.narrow(2, past, total - past).copy_(key_states)
        self.values.narrow(2, past, total - past).copy_(value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep or repeat rows. Where the batch shrinks, rows are moved inside the storage."""
        rows = len(indices)
        if self.room is None or rows >= self.keys.shape[0]:
            self.keys, self.values, self.room = self.keys[indices], self.values[indices], None
            return
        moved = (indices != torch.arange(rows, device=indices.device)).nonzero().flatten()
        for name in ("keys", "values"):
            kept = getattr(self, name)
            if len(moved):
                kept[moved] = kept[indices[moved]]  # the right side is a copy, so no row is overwritten before it is read
            setattr(self, name, kept[:rows])

    @staticmethod
    def stacked(layers: Sequence[Layer]) -> Layer:
        """The rows of several layers, whose columns all end together; what stands before a shorter one's is 0."""
        rows, width = sum(layer.keys.shape[0] for layer in layers), max(layer.keys.shape[2] for layer in layers)
        made = Layer()
        for name in ("keys", "values"):
            parts = [getattr(layer, name) for layer in layers]
            store = parts[0].new_zeros(rows, parts[0].shape[1], width + SPARE, parts[0].shape[3])
            low = 0
            for part in parts:
                store[low : low + part.shape[0], :, width - part.shape[2] : width] = part
                low += part.shape[0]
            setattr(made, name, store)
        made.room = (made.keys, made.values)
        made.keys, made.values = (store.narrow(2, 0, width) for store in made.room)
        made.dtype, made.device, made.is_initialized = layers[0].keys.dtype, layers[0].keys.device, True
        return made

    def put(self, slots: torch.Tensor, other: Layer) -> None:
        """Overwrite the rows `slots` with another layer's, which end where this one's end."""
        first = self.keys.shape[2] - other.keys.shape[2]
        self.keys[slots, :, first:] = other.keys
        self.values[slots, :, first:] = other.values

    def extend(self, other: Layer) -> None:
        """Add another layer's rows, which end where this one's end and are at most as wide. The storage doubles its rows when full."""
        rows, width, more = self.keys.shape[0], self.keys.shape[2], other.keys.shape[0]
        if self.room is None or self.room[0].shape[0] < rows + more:
            held = self.room[0] if self.room is not None else self.keys
            tokens = max(held.shape[2], width + SPARE)
            grown = [held.new_empty(max(2 * rows, rows + more), s.shape[1], tokens, s.shape[3]) for s in (self.keys, self.values)]
            grown[0][:rows, :, :width], grown[1][:rows, :, :width] = self.keys, self.values
            self.room = (grown[0], grown[1])
        for store, new in zip(self.room, (other.keys, other.values), strict=True):
            # what stands before is masked, but zero times a leftover infinity would still be NaN
            store[rows : rows + more, :, : width - new.shape[2]] = 0
            store[rows : rows + more, :, width - new.shape[2] : width] = new
        self.keys, self.values = (store[: rows + more].narrow(2, 0, width) for store in self.room)

    def take_columns(self, columns: torch.Tensor) -> None:
        """Keep these columns, int64 (rows, kept), of each row."""
        chosen = columns[:, None, :, None].expand(-1, self.keys.shape[1], -1, self.keys.shape[3])
        self.keys, self.values, self.room = self.keys.gather(2, chosen), self.values.gather(2, chosen), None


def new_cache(model: PreTrainedModel) -> tuple[Cache, bool]:
    """A cache for the model, and whether all its layers are plain attention, which a shared start needs."""
    cache = DynamicCache(config=model.config)
    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    cache.layers = [Layer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if not cache.layers:
        cache.layer_class_to_replicate = Layer
    return cache, plain
