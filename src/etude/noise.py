"""NEFTune: uniform noise on the embeddings in training (Jain et al. 2023, arXiv 2310.05914).

The noise of a row of L tokens is uniform in +-alpha / sqrt(L d), d the width of the embeddings, with the row's own
length (as in the authors' `experiment_code/train.py`), never that of a padded batch or of a pack. It is a pure function
of (seed, step), so that a resumed run draws the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etude import seeds
from etude.packing import Pack
from etude.pairs import Pairs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def sizes(given: Pack | Pairs, lengths: Sequence[int], alpha: float, width: int) -> np.ndarray:
    """The largest noise on each token, float32, of the shape of the ids: (tokens,) for a pack, whose rows have these
    `lengths` (by row index), (rows, tokens) for a batch of sources, each with its own length and none on padding.

    A shared prefix stands in the pack once and so has one noise, sized by the mean length of the rows behind it.
    """
    if isinstance(given, Pairs):
        own: np.ndarray = given.mask.sum(1, keepdims=True)
        return np.asarray(given.mask * alpha / np.sqrt(own * width), np.float32)
    documents = [lengths[row] for row in given.members]
    per_token = np.empty(len(given.ids), np.float64)
    per_token[: given.prefix] = np.mean(documents)
    for (start, end), length in zip(given.bounds, documents, strict=True):
        per_token[start:end] = length
    return (alpha / np.sqrt(per_token * width)).astype(np.float32)


@contextlib.contextmanager
def enable(model: PreTrainedModel, given: Pack | Pairs, lengths: Sequence[int], alpha: float, stream: torch.Generator) -> Iterator[None]:
    """Inside the block the embeddings of what the model reads (an encoder-decoder: its sources) have noise drawn from `stream`."""
    import torch

    reader: Any = model.get_encoder() if isinstance(given, Pairs) else model
    embeddings = reader.get_input_embeddings()
    largest = torch.from_numpy(sizes(given, lengths, alpha, embeddings.weight.shape[-1]))
    calls = [0]

    def add(module: torch.nn.Module, read: Any, output: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > 1:  # a decoder that reads its tokens with the encoder's module: those are targets
            return output
        drawn = torch.empty_like(output).uniform_(-1, 1, generator=stream)
        return output + drawn * largest.to(output)[..., None]

    handle = embeddings.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random stream of a step."""
    import torch

    return torch.Generator(device).manual_seed(seeds.number(seed, "neftune", step))
