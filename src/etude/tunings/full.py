"""Full tuning: every weight learns, or the parts that are named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from etude.catalog import Settings
from etude.failures import DataError, RecipeError, nearest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Full(Settings):
    """The model's own weights learn. Needs about 16 bytes a learning parameter in float32 with AdamW."""

    default_learning_rate: ClassVar[float] = 5e-5

    only: tuple[str, ...] = ()
    """Only weights matching one of these learn; each is a part of a name (`mlp`, `bias`) or a regular expression."""
    freeze: tuple[str, ...] = ()
    """Weights matching one of these do not learn (`embed_tokens`, `layers.0`, `norm`)."""
    last_layers: Annotated[int, Field(ge=1)] | None = None
    """Only so many of the last layers learn, with the final norm and an output layer that is not the embeddings."""

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The same model, whose chosen weights require gradients; raises RecipeError for a pattern that matches nothing."""
        names = [name for name, _ in model.named_parameters()]
        chosen = set(names)
        if self.last_layers is not None:
            chosen &= last(names, self.last_layers)
        if self.only:
            chosen &= matching(names, self.only, "only")
        chosen -= matching(names, self.freeze, "freeze")
        if not chosen:
            raise RecipeError("tune.method: only, freeze and last_layers together leave no weight to learn")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write config.json and safetensors that `from_pretrained` loads."""
        model.save_pretrained(folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The tuned weights in place of the start model's; raises DataError when a tensor is missing or does not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        found: dict[str, torch.Tensor] = {}
        try:
            for path in sorted(folder.glob("model*.safetensors")):  # large models are saved in several files
                found |= load_file(path)
            lacking, unknown = model.load_state_dict(found, strict=False)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise DataError(
                f"model folder {folder}: its weights do not fit or are damaged: {' '.join(str(error).split())[:300]}"
            ) from error
        model.tie_weights()
        # a tied weight is saved under one of its names
        tied = {id(p): name for name, p in model.named_parameters()}
        every = dict(model.named_parameters(remove_duplicate=False))
        missing = [name for name in lacking if name not in every or tied[id(every[name])] in lacking]
        if missing or unknown:
            raise DataError(f"model folder {folder}: {len(missing)} weights missing, {len(unknown)} unknown: {[*missing, *unknown][0]}")
        return model


def matching(names: Sequence[str], patterns: Sequence[str], key: str) -> set[str]:
    """The names that a pattern matches; raises RecipeError for one that is no regular expression or matches no weight."""
    found: set[str] = set()
    for pattern in patterns:
        try:
            matched = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise RecipeError(f"tune.method.{key}: {pattern!r} is no regular expression ({error})") from error
        if not matched:
            parts = sorted({part for name in names for part in name.split(".") if not part.isdigit()})
            raise RecipeError(
                f"tune.method.{key}: {pattern!r} matches no weight of this model (their names are made of {', '.join(parts)})"
                f"{nearest(pattern, parts)}"
            )
        found |= matched
    return found


def last(names: Sequence[str], count: int) -> set[str]:
    """Names of the weights of the last `count` numbered layers, and of what comes behind the layers."""
    numbered = {name: re.search(r"\.(?:layers|layer|h|block|blocks)\.(\d+)\.", name) for name in names}
    depth = max((int(found[1]) for found in numbered.values() if found), default=-1) + 1
    if count > depth:
        raise RecipeError(f"tune.method.last_layers: {count} asked for, and this model has {depth} numbered layers")
    places = [place for place, name in enumerate(names) if numbered[name]]
    behind = {name for place, name in enumerate(names) if place > places[-1] and not numbered[name]}
    return behind | {name for name, found in numbered.items() if found and int(found[1]) >= depth - count}
