"""The optimizer of the tune section, its groups of weights, and what this machine's arithmetic allows."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from etude import checkpoints
from etude.catalog import note
from etude.failures import RecipeError
from etude.steps import Tune
from etude.tunings import Rated

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Kind = Literal["biases", "norms", "embeddings", "vectors", "matrices"]


def kinds(model: PreTrainedModel) -> dict[str, Kind]:
    """What each weight that learns is, by the type of its module: `vectors` are other one-dimensional ones (DoRA's
    magnitudes, IA3's factors). A tied output layer is an embedding."""
    import torch

    found: dict[str, Kind] = {}
    named: dict[int, str] = {id(p): name for name, p in checkpoints.learning(model).items()}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            known = named.get(id(parameter))
            if known is None or found.get(known) == "embeddings":
                continue
            if isinstance(module, torch.nn.Embedding):
                found[known] = "embeddings"
            elif "norm" in type(module).__name__.lower():  # RMSNorm is a class of each architecture's own
                found[known] = "norms"
            elif name.endswith("bias"):
                found[known] = "biases"
            else:
                found[known] = "vectors" if parameter.dim() <= 1 else "matrices"
    # weights in a ParameterDict or a list have no module that names them
    return {name: found.get(name, "vectors" if p.dim() <= 1 else "matrices") for name, p in checkpoints.learning(model).items()}


def groups_of(model: PreTrainedModel, tune: Tune) -> list[dict[str, Any]]:
    """The weights that learn as optimizer groups: decayed ones, then `tune.undecayed` and vectors without decay, and so
    again for each other learning rate that the method gives some of them. `scale` multiplies the run's rate."""
    learning = checkpoints.learning(model)
    if not learning:
        raise RecipeError("tune.method leaves no weight to learn")
    spared = {"vectors", *tune.undecayed}
    kind = kinds(model)
    factor = {name: float(tune.method.rate_of(name)) if isinstance(tune.method, Rated) else 1.0 for name in learning}
    groups = [
        {
            "params": [p for name, p in learning.items() if factor[name] == one and (kind[name] not in spared) == decayed],
            "weight_decay": tune.weight_decay if decayed else 0.0,
            "scale": one,
        }
        for one in dict.fromkeys(factor.values())
        for decayed in (True, False)
    ]
    return [group for group in groups if group["params"]]


def optimizer_of(model: PreTrainedModel, tune: Tune) -> torch.optim.Optimizer:
    """The tune section's optimizer over the weights that learn; the loop sets the learning rate of each step.

    Raises RecipeError where this machine cannot run it.
    """
    import torch

    groups = groups_of(model, tune)
    given: dict[str, Any] = {"lr": 1e-3, "betas": tune.betas, "eps": tune.epsilon}
    if tune.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        # a step size of its own (relative_step) would pass over the schedule
        return Adafactor(groups, lr=1e-3, scale_parameter=False, relative_step=False, warmup_init=False)  # type: ignore[no-any-return]
    if tune.optimizer == "adamw_8bit":
        return eight_bit(next(model.parameters()).device)(groups, **given)  # type: ignore[no-any-return]
    return torch.optim.AdamW(groups, **given, fused=True)


def eight_bit(device: torch.device) -> Any:
    """bitsandbytes' AdamW8bit, tried on this device first; raises RecipeError where it is missing or does not work."""
    import torch

    if not importlib.util.find_spec("bitsandbytes"):
        raise RecipeError("tune.optimizer: adamw_8bit needs bitsandbytes: pip install 'etude[quantised]'; adafactor saves as much without")
    try:
        made: Any = importlib.import_module("bitsandbytes").optim.AdamW8bit
        weight = torch.nn.Parameter(torch.zeros(64, 64, device=device))  # at least 4,096 weights: fewer stay in 32 bit
        weight.grad = torch.ones_like(weight)
        made([weight], lr=1e-3).step()
    except Exception as error:  # whatever a missing kernel raises
        raise RecipeError(
            f"tune.optimizer: adamw_8bit does not work on the {device.type} here ({error}); adafactor saves as much"
        ) from error
    return made


def check_arithmetic(model: PreTrainedModel, tune: Tune) -> None:
    """Refuse or explain what this device does not do well; raises RecipeError."""
    device = next(model.parameters()).device.type
    if device == "cpu" and tune.precision == "float16":
        raise RecipeError("tune.precision: float16 needs a GPU: on a CPU its small range is not worth it; float32 is the precision there")
    if device == "cpu" and tune.precision == "bfloat16":
        note("tune.precision: bfloat16 is slower than float32 on most CPUs, up to five times (`etude doctor` measures this one)")
    if tune.compile and device == "cpu":
        raise RecipeError(
            "tune.compile: not on a CPU: it cannot see through the packs' attention, so rows would go one a pass, and what is left to gain "
            "was measured at 2 % of a step after a minute of compilation (docs/training.md)"
        )


def checkpointed(model: PreTrainedModel, tune: Tune) -> None:
    """Switch gradient checkpointing on where the recipe asks for it; raises RecipeError for a model without it."""
    if not tune.gradient_checkpointing:
        return
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise RecipeError("tune.gradient_checkpointing: this architecture's transformers code does not support it")
    if any(str(getattr(c, "peft_type", "")).endswith("PREFIX_TUNING") for c in (getattr(model, "peft_config", None) or {}).values()):
        raise RecipeError("tune.gradient_checkpointing: prefix tuning gives its prefix as cached keys, which checkpointing drops")
    # the other kind (reentrant) loses the gradient where no input of a block requires one, as under LoRA
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # transformers 5.2x renamed it
    getattr(model, f"{name}_checkpointing_enable")(**{f"{name}_checkpointing_kwargs": {"use_reentrant": False}})


def compiled(model: PreTrainedModel, tune: Tune) -> None:
    """Compile the forward pass in place, for rows of any length, where the recipe asks for it."""
    if tune.compile:
        note("tune.compile: rows go one a pass, because compilation cannot see through the packs' attention")
        model.compile(dynamic=True)


@contextlib.contextmanager
def eagerly(tune: Tune) -> Iterator[None]:
    """Inside the block nothing is compiled: answers are generated in shapes that training never has."""
    if not tune.compile:
        yield
        return
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


def plain(model: PreTrainedModel, tune: Tune) -> None:
    """The model as it was: neither checkpointed nor compiled."""
    if tune.gradient_checkpointing:
        name = "activation" if hasattr(model, "activation_checkpointing_disable") else "gradient"
        getattr(model, f"{name}_checkpointing_disable")()
    if tune.compile:
        model._compiled_call_impl = None
