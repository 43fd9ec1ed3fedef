"""LoRA (Hu et al. 2021, arXiv 2106.09685): low-rank updates beside frozen weights, through peft.

With rank-stabilised scaling (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732), weight decomposition (DoRA, Liu et al. 2024,
arXiv 2402.09353) and a learning rate of its own for B (LoRA+, Hayou et al. 2024, arXiv 2402.12354).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.failures import RecipeError

if TYPE_CHECKING:
    import torch
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
        "use_rslora": "rslora",
        "use_dora": "dora",
        "loraplus_lr_ratio": "b_rate",
        "init_lora_weights": "init",
        "additional_target": "modules_to_save",
        "lora_modules_to_save": "modules_to_save",
        "layers_to_transform": "layers",
        "trainable_token_indices": "train_tokens",
    }
    default_learning_rate: ClassVar[float] = 5e-4

    r: Annotated[int, Field(ge=1)] = 16
    """Rank of the updates."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the layer's input zeroed on the way into A, in training only."""
    target_modules: tuple[str, ...] | str = "all-linear"
    """Names of the linear layers that get an update, or a regular expression over whole names; `all-linear` is all but the
    output layer."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Numbers of the transformer layers that get updates (from 0); by default all."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead, so that large ranks learn as fast as small ones."""
    dora: bool = False
    """Learn each output's magnitude apart from its direction. Slower: every pass computes the norms of W + BA."""
    b_rate: Annotated[float, Field(ge=1)] = 1.0
    """Learning rate of B as a multiple of A's (LoRA+; its authors advise 16, with a rate for A a little lower)."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Biases of the model that learn, too: none, all, or those of the updated layers."""
    init: str = "default"
    """Where A and B start: `default` (A uniform, B zero), `gaussian`, `orthogonal`, `pissa` (largest singular vectors of W),
    `pissa_niter_16` (the same, approximately and fast) or `olora` (QR of W)."""
    modules_to_save: tuple[str, ...] = ()
    """Modules that learn whole beside the updates, such as `lm_head` or `embed_tokens`."""
    train_tokens: tuple[str | int, ...] = ()
    """Tokens, by text or id, whose rows of the embeddings learn (and of the output layer): for new special tokens."""

    @model_validator(mode="after")
    def compatible(self) -> Lora:
        """Refuse what cannot go together."""
        known = ("default", "gaussian", "orthogonal", "pissa", "olora")
        if self.init not in known and not (self.init.startswith("pissa_niter_") and self.init[12:].isdigit()):
            raise ValueError(f"init: one of {', '.join(known)} or pissa_niter_N was expected, not {self.init!r}")
        if self.dora and moves_base(self.init):
            raise ValueError(f"init {self.init!r} changes the frozen weights, which dora does not allow")
        if self.init == "orthogonal" and self.r % 2:
            raise ValueError("init 'orthogonal' needs an even r")
        if self.layers is not None and isinstance(self.target_modules, str) and self.target_modules != "all-linear":
            raise ValueError("layers and a regular expression in target_modules both choose layers; write the numbers into the expression")
        return self

    def config(self, model: PreTrainedModel) -> Any:
        """peft's settings for this model."""
        from peft import LoraConfig

        from etude.tunings import adapters

        chosen = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        if self.layers is not None and chosen == "all-linear":
            chosen = linear_names(model)
        check_layers(model, self.layers)
        rows = adapters.tokens_of(model, self.train_tokens, "tune.method.train_tokens")
        return LoraConfig(
            task_type=adapters.task_type(model),
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=chosen,
            layers_to_transform=list(self.layers) if self.layers is not None else None,
            use_rslora=self.rslora,
            use_dora=self.dora,
            bias=self.bias,
            init_lora_weights=True if self.init == "default" else self.init,
            modules_to_save=list(self.modules_to_save) or None,
            trainable_token_indices=tables(model, rows),
            fan_in_fan_out=adapters.transposed(model),
        )

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model inside a PeftModel; raises RecipeError naming the layers there are when none matches."""
        from etude.tunings import adapters

        check_modules(model, self.modules_to_save)
        wrapped = adapters.wrap(model, self.config(model), seed, self.target_modules)
        adapters.check_ranks(wrapped, self.r, "r")
        if moves_base(self.init):
            remember(wrapped)
        return wrapped

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the adapter as peft does; `PeftModel.from_pretrained` loads it over the start model."""
        from etude.tunings import adapters

        if moves_base(self.init) and hasattr(model, "initial_updates"):
            save_difference(model, folder)
            adapters.settle(model, folder)
        else:
            adapters.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model with the saved adapter, frozen; raises DataError where it does not belong to it."""
        from etude.tunings import adapters

        grow(model, folder)
        return adapters.load(model, folder)

    def rate_of(self, name: str) -> float:
        """B learns `b_rate` times as fast as A."""
        return self.b_rate if "lora_B" in name or "lora_embedding_B" in name else 1.0


def grow(model: PreTrainedModel, folder: Path) -> None:
    """Give the start model the rows of embeddings for new tokens that the adapter has trained."""
    import json

    from etude.models.weights import add_mean_row

    path = folder / "adapter_config.json"
    rows = json.loads(path.read_text(encoding="utf-8")).get("trainable_token_indices") if path.is_file() else None
    most = max(next(iter(rows.values())) if isinstance(rows, dict) else rows or [0])
    if most >= model.get_input_embeddings().weight.shape[0]:
        add_mean_row(model, most + 1)


def tables(model: PreTrainedModel, rows: list[int]) -> list[int] | dict[str, list[int]] | None:
    """The rows as peft wants them: of the embeddings, and of an output layer that has a table of its own."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if not rows or ends[1] is None or ends[0].weight is ends[1].weight:
        return rows or None
    return {name: rows for name, module in model.named_modules() if any(module is end for end in ends)}


def moves_base(init: str) -> bool:
    """Whether an initialisation takes what A and B start with out of the frozen weights."""
    return init.startswith("pissa") or init == "olora"


def linear_names(model: PreTrainedModel) -> list[str]:
    """Last names of all linear layers but the output layer."""
    head = model.get_output_embeddings()
    kinds = ("Linear", "Conv1D", "Linear4bit")
    return sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if type(m).__name__ in kinds and m is not head})


def check_layers(model: PreTrainedModel, chosen: tuple[int, ...] | None) -> None:
    """Raise RecipeError for a number of a layer that does not exist."""
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for number in chosen or ():
        if depth is not None and number >= depth:
            raise RecipeError(f"tune.method.layers: {number} asked for, and this model's {depth} layers are numbered 0 to {depth - 1}")


def check_modules(model: PreTrainedModel, chosen: tuple[str, ...]) -> None:
    """Raise RecipeError for a module to save that does not exist; peft is silent then."""
    from etude.failures import nearest

    names = {name for name, _ in model.named_modules() if name}
    for wanted in chosen:
        if not any(name == wanted or name.endswith(f".{wanted}") for name in names):
            known = sorted({name.rsplit(".", 1)[-1] for name in names if not name.rsplit(".", 1)[-1].isdigit()})
            raise RecipeError(f"tune.method.modules_to_save: no module {wanted!r} ({', '.join(known)}){nearest(wanted, known)}")


def updates(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A and B of every updated layer, by name."""
    return {name: p for name, p in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}


def remember(model: Any) -> None:
    """Keep what A and B started with: it was taken out of the frozen weights."""
    model.initial_updates = {name: p.detach().clone() for name, p in updates(model).items()}


def save_difference(model: Any, folder: Path) -> None:
    """Write the adapter for the *untouched* start model.

    The frozen weights are W - s B0 A0, so the model is W + s (B A - B0 A0) = W + s [B, B0] [A; -A0]: a plain LoRA of
    twice the rank and the same scale s (as peft converts PiSSA).
    """
    import copy
    import math

    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    started = {name.replace(".default.", "."): value for name, value in model.initial_updates.items()}
    for name, value in state.items():
        if ".lora_A." in name:
            state[name] = torch.cat([value, -started[name].to(value)], 0)
        elif ".lora_B." in name:
            state[name] = torch.cat([value, started[name].to(value)], 1)
    config = copy.copy(model.peft_config["default"])
    config.r, config.lora_alpha = 2 * config.r, config.lora_alpha * (math.sqrt(2) if config.use_rslora else 2)
    config.init_lora_weights, config.inference_mode = True, True
    save_file(
        {name: value.detach().contiguous() for name, value in state.items()}, str(folder / "adapter_model.safetensors"), {"format": "pt"}
    )
    config.save_pretrained(str(folder))
