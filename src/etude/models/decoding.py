"""The generation loop of the local model: one batch of prompts in, answers out as they finish.

What transformers' `generate` means by greedy and sampled decoding, computed with less: a start that
all prompts share is computed once, a repeated prompt is computed once, keys and values are written
into room made ahead instead of being copied at every step, logits exist for the last position only,
and finished rows leave the batch.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import Cache, DynamicLayer

from etude.failures import NonFinite
from etude.models import Sampling

NEAR_TIE = 1e-4
"""Two best logits closer than this may change places when the batch changes (float32 rounding)."""
SHORTEST_PREFIX = 16
"""A shared start of fewer tokens costs more (one forward pass of its own) than it saves."""
SPARE = 64
"""Tokens of room a cache layer makes ahead when it has to grow."""
LEAVE = 0.125
"""Finished rows leave the batch as soon as they are this share of it."""

Ended = Callable[[Sequence[int]], bool]
"""Whether an answer's tokens so far end with a stop text."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished answer: `index` of its prompt in the batch, its token ids (an end of turn included),
    "stop" or "length", and its near ties."""

    index: int
    ids: tuple[int, ...]
    finish: str
    near_ties: int = 0


class Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values, each (rows, heads, tokens, width), as views of storage with room to grow.

    transformers' own layer copies everything at every step, which at batch 20 costs as much as the
    attention itself; this one writes the new token only.
    """

    keys: torch.Tensor
    values: torch.Tensor
    is_initialized: bool
    room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append along the tokens; returns all keys and values."""
        past = self.keys.shape[2] if self.is_initialized else 0
        rows, total = key_states.shape[0], past + key_states.shape[2]
        if self.room is None or self.room[0].shape[0] < rows or self.room[0].shape[2] < total:
            grown = tuple(s.new_empty(rows, s.shape[1], total + SPARE, s.shape[3]) for s in (key_states, value_states))
            if past:
                grown[0][:, :, :past], grown[1][:, :, :past] = self.keys, self.values
            self.room = (grown[0], grown[1])
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.keys, self.values = (store[:rows].narrow(2, 0, total) for store in self.room)
        self.keys.narrow(2, past, total - past).copy_(key_states)
        self.values.narrow(2, past, total - past).copy_(value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep or repeat rows. Where the batch shrinks, rows are moved inside the storage."""
        rows = len(indices)
        if self.room is None or rows >= self.keys.shape[0]:
            self.keys, self.values, self.room = self.keys[indices], self.values[indices], None
            return
        moved = (indices != torch.arange(rows, device=indices.device)).nonzero().flatten()
        for name in ("keys", "values"):
            kept = getattr(self, name)
            if len(moved):
                kept[moved] = kept[indices[moved]]  # the right side is a copy, so no row is overwritten before it is read
            setattr(self, name, kept[:rows])


def new_cache(model: PreTrainedModel) -> tuple[Cache, bool]:
    """A cache for the model, and whether all its layers are plain attention, which a shared start needs."""
    cache = DynamicCache(config=model.config)
    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    cache.layers = [Layer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if not cache.layers:
        cache.layer_class_to_replicate = Layer
    return cache, plain


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
            chain.append(TopPLogitsWarper(top_p=sampling.top_p))
    return chain


def draw(scores: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    """One token a row from softmax(scores) by inversion, `uniforms` in [0, 1).

    One number a token, summed in float64, so that rounding which differs between batches changes a
    draw only when the number falls within rounding of a boundary.
    """
    sums = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted = torch.tensor(uniforms, dtype=torch.float64, device=scores.device) * sums[:, -1]
    return torch.searchsorted(sums, wanted[:, None], right=True).squeeze(1).clamp(max=scores.shape[1] - 1)


def padded(rows: Sequence[Sequence[int]], pads: Sequence[int]) -> torch.Tensor:
    """Rows of ids as int64 (rows, longest), each filled up on the left with its own pad."""
    width = max(len(row) for row in rows)
    return torch.tensor([[pad] * (width - len(row)) + list(row) for row, pad in zip(rows, pads, strict=True)])


def shared_start(rows: Sequence[tuple[int, ...]]) -> int:
    """Tokens at the start that all rows have in common, leaving each row at least one of its own."""
    most = min(len(row) for row in rows) - 1
    first, last = min(rows), max(rows)
    return next((i for i in range(most) if first[i] != last[i]), most)


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
    the last tokens have not been read yet; history: what a repetition penalty looks at."""

    cache: Cache
    accepted: frozenset[str]
    rows: list[Live]
    mask: torch.Tensor
    width: int
    positions: torch.Tensor
    logits: torch.Tensor | None
    history: torch.Tensor | None
    last: torch.Tensor | None = None


def accepted(model: PreTrainedModel) -> frozenset[str]:
    """Names of the arguments of the model's forward pass, seen through an adapter."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(inner.forward).parameters)


def last_logits(
    model: PreTrainedModel, names: frozenset[str], cache: Cache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Read `ids` (rows, tokens) behind what the cache holds; float32 logits (rows, vocabulary) of the last token."""
    given: dict[str, Any] = {"position_ids": positions} if "position_ids" in names else {}
    if "logits_to_keep" in names:
        given["logits_to_keep"] = 1
    output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given)
    return output.logits[:, -1].float()  # type: ignore[no-any-return]


def start(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], uniforms: Sequence[np.random.Generator | None], sampling: Sampling
) -> Batch:
    """Read the prompts: the shared start once, each different prompt once."""
    device = next(model.parameters()).device
    names = accepted(model)
    cache, plain = new_cache(model)
    places: dict[tuple[int, ...], int] = {}
    owners = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
    unique = list(places)
    prefix = shared_start(unique) if plain and len(unique) > 1 else 0
    if prefix < SHORTEST_PREFIX:
        prefix = 0
    else:
        head = torch.tensor([unique[0][:prefix]], device=device)
        last_logits(model, names, cache, head, torch.ones_like(head), torch.arange(prefix, device=device)[None])
        cache.batch_select_indices(torch.zeros(len(unique), dtype=torch.long, device=device))
    rest = [row[prefix:] for row in unique]
    # a pad is masked everywhere; token 0 exists in every vocabulary
    ids = padded(rest, [0] * len(rest)).to(device)
    real = padded([[1] * len(row) for row in rest], [0] * len(rest)).to(device)
    width = prefix + ids.shape[1]
    mask = torch.cat([real.new_ones(len(rest), prefix), real, real.new_ones(len(rest), sampling.max_new_tokens)], 1)
    positions = (real.cumsum(1) - 1).clamp(min=0) + prefix
    logits = last_logits(model, names, cache, ids, mask[:, :width], positions)
    following = positions[:, -1] + 1
    if len(unique) < len(prompts):
        chosen = torch.tensor(owners, device=device)
        cache.batch_select_indices(chosen)
        mask, following, logits = mask[chosen], following[chosen], logits[chosen]
    history = None
    if sampling.repetition_penalty != 1.0:
        # filled up with the row's own first token, which is penalised anyway
        history = padded(prompts, [prompt[0] for prompt in prompts]).to(device)
    rows = [Live(index, stream) for index, stream in enumerate(uniforms)]
    return Batch(cache, names, rows, mask, width, following, logits, history)


def read_last(model: PreTrainedModel, batch: Batch) -> None:
    """Let finished rows leave where they are many, then read the last token of each row."""
    assert batch.last is not None
    alive = [place for place, row in enumerate(batch.rows) if not row.done]
    if len(alive) <= (1 - LEAVE) * len(batch.rows):
        # living rows stay where they are; those beyond the new end move into the gaps
        tail = iter([place for place in alive if place >= len(alive)])
        order = [place if not batch.rows[place].done else next(tail) for place in range(len(alive))]
        chosen = torch.tensor(order, device=batch.mask.device)
        batch.cache.batch_select_indices(chosen)
        batch.rows = [batch.rows[place] for place in order]
        batch.mask, batch.positions, batch.last = batch.mask[chosen], batch.positions[chosen], batch.last[chosen]
        batch.history = None if batch.history is None else batch.history[chosen]
    batch.width += 1
    batch.logits = last_logits(
        model, batch.accepted, batch.cache, batch.last[:, None], batch.mask[:, : batch.width], batch.positions[:, None]
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


def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniforms: Sequence[np.random.Generator | None],
    sampling: Sampling,
    stops: frozenset[int],
    ended: Ended | None = None,
) -> Iterator[Drawn]:
    """One batch: an answer to each prompt, given out as soon as it is finished.

    `uniforms`: a stream of uniform numbers a row (None: greedy). `stops`: ids that end an answer.
    Between two answers the model is in the mode it was found in. Raises NonFinite for NaN logits.
    """
    chain = processors(sampling)
    with still(model):
        batch = start(model, prompts, uniforms, sampling)
    left = len(prompts)
    while left:
        finished: list[Drawn] = []
        with still(model):
            while not finished:
                if batch.logits is None:
                    read_last(model, batch)
                choose(batch, chain, sampling.temperature == 0)
                for row in batch.rows:
                    if row.done:
                        continue
                    stopped = row.ids[-1] in stops or (ended is not None and ended(row.ids))
                    if stopped or len(row.ids) == sampling.max_new_tokens:
                        row.done = True
                        finished.append(Drawn(row.index, tuple(row.ids), "stop" if stopped else "length", row.near_ties))
        left -= len(finished)
        yield from finished


@contextlib.contextmanager
def own_options(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model (inside its adapter, if any) without its generation config, whose options `generate`
    would mix into those it is given."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield inner
    finally:
        inner.generation_config = before


def until_end(index: int, ids: Sequence[int], stops: frozenset[int], ended: Ended | None, pad: int) -> Drawn:
    """The answer in `ids`, up to its end of turn or stop text; what follows is padding."""
    for length in range(1, len(ids) + 1):
        if ids[length - 1] in stops or (ended is not None and ended(ids[:length])):
            return Drawn(index, tuple(ids[:length]), "stop")
    while ids and ids[-1] == pad:
        ids = ids[:-1]
    return Drawn(index, tuple(ids), "length")


def beams(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stops: frozenset[int],
    ended: Ended | None = None,
    seed: int = 0,
) -> list[list[Drawn]]:
    """Beam search by transformers' `generate`: for each prompt its `sampling.n` best answers.

    Where beams are sampled (`temperature` above 0), torch's generators are seeded inside and put back after.
    """
    device = next(model.parameters()).device
    sampled = sampling.temperature > 0
    warpers = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p} if sampled else {}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0)
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        num_beams=sampling.num_beams,
        num_return_sequences=sampling.n,
        early_stopping=sampling.early_stopping,
        repetition_penalty=float(sampling.repetition_penalty),
        do_sample=sampled,
        eos_token_id=sorted(stops) or None,
        pad_token_id=pad,
        stop_strings=[text for text in sampling.stop if text] or None,
        **warpers,
    )
    # padded with the row's own first token, so that a repetition penalty on the padding changes nothing
    ids = padded(prompts, [prompt[0] for prompt in prompts]).to(device)
    mask = padded([[1] * len(prompt) for prompt in prompts], [0] * len(prompts)).to(device)
    given = {"tokenizer": tokenizer} if config.stop_strings else {}
    with still(model), own_options(model) as inner, torch.random.fork_rng(enabled=sampled):
        if sampled:
            torch.manual_seed(seed)
        output = inner.generate(input_ids=ids, attention_mask=mask, generation_config=config, **given)
    answers = output[:, ids.shape[1] :].tolist()
    return [
        [until_end(index, row, stops, ended, pad) for row in answers[index * sampling.n : (index + 1) * sampling.n]]
        for index in range(len(prompts))
    ]
