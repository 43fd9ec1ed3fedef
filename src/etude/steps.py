"""Which rows a step holds, its learning rate, and when it is evaluated: pure functions of the tune section."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from etude import seeds
from etude.catalog import Settings
from etude.records import Encoded
from etude.tunings import TUNINGS, Tuning
from etude.tunings.lora import Lora


class Tune(Settings):
    """How the model is tuned."""

    spellings: ClassVar[Mapping[str, str]] = {
        "lr": "learning_rate",
        "num_train_epochs": "epochs",
        "num_epochs": "epochs",
        "max_seq_length": "max_tokens",
        "max_length": "max_tokens",
        "cutoff_len": "max_tokens",
        "sequence_len": "max_tokens",
        "lr_scheduler_type": "schedule",
        "lr_scheduler": "schedule",
        "warmup_ratio": "warmup",
        "warmup_steps": "warmup",
        "max_grad_norm": "clip",
        "gradient_clipping": "clip",
        "batch_size": "rows_per_step",
        "early_stopping_patience": "patience",
        "logging_steps": "log_every",
        "save_steps": "save_every",
        "peft": "method",
        "finetuning_type": "method",
        "adapter": "method",
    }

    method: Annotated[Tuning, TUNINGS] = Lora()
    """Which weights learn."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; by default the method's own."""
    epochs: Annotated[float, Field(gt=0)] = 1
    """Passes over the training rows; a fraction is allowed."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimizer steps, whatever `epochs` says."""
    tokens_per_step: Annotated[int, Field(ge=1)] = 4096
    """A step takes rows in order until it holds this many tokens (counted unpacked)."""
    rows_per_step: Annotated[int, Field(ge=1)] | None = None
    """A step takes this many rows instead."""
    max_tokens: Annotated[int, Field(ge=8)] = 1024
    """Longest row in tokens."""
    truncation: Literal["cut_middle", "drop", "refuse"] = "cut_middle"
    """What happens to a longer row: the middle of its prompt is cut, it is dropped with a reason, or the run is refused."""
    pack_tokens: Annotated[int, Field(ge=1)] = 1024
    """Tokens of one forward pass. Never changes the loss, only speed and memory."""
    share_prefix: bool | None = None
    """Compute tokens that rows share at the start once a pack. Exact only without dropout, so by default it is on
    without dropout and off with it; `true` shares a prefix (and its dropped units) even then."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[float, Field(ge=0)] = 0.03
    """Steps of linear warm-up, or below 1 a share of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay, on matrices only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a step's gradient."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout inside the model itself, where its architecture has some; by default as its config says."""
    evaluate_every: Annotated[int, Field(ge=1)] | Literal["epoch", "never"] = "epoch"
    """When the validation loss is measured: every so many steps, after each epoch, or never."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many evaluations without a better validation loss."""
    save_every: Annotated[int, Field(ge=1)] | None = None
    """Write a checkpoint every so many steps, besides those at evaluations."""
    log_every: Annotated[int, Field(ge=1)] = 1
    """Steps between lines of metrics.jsonl."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the forward pass. On CPUs without fast bfloat16, float32 is the fastest."""


def plan_steps(rows: Sequence[Encoded], tune: Tune, seed: int) -> list[list[int]]:
    """The rows of every step, as indices. A pure function of its arguments.

    Each epoch is a permutation of its own; a step may reach from one epoch into the next, so only
    the very last step can be smaller than the others.
    """
    wanted = math.ceil(len(rows) * tune.epochs)
    steps: list[list[int]] = []
    step: list[int] = []
    tokens = 0
    for index in ordered(len(rows), wanted, seed):
        length = len(rows[index].ids)
        full = len(step) >= tune.rows_per_step if tune.rows_per_step else tokens + length > tune.tokens_per_step
        if step and full:
            steps.append(step)
            step, tokens = [], 0
            if tune.max_steps and len(steps) >= tune.max_steps:
                return steps
        step.append(index)
        tokens += length
    return [*steps, step] if step else steps


def ordered(count: int, wanted: int, seed: int) -> Iterator[int]:
    """`wanted` row indices, epoch after epoch, each epoch in an order of its own."""
    for epoch in range(math.ceil(wanted / max(count, 1))):
        for index in seeds.stream(seed, "order", epoch).permutation(count)[: wanted - epoch * count]:
            yield int(index)


def rate(step: int, steps: int, tune: Tune) -> float:
    """The learning rate of a step (from 0): linear warm-up, then the schedule down to 0."""
    peak = tune.learning_rate or tune.method.default_learning_rate
    warm = math.ceil(tune.warmup * steps) if tune.warmup < 1 else int(tune.warmup)
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    done = (step - warm) / max(1, steps - warm)
    if tune.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak * (1 - done) if tune.schedule == "linear" else peak


def evaluation_steps(steps: Sequence[Sequence[int]], rows: int, tune: Tune) -> set[int]:
    """The steps (from 1) after which the validation loss is measured; the last one always is."""
    if tune.evaluate_every == "never":
        return set()
    chosen = {len(steps)}
    if isinstance(tune.evaluate_every, int):
        return chosen | set(range(tune.evaluate_every, len(steps), tune.evaluate_every))
    seen, epoch = 0, 1
    for number, step in enumerate(steps, 1):
        seen += len(step)
        if seen >= epoch * rows:
            chosen.add(number)
            epoch = seen // rows + 1
    return chosen
