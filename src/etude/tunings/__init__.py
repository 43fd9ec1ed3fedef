"""Which weights learn. A Tuning prepares a model; training then trains what requires a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from etude.catalog import Catalog
from etude.tunings.full import Full
from etude.tunings.lora import Lora

if TYPE_CHECKING:
    from pathlib import Path

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


TUNINGS = Catalog("method", {"full": Full, "lora": Lora})
