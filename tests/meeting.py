"""Forks of the test process that meet over gloo and train together, and what their tests compare."""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from pathlib import Path

import accelerate
import torch

from etude import checkpoints, journal
from etude.distributed import Group
from etude.failures import Failure
from etude.steps import Tune
from etude.tunings.lora import Lora

CLOSE = 1e-6
"""Largest difference of a weight after a run in two processes from the same run in one."""


def tuned(**given) -> Tune:
    # sums in another order differ in their last bits; with AdamW's own epsilon a gradient of the size of those bits would take whole steps
    return Tune(**{"rows_per_step": 4, "pack_tokens": 64, "learning_rate": 1e-3, "method": Lora(r=2), "epsilon": 1e-5, **given})


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in checkpoints.learning(model).items()}


def apart(left, right) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def together(place: Path, do, size: int = 2) -> list:
    """What `do(group)` returns in each of several forks that have met; a Failure that it raises is returned, too."""
    place.mkdir(parents=True, exist_ok=True)
    children = []
    for rank in range(size):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        try:
            torch.distributed.init_process_group("gloo", init_method=f"file://{place / 'meeting'}", rank=rank, world_size=size)
            try:
                found = do(Group(rank, size))
            except Failure as failure:
                found = failure
            (place / f"{rank}.pickle").write_bytes(pickle.dumps(found))
            torch.distributed.barrier()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    for pid in children:
        os.waitpid(pid, 0)
    (place / "meeting").unlink(missing_ok=True)
    return [pickle.loads((place / f"{rank}.pickle").read_bytes()) for rank in range(size)]


def losses(folder: Path, key: str = "loss") -> list[float]:
    return [row[key] for row in journal.read(folder / "metrics.jsonl") if key in row]


class Scaled(accelerate.Accelerator):
    """An Accelerator with float16's loss scaler, which accelerate itself gives to GPUs only."""

    def __init__(self, **given):
        super().__init__(**given)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        self.native_amp = True

    @property
    def mixed_precision(self):
        return "fp16"

    def autocast(self, *given):
        return contextlib.nullcontext()
