"""AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): LoRA as a singular value decomposition whose ranks move to where they matter.

peft allocates only when it is called and adds the orthogonal loss only where the model computes the loss itself; our loop
does neither by chance: it calls `begin`, `penalty` and `after_step` (see `tunings.Allocating`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.failures import RecipeError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Adalora(Settings):
    """Updates `W + (alpha / first rank) B E A` with E diagonal; the least important entries of E become 0 as training goes on."""

    spellings: ClassVar[Mapping[str, str]] = {
        "r": "target_r",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "deltaT": "every",
        "orth_reg_weight": "orthogonal",
    }
    # between the paper's 5e-4 and 2.2e-3 for DeBERTa-base (its table 8)
    default_learning_rate: ClassVar[float] = 1e-3

    target_r: Annotated[int, Field(ge=1)] = 8
    """Rank of the updates at the end, as a mean over the layers."""
    init_r: Annotated[int, Field(ge=2)] = 12
    """Rank of every update at the start."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / init_r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the layer's input zeroed on the way into A, in training only."""
    target_modules: tuple[str, ...] | str = "all-linear"
    """Names of the linear layers that get an update, or a regular expression; `all-linear` is all but the output layer."""
    initial: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps before ranks begin to fall."""
    final: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the steps after the ranks are settled."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Steps from one allocation to the next; by default about a hundredth of all."""
    orthogonal: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the loss that keeps A and B orthogonal."""

    @model_validator(mode="after")
    def falling(self) -> Adalora:
        """Refuse ranks that do not fall and schedules without room to let them."""
        if self.init_r <= self.target_r:
            raise ValueError(f"init_r ({self.init_r}) must be above target_r ({self.target_r}): ranks only fall; for fixed ranks use lora")
        if self.initial + self.final >= 1:
            raise ValueError(f"initial ({self.initial:g}) and final ({self.final:g}) leave no steps in which ranks fall")
        return self

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel; raises RecipeError naming the layers there are when none matches."""
        from peft import AdaLoraConfig

        from etude.tunings import adapters

        config = AdaLoraConfig(
            task_type=adapters.task_type(model),
            init_r=self.init_r,
            target_r=self.target_r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules),
            orth_reg_weight=self.orthogonal,
            total_step=2,  # `begin` says how many there really are
            fan_in_fan_out=adapters.transposed(model),
        )
        wrapped = adapters.wrap(model, config, seed, self.target_modules)
        adapters.check_ranks(wrapped, self.init_r, "init_r")
        return wrapped

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the adapter, without the entries that became 0, as peft does; `PeftModel.from_pretrained` loads it."""
        from etude.tunings import adapters

        # as the weights have it: those of the best step may be older than the last allocation
        settings_of(model).rank_pattern = {name: (value != 0).view(-1).tolist() for name, value in diagonals(model)}
        with warnings.catch_warnings():
            # a layer that lost all its ranks is saved empty, which peft takes for a weight that is elsewhere
            warnings.filterwarnings("ignore", message=".*LoRA tensor.s. have invalid shape")
            adapters.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved adapter, frozen."""
        from etude.tunings import adapters

        with warnings.catch_warnings():
            # peft looks for plain LoRA's rank patterns, which name whole layers, before it applies AdaLoRA's
            warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match")
            return adapters.load(model, folder)

    def begin(self, model: PreTrainedModel, steps: int) -> None:
        """Lay out when ranks fall; raises RecipeError for too few steps."""
        settings = settings_of(model)
        settings.total_step = steps
        settings.tinit, settings.tfinal = int(self.initial * steps), int(self.final * steps)
        settings.deltaT = self.every or max(1, round(steps / 100))
        # importance is measured on the steps before the last allocation
        if steps - settings.tfinal < 2 or settings.tinit >= steps - settings.tfinal:
            raise RecipeError(f"tune.method: adalora needs steps in which its ranks fall, and this run has {steps} in all; use lora")

    def penalty(self, model: PreTrainedModel) -> torch.Tensor:
        """The weighted mean of ||A A' - I|| and ||B' B - I|| over all updates (Frobenius norm), as peft's own forward adds it."""
        import torch

        found = []
        for name, value in tuner(model).model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = value @ value.T if "lora_A" in name else value.T @ value
                found.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device, dtype=gram.dtype)))
        return self.orthogonal * torch.stack(found).mean()

    def after_step(self, model: PreTrainedModel, step: int) -> None:
        """Let peft's allocator note each weight's importance and take ranks away."""
        tuner(model).update_and_allocate(step)

    def state(self, model: PreTrainedModel) -> dict[str, Any]:
        """The allocator's running means and the ranks it has chosen."""
        allocator = tuner(model).rankallocator
        pattern = settings_of(model).rank_pattern
        return {"importance": dict(allocator.exp_avg_ipt), "uncertainty": dict(allocator.exp_avg_unc), "ranks": pattern}

    def restore(self, model: PreTrainedModel, state: Mapping[str, Any]) -> None:
        """Put them back."""
        allocator = tuner(model).rankallocator
        allocator.exp_avg_ipt, allocator.exp_avg_unc = dict(state["importance"]), dict(state["uncertainty"])
        allocator.ipt = {name: value.new_zeros(value.shape) for name, value in allocator.exp_avg_ipt.items()}
        settings_of(model).rank_pattern = state["ranks"]

    def facts(self, model: PreTrainedModel) -> dict[str, Any]:
        """The rank each layer ended with."""
        return {"ranks": {name.split(".lora_E")[0]: int((value != 0).sum()) for name, value in diagonals(model)}}


def tuner(model: Any) -> Any:
    """peft's AdaLoraModel inside the wrapper."""
    return model.base_model


def settings_of(model: Any) -> Any:
    """peft's settings, which its allocator reads at every step."""
    return model.peft_config[model.active_adapter]


def diagonals(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """E of every layer, with the name peft's allocator uses."""
    return ((name, value.detach()) for name, value in tuner(model).model.named_parameters() if ".lora_E." in name)
