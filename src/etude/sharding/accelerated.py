"""Steps by accelerate: of a model that every process has whole, or of one that FSDP2 has divided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import checkpoints
from etude.checkpoints import State
from etude.distributed import Group
from etude.failures import RecipeError
from etude.optimizing import optimizer_of
from etude.steps import Tune

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class Accelerated:
    """A Stepper on an ordinary optimizer. Gradients of undivided weights are summed after the last pass (`Group.add`); those of
    divided ones (DTensors) were summed in the backward pass, each process having its part."""

    def __init__(self, model: PreTrainedModel, tune: Tune, accelerator: Accelerator, group: Group, even: bool = False) -> None:
        self.model = model
        self.group = group
        self.accelerator = accelerator
        self.even = even
        self.optimizer: torch.optim.Optimizer = accelerator.prepare(optimizer_of(model, tune))
        self.scaler = accelerator.scaler

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, which a restored optimizer has anew."""
        return self.optimizer.param_groups

    def apart(self) -> None:
        """Have every weight in its parts: the outermost ones are left together behind a pass without a gradient."""
        for module in self.model.modules():
            getattr(module, "reshard", lambda: None)()

    def learning(self) -> dict[str, torch.Tensor]:
        """The weights that learn, by name."""
        return checkpoints.learning(self.model)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add this pass's gradients."""
        self.accelerator.backward(loss)

    def norm(self, clip: float | None) -> float:
        """Sum over the processes, clip, and say the norm before."""
        learning = list(self.learning().values())
        self.group.add(weight for weight in learning if not divided(weight))
        return float(whole(self.accelerator.clip_grad_norm_(learning, clip or math.inf)))

    def step(self) -> None:
        """Change the weights, unless the scaler passes over the step."""
        self.optimizer.step()

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()

    def state(self, place: Path) -> State:
        """Whole tensors, on the first process."""
        self.apart()
        kept = self.group.first
        weights = {name: whole(weight.detach(), kept) for name, weight in self.learning().items()}
        optimizer = self.optimizer.state_dict()
        moments = {place: {key: whole(value, kept) for key, value in held.items()} for place, held in optimizer["state"].items()}
        return State(weights, {**optimizer, "state": moments})

    def restore(self, state: State) -> None:
        """Each process takes its part. Raises RecipeError for an optimizer in DeepSpeed's form."""
        import torch

        if made := state.optimizer.get("deepspeed"):
            raise RecipeError(
                f"the newest checkpoint's optimizer is DeepSpeed's: go on with --processes {made['processes']} --sharding deepspeed, "
                "or remove the run's checkpoints/ folder"
            )

        self.apart()
        with torch.no_grad():
            for name, weight in self.learning().items():
                weight.copy_(part_of(state.weights[name], weight))
        if not state.optimizer:
            return
        self.optimizer.load_state_dict(dict(state.optimizer))
        for weight, held in self.optimizer.state.items():
            for key, value in held.items():
                if divided(weight) and torch.is_tensor(value) and value.shape == weight.shape:
                    held[key] = part_of(value, weight)

    def gather(self) -> None:
        """Whole weights in the first process's model."""
        self.apart()
        replace(self.model, {name: whole(weight.detach(), self.group.first) for name, weight in self.learning().items() if divided(weight)})


def divided(tensor: Any) -> bool:
    """Whether a tensor is spread over processes."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any, kept: bool = True) -> Any:
    """A divided tensor put together, which all processes must call; an undivided one, or a number, as it is. Only where it is `kept`
    is it held any longer."""
    if not divided(tensor):
        return tensor
    together = tensor.full_tensor()
    return together if kept else None


def part_of(value: torch.Tensor, like: Any) -> Any:
    """A whole tensor divided as `like` is; as it is, where that is not divided."""
    if not divided(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    # every process has read the same file, so none need send its copy
    return distribute_tensor(value.to(like.device, like.dtype), like.device_mesh, like.placements, src_data_rank=None)


def replace(model: PreTrainedModel, weights: Mapping[str, torch.Tensor | None]) -> None:
    """Put whole weights, by name, in the places of divided ones; None leaves one as it is."""
    import torch

    named = dict(model.named_parameters())
    made = {id(named[name]): torch.nn.Parameter(weight.cpu(), requires_grad=True) for name, weight in weights.items() if weight is not None}
    for module in model.modules():  # an output layer that is the embeddings has them in two places
        for name, old in list(module._parameters.items()):
            if id(old) in made:
                module._parameters[name] = made[id(old)]
