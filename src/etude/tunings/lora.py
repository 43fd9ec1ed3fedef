"""LoRA (Hu et al. 2021, arXiv 2106.09685): low-rank updates beside frozen weights, through peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.failures import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Lora(Settings):
    """Low-rank updates `W + (alpha / r) B A` of chosen linear layers; A and B learn, W is frozen."""

    spellings: ClassVar[Mapping[str, str]] = {
        "rank": "r",
        "lora_r": "r",
        "lora_rank": "r",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "lora_target": "target_modules",
        "lora_target_modules": "target_modules",
    }
    default_learning_rate: ClassVar[float] = 5e-4

    r: Annotated[int, Field(ge=1)] = 16
    """Rank of the updates."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the layer's input zeroed on the way into A, in training only."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get an update; `all-linear` is all but the output layer."""

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel; raises RecipeError naming the layers there are when none matches."""
        import torch
        from peft import LoraConfig, TaskType, get_peft_model

        chosen = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=chosen,
            bias="none",
            # GPT-2 keeps its weights as (in, out)
            fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                return get_peft_model(model, config)
            except ValueError as error:
                known = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if not list(module.children())})
                raise RecipeError(
                    f"tune.method.target_modules: {self.target_modules!r} matches no layer of this model ({', '.join(known)})"
                ) from error

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the adapter as peft does; `PeftModel.from_pretrained` loads it."""
        # "auto" would look for the start model's config on the hub
        model.save_pretrained(folder, save_embedding_layers=False)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved adapter, frozen."""
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(folder))
