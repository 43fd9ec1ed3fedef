"""How processes that train together divide a model: each has the whole of it, or a part (FSDP2, DeepSpeed).

A Sharding is a settings class that `--sharding` names. It turns a prepared model into a Stepper, which takes the optimizer steps;
the training loop, the rows of a step and its loss are the same for all. So are checkpoints, but for DeepSpeed's: they hold whole
tensors, which any number of processes goes on from, divided or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from etude.catalog import Catalog
from etude.checkpoints import State
from etude.distributed import ALONE, Group
from etude.steps import Tune

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class Stepper(Protocol):
    """Takes the optimizer steps of a model that is trained. All processes call the same methods in the same order."""

    even: bool
    """Whether every process must take as many passes as the others: each pass brings weights together."""
    scaler: Any
    """float16's loss scaler, or None."""

    @property
    def groups(self) -> Sequence[dict[str, Any]]:
        """The optimizer's groups of weights; the loop sets their learning rates (`lr`)."""
        ...

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Gradients of a pass, added to those of the step's passes before; `last`: it is this process's last of the step."""
        ...

    def norm(self, clip: float | None) -> float:
        """Sum the gradients over the processes and clip them; their norm before that."""
        ...

    def step(self) -> None:
        """Change the weights."""
        ...

    def clear(self) -> None:
        """Forget the gradients."""
        ...

    def state(self, place: Path) -> State:
        """Weights that learn and optimizer, whole, on the first process; the others get nothing of what is divided. `place`: a folder
        for files of its own, which all processes can reach."""
        ...

    def restore(self, state: State) -> None:
        """Put back what `state` gave; an empty optimizer leaves that as it is."""
        ...

    def gather(self) -> None:
        """Make the weights that learn whole in the first process's model, which can be saved then; training is over."""
        ...


class Sharding(Protocol):
    """A way of dividing a model; a frozen settings class."""

    def stepper(self, model: PreTrainedModel, tune: Tune, accelerator: Accelerator, group: Group) -> Stepper:
        """Divide the prepared `model`, in place. Raises RecipeError for what it cannot do."""
        ...


SHARDINGS = Catalog("sharding", {"fsdp": "etude.sharding.fsdp:Fsdp", "deepspeed": "etude.sharding.zero:Zero"})


@dataclass(frozen=True, slots=True)
class Launch:
    """How the tune stage is done: in so many `processes` that are started for it, or by the `group` this one was itself started
    among (torchrun), with the model divided or, without a `sharding`, whole in each."""

    processes: int = 1
    group: Group = ALONE
    sharding: Sharding | None = None


HERE = Launch()
"""In this process alone."""


def from_environment() -> Sharding | None:
    """What `accelerate launch` was configured to do (FSDP or DeepSpeed), which it tells by environment variables; they are removed,
    for the dividing is done here. Raises RecipeError for a configuration that cannot be followed."""
    import os

    if os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true":
        from etude.sharding.fsdp import configured as fsdp

        return fsdp()
    if os.environ.pop("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        from etude.sharding.zero import configured as zero

        return zero()
    return None
