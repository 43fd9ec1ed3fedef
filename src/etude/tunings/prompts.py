"""What the methods with virtual tokens have in common: which real tokens they start as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from etude.failures import RecipeError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Length = Annotated[int, Field(ge=1)]
"""Number of virtual tokens."""


def check(model: PreTrainedModel, tokens: int) -> None:
    """Raise RecipeError for more virtual tokens than half of what the model can read."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most and tokens > most // 2:
        raise RecipeError(f"tune.method.tokens: {tokens} virtual tokens would take more than half of the model's context of {most}")


def sampled(model: PreTrainedModel, count: int, seed: int) -> torch.Tensor:
    """int64 (count,): different ids of the vocabulary, special tokens included, drawn from `seed`."""
    import torch

    size = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(size, generator=generator)[:count] if size >= count else torch.randint(size, (count,), generator=generator)


def written(model: PreTrainedModel, text: str, count: int) -> torch.Tensor:
    """int64 (count,): the ids of `text`, repeated or cut to `count` (as peft does)."""
    import torch

    from etude.tunings import adapters

    tokenizer = adapters.tokenizer_of(model, "tune.method.text")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise RecipeError("tune.method.text: the text has no tokens")
    return torch.tensor((ids * (count // len(ids) + 1))[:count])


def chosen(model: PreTrainedModel, init: str, text: str | None, count: int, seed: int) -> torch.Tensor | None:
    """The real tokens that virtual ones start as; None where they start at random."""
    if init == "text":
        return written(model, text or "", count)
    return sampled(model, count, seed) if init == "vocabulary" else None
