"""Training: one loop, top to bottom, on accelerate.

What it promises: the loss of a step is the sum over its trained tokens divided by their number in
the whole step, however the rows are packed; a non-finite loss or gradient changes no weight; the
order of rows is a pure function of (seed, epoch); on a CPU a resumed run ends with the same bits.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from etude import attention, checkpoints, journal, packing, seeds
from etude.catalog import Settings, note
from etude.failures import DataError, NonFinite, RecipeError, Stopped
from etude.records import IGNORED, Encoded
from etude.tunings import TUNINGS, Tuning
from etude.tunings.lora import Lora

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


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


@dataclass(frozen=True, slots=True)
class Step:
    """What progress reports are told: `step` of `steps`, tokens done of tokens in all, the last loss."""

    step: int
    steps: int
    tokens: int
    all_tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome: steps taken, the step whose weights were kept, its validation loss, and counts."""

    steps: int
    best_step: int
    best_validation: float | None
    trainable: int
    parameters: int
    tokens: int
    seconds: float
    packed: bool
    shared_tokens: int


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


def optimizer_of(model: PreTrainedModel, tune: Tune) -> torch.optim.AdamW:
    """AdamW over the weights that learn; vectors (biases, norms) are not decayed."""
    import torch

    learning = checkpoints.learning(model)
    if not learning:
        raise RecipeError("tune.method leaves no weight to learn")
    groups = [
        {"params": [p for p in learning.values() if p.dim() > 1], "weight_decay": tune.weight_decay},
        {"params": [p for p in learning.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-3, betas=tune.betas, fused=True)


def set_dropout(model: PreTrainedModel, share: float | None) -> None:
    """Set the model's own dropout; raises RecipeError where the architecture has none."""
    if share is None:
        return
    names = [n for n in vars(model.config) if n.endswith(("dropout", "_pdrop")) and not n.startswith("summary")]
    if not names:
        raise RecipeError("tune.dropout: this architecture has no dropout of its own; tune.method.dropout is LoRA's")
    import torch

    for name in names:
        setattr(model.config, name, share)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = share


def loss_of(model: PreTrainedModel, pack: packing.Pack) -> torch.Tensor:
    """Summed cross entropy (nats) of the pack's targets, in float32."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = attention.target_logits(model, pack)
    return cross_entropy(logits.float(), torch.from_numpy(pack.targets).to(logits.device), reduction="sum")


def evaluate(model: PreTrainedModel, packs: Sequence[packing.Pack], documents: bool) -> float:
    """Mean loss (nats a trained token) over the packs, without dropout."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad(), attention.enable(model) if documents else contextlib.nullcontext():
        total = sum(float(loss_of(model, pack)) for pack in packs)
    model.train(training)
    return total / sum(len(pack.targets) for pack in packs)


def drops(model: PreTrainedModel) -> bool:
    """Whether anything in the model drops units in training."""
    import torch

    modules = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    names = ("attention_dropout", "attn_pdrop", "dropout", "activation_dropout", "layerdrop")
    return modules or any((getattr(model.config, name, 0.0) or 0.0) > 0 for name in names)


def packable(model: PreTrainedModel, rows: Sequence[Encoded], share: bool) -> bool:
    """Whether packs give this model the logits of single rows, measured on its two shortest rows."""
    shortest = [rows[i] for i in sorted(range(len(rows)), key=lambda i: len(rows[i].ids))[:2]]
    if len(shortest) < 2:
        return False
    together = packing.pack(shortest, sum(len(row.ids) for row in shortest), share)
    if len(together) > 1:
        together = packing.pack(shortest, sum(len(row.ids) for row in shortest))
    # in the order of the pack's documents
    order = list(dict.fromkeys(together[0].rows.tolist()))
    why = attention.honours_documents(model, together[0], [packing.concatenate(shortest, [i]) for i in order])
    if why:
        note(f"rows are not packed for this model: {why}")
    return not why


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], int]]:
    """Catch SIGINT and SIGTERM: the function given returns the signal's number once one came. A
    second signal interrupts at once."""
    came = [0]

    def remember(number: int, frame: Any) -> None:
        if came[0]:
            raise KeyboardInterrupt
        came[0] = number

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    tune: Tune,
    folder: Path,
    *,
    validation: Sequence[Encoded] = (),
    seed: int = 0,
    progress: Callable[[Step], None] = lambda step: None,
) -> tuple[PreTrainedModel, Trained]:
    """Tune `model` on `rows`; returns it with the best (or last) weights in place.

    `folder` receives `checkpoints/` and `metrics.jsonl`; where it holds whole checkpoints of the same
    work, training goes on from the newest. Raises NonFinite before the step that would apply a
    non-finite loss or gradient, Stopped after SIGINT or SIGTERM (with a checkpoint written), and
    DataError when no row has a trained token.
    """
    import torch
    from accelerate import Accelerator

    if not any((row.labels != IGNORED).any() for row in rows):
        raise DataError("no training row has a trained token")
    mixed = {"bfloat16": "bf16", "float16": "fp16"}.get(tune.precision, "no")
    accelerator = Accelerator(mixed_precision=mixed)
    set_dropout(model, tune.dropout)
    model = tune.method.prepare(model, seeds.number(seed, "adapter") % 2**32)
    torch.manual_seed(seeds.number(seed, "dropout") % 2**32)
    share = tune.share_prefix if tune.share_prefix is not None else not drops(model)
    documents = packable(model, rows, share)
    share = share and documents
    optimizer = accelerator.prepare(optimizer_of(model, tune))
    steps = plan_steps(rows, tune, seed)
    pack_tokens = tune.pack_tokens if documents else 1
    validation_packs = packing.pack(validation, pack_tokens, documents)
    evaluate_at = evaluation_steps(steps, len(rows), tune) if validation_packs else set()
    all_tokens = sum(len(rows[i].ids) for step in steps for i in step)

    best, best_step, since, tokens, shared, first, seconds = math.inf, 0, 0, 0, 0, 0, 0.0
    resumed = checkpoints.newest(folder / "checkpoints")
    if resumed:
        checkpoints.restore(resumed, model, optimizer)
        kept = resumed.progress
        best, best_step, since = kept["best"] if kept["best"] is not None else math.inf, kept["best_step"], kept["since"]
        tokens, shared, first, seconds = kept["tokens"], kept["shared"], resumed.step, kept["seconds"]
        note(f"training goes on from step {first} of {len(steps)}")
    lines = journal_until(folder / "metrics.jsonl", first)

    def save(step: int) -> None:
        facts = {"best": best if best < math.inf else None, "best_step": best_step, "since": since, "tokens": tokens, "shared": shared}
        checkpoints.save(folder / "checkpoints", step, model, optimizer, {**facts, "seconds": seconds + time.monotonic() - began})
        checkpoints.prune(folder / "checkpoints", {step, best_step})

    model.train()
    began = time.monotonic()
    stopped_early = bool(tune.patience and since >= tune.patience)
    with lines, stopping() as stop_signal:
        for number in range(first, len(steps)):
            if stopped_early:
                break
            packs = packing.pack([rows[i] for i in steps[number]], pack_tokens, share)
            shared += sum(pack.prefix * (len(pack.bounds) - 1) for pack in packs)
            trained_tokens = sum(len(pack.targets) for pack in packs)
            for group in optimizer.param_groups:
                group["lr"] = rate(number, len(steps), tune)
            loss = 0.0
            with attention.enable(model) if documents else contextlib.nullcontext():
                for pack in packs:
                    with accelerator.autocast():
                        part = loss_of(model, pack) / max(1, trained_tokens)
                    accelerator.backward(part)
                    loss += float(part.detach())
            norm = float(accelerator.clip_grad_norm_(checkpoints.learning(model).values(), tune.clip))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise NonFinite(
                    f"step {number + 1}: loss {loss}, gradient norm {norm}; no weight was changed by it. Rows: "
                    f"{', '.join(rows[i].id for i in steps[number][:8])}. A lower tune.learning_rate or tune.clip may help"
                )
            optimizer.step()
            optimizer.zero_grad()
            step = number + 1
            tokens += sum(len(rows[i].ids) for i in steps[number])
            if step % tune.log_every == 0 or step == len(steps):
                lines.append(
                    {
                        "step": step,
                        "epoch": round(sum(len(s) for s in steps[:step]) / len(rows), 4),
                        "loss": loss,
                        "gradient_norm": norm,
                        "learning_rate": rate(number, len(steps), tune),
                        "rows": len(steps[number]),
                        "tokens": tokens,
                        "trained_tokens": trained_tokens,
                        "seconds": round(seconds + time.monotonic() - began, 3),
                    }
                )
            progress(Step(step, len(steps), tokens, all_tokens, loss))
            if step in evaluate_at:
                value = evaluate(model, validation_packs, documents)
                if not math.isfinite(value):
                    raise NonFinite(f"step {step}: the validation loss is {value}; the last good checkpoint is kept")
                since = 0 if value < best else since + 1
                best, best_step = (value, step) if value < best else (best, best_step)
                lines.append({"step": step, "validation_loss": value, "seconds": round(seconds + time.monotonic() - began, 3)})
                stopped_early = bool(tune.patience and since >= tune.patience)
            if step in evaluate_at or step == len(steps) or (tune.save_every and step % tune.save_every == 0):
                save(step)
            if stop_signal() and step < len(steps):
                save(step)
                raise Stopped(
                    f"stopped at step {step} of {len(steps)} with a checkpoint; the same command goes on from there", stop_signal()
                )
    seconds += time.monotonic() - began
    last = checkpoints.newest(folder / "checkpoints")
    taken = last.step if last else len(steps)
    if 0 < best_step < taken:
        checkpoints.restore_weights(checkpoints.read(folder / "checkpoints" / f"step-{best_step:06d}"), model)
        note(f"the weights of step {best_step} are kept: its validation loss {best:.4f} is the lowest")
    model.eval()
    trainable = sum(p.numel() for p in checkpoints.learning(model).values())
    parameters = sum(p.numel() for p in model.parameters())
    return model, Trained(
        taken, best_step or taken, best if best < math.inf else None, trainable, parameters, tokens, round(seconds, 3), documents, shared
    )


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


def journal_until(path: Path, step: int) -> journal.Journal:
    """The metrics journal without the lines behind `step`, which a resumed run writes again."""
    if path.exists():
        journal.Journal(path).close()
        journal.write_rows(path, [row for row in journal.read(path) if row["step"] <= step])
    return journal.Journal(path)
