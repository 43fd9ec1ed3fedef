"""Rows of encoder-decoder models: a source and a target each, padded in batches.

Such rows are not packed. T5's attention adds a bias by relative position that is computed from places in the batch, so
documents laid end to end would see each other's distances; rows of like length are padded together instead, within a step.
The decoder reads the target shifted right by one behind the model's own `decoder_start_token_id` (T5: its pad token;
Raffel et al. 2020), and padding is masked out of the encoder, the cross-attention and the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.failures import DataError, RecipeError
from etude.records import IGNORED, Encoded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FULL = 0.6
"""A row joins a batch when it has at least this share of the batch's padded width; padding is work too."""


def is_paired(model: PreTrainedModel) -> bool:
    """Whether the model is an encoder-decoder."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def start_id(model: PreTrainedModel) -> int:
    """The token a decoder begins with; raises RecipeError where neither configuration names one."""
    for config in (model.config, getattr(model, "generation_config", None)):
        found = getattr(config, "decoder_start_token_id", None)
        if found is not None:
            return int(found)
    raise RecipeError("the model's config.json names no decoder_start_token_id, which an encoder-decoder needs (T5: its pad token, 0)")


def split(row: Encoded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(source ids, target ids, target labels) of a row: the target begins with the first trained token. Raises DataError for
    a row without one."""
    trained = np.flatnonzero(row.labels != IGNORED)
    if not len(trained):
        raise DataError(f"row {row.id}: no trained token, so an encoder-decoder has no target")
    first = int(trained[0])
    return row.ids[:first], row.ids[first:], row.labels[first:]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A batch of sources and targets, filled up on the right.

    sources, mask: int64 (rows, longest source), mask 1 where a token is real. inputs: int64 (rows, longest target), what the
    decoder reads. places: int64 (targets,), where in the flattened (rows * longest target) positions the logits stand that
    predict token `targets[i]` of row `rows[i]`; weights: float32 (targets,) or None where all count 1. `prefix` and `bounds`
    are as in `packing.Pack`: nothing is shared.
    """

    sources: np.ndarray
    mask: np.ndarray
    inputs: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
    weights: np.ndarray | None = None
    prefix: int = 0
    bounds: tuple[tuple[int, int], ...] = ()

    @property
    def counted(self) -> float:
        """What the loss is divided by: the targets, each with its weight."""
        return float(len(self.targets) if self.weights is None else self.weights.sum(dtype=np.float64))


def batch(rows: Sequence[Encoded], members: Sequence[int], start: int) -> Pairs:
    """One batch of the rows with these indices; `start` is the model's `start_id`."""
    parts = [split(rows[index]) for index in members]
    sources, mask = filled([source for source, _, _ in parts])
    inputs, _ = filled([np.concatenate([[start], target[:-1]]) for _, target, _ in parts])
    trained = [np.flatnonzero(labels != IGNORED) for _, _, labels in parts]
    owners = np.concatenate([np.full(len(own), index) for own, index in zip(trained, members, strict=True)]).astype(np.int64)
    return Pairs(
        sources,
        mask,
        inputs,
        np.concatenate([own + place * inputs.shape[1] for place, own in enumerate(trained)]).astype(np.int64),
        np.concatenate([target[own] for (_, target, _), own in zip(parts, trained, strict=True)]).astype(np.int64),
        owners,
        np.array([rows[i].weight for i in owners], np.float32) if any(rows[i].weight != 1 for i in members) else None,
    )


def filled(rows: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids filled up on the right with 0, and 1 where they are real; both int64 (rows, longest). What is filled in is masked
    or behind all that is predicted, and token 0 exists in every vocabulary."""
    width = max(len(row) for row in rows)
    ids, mask = (np.zeros((len(rows), width), np.int64) for _ in range(2))
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return ids, mask


def batches(rows: Sequence[Encoded], most_tokens: int, start: int) -> list[Pairs]:
    """Batches of at most `most_tokens`, padding included (a longer row has one of its own), of rows of like length; the same
    rows give the same batches. `Pairs.rows` are indices into `rows`. A row without a trained token is left out."""
    lengths: dict[int, tuple[int, int]] = {}
    for index, row in enumerate(rows):
        if (row.labels != IGNORED).any():
            source, target, _ = split(row)
            lengths[index] = len(source), len(target)
    found: list[list[int]] = []
    wide = (0, 0)
    for index in sorted(lengths, key=lambda i: (-sum(lengths[i]), lengths[i], i)):
        joined = max(wide[0], lengths[index][0]), max(wide[1], lengths[index][1])
        members = found[-1] if found else []
        fits = bool(members) and (len(members) + 1) * sum(joined) <= most_tokens
        if fits and min(sum(lengths[i]) for i in [*members[:1], index]) >= FULL * sum(joined):
            members.append(index)
            wide = joined
        else:
            found.append([index])
            wide = lengths[index]
    return [batch(rows, members, start) for members in found]


def target_logits(model: PreTrainedModel, pairs: Pairs) -> torch.Tensor:
    """Logits (targets, vocabulary) of the batch's targets."""
    import torch

    device = next(model.parameters()).device
    given: dict[str, Any] = {
        name: torch.from_numpy(values).to(device)
        for name, values in (("input_ids", pairs.sources), ("attention_mask", pairs.mask), ("decoder_input_ids", pairs.inputs))
    }
    logits = model(**given, use_cache=False).logits
    return logits.flatten(0, 1)[torch.from_numpy(pairs.places).to(device)]  # type: ignore[no-any-return]
