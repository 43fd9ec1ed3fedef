"""Training: one loop, top to bottom, on accelerate.

What it promises: the loss of a step is the sum over its trained tokens divided by their number in
the whole step (both with the rows' weights, where rows have them), however the rows are packed; a
non-finite loss or gradient changes no weight; the order of rows is a pure function of (seed, epoch);
on a CPU a resumed run ends with the same bits.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import attention, checkpoints, fusing, journal, packing, seeds
from etude.catalog import note
from etude.failures import DataError, NonFinite, RecipeError, Stopped
from etude.records import IGNORED, Encoded
from etude.steps import Tune, evaluation_steps, plan_steps, rate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


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
    """Summed cross entropy (nats) of the pack's targets, each with its weight, in float32."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = attention.target_logits(model, pack)
    targets = torch.from_numpy(pack.targets).to(logits.device)
    if pack.weights is None:
        return cross_entropy(logits.float(), targets, reduction="sum")
    return cross_entropy(logits.float(), targets, reduction="none") @ torch.from_numpy(pack.weights).to(logits.device)


def evaluate(model: PreTrainedModel, packs: Sequence[packing.Pack], documents: bool) -> float:
    """Mean loss (nats a trained token) over the packs, without dropout."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad(), attention.enable(model) if documents else contextlib.nullcontext():
        total = sum(float(loss_of(model, pack)) for pack in packs)
    model.train(training)
    return total / sum(pack.counted for pack in packs)


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
            counted = sum(pack.counted for pack in packs)
            for group in optimizer.param_groups:
                group["lr"] = rate(number, len(steps), tune)
            loss = 0.0
            with attention.enable(model) if documents else contextlib.nullcontext(), fusing.enable(model):
                for pack in packs:
                    with accelerator.autocast():
                        part = loss_of(model, pack) / (counted or 1)
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


def journal_until(path: Path, step: int) -> journal.Journal:
    """The metrics journal without the lines behind `step`, which a resumed run writes again."""
    if path.exists():
        journal.Journal(path).close()
        journal.write_rows(path, [row for row in journal.read(path) if row["step"] <= step])
    return journal.Journal(path)
