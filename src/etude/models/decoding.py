"""The generation loop of the local model: prompts in, answers out as they finish.

What transformers' `generate` means by greedy and sampled decoding, computed with less: a start that
all prompts share is computed once, a repeated prompt is computed once, keys and values are written
into room made ahead instead of being copied at every step, logits exist for the last position only,
waiting prompts take the places of finished rows, and when none waits the batch shrinks.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import Cache

from etude import virtual_tokens
from etude.failures import NonFinite
from etude.models import Sampling
from etude.models.reading import accepted, last_logits, padded, read_prompts

NEAR_TIE = 1e-4
"""Two best logits closer than this may change places when the batch changes (float32 rounding)."""
LEAVE = 0.125
"""Finished rows leave the batch, or give their places away, as soon as they are this share of it."""
DEAD = 2
"""The cache is made dense again when it is this many times as wide as its longest row."""

NUCLEUS = 512
"""Tokens of a row that are looked at first for its nucleus: the whole vocabulary is sorted only where those are not enough."""

Ended = Callable[[Sequence[int]], bool]
"""Whether an answer's tokens so far end with a stop text."""
Uniforms = Callable[[int], np.random.Generator | None]
"""The stream of uniform numbers of a prompt, by its index; None: greedy."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished answer: `index` of its prompt in the batch, its token ids (an end of turn included),
    "stop" or "length", and its near ties."""

    index: int
    ids: tuple[int, ...]
    finish: str
    near_ties: int = 0


@contextlib.contextmanager
def still(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside the block; every module's own mode afterwards.

    `no_grad`, not `inference_mode`: buffers that a model makes on the way must stay usable in training.
    """
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def processors(sampling: Sampling) -> LogitsProcessorList:
    """transformers' own processors in transformers' own order; scores of greedy decoding are not warped."""
    chain = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.temperature > 0:
        if sampling.temperature != 1.0:
            chain.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_k:
            chain.append(TopKLogitsWarper(top_k=sampling.top_k))
        if sampling.top_p < 1.0:
            chain.append(Nucleus(sampling.top_p))
    return chain


class Nucleus(LogitsProcessor):  # type: ignore[misc]
    """transformers' TopPLogitsWarper, which sorts the whole vocabulary for every token: there it took a third of the time of sampling.

    Kept are the likeliest tokens, in order, until those before make up `top_p` (Holtzman et al. 2020, arXiv 1904.09751).
    """

    def __init__(self, top_p: float) -> None:
        self.top_p = top_p
        self.whole = TopPLogitsWarper(top_p=top_p)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) with -inf outside the nucleus of each row."""
        if scores.shape[-1] <= NUCLEUS:
            return self.whole(input_ids, scores)  # type: ignore[no-any-return]
        best, places = scores.topk(NUCLEUS, -1)
        chances = (best - scores.logsumexp(-1, keepdim=True)).exp()
        before = chances.cumsum(-1) - chances
        kept = torch.full_like(scores, -torch.inf).scatter_(-1, places, best.masked_fill(before >= self.top_p, -torch.inf))
        wide = ~((before + chances)[:, -1] >= self.top_p)  # "not at least", so that a row of NaN stays one
        if bool(wide.any()):
            kept[wide] = self.whole(input_ids, scores[wide])
        return kept


def draw(scores: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    """One token a row from softmax(scores) by inversion, `uniforms` in [0, 1).

    One number a token, summed in float64, so that rounding which differs between batches changes a
    draw only when the number falls within rounding of a boundary.
    """
    sums = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted = torch.tensor(uniforms, dtype=torch.float64, device=scores.device) * sums[:, -1]
    return torch.searchsorted(sums, wanted[:, None], right=True).squeeze(1).clamp(max=scores.shape[1] - 1)


@dataclass(slots=True)
class Live:
    """What one row of the batch still has in hand."""

    index: int
    uniforms: np.random.Generator | None
    ids: list[int] = field(default_factory=list)
    near_ties: int = 0
    done: bool = False


@dataclass(slots=True)
class Batch:
    """The rows that are being decoded. mask: (rows, capacity) over the cache, ones from here on;
    positions: (rows,) of the next token; logits: (rows, vocabulary) of the next token, or None when
    the last tokens have not been read yet; history: what a repetition penalty looks at; plain: all
    layers of the cache are plain attention."""

    cache: Cache
    plain: bool
    accepted: frozenset[str]
    rows: list[Live]
    mask: torch.Tensor
    width: int
    positions: torch.Tensor
    logits: torch.Tensor | None
    history: torch.Tensor | None
    last: torch.Tensor | None = None


def start(
    model: PreTrainedModel, indices: Sequence[int], prompts: Sequence[Sequence[int]], uniforms: Uniforms, sampling: Sampling
) -> Batch:
    """Read the prompts with these indices: the shared start once, each different prompt once."""
    prompts = [prompts[index] for index in indices]
    places: dict[tuple[int, ...], int] = {}
    owners = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
    names = accepted(model)
    cache, plain, real, following, logits = read_prompts(model, names, list(places))
    device = logits.device
    if len(places) < len(prompts):
        chosen = torch.tensor(owners, device=device)
        cache.batch_select_indices(chosen)
        real, following, logits = real[chosen], following[chosen], logits[chosen]
    width = real.shape[1]
    mask = torch.cat([real, real.new_ones(len(prompts), sampling.max_new_tokens)], 1)
    history = None
    if sampling.repetition_penalty != 1.0:
        # filled up with the row's own first token, which is penalised anyway
        history = padded(prompts, [prompt[0] for prompt in prompts]).to(device)
    rows = [Live(index, uniforms(index)) for index in indices]
    return Batch(cache, plain, names, rows, mask, width, following, logits, history)


def leave(batch: Batch) -> torch.Tensor:
    """Take the finished rows out; living ones stay where they are, and those beyond the new end move into the gaps. Gives the
    places, int64 (rows,), from which the rows that stay came."""
    assert batch.last is not None
    alive = [place for place, row in enumerate(batch.rows) if not row.done]
    tail = iter([place for place in alive if place >= len(alive)])
    order = [place if not batch.rows[place].done else next(tail) for place in range(len(alive))]
    chosen = torch.tensor(order, device=batch.mask.device)
    batch.cache.batch_select_indices(chosen)
    batch.rows = [batch.rows[place] for place in order]
    batch.mask, batch.positions, batch.last = batch.mask[chosen], batch.positions[chosen], batch.last[chosen]
    batch.history = None if batch.history is None else batch.history[chosen]
    return chosen


def join(batch: Batch, fresh: Batch, room: int) -> None:
    """Give the places of finished rows to rows that have just been read, their last tokens chosen; what they
    hold ends where the batch ends. `room`: most new tokens of an answer."""
    assert batch.last is not None
    assert fresh.last is not None
    places = [place for place, row in enumerate(batch.rows) if row.done][: len(fresh.rows)]
    slots = torch.tensor(places, device=batch.mask.device)
    densify(batch, fresh.width)
    for layer, other in zip(batch.cache.layers, fresh.cache.layers, strict=True):
        layer.put(slots, other)
    batch.mask = torch.cat([batch.mask[:, : batch.width], batch.mask.new_ones(len(batch.rows), room)], 1)
    batch.mask[slots, : batch.width] = 0
    batch.mask[slots, batch.width - fresh.width : batch.width] = fresh.mask[:, : fresh.width]
    batch.positions[slots], batch.last[slots] = fresh.positions, fresh.last
    for place, row in zip(places, fresh.rows, strict=True):
        batch.rows[place] = row
    if batch.history is not None and fresh.history is not None:
        filling = fresh.history[:, :1].expand(-1, batch.history.shape[1] - fresh.history.shape[1])
        batch.history[slots] = torch.cat([filling, fresh.history], 1)


def densify(batch: Batch, least: int) -> None:
    """Where most columns of the cache belong to nobody, move each row's own to the end and drop the rest; at least
    `least` columns stay."""
    real = batch.mask[:, : batch.width]
    # a finished row goes on filling columns until its place is taken; they count for nothing
    width = max([least, *(held for held, row in zip(real.sum(1).tolist(), batch.rows, strict=True) if not row.done)])
    if batch.width <= DEAD * width:
        return
    columns = real.argsort(dim=1, stable=True)[:, -width:]
    for layer in batch.cache.layers:
        layer.take_columns(columns)
    batch.mask = torch.cat([real.gather(1, columns), batch.mask[:, batch.width :]], 1)
    batch.width = width


def read_last(model: PreTrainedModel, batch: Batch) -> None:
    """Read the last token of each row."""
    assert batch.last is not None
    batch.width += 1
    batch.logits = last_logits(
        virtual_tokens.bare(model), batch.accepted, batch.cache, batch.last[:, None], batch.mask[:, : batch.width], batch.positions[:, None]
    )
    batch.positions = batch.positions + 1


def choose(batch: Batch, chain: LogitsProcessorList, greedy: bool) -> None:
    """Choose each row's next token from the logits, which are used up."""
    assert batch.logits is not None
    scores = chain(batch.history, batch.logits) if len(chain) else batch.logits
    best = scores.topk(2, -1).values if scores.shape[-1] > 1 else scores.expand(-1, 2)
    if bool(best[:, 0].isnan().any()):
        raise NonFinite("the model answers with logits that are not a number; its weights are broken")
    if greedy:
        tokens = scores.argmax(-1)
        for row, gap in zip(batch.rows, (best[:, 0] - best[:, 1]).tolist(), strict=True):
            row.near_ties += gap < NEAR_TIE
    else:
        tokens = draw(scores, [0.0 if row.done or row.uniforms is None else row.uniforms.random() for row in batch.rows])
    for row, token in zip(batch.rows, tokens.tolist(), strict=True):
        if not row.done:
            row.ids.append(token)
    if batch.history is not None:
        batch.history = torch.cat([batch.history, tokens[:, None]], 1)
    batch.last, batch.logits = tokens, None


def finished(batch: Batch, sampling: Sampling, stops: frozenset[int], ended: Ended | None) -> list[Drawn]:
    """The rows whose newest token ends their answer, which are done now."""
    found = []
    for row in batch.rows:
        if row.done:
            continue
        stopped = row.ids[-1] in stops or (ended is not None and ended(row.ids))
        if stopped or len(row.ids) == sampling.max_new_tokens:
            row.done = True
            found.append(Drawn(row.index, tuple(row.ids), "stop" if stopped else "length", row.near_ties))
    return found


def admitted(waiting: deque[int], prompts: Sequence[Sequence[int]], sampling: Sampling, rows: int, tokens: int) -> list[int]:
    """The next prompts of the queue, at most `rows` and `tokens` with padding and answers (at least one prompt)."""
    taken = [waiting.popleft()]
    longest = len(prompts[taken[0]])
    while waiting and len(taken) < rows:
        longest = max(longest, len(prompts[waiting[0]]))
        if (len(taken) + 1) * (longest + sampling.max_new_tokens) > tokens:
            break
        taken.append(waiting.popleft())
    return taken


def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniforms: Uniforms,
    sampling: Sampling,
    stops: frozenset[int],
    ended: Ended | None = None,
    *,
    rows: int = 128,
    tokens: int = 16384,
) -> Iterator[Drawn]:
    """An answer to each prompt, given out as soon as it is finished, in any order. The longest prompts come first and
    decide how many are decoded together: at most `rows`, and `tokens` of prompts and answers with padding.

    `stops`: ids that end an answer. Between two answers the model is in the mode it was found in.
    Raises NonFinite for NaN logits.
    """
    chain = processors(sampling)
    greedy = sampling.temperature == 0
    waiting = deque(sorted(range(len(prompts)), key=lambda index: -len(prompts[index])))
    batch: Batch | None = None
    while waiting or batch:
        found: list[Drawn] = []
        with still(model):
            if batch is None:
                batch = start(model, admitted(waiting, prompts, sampling, rows, tokens), prompts, uniforms, sampling)
            while not found:
                if batch.logits is None:
                    read_last(model, batch)
                choose(batch, chain, greedy)
                found = finished(batch, sampling, stops, ended)
            while batch and (free := sum(row.done for row in batch.rows)) >= LEAVE * len(batch.rows):
                if waiting and batch.plain:
                    taken = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                    fresh = start(model, taken, prompts, uniforms, sampling)
                    choose(fresh, chain, greedy)
                    found += finished(fresh, sampling, stops, ended)  # an answer may end with its first token
                    join(batch, fresh, sampling.max_new_tokens)
                elif free == len(batch.rows):
                    batch = None
                elif free:
                    leave(batch)
        yield from found
