"""Which weights learn. A Tuning prepares a model; training then trains what requires a gradient.

Some methods need more of the training loop; they say so by having the methods of `Allocating`, `Rated` or `Reporting`,
which the loop asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from etude.catalog import Catalog

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel


class Tuning(Protocol):
    """A way of choosing and adding the weights that learn; a frozen settings class."""

    default_learning_rate: ClassVar[float]

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model with exactly the learning weights requiring gradients."""
        ...

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write what plain peft or transformers needs to load the tuned model."""
        ...

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved tuning in place, for inference."""
        ...


@runtime_checkable
class Allocating(Protocol):
    """A method that moves its capacity about while it trains (AdaLoRA)."""

    def begin(self, model: PreTrainedModel, steps: int) -> None:
        """Told once, before the first step, how many optimizer steps there will be."""
        ...

    def penalty(self, model: PreTrainedModel) -> torch.Tensor:
        """A scalar added to each step's loss, with its gradient."""
        ...

    def after_step(self, model: PreTrainedModel, step: int) -> None:
        """Called behind optimizer step `step` (from 1), while the gradients are still there."""
        ...

    def state(self, model: PreTrainedModel) -> dict[str, Any]:
        """What a checkpoint must hold besides the weights: tensors and plain data."""
        ...

    def restore(self, model: PreTrainedModel, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        ...


@runtime_checkable
class Rated(Protocol):
    """A method some of whose weights learn otherwise than the rest (LoRA+)."""

    def rate_of(self, name: str) -> float:
        """The learning rate of the weight with this name, as a multiple of the run's."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A method with something to say about what it made."""

    def facts(self, model: PreTrainedModel) -> dict[str, Any]:
        """Plain data for the run's record, such as the final ranks."""
        ...


def size(parameter: torch.nn.Parameter) -> int:
    """Numbers in a weight; a byte of a 4-bit one holds two."""
    return parameter.numel() * (2 if type(parameter).__name__ == "Params4bit" else 1)


TUNINGS = Catalog(
    "method",
    {
        "full": "etude.tunings.full:Full",
        "lora": "etude.tunings.lora:Lora",
        "qlora": "etude.tunings.qlora:Qlora",
        "adalora": "etude.tunings.adalora:Adalora",
        "ia3": "etude.tunings.ia3:IA3",
        "prefix": "etude.tunings.prefix:Prefix",
        "p_tuning": "etude.tunings.p_tuning:PTuning",
        "prompt": "etude.tunings.prompt:Prompt",
    },
)
