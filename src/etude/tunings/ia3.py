"""(IA)^3 (Liu et al. 2022, arXiv 2205.05638): one learned factor a unit of keys, values and feed-forward inputs, through peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etude.catalog import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

READ_LATE = ("down_proj", "fc2", "wo", "c_proj", "dense_4h_to_h", "fc_out")
"""Names under which architectures have the second layer of the feed-forward block, whose inputs are scaled."""


class IA3(Settings):
    """Keys, values and the inputs of the feed-forward block's last layer are multiplied by learned vectors that start at 1."""

    # the paper's T-Few recipe, section 3.5
    default_learning_rate: ClassVar[float] = 3e-3

    target_modules: tuple[str, ...] | str | None = None
    """Names of the layers that are scaled, or a regular expression; by default peft's choice for the architecture."""
    feedforward_modules: tuple[str, ...] | None = None
    """Those of them whose inputs are scaled instead of their outputs; by default the feed-forward block's last layers."""

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel; raises RecipeError naming the layers there are when none matches."""
        from peft import IA3Config

        from etude.tunings import adapters

        chosen = list(self.target_modules) if isinstance(self.target_modules, tuple) else self.target_modules
        late = list(self.feedforward_modules) if self.feedforward_modules is not None else None
        if chosen is not None and late is None:
            late = [name for name in chosen if name.rsplit(".", 1)[-1] in READ_LATE] if isinstance(chosen, list) else list(READ_LATE)
        config = IA3Config(
            task_type=adapters.task_type(model),
            target_modules=chosen,
            feedforward_modules=late,
            fan_in_fan_out=adapters.transposed(model),
        )
        return adapters.wrap(model, config, seed, self.target_modules)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the vectors as peft does; `PeftModel.from_pretrained` loads them."""
        from etude.tunings import adapters

        adapters.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved vectors, frozen."""
        from etude.tunings import adapters

        return adapters.load(model, folder)
