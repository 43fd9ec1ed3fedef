"""Prefix tuning (Li and Liang 2021, arXiv 2101.00190): learned keys and values before every row, in every layer, through peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.failures import RecipeError
from etude.tunings.prompts import Length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Prefix(Settings):
    """Every layer attends to learned keys and values of virtual tokens before the row; they alone learn."""

    spellings: ClassVar[Mapping[str, str]] = {
        "num_virtual_tokens": "tokens",
        "prefix_projection": "projection",
        "encoder_hidden_size": "hidden",
        "init_weights": "init",
    }
    # without projection as in P-tuning v2 (arXiv 2110.07602), which tunes the same weights
    default_learning_rate: ClassVar[float] = 5e-3

    tokens: Length = 20
    """Number of virtual tokens."""
    projection: bool = False
    """Make keys and values by a two-layer network from shorter vectors (the original paper's way: steadier, many more
    weights to learn). Once tuned, only what it made is kept."""
    hidden: Annotated[int, Field(ge=1)] | None = None
    """Width of that network; by default the width of one layer's keys."""
    init: Literal["vocabulary", "text", "random", "zero"] = "vocabulary"
    """What keys and values start as without projection: the model's own for tokens drawn from its vocabulary or for `text`
    (section 7.4 of the paper), random numbers, or 0."""
    text: str | None = None
    """The words they start as, repeated or cut to the number of tokens."""

    @model_validator(mode="after")
    def said(self) -> Prefix:
        """Refuse a text without its init, and a start that a projection cannot have."""
        if (self.init == "text") != bool(self.text):
            raise ValueError("init 'text' and a text belong together: give both or neither")
        if self.projection and self.init == "text":
            raise ValueError("with projection a network makes the keys and values, so they cannot start as a text")
        if self.hidden is not None and not self.projection:
            raise ValueError("hidden is the width of the projection's network; set projection: true")
        return self

    def rate_of(self, name: str) -> float:
        """A network of a hundred times the weights learns at a tenth of the rate."""
        return 0.1 if self.projection else 1.0

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel that holds the keys and values; raises RecipeError for an encoder-decoder."""
        import torch
        from peft import PrefixTuningConfig

        from etude.tunings import adapters, prompts

        if getattr(model.config, "is_encoder_decoder", False):
            # the cache of a decoder's cross-attention counts as filled once it holds anything, so the source would never be read
            raise RecipeError(
                "tune.method: prefix tuning is for decoder-only models; an encoder-decoder takes prompt, p_tuning or an adapter"
            )
        prompts.check(model, self.tokens)
        config = PrefixTuningConfig(
            task_type=adapters.task_type(model),
            num_virtual_tokens=self.tokens,
            prefix_projection=self.projection,
            encoder_hidden_size=self.hidden,
            init_weights="zero" if self.init == "zero" else None,
        )
        rows = None if self.projection else prompts.chosen(model, self.init, self.text, self.tokens, seed)
        start = own_keys(model, rows) if rows is not None else None
        wrapped: Any = adapters.wrap(model, config, seed)
        if start is not None:
            learned = wrapped.prompt_encoder["default"].embedding.weight
            with torch.no_grad():
                learned.copy_(start.to(learned))
        return wrapped

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write keys and values as peft does; `PeftModel.from_pretrained` loads them, without a projection's network."""
        from etude.tunings import adapters

        adapters.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved keys and values, frozen."""
        from etude.tunings import adapters

        return adapters.load(model, folder)


def own_keys(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor | None:
    """Keys and values the model itself has for `ids` (tokens,), as peft lays them out: (tokens, layers * 2 * heads * width).
    None where the layers' shapes differ, so that there is no such layout."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad():
        cache = model(input_ids=ids[None].to(next(model.parameters()).device), use_cache=True).past_key_values
    model.train(training)
    stores = [store[0].transpose(0, 1).flatten(1) for layer in cache.layers for store in (layer.keys, layer.values)]
    return torch.cat(stores, 1) if len({store.shape for store in stores}) == 1 else None
