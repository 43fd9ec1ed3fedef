"""The learning-rate finder: a range test (Smith 2015, arXiv 1506.01186) over the run's own rows.

A copy of the model takes steps whose learning rate grows exponentially from very low to far too high. The losses, smoothed,
first stay, then fall, then diverge; the suggestion is where they fall fastest in the logarithm of the rate.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude import attention, fusing, seeds
from etude.catalog import note
from etude.failures import DataError, NonFinite
from etude.losses import drops, loss_of, packable, passes, set_dropout
from etude.optimizing import check_arithmetic, optimizer_of
from etude.records import IGNORED, Encoded
from etude.steps import Tune, plan_steps
from etude.tunings import Allocating

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SMOOTHING = 0.9
"""Share of the running mean that each loss leaves as it was (an exponential mean, corrected for its start)."""

DIVERGED = 4.0
"""The test ends when the smoothed loss is this many times the lowest (fastai's rule)."""

LEAST = 8
"""Steps below which a curve says nothing."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Learning rates, each step's loss (nats a trained token), the losses smoothed, the rate where they fall fastest, and
    whether the test went on until the loss diverged."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float
    diverged: bool


def find_learning_rate(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    tune: Tune,
    *,
    seed: int = 0,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 60,
    progress: Callable[[int, str], None] = lambda step, text: None,
) -> Curve:
    """A range test with the tune section's method, optimizer, step size and rows, on a copy: `model` is not changed.

    Takes at most `steps` steps (the memory of a second model, and their time); learning rate and schedule of `tune` are not used.
    Raises DataError when no row has a trained token, and NonFinite where even the first losses are no numbers.
    """
    import torch

    if not any((row.labels != IGNORED).any() for row in rows):
        raise DataError("no training row has a trained token")
    check_arithmetic(model, tune)
    found: list[float] = []
    rates = [lowest * (highest / lowest) ** (i / max(1, steps - 1)) for i in range(steps)]
    mean, smoothed, diverged = 0.0, [], False
    with torch.random.fork_rng():
        copied = copy.deepcopy(model)
        set_dropout(copied, tune.dropout)
        copied = tune.method.prepare(copied, seeds.number(seed, "adapter") % 2**32)
        torch.manual_seed(seeds.number(seed, "finder") % 2**32)
        copied.train()
        share = not drops(copied)
        if isinstance(tune.method, Allocating):
            tune.method.begin(copied, steps)
        documents = packable(copied, rows, share)
        optimizer = optimizer_of(copied, tune)
        plan = wanted(rows, tune, seed, steps)
        for number, chosen in enumerate(plan):
            loss = one_step(copied, optimizer, [rows[i] for i in chosen], tune, rates[number], documents, share and documents)
            if not math.isfinite(loss):
                diverged = True
                break
            found.append(loss)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smoothed.append(mean / (1 - SMOOTHING ** (number + 1)))
            progress(number + 1, f"rate {rates[number]:.1e}, loss {loss:.3f}")
            if number >= LEAST and smoothed[-1] > DIVERGED * min(smoothed):
                diverged = True
                break
    if len(found) < LEAST:
        raise NonFinite(f"the learning-rate test has {len(found)} finite losses and needs {LEAST}; begin below {lowest:g}")
    if not diverged:
        note(f"the learning-rate test never diverged: the best rate may be above {highest:g}")
    return Curve(tuple(rates[: len(found)]), tuple(found), tuple(smoothed), steepest(rates, smoothed), diverged)


def wanted(rows: Sequence[Encoded], tune: Tune, seed: int, steps: int) -> list[list[int]]:
    """The rows of so many steps: the run's own plan, over as many epochs as that takes."""
    epochs = 1.0
    while True:
        plan = plan_steps(rows, tune.model_copy(update={"epochs": epochs, "max_steps": steps, "token_budget": None}), seed)
        if len(plan) >= steps:
            return plan
        epochs *= 2


def one_step(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, rows: Sequence[Encoded], tune: Tune, rate: float, documents: bool, share: bool
) -> float:
    """The loss of these rows, and one optimizer step at this rate."""
    import torch

    packs = passes(model, rows, tune.pack_tokens, documents, share)
    counted = sum(pack.counted for pack in packs) or 1
    loss = 0.0
    with attention.enable(model) if documents else contextlib.nullcontext(), fusing.enable(model):
        for pack in packs:
            part = loss_of(model, pack, tune.label_smoothing) / counted
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(learning, tune.clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    optimizer.step()
    optimizer.zero_grad()
    return loss


def steepest(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """The rate at which the smoothed loss falls fastest per factor of the rate, before its lowest point."""
    end = max(3, smoothed.index(min(smoothed)) + 1)
    slopes = [(smoothed[i + 1] - smoothed[i - 1]) / math.log(rates[i + 1] / rates[i - 1]) for i in range(1, min(end, len(smoothed) - 1))]
    return rates[1 + slopes.index(min(slopes))]
