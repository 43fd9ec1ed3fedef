"""FSDP2: every process keeps its part of each weight and brings a layer together when it is computed.

Source: torch's `fully_shard` (torch.distributed.fsdp; Zhao et al. 2023, arXiv 2304.11277, in its second form, one DTensor a weight).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etude import virtual_tokens
from etude.catalog import Settings
from etude.checkpoints import learning
from etude.distributed import Group
from etude.failures import RecipeError
from etude.sharding.accelerated import Accelerated
from etude.steps import Tune

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class Fsdp(Settings):
    """FSDP2. Under full tuning weights, gradients and optimizer are divided; under any other method the frozen weights are, and
    every process has the few that learn whole."""

    reshard_after_forward: bool = True
    """Give a layer's weights up again between the forward and the backward pass: less memory, one more message a layer."""
    offload: bool = False
    """Keep parts, gradients and optimizer in the CPU's memory."""

    def stepper(self, model: PreTrainedModel, tune: Tune, accelerator: Accelerator, group: Group) -> Accelerated:
        """Divide the model, layer by layer."""
        check(model, tune)
        divide(model, self, accelerator.mixed_precision, str(accelerator.device.type))
        return Accelerated(model, tune, accelerator, group, even=True)


def check(model: PreTrainedModel, tune: Tune) -> None:
    """Raise RecipeError for what does not go with divided weights."""
    if any(type(weight).__name__ == "Params4bit" for weight in model.parameters()):
        raise RecipeError("--sharding fsdp: 4-bit weights cannot be divided here; QLoRA leaves little to divide: train without --sharding")
    if tune.optimizer != "adamw" and whole_model(model):
        raise RecipeError(f"--sharding fsdp: tune.optimizer {tune.optimizer!r} does not work on divided weights; use adamw")
    if tune.compile:
        raise RecipeError("--sharding fsdp: tune.compile is not done on divided weights; leave it out")


def whole_model(model: PreTrainedModel) -> bool:
    """Whether every weight learns."""
    return all(weight.requires_grad for weight in model.parameters())


def layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The model's blocks, by the classes that transformers says must stay together; raises RecipeError where it names none."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in names]
    if not found:
        raise RecipeError("--sharding fsdp: transformers does not say which modules of this architecture are its layers")
    return found


def divide(model: PreTrainedModel, settings: Fsdp, mixed: str, device: str) -> None:
    """Divide a prepared model over all processes, in place."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    ignored: set[Any] = set() if whole_model(model) else set(learning(model).values())
    if virtual_tokens.learned(model):  # which embeds the row before the divided model is entered
        ignored.add(virtual_tokens.bare(model).get_input_embeddings().weight)
    given: dict[str, Any] = {
        "mesh": init_device_mesh(device, (torch.distributed.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=kinds.get(mixed), reduce_dtype=torch.float32),
        "offload_policy": CPUOffloadPolicy(pin_memory=device != "cpu") if settings.offload else OffloadPolicy(),
        "ignored_params": ignored,
    }
    for layer in layers(model):
        fully_shard(layer, reshard_after_forward=settings.reshard_after_forward, **given)
    fully_shard(virtual_tokens.bare(model), **given)
    for weight in ignored:
        weight.data = weight.data.to(device)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # a step's loss is divided by its tokens over all processes: their gradients are summed
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def configured() -> Fsdp:
    """What accelerate's configuration says of FSDP; raises RecipeError for what is not done here."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy

    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise RecipeError("accelerate is configured for FSDP 1: set fsdp_version: 2 in its configuration")
    return Fsdp(reshard_after_forward=bool(plugin.reshard_after_forward), offload=isinstance(plugin.cpu_offload, CPUOffloadPolicy))
