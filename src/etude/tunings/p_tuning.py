"""P-tuning (Liu et al. 2021, arXiv 2103.10385): virtual tokens made by a small network from learned vectors, through peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.tunings.prompts import Length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PTuning(Settings):
    """Virtual tokens before every row, made by an MLP or a two-way LSTM; once tuned, only what it made is kept."""

    spellings: ClassVar[Mapping[str, str]] = {
        "num_virtual_tokens": "tokens",
        "encoder_hidden_size": "hidden",
        "encoder_dropout": "dropout",
        "encoder_num_layers": "depth",
        "encoder_reparameterization_type": "encoder",
    }
    # the network learns like one trained from nothing; ours, see docs/tuning.md
    default_learning_rate: ClassVar[float] = 1e-3

    tokens: Length = 20
    """Number of virtual tokens."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """The network: three linear layers, or a two-way LSTM and two linear layers."""
    hidden: Annotated[int, Field(ge=1)] | None = None
    """Width of the network; by default the model's."""
    depth: Annotated[int, Field(ge=1)] = 2
    """Layers of the LSTM; the MLP always has three."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout between the LSTM's layers."""

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel that makes the virtual tokens."""
        from peft import PromptEncoderConfig

        from etude.tunings import adapters, prompts

        prompts.check(model, self.tokens)
        config = PromptEncoderConfig(
            task_type=adapters.task_type(model),
            num_virtual_tokens=self.tokens,
            num_transformer_submodules=1,
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=self.hidden,
            encoder_num_layers=self.depth if self.encoder == "lstm" else 2,
            encoder_dropout=self.dropout,
        )
        wrapped: Any = adapters.wrap(model, config, seed)
        return wrapped

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the virtual tokens that the network makes; `PeftModel.from_pretrained` loads them, without the network."""
        from etude.tunings import adapters

        adapters.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved virtual tokens, frozen."""
        from etude.tunings import adapters

        return adapters.load(model, folder)
