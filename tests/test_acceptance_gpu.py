"""What a GPU should do (`make acceptance-gpu`): the numbers of the CPU, and the ratios of speed that docs/scaling.md expects.

Nothing here has been run where etude is written, for want of a GPU: a failure here is news. Please report it with `etude doctor --json`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from contracts.test_packing_contract import rows
from etude import attention, checkpoints, flexible, journal, packing, training
from etude.losses import loss_of
from etude.records import Encoded
from etude.steps import Tune
from etude.tunings.full import Full
from etude.tunings.lora import Lora

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here (make acceptance-gpu is for owners of one)"),
]
BFLOAT16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def tuned(**given) -> Tune:
    return Tune(**{"rows_per_step": 4, "pack_tokens": 256, "learning_rate": 1e-3, "method": Lora(r=2), "epsilon": 1e-5, **given})


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in journal.read(folder / "metrics.jsonl") if "loss" in row]


@pytest.mark.parametrize("heads", [(4, 4), (9, 3), (16, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_flex_attention_and_its_gradients(heads, dtype):
    if dtype == torch.bfloat16 and not BFLOAT16:
        pytest.skip("this GPU has no bfloat16")
    assert flexible.refusal("cuda:0", dtype, *heads, 64) == ""


@pytest.mark.parametrize("case", [{"method": Lora(r=2)}, {"method": Full()}, {"gradient_checkpointing": True}])
def test_losses_are_those_of_the_cpu(tiny, tmp_path, case):
    found = []
    for device in ("cpu", "cuda"):
        training.train(tiny("llama").to(device), rows(13, seed=4), tuned(**case), tmp_path / device)
        found.append(losses(tmp_path / device))
    assert found[1] == pytest.approx(found[0], rel=2e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_stays_near(tiny, tmp_path, precision):
    if precision == "bfloat16" and not BFLOAT16:
        pytest.skip("this GPU has no bfloat16")
    for name, given in (("whole", {}), ("half", {"precision": precision})):
        training.train(tiny("llama").to("cuda"), rows(13, seed=4), tuned(**given), tmp_path / name)
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "whole"), rel=2e-2)


def seconds(do, times: int = 5) -> float:
    """The shortest of several times, in seconds, behind two rounds of warming up."""
    found = []
    for turn in range(times + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        do()
        torch.cuda.synchronize()
        if turn >= 2:
            found.append(time.perf_counter() - began)
    return min(found)


def default_model():
    from etude.models import weights

    return weights.load(weights.locate("smollm2-135m-instruct").folder)


def step(model, packs) -> None:
    """Forward and backward passes of a step in bfloat16."""
    with attention.enable(model):
        for pack in packs:
            with torch.autocast("cuda", torch.bfloat16):
                loss = loss_of(model, pack)
            loss.backward()
    model.zero_grad()


@pytest.mark.skipif(not BFLOAT16, reason="this GPU has no bfloat16")
def test_packs_are_as_much_faster_as_expected(monkeypatch):
    """64 rows of 40 to 400 tokens: packs of 8,192 by FlexAttention, against a document at a time, and against padded batches of 8."""
    model, _ = default_model()
    model = Lora(r=16, alpha=32, target_modules="all-linear").prepare(model, 0).train()
    draws = np.random.default_rng(1)
    ids = [draws.integers(10, 40_000, length).astype(np.int32) for length in draws.integers(40, 400, 64)]
    data = [Encoded(str(number), row, row.copy()) for number, row in enumerate(ids)]
    packs = packing.pack(data, 8192)
    flexibly = seconds(lambda: step(model, packs))
    with monkeypatch.context() as patch:
        patch.setattr(attention, "flexibly", lambda *given: False)
        one_by_one = seconds(lambda: step(model, packs))

    def padded() -> None:
        for low in range(0, len(data), 8):
            some = data[low : low + 8]
            width = max(len(row.ids) for row in some)
            ids, labels = torch.zeros(8, width, dtype=torch.int64), torch.full((8, width), -100)
            for place, row in enumerate(some):
                ids[place, : len(row.ids)] = torch.from_numpy(row.ids)
                labels[place, : len(row.ids)] = torch.from_numpy(row.labels)
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(input_ids=ids.cuda(), attention_mask=(ids != 0).long().cuda(), labels=labels.cuda()).loss
            loss.backward()
        model.zero_grad()

    ordinary = seconds(padded)
    print(f"packs {flexibly:.3f} s, a document at a time {one_by_one:.3f} s, padded batches {ordinary:.3f} s")
    assert one_by_one / flexibly >= 1.5
    assert ordinary / flexibly >= 1.5


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU here: two are needed")
@pytest.mark.parametrize("options", [[], ["--sharding", "fsdp"]], ids=["whole", "fsdp"])
def test_two_gpus_take_the_steps_of_one(tmp_path, options):
    command = [sys.executable, "-m", "etude.cli", "tune", str(ROOT / "recipes/quickstart.yaml"), "tune.max_steps=6", "tune.epsilon=1e-5"]
    for folder, more in (("one", []), ("two", ["--processes", "2", *options])):
        done = subprocess.run([*command, "--runs", folder, *more], cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0
    assert losses(tmp_path / "two/quickstart") == pytest.approx(losses(tmp_path / "one/quickstart"), rel=1e-3)
    last = [checkpoints.newest(tmp_path / folder / "quickstart/checkpoints") for folder in ("one", "two")]
    left, right = (checkpoints.weights_of(one) for one in last)
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-4
