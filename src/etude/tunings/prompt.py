"""Prompt tuning (Lester et al. 2021, arXiv 2104.08691): learned vectors in the place of words before every row, through peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from etude.catalog import Settings
from etude.tunings.prompts import Length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Prompt(Settings):
    """Embeddings of virtual tokens before every row learn, nothing else."""

    spellings: ClassVar[Mapping[str, str]] = {
        "num_virtual_tokens": "tokens",
        "prompt_tuning_init": "init",
        "prompt_tuning_init_text": "text",
    }
    # for AdamW; the paper's 0.3 is Adafactor's, relative to the weights' size
    default_learning_rate: ClassVar[float] = 5e-3

    tokens: Length = 20
    """Number of virtual tokens; the paper sees little gain beyond 20."""
    init: Literal["vocabulary", "text", "random"] = "vocabulary"
    """What they start as: embeddings of tokens drawn from the vocabulary, those of `text`, or random numbers."""
    text: str | None = None
    """The words they start as, repeated or cut to the number of tokens; describe the task."""

    @model_validator(mode="before")
    @classmethod
    def peft_names(cls, given: Any) -> Any:
        """peft's names of the initialisations; a text alone means to start with it."""
        if not isinstance(given, Mapping):
            return given
        known = {"TEXT": "text", "SAMPLE_VOCAB": "vocabulary", "RANDOM": "random"}
        values = dict(given)
        for key in ("init", "prompt_tuning_init"):
            if isinstance(values.get(key), str):
                values[key] = known.get(values[key], values[key])
        if not {"init", "prompt_tuning_init"} & set(values) and {"text", "prompt_tuning_init_text"} & set(values):
            values["init"] = "text"
        return values

    @model_validator(mode="after")
    def said(self) -> Prompt:
        """Refuse a text without its init, and the other way round."""
        if (self.init == "text") != bool(self.text):
            raise ValueError("init 'text' and a text belong together: give both or neither")
        return self

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel that holds the virtual tokens."""
        import torch
        from peft import PromptTuningConfig

        from etude.tunings import adapters, prompts

        prompts.check(model, self.tokens)
        rows = prompts.chosen(model, self.init, self.text, self.tokens, seed)
        # we write the start values ourselves, so that the saved settings name no tokenizer of this machine
        config = PromptTuningConfig(
            task_type=adapters.task_type(model), num_virtual_tokens=self.tokens, prompt_tuning_init="RANDOM", num_transformer_submodules=1
        )
        table = model.get_input_embeddings()
        wrapped: Any = adapters.wrap(model, config, seed)
        with torch.no_grad():
            learned = wrapped.prompt_encoder["default"].embedding.weight
            if rows is not None:
                learned.copy_(table(rows.to(learned.device)).to(learned))
            else:  # peft's numbers, of variance 1, at the size of real embeddings
                learned.mul_(float(table.weight.float().std()))
        return wrapped

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the virtual tokens as peft does; `PeftModel.from_pretrained` loads them."""
        from etude.tunings import adapters

        adapters.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved virtual tokens, frozen."""
        from etude.tunings import adapters

        return adapters.load(model, folder)
