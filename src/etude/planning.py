"""`etude plan`: what a run would take, before anything is done.

Time comes from a matrix product measured now: tuning is 4 N FLOPs a token where the start model's
weights are frozen (no gradients of weights) and 6 N where they learn; answering is 2 N. Real runs
also spend time on attention and small operations, so the shares below are of what was measured on
real runs (docs/log.md), not of the peak.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import comparison, curating, devices, doctor, generating, preparing, runs
from etude.encoding import Encoder, examples
from etude.failures import RecipeError, nearest
from etude.formats.text_to_text import bind_for
from etude.metrics import METRICS, Metric
from etude.models import weights
from etude.models.http import Http
from etude.recipe import Recipe
from etude.records import IGNORED, Encoded
from etude.screen import Silent, Watch
from etude.steps import plan_steps
from etude.tunings import TUNINGS
from etude.tunings.full import Full

TUNING_SHARE = 0.65
"""Share of the measured matrix-product speed that a tuning step reaches (docs/log.md)."""
ANSWERING_SHARE = 0.45
"""The same for batched answering: prompts at about half of it, single tokens far below."""


def parameters(folder: Path) -> int:
    """Number of parameters, from the headers of the safetensors files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for n in tensor["shape"]:
                    size *= n
                total += size
    return total


def plan(recipe: Recipe, folder: Path, watch: Watch | None = None, on: Sequence[str] = (), hourly: float | None = None) -> dict[str, Any]:
    """Rows, tokens, steps, seconds, memory, disk, and the smallest difference the test set can show; also `on` named devices, and what
    tuning costs there at a price of `hourly`.

    Raises RecipeError for a device that is not in the table.
    """
    import torch

    found = weights.locate(recipe.model, (watch or Silent()).say)
    tokenizer = weights.load_tokenizer(found.folder)
    paired = weights.is_encoder_decoder(found.folder)
    form, encoder = bind_for(recipe.format, tokenizer, paired), Encoder.of(tokenizer, paired)
    most = encoder.limit(recipe.tune.max_tokens, recipe.tune.max_target_tokens)
    data = generating.with_made(preparing.read(recipe), recipe, folder)
    data = curating.curate(recipe, data, count=encoder.count, asking=False).data
    rows: list[Encoded] = []
    dropped = 0
    for conversation in preparing.training(recipe, data, preparing.drawn(recipe, data), encoder.count):
        for one in examples(encoder, form, conversation, most, recipe.tune.truncation):
            if isinstance(one, Encoded):
                rows.append(one)
            else:
                dropped += 1
    steps = plan_steps(rows, recipe.tune, recipe.training_seed())
    tokens = sum(len(rows[i].ids) for step in steps for i in step)
    size = parameters(found.folder)
    speed = doctor.gemm_speed(torch.float32) * 1e9
    full = isinstance(recipe.tune.method, Full)
    asked = [asking(recipe, data, task, encoder, form) for task in recipe.tasks()]
    answering = sum(task["tokens"] for task in asked) * 2 * size / (speed * ANSWERING_SHARE)
    tuning = tokens * (6 if full else 4) * size / (speed * TUNING_SHARE)
    most = max((len(row.ids) for row in rows), default=0)
    shape, method = devices.shape_of(found.folder, size), TUNINGS.name_of(recipe.tune.method)
    trained = sum(int((row.labels != IGNORED).sum()) for row in rows) / max(1, sum(len(row.ids) for row in rows))
    kept: dict[str, Any] = {
        "tokens": max(most, recipe.tune.pack_tokens),
        "answered": trained,
        "dropped": bool(getattr(recipe.tune.method, "dropout", 0)),
        "checkpointed": recipe.tune.gradient_checkpointing,
    }
    return {
        "name": recipe.name,
        "model": {"name": found.name, "parameters": size},
        "stages": {stage: "done" if runs.record(folder, stage) else "to do" for stage in runs.stages_of(recipe)},
        "rows": {"sources": data.counts(), "train": len(rows), "dropped in encoding": dropped, "longest in tokens": most},
        "tuning": {"steps": len(steps), "tokens": tokens, "seconds": round(tuning)},
        "scoring": {"tasks": asked, "seconds": round(answering)},
        "seconds": round(tuning + answering),
        "memory_gb": round(devices.memory_gb(shape, method, **kept), 1),
        "devices": {name: on_device(name, shape, method, full, tokens, kept, hourly) for name in (devices.DEVICES if "all" in on else on)},
        "disk": {"needed_gb": disk_gb(size, full), "free_gb": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1)},
        "money": money(recipe),
    }


def asking(recipe: Recipe, data: preparing.Data, task: Any, encoder: Encoder, form: Any) -> dict[str, Any]:
    """Rows and tokens (prompts and longest answers, all arms that generate) of one task."""
    records = preparing.held_out(data, task)
    conversations = preparing.worded(recipe, task.task, records)
    prompts = sum(len(encoder.ids(form.prompt(c.question()))) for c in conversations)
    answers = len(records) * preparing.sampling_of(recipe, task).max_new_tokens
    arms = 2 + sum(1 for b in preparing.baselines_of(recipe, task) if b != "majority")
    return {
        "task": task.task,
        "rows": len(records),
        "tokens": arms * (prompts + answers),
        **shown(preparing.metrics_of(recipe, task), len(records), preparing.grouped(records, recipe.split.group)),
    }


def shown(measured: Sequence[Metric], items: int, groups: int = 0) -> dict[str, Any]:
    """The smallest difference that so many rows (in groups, 0: each for itself) show in a task's first metric of which something is
    known; nothing where there is none."""
    for metric in measured if items else ():
        found, assumed = comparison.planned_difference(metric, items, groups=groups or None)
        if found is not None:
            return {"smallest difference": round(found, 3), "assumed": assumed, "of": METRICS.name_of(metric)}
    return {}


def on_device(
    name: str, shape: devices.Shape, method: str, full: bool, tokens: int, kept: Mapping[str, Any], hourly: float | None
) -> dict[str, Any]:
    """Memory, time, money and whether it fits, on a device of `devices.DEVICES`. Raises RecipeError for one that is not there."""
    if name not in devices.DEVICES:
        raise RecipeError(f"--device: no device named {name!r}{nearest(name, devices.DEVICES)}; there are {', '.join(devices.DEVICES)}")
    device = devices.DEVICES[name]
    half, rate = device.precision == "bfloat16", devices.rate(shape.parameters, full, device, kept["tokens"])
    paid = (
        {}
        if hourly is None
        else {"money": round(hourly * tokens / rate / 3600, 4), "per_million_tokens": devices.per_million(hourly, rate)}
    )
    return {
        "fits": devices.fits(shape, method, device, kept["tokens"]),
        "memory_gb": round(devices.memory_gb(shape, method, half=half, **kept), 1),
        "of_gb": device.memory,
        "tuning_seconds": round(tokens / rate),
        "tokens_per_second": round(rate),
        **paid,
    }


def money(recipe: Recipe) -> str:
    """Who is paid: servers that strategies, checks or judges ask, with their budgets."""
    paid = {name: llm.budget for name, llm in recipe.llms.items() if isinstance(llm, Http)}
    if not paid:
        return "none: every model runs on this machine"
    bounds = [
        f"{name} at most {b.money:g}" if b.money is not None else f"{name} without a bound (llms.{name}.budget)" for name, b in paid.items()
    ]
    return "servers are asked: " + ", ".join(bounds)


def disk_gb(size: int, full: bool) -> float:
    """Disk in GiB: a tuned model and two checkpoints with optimizer state, or an adapter of about 2 % of that."""
    return round(size * 4 * (7 if full else 0.15) / 2**30 + 0.05, 2)


def as_text(found: Mapping[str, Any]) -> str:
    """The plan as lines."""
    lines = [f"{found['name']}: {found['model']['name']}, {found['model']['parameters']:,} parameters"]
    lines.append("stages: " + ", ".join(f"{stage} {state}" for stage, state in found["stages"].items()))
    for row in found["rows"]["sources"]:
        lines.append(
            f"  {row['name']}: {row['read']:,} rows: train {row['train']:,}, validation {row['validation']:,}, test {row['test']:,}, "
            f"bad {row['bad']:,}, dropped {sum(row['dropped'].values()):,}"
        )
    tuning = found["tuning"]
    lines.append(f"tuning: {tuning['steps']:,} steps, {tuning['tokens']:,} tokens, about {tuning['seconds']:,} s")
    for task in found["scoring"]["tasks"]:
        reach = (
            f"; can show a difference of {task['smallest difference']:.3f} in {task['of']} or more ({task['assumed']})"
            if "of" in task
            else ""
        )
        lines.append(f"scoring {task['task']}: {task['rows']} rows, up to {task['tokens']:,} tokens{reach}")
    lines.append(
        f"in all about {found['seconds'] / 60:.0f} minutes here, {found['memory_gb']} GB memory, {found['disk']['needed_gb']} GB disk"
    )
    for name, row in found["devices"].items():
        how = {"yes": "fits", "checkpointed": "fits with gradient_checkpointing", "no": "does not fit"}[row["fits"]]
        paid = f", {row['money']:.2g} in money, {row['per_million_tokens']:.2g} a million" if "money" in row else ""
        lines.append(
            f"  {name}: {row['memory_gb']} of {row['of_gb']:g} GB, {how}; tuning about {row['tuning_seconds']:,} s, "
            f"{row['tokens_per_second']:,} tokens a second{paid} (reckoned, not measured)"
        )
    lines.append(f"money: {found['money']}")
    return "\n".join(lines)
