"""Checkpoints that are whole or not there.

`checkpoints/step-000120/` holds `weights.safetensors` (the weights that learn), `state.pt` (optimizer
and random state, loaded with `weights_only`), `progress.json`, and `COMPLETE.json`, written last, with
the size and SHA-256 of each. A folder that does not match it is moved to `quarantine/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import journal
from etude.catalog import note

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MARKER = "COMPLETE.json"
FILES = "engine"
"""The folder of `State.files` in a checkpoint."""


@dataclass(frozen=True, slots=True)
class State:
    """What training goes on from: the weights that learn, by name, and the optimizer's state dict, all of whole tensors. `files`: a
    folder of what an engine keeps in a form of its own."""

    weights: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    files: Path | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: its folder, its optimizer step, and what training noted then."""

    folder: Path
    step: int
    progress: dict[str, Any]


def learning(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights that learn, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def random_state() -> dict[str, Any]:
    """The state of torch's generators, the GPUs' too."""
    import torch

    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def save(
    folder: Path,
    step: int,
    held: State,
    progress: dict[str, Any],
    scaler: Any = None,
    method: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write the checkpoint of `step` under `folder`; raises NoSpace with nothing half-made left behind.

    `scaler` is float16's loss scaler, where there is one; `method` what the tuning method keeps besides the weights.
    """
    import torch
    from safetensors.torch import save_file

    target = folder / f"step-{step:06d}"
    with journal.staged(target) as stage:
        save_file({name: weight.contiguous() for name, weight in held.weights.items()}, str(stage / "weights.safetensors"))
        state = {"optimizer": dict(held.optimizer), "random": random_state(), "scaler": scaler.state_dict() if scaler else None}
        torch.save({**state, "method": dict(method or {})}, stage / "state.pt")
        if held.files:
            shutil.move(held.files, stage / FILES)
        journal.write_json(stage / "progress.json", progress)
        seal(stage, step)
    return Checkpoint(target, step, progress)


def seal(stage: Path, step: int) -> None:
    """Write the marker over everything in `stage`."""
    files = {
        path.relative_to(stage).as_posix(): {"bytes": path.stat().st_size, "sha256": journal.file_digest(path)}
        for path in sorted(stage.rglob("*"))
        if path.is_file()
    }
    journal.write_json(stage / MARKER, {"schema": 1, "step": step, "files": files})


def torn(folder: Path) -> str:
    """Why a checkpoint folder is not whole, or "" when it is."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        files = marker["files"].items()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"{MARKER} is missing or unreadable ({error})"
    for name, facts in files:
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            return f"{name} is missing or cut short"
        if journal.file_digest(path) != facts["sha256"]:
            return f"{name} has changed since it was written"
    return ""


def newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; torn ones met on the way are moved to `quarantine/` and noted."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        why = torn(path)
        if not why:
            return read(path)
        quarantine = folder / "quarantine"
        quarantine.mkdir(exist_ok=True)
        shutil.rmtree(quarantine / path.name, ignore_errors=True)
        path.rename(quarantine / path.name)
        note(f"checkpoint {path} is torn ({why}); it was moved to {quarantine} and the one before it is used")
    return None


def read(path: Path) -> Checkpoint:
    """A checkpoint known to be whole."""
    step = json.loads((path / MARKER).read_text())["step"]
    return Checkpoint(path, step, json.loads((path / "progress.json").read_text()))


def weights_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The checkpoint's weights, by name."""
    from safetensors.torch import load_file

    return load_file(str(checkpoint.folder / "weights.safetensors"))  # type: ignore[no-any-return]


def restore(checkpoint: Checkpoint, put: Callable[[State], None], scaler: Any = None) -> dict[str, Any]:
    """Hand weights and optimizer to `put`, set random state and float16's scaler as they were; gives what the tuning method kept."""
    import torch

    state = torch.load(checkpoint.folder / "state.pt", weights_only=True)
    files = checkpoint.folder / FILES
    put(State(weights_of(checkpoint), state["optimizer"], files if files.is_dir() else None))
    if scaler and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"]["cpu"])
    if len(state["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["random"]["cuda"])
    return state["method"]  # type: ignore[no-any-return]


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints under `folder`, the newest first."""
    return sorted((int(path.name.removeprefix("step-")) for path in folder.glob("step-*")), reverse=True)


def prune(folder: Path, keep: set[int]) -> None:
    """Remove the checkpoints of all steps but these."""
    for path in folder.glob("step-*"):
        if int(path.name.removeprefix("step-")) not in keep:
            shutil.rmtree(path)
