"""Full tuning: every weight learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etude.catalog import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Settings):
    """Every weight of the model learns. Needs about 16 bytes a parameter in float32 with AdamW."""

    default_learning_rate: ClassVar[float] = 5e-5

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The same model, all of whose weights require gradients."""
        model.requires_grad_(True)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write config.json and safetensors that `AutoModelForCausalLM.from_pretrained` loads."""
        model.save_pretrained(folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The tuned weights in place of the start model's; raises DataError when a tensor is missing."""
        from safetensors.torch import load_model

        load_model(model, folder / "model.safetensors")
        return model
