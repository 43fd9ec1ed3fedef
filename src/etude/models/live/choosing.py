"""The next token of rows that each have settings of their own: penalties, biases, warping, and what is told of the odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from etude.failures import NonFinite
from etude.models import Sampling
from etude.models.decoding import NEAR_TIE, draw, processors


class Asked(Protocol):
    """How one row is drawn."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """The prompt's ids."""

    @property
    def sampling(self) -> Sampling:
        """Temperature and the like."""

    @property
    def presence(self) -> float:
        """Taken from the logit of each token that the answer holds."""

    @property
    def frequency(self) -> float:
        """Taken from it once for each time it was drawn."""

    @property
    def bias(self) -> Mapping[int, float]:
        """Added to these tokens' logits."""


class Row(Protocol):
    """One row of the batch."""

    ids: list[int]
    uniforms: np.random.Generator | None
    near_ties: int
    done: bool

    @property
    def ask(self) -> Asked:
        """How it is drawn."""


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A drawn token, its natural log-probability under the model (before penalties and temperature), and the likeliest tokens
    at its place with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> tuple[torch.Tensor, dict[int, NonFinite]]:
    """The next token of each row, int64 (rows,), from float32 (rows, vocabulary); and the rows whose logits are not a number."""
    tokens = logits.new_zeros(len(rows), dtype=torch.int64)
    nan = logits.amax(-1).isnan().tolist()
    broken = {
        place: NonFinite("the model answers with logits that are not a number; its weights are broken")
        for place, bad in enumerate(nan)
        if bad and not rows[place].done
    }
    groups: dict[tuple[float, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if not row.done and place not in broken:
            sampling = row.ask.sampling
            warped = (sampling.temperature, sampling.top_k, sampling.top_p) if sampling.temperature > 0 else (0.0,)
            groups.setdefault(warped, []).append(place)
    for (temperature, *_), places in groups.items():
        chosen = [rows[place] for place in places]
        scores = logits if len(places) == len(rows) else logits[places]
        scores = penalised(scores, chosen)
        if temperature == 0:
            best = scores.topk(2, -1).values if scores.shape[-1] > 1 else scores.expand(-1, 2)
            for row, gap in zip(chosen, (best[:, 0] - best[:, 1]).tolist(), strict=True):
                row.near_ties += gap < NEAR_TIE
            tokens[places] = scores.argmax(-1)
        else:
            # the group's own settings without the penalty, which is each row's own and done
            warpers = processors(chosen[0].ask.sampling.model_copy(update={"repetition_penalty": 1.0}))
            uniforms = [row.uniforms.random() if row.uniforms is not None else 0.0 for row in chosen]
            tokens[places] = draw(warpers(None, scores) if len(warpers) else scores, uniforms)
    return tokens, broken


def penalised(scores: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Scores with each row's repetition penalty (on prompt and answer), bias, and presence and frequency penalties (on the
    answer: `logit - frequency * count - presence * (count > 0)`, OpenAI's API reference)."""
    ours = [place for place, row in enumerate(rows) if touched(row.ask)]
    if not ours:
        return scores
    scores = scores.clone()
    for place in ours:
        row = rows[place]
        if row.ask.sampling.repetition_penalty != 1.0:
            history = torch.tensor([[*row.ask.prompt, *row.ids]], device=scores.device)
            penalty = RepetitionPenaltyLogitsProcessor(float(row.ask.sampling.repetition_penalty))
            scores[place] = penalty(history, scores[place : place + 1])[0]
        if row.ask.bias:
            scores[place, list(row.ask.bias)] += torch.tensor(list(row.ask.bias.values()), device=scores.device)
        if (row.ask.presence or row.ask.frequency) and row.ids:
            drawn, counts = torch.unique(torch.tensor(row.ids, device=scores.device), return_counts=True)
            scores[place, drawn] -= row.ask.frequency * counts + row.ask.presence
    return scores


def touched(ask: Asked) -> bool:
    """Whether a row's scores are changed before they are warped."""
    return bool(ask.sampling.repetition_penalty != 1.0 or ask.bias or ask.presence or ask.frequency)


def chances(logits: torch.Tensor, tokens: torch.Tensor, tops: Sequence[int]) -> list[TokenChance]:
    """What is told of each row's token, int64 (rows,), under float32 logits (rows, vocabulary), with so many likeliest tokens."""
    if not tops:
        return []
    logs = logits.log_softmax(-1)
    own = logs.gather(1, tokens[:, None]).squeeze(1).tolist()
    best = logs.topk(min(max(tops), logs.shape[1]), -1)
    values, indices = best.values.tolist(), best.indices.tolist()
    return [
        TokenChance(token, log, tuple(zip(ids[:top], likely[:top], strict=True)))
        for token, log, top, ids, likely in zip(tokens.tolist(), own, tops, indices, values, strict=True)
    ]
