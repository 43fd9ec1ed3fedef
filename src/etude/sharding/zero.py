"""DeepSpeed's ZeRO: optimizer (stage 1), gradients (2) and weights (3) divided, by a configuration of DeepSpeed's own that passes through.

Source: Rajbhandari et al. 2020 (arXiv 1910.02054). The recipe keeps its optimizer, schedule, clipping and precision; the
configuration says how they are divided, where they lie and how messages are sent.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from etude import checkpoints, virtual_tokens
from etude.catalog import Settings, note
from etude.checkpoints import State
from etude.distributed import Group
from etude.failures import RecipeError
from etude.optimizing import optimizer_of
from etude.sharding.accelerated import replace
from etude.steps import Tune
from etude.tunings import Allocating

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

OWN = ("optimizer", "scheduler")
"""Sections that the recipe has instead."""

COUNTED = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
"""Keys that follow from the recipe, and are replaced."""


TAG = "state"
"""The folder of DeepSpeed's files in a checkpoint."""


class Zero(Settings):
    """DeepSpeed. With neither `config` nor a configuration of accelerate's: ZeRO stage 2."""

    config: dict[str, Any] | str = Field(default_factory=lambda: {"zero_optimization": {"stage": 2}})
    """DeepSpeed's configuration, or the path of its JSON file; `auto` values are left to DeepSpeed's defaults."""

    def stepper(self, model: PreTrainedModel, tune: Tune, accelerator: Accelerator, group: Group) -> Engine:
        """Hand model and optimizer to DeepSpeed."""
        if not importlib.util.find_spec("deepspeed"):
            raise RecipeError("--sharding deepspeed: DeepSpeed is not installed: pip install 'etude[deepspeed]'; fsdp needs nothing more")
        if isinstance(tune.method, Allocating):
            raise RecipeError("--sharding deepspeed: this method looks at its gradients after a step, when DeepSpeed has dropped them")
        if tune.optimizer == "adamw_8bit":
            raise RecipeError("--sharding deepspeed: tune.optimizer adamw_8bit keeps moments that cannot be divided; use adamw")
        return Engine(model, tune, configuration(read(self.config), tune), group)


def read(config: dict[str, Any] | str) -> dict[str, Any]:
    """The configuration, from its file where it is one; raises RecipeError for a file that is none."""
    if isinstance(config, dict):
        return config
    try:
        found = json.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"--sharding deepspeed: {config}: {error}") from error
    if not isinstance(found, dict):
        raise RecipeError(f"--sharding deepspeed: {config}: no JSON object")
    return found


def configuration(given: Mapping[str, Any], tune: Tune) -> dict[str, Any]:
    """What DeepSpeed is given: the configuration without `auto`, its counts and precision those of the recipe.

    Raises RecipeError for a section that would replace the recipe's, and for one that divides nothing.
    """
    for key in OWN:
        if given.get(key):
            raise RecipeError(f"--sharding deepspeed: its configuration has {key!r}; the recipe's tune section says that: remove it there")
    found = {key: value for key, value in settled(given).items() if key not in COUNTED}
    stage = found.get("zero_optimization", {}).get("stage", 0)
    if stage not in (1, 2, 3):
        raise RecipeError(
            f"--sharding deepspeed: zero_optimization.stage is {stage}; 1, 2 and 3 divide something, else leave --sharding out"
        )
    kinds = {"bf16": "bfloat16", "fp16": "float16"}
    for key, precision in kinds.items():
        section = found.pop(key, {})
        if section.get("enabled") and tune.precision != precision:
            raise RecipeError(
                f"--sharding deepspeed: its configuration enables {key}, and tune.precision is {tune.precision}: say the same in both"
            )
        if tune.precision == precision:
            found[key] = {**section, "enabled": True}
    return {
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        **found,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # the loop says which pass is a step's last
        "gradient_clipping": tune.clip or 0.0,
    }


def settled(given: Any) -> Any:
    """The configuration without the keys that say `auto`."""
    if isinstance(given, Mapping):
        return {key: settled(value) for key, value in given.items() if value != "auto"}
    return given


class Engine:
    """A Stepper on DeepSpeed's engine. It means gradients over processes, so losses are multiplied by their number; and its step sums,
    clips and changes the weights at once, so `norm` takes it. Its optimizer is in files of its own, one a process."""

    even = True
    scaler = None

    def __init__(self, model: PreTrainedModel, tune: Tune, config: dict[str, Any], group: Group) -> None:
        import torch

        self.stage = int(config["zero_optimization"]["stage"])
        if self.stage == 3 and virtual_tokens.learned(model):
            raise RecipeError("--sharding deepspeed: stage 3 does not give prompt methods their tokens back; use stage 2, or fsdp")
        os.environ.setdefault("LOCAL_RANK", str(group.rank))
        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        deepspeed = importlib.import_module("deepspeed")
        deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", auto_mpi_discovery=False)
        self.model = model
        self.group = group
        self.float16 = bool(config.get("fp16"))
        self.best: Mapping[str, Any] = {}
        self.engine, self.optimizer, _, _ = deepspeed.initialize(model=model, optimizer=optimizer_of(model, tune), config=config)
        # what the engine's own forward pass begins with: stage 3 counts the passes of a step by it
        virtual_tokens.bare(model).register_forward_pre_hook(lambda module, given: self.optimizer.clear_backward_seen_flag())

    @property
    def groups(self) -> Sequence[dict[str, Any]]:
        """The optimizer's groups."""
        return self.optimizer.param_groups  # type: ignore[no-any-return]

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add this pass's gradients; they are sent with the step's last."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.group.size)

    def norm(self, clip: float | None) -> float:
        """Take the step; the norm of its gradient, 0 for a step that float16's scaler passed over."""
        self.engine.step()
        if self.float16 and not self.engine.was_step_applied():
            note("a step whose gradient overflowed was passed over, and DeepSpeed has lowered its loss scale")
            return 0.0
        return float(self.engine.get_global_grad_norm())

    def step(self) -> None:
        """Done by `norm`."""

    def clear(self) -> None:
        """Done by `norm`."""

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that learn, whole, in float32, in every process."""
        whole = importlib.import_module("deepspeed.utils").safe_get_full_fp32_param
        found = {name: whole(weight) for name, weight in checkpoints.learning(self.model).items()}
        return {name: weight.detach().float().cpu().clone() for name, weight in found.items()}

    def state(self, place: Path) -> State:
        """Whole weights, and DeepSpeed's own checkpoint in `place`."""
        self.engine.save_checkpoint(str(place), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        return State(self.weights(), {"deepspeed": {"processes": self.group.size, "stage": self.stage}}, place)

    def restore(self, state: State) -> None:
        """DeepSpeed's own checkpoint; without one, the weights are those that `gather` puts in place."""
        if not state.optimizer:
            self.best = state.weights
            return
        made, here = state.optimizer.get("deepspeed"), {"processes": self.group.size, "stage": self.stage}
        if made != here or state.files is None:
            was = f"DeepSpeed's of {made['processes']} processes at stage {made['stage']}" if made else "an undivided or FSDP one"
            raise RecipeError(
                f"--sharding deepspeed: the newest checkpoint's optimizer is {was}, and DeepSpeed goes on from its own alone: "
                "say --processes and --sharding as then, or remove the run's checkpoints/ folder"
            )
        self.engine.load_checkpoint(str(state.files), tag=TAG, load_module_strict=False)

    def gather(self) -> None:
        """Whole weights in the first process's model."""
        weights = self.best or self.weights()
        replace(self.model, {name: weight if self.group.first else None for name, weight in weights.items()})


def configured() -> Zero:
    """What accelerate's configuration says of DeepSpeed."""
    from accelerate.utils import DeepSpeedPlugin

    if not importlib.util.find_spec("deepspeed"):
        raise RecipeError("accelerate is configured for DeepSpeed, which is not installed: pip install 'etude[deepspeed]'")
    given = dict(DeepSpeedPlugin().deepspeed_config)
    return Zero(config={key: value for key, value in given.items() if key not in OWN and value not in (None, math.inf)})
