"""Training: one loop, top to bottom, on accelerate.

What it promises: the loss of a step is the sum over its trained tokens divided by their number in
the whole step (both with the rows' weights, where rows have them), however the rows are packed; a
non-finite loss or gradient changes no weight; the order of rows is a pure function of (seed, epoch);
on a CPU a resumed run ends with the same bits. Every option keeps these promises (docs/training.md), and so do several processes
that train together (docs/scaling.md): the same steps, to rounding.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import attention, checkpoints, fusing, journal, losses, noise, seeds, tracking
from etude import packing as packing
from etude.catalog import note
from etude.distributed import ALONE, Group
from etude.failures import DataError, NonFinite, RecipeError, Stopped, nearest
from etude.losses import drops, loss_of, packable, passes, set_dropout
from etude.losses import evaluate as evaluate
from etude.optimizing import check_arithmetic, checkpointed, compiled, eagerly, plain
from etude.records import IGNORED, Encoded
from etude.sharding import Sharding
from etude.sharding.accelerated import Accelerated
from etude.steps import LOSS, Best, Tune, evaluation_steps, metrics_steps, plan_steps, rate
from etude.tunings import Allocating, Reporting, size

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Evaluate = Callable[["PreTrainedModel"], Mapping[str, float]]
"""Numbers of a model in the middle of its tuning, by `<task>.<metric>`."""

MOST_SKIPPED = 20
"""Steps in a row that float16's scaler may pass over before they count as failed (it halves its scale each time)."""


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
    """The outcome: steps taken, the step whose weights were kept, its validation loss, and counts. `best_value` is that
    step's `best_by`; `ended` says what ended the run; `method` is what the tuning method says of itself (final ranks)."""

    steps: int
    best_step: int
    best_validation: float | None
    trainable: int
    parameters: int
    tokens: int
    seconds: float
    packed: bool
    shared_tokens: int
    best_by: str = LOSS
    best_value: float | None = None
    ended: str = ""
    method: Mapping[str, Any] = field(default_factory=dict)


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
    evaluate: Evaluate | None = None,
    group: Group = ALONE,
    sharding: Sharding | None = None,
) -> tuple[PreTrainedModel, Trained]:
    """Tune `model` on `rows`; returns it with the best (or last) weights in place.

    `folder` receives `checkpoints/` and `metrics.jsonl`; where it holds whole checkpoints of the same
    work, training goes on from the newest. `evaluate` is asked as `tune.metrics_every` says. Where several processes train together, all
    call this with the same arguments and their `group`; the first one writes, tells and asks. With a `sharding` the model they return is
    divided; the first one's can be saved, and none can be asked. Raises NonFinite before
    the step that would apply a non-finite loss or gradient, Stopped after SIGINT or SIGTERM (with a checkpoint written),
    DataError when no row has a trained token, and RecipeError for an option that this model or machine cannot have.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if not any((row.labels != IGNORED).any() for row in rows):
        raise DataError("no training row has a trained token")
    check_arithmetic(model, tune)
    tracking.check(tune.trackers)
    mixed = {"bfloat16": "bf16", "float16": "fp16"}.get(tune.precision, "no")
    AcceleratorState._reset_state()  # of a run before in this process, perhaps in another precision
    accelerator = Accelerator(mixed_precision=mixed)
    set_dropout(model, tune.dropout)
    model = tune.method.prepare(model, seeds.number(seed, "adapter") % 2**32)
    group.copy(checkpoints.learning(model).values())
    torch.manual_seed(seeds.number(seed, "dropout") % 2**32)
    share = tune.share_prefix if tune.share_prefix is not None else not (drops(model) or tune.neftune_alpha)
    documents = not tune.compile and packable(model, [*rows, *validation], share)
    share = share and documents
    checkpointed(model, tune)
    compiled(model, tune)
    trainable = sum(weight.numel() for weight in checkpoints.learning(model).values())
    parameters = sum(size(weight) for weight in model.parameters())
    stepper = sharding.stepper(model, tune, accelerator, group) if sharding else Accelerated(model, tune, accelerator, group)
    steps = plan_steps(rows, tune, seed)
    method = tune.method if isinstance(tune.method, Allocating) else None
    if method:
        method.begin(model, len(steps))
    own = group.mine([len(row.ids) for row in validation])
    validation_packs = passes(model, [validation[i] for i in own], tune.pack_tokens, documents, documents)
    held_back = sum(pack.counted for pack in validation_packs)
    extra = fill(model, validation, len(validation_packs), tune, documents, group) if stepper.even else []
    evaluate_at = evaluation_steps(steps, len(rows), tune) if group.sum(held_back)[0] else set()
    metrics_at = metrics_steps(steps, len(rows), tune) if evaluate else set()
    if metrics_at and stepper.even:
        raise RecipeError("tune.metrics_every: no process can answer questions alone with a divided model; leave it out, or --sharding")
    decide_at = evaluate_at if tune.best_by == LOSS else metrics_at
    if tune.best_by != LOSS and not metrics_at:
        raise RecipeError(f"tune.best_by: {tune.best_by!r} is never measured (no metrics here, or tune.evaluate_every is never)")
    if tune.patience and not decide_at:
        note("tune.patience has no effect: there are no validation rows")
    all_tokens = sum(len(rows[i].ids) for step in steps for i in step)
    alpha = tune.neftune_alpha or 0.0

    best, loss_then, tokens, shared, first, seconds, skipped = Best(), None, 0, 0, 0, 0.0, 0
    resumed = newest(folder, group)
    if resumed:
        state = checkpoints.restore(resumed, stepper.restore, stepper.scaler)
        if method:
            method.restore(model, state)
        kept = resumed.progress
        best, loss_then = Best(kept["best"], kept["best_step"], kept["since"]), kept["best_validation"]
        tokens, shared, first, seconds = kept["tokens"], kept["shared"], resumed.step, kept["seconds"]
        note(f"training goes on from step {first} of {len(steps)}")
    lines = journal_until(folder / "metrics.jsonl", first if resumed else -1) if group.first else None
    began = time.monotonic()

    def elapsed() -> float:
        return seconds + time.monotonic() - began

    def save(step: int) -> None:
        facts = {"best": best.value, "best_step": best.step, "since": best.since, "best_validation": loss_then}
        facts |= {"tokens": tokens, "shared": shared, "seconds": elapsed()}
        held = stepper.state(folder / "checkpoints" / f".parts-{step}")
        if not group.first:
            return
        kept = method.state(model) if method else None
        checkpoints.save(folder / "checkpoints", step, held, facts, stepper.scaler, kept)
        older = [s for s in checkpoints.steps(folder / "checkpoints") if s <= step][: tune.keep_last]
        checkpoints.prune(folder / "checkpoints", {*older, best.step})

    model.train()
    stopped_early = bool(tune.patience and best.since >= tune.patience)
    trackers = tune.trackers if group.first else {}
    with lines or contextlib.nullcontext(), stopping() as came, tracking.opened(trackers, folder, tune.model_dump(mode="json")) as track:

        def tell(line: dict[str, Any]) -> None:
            if lines:
                lines.append({**line, "seconds": round(elapsed(), 3)})
                track(line, line["step"])

        if metrics_at and evaluate and not resumed:
            tell({"step": 0, "metrics": measured(model, evaluate, tune, seed, 0) if group.first else {}})
        for number in range(first, len(steps)):
            if stopped_early:
                break
            own = [steps[number][i] for i in group.mine([len(rows[i].ids) for i in steps[number]])]
            packs = passes(model, [rows[i] for i in own], tune.pack_tokens, documents, share)
            lengths = [len(rows[i].ids) for i in own]
            saved = sum(pack.prefix * (len(pack.bounds) - 1) for pack in packs)
            targets = sum(len(pack.targets) for pack in packs)
            saved_tokens, trained_tokens, counted = group.sum(saved, targets, sum(pack.counted for pack in packs))
            shared += int(saved_tokens)
            for some in stepper.groups:
                some["lr"] = rate(number, len(steps), tune) * some["scale"]
            losses_of_step: list[torch.Tensor] = []
            stream = noise.generator(group.seed(seed), number, attention.device_of(model)) if alpha else None
            if not group.first:  # a stream for each step, so that a checkpoint need hold the first process's alone
                torch.manual_seed(seeds.number(group.seed(seed), "dropout", number) % 2**32)
            fused = fusing.enable(model) if mixed == "no" and not sharding else contextlib.nullcontext()
            turns = [(pack, 1.0) for pack in packs]
            if stepper.even:
                turns += [(pack, 0.0) for pack in fill(model, [rows[i] for i in steps[number]], len(packs), tune, documents, group)]
            with attention.enable(model) if documents else contextlib.nullcontext(), fused:
                for turn, (pack, factor) in enumerate(turns, 1):
                    noisy = noise.enable(model, pack, lengths, alpha, stream) if stream and factor else contextlib.nullcontext()
                    with accelerator.autocast(), noisy:
                        part = loss_of(model, pack, tune.label_smoothing) * factor / (counted or 1)
                    stepper.backward(part, turn == len(turns))
                    losses_of_step.append(part.detach())
                if method and group.first:  # the processes' gradients are summed
                    stepper.backward(method.penalty(model), True)
            # read behind the last pass: on a GPU each look would make the processor wait
            (loss,) = group.sum(sum(float(part) for part in losses_of_step))
            norm = stepper.norm(tune.clip) if math.isfinite(loss) else math.nan
            # float16's scaler passes over a step whose gradient overflowed, and lowers its scale
            skipped = skipped + 1 if stepper.scaler and math.isfinite(loss) and not math.isfinite(norm) else 0
            if not math.isfinite(loss) or not (math.isfinite(norm) or 0 < skipped <= MOST_SKIPPED):
                raise NonFinite(
                    f"step {number + 1}: loss {loss}, gradient norm {norm}; no weight was changed by it. Rows: "
                    f"{', '.join(rows[i].id for i in steps[number][:8])}. A lower tune.learning_rate or tune.clip may help"
                )
            stepper.step()
            if method and not skipped:
                method.after_step(model, number + 1)
            stepper.clear()
            step = number + 1
            tokens += sum(len(rows[i].ids) for i in steps[number])
            if step % tune.log_every == 0 or step == len(steps):
                tell(
                    {
                        "step": step,
                        "epoch": round(sum(len(s) for s in steps[:step]) / len(rows), 4),
                        "loss": loss,
                        "gradient_norm": norm,
                        "learning_rate": rate(number, len(steps), tune),
                        "rows": len(steps[number]),
                        "tokens": tokens,
                        "trained_tokens": int(trained_tokens),
                    }
                )
            if group.first:
                progress(Step(step, len(steps), tokens, all_tokens, loss))
            value = decisive = None
            if step in evaluate_at:
                value = losses.evaluate(model, validation_packs, documents, extra) if held_back or extra else 0.0
                value = decisive = group.mean(value, held_back)
                if not math.isfinite(value):
                    raise NonFinite(f"step {step}: the validation loss is {value}; the last good checkpoint is kept")
                tell({"step": step, "validation_loss": value})
            if step in metrics_at and evaluate:
                found = measured(model, evaluate, tune, seed, step) if group.first else {}
                decisive = decisive if tune.best_by == LOSS else agreed(found.get(tune.best_by), group)
                tell({"step": step, "metrics": found})
            if step in decide_at:
                best = best.after(decisive, step, tune)
                loss_then = value if best.step == step else loss_then
                stopped_early = bool(tune.patience and best.since >= tune.patience)
            if step in evaluate_at | metrics_at or step == len(steps) or (tune.save_every and step % tune.save_every == 0):
                save(step)
            if (asked := stop_signal(came(), group)) and step < len(steps):
                save(step)
                group.told()  # whoever ends first has the others killed: not before the checkpoint is whole
                raise Stopped(f"stopped at step {step} of {len(steps)} with a checkpoint; the same command goes on from there", asked)
    seconds = elapsed()
    last = newest(folder, group)
    taken = last.step if last else len(steps)
    if 0 < best.step < taken:
        best_one = checkpoints.read(folder / "checkpoints" / f"step-{best.step:06d}")
        stepper.restore(checkpoints.State(checkpoints.weights_of(best_one), {}))
        side = "highest" if tune.higher() else "lowest"
        named = f"its validation loss {best.value:.4f}" if tune.best_by == LOSS else f"its {tune.best_by} of {best.value:.4g}"
        note(f"the weights of step {best.step} are kept: {named} is the {side}")
    stepper.gather()
    plain(model, tune)
    model.eval()
    counts = (trainable, parameters, tokens, round(seconds, 3), documents, shared)
    made = tune.method.facts(model) if isinstance(tune.method, Reporting) else {}
    ended = f"patience: {best.since} measurements of {tune.best_by} without a better one" if stopped_early else limit(rows, steps, tune)
    return model, Trained(taken, best.step or taken, loss_then, *counts, tune.best_by, best.value, ended, made)


def fill(model: PreTrainedModel, rows: Sequence[Encoded], own: int, tune: Tune, documents: bool, group: Group) -> list[Any]:
    """Passes that this process, which has `own` ones, takes beside the others with more: its loss does not count."""
    most = group.most(own)
    if most == own:
        return []
    shortest = min(rows, key=lambda row: len(row.ids))
    return list(passes(model, [shortest], tune.pack_tokens, documents, False)) * (most - own)


def limit(rows: Sequence[Encoded], steps: Sequence[Sequence[int]], tune: Tune) -> str:
    """Which limit the planned steps end at."""
    drawn = sum(len(step) for step in steps)
    if drawn >= math.ceil(len(rows) * tune.epochs):
        return "epochs"
    return "max_steps" if tune.max_steps and len(steps) >= tune.max_steps else "token_budget"


def newest(folder: Path, group: Group) -> checkpoints.Checkpoint | None:
    """The newest whole checkpoint of the run, which the first process looks for, so that torn ones are moved away once."""
    found = checkpoints.newest(folder / "checkpoints") if group.first else None
    step = int(group.told(found.step if found else -1))
    return found if group.first or step < 0 else checkpoints.read(folder / "checkpoints" / f"step-{step:06d}")


def stop_signal(came: int, group: Group) -> int:
    """The signal that came to any of the processes, in all of them; 0 for none."""
    if group.size == 1:
        return came
    interrupted, ended = group.sum(came == signal.SIGINT, came == signal.SIGTERM)
    return int(signal.SIGTERM if ended else signal.SIGINT if interrupted else 0)


def agreed(value: float | None, group: Group) -> float | None:
    """A measurement that only the first process has made, in all of them."""
    told = group.told(math.nan if value is None else value)
    return None if math.isnan(told) else told


def measured(model: PreTrainedModel, evaluate: Evaluate, tune: Tune, seed: int, step: int) -> dict[str, float | None]:
    """The metrics of the model as it stands, None for one that is no number; random draws of training are not touched.

    Raises RecipeError where `tune.best_by` is not among them.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad(), eagerly(tune):
            torch.manual_seed(seeds.number(seed, "metrics", step) % 2**32)
            found = {name: float(value) if math.isfinite(value) else None for name, value in evaluate(model).items()}
    finally:
        model.train(training)
    if tune.best_by != LOSS and tune.best_by not in found:
        raise RecipeError(f"tune.best_by: no metric is called {tune.best_by!r}{nearest(tune.best_by, [LOSS, *found])}")
    return found


def journal_until(path: Path, step: int) -> journal.Journal:
    """The metrics journal without the lines behind `step`, which a resumed run writes again."""
    if path.exists():
        journal.Journal(path).close()
        journal.write_rows(path, [row for row in journal.read(path) if row["step"] <= step])
    return journal.Journal(path)
