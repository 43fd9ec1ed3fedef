"""Answers of encoder-decoder models: each source is read once, then the decoder writes with its own cache.

Greedy and sampled decoding as `decoding` has it for decoder-only models, with the same choice of tokens: a source that is
asked several times is encoded once, its keys and values for the cross-attention are computed once, all rows of a batch have
equally many tokens behind them (so nothing is padded in the decoder), and finished rows leave the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from etude import pairs, virtual_tokens
from etude.models import Sampling
from etude.models.caches import Layer
from etude.models.decoding import LEAVE, Batch, Drawn, Ended, Live, Uniforms, admitted, choose, finished, leave, processors, still
from etude.models.reading import alike


def encode(model: PreTrainedModel, sources: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder's output, float (rows, longest, width), and int64 (rows, longest), 1 where a token is real; virtual tokens count as
    real. Rows of like length are read together, whatever their order."""
    device, ahead = next(model.parameters()).device, virtual_tokens.in_source(model)
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    longest = ahead + len(sources[order[0]])
    states: list[torch.Tensor] = [torch.empty(0)] * len(sources)
    mask = torch.from_numpy(pairs.filled(sources)[1]).to(device)
    mask = torch.cat([mask.new_ones(len(mask), ahead), mask], 1)
    for low, high in alike([len(sources[index]) for index in order]):
        ids, own = (torch.from_numpy(part).to(device) for part in pairs.filled([sources[index] for index in order[low:high]]))
        read = model.get_encoder()(**virtual_tokens.source(model, ids, own)).last_hidden_state
        read = torch.nn.functional.pad(read, (0, 0, 0, longest - read.shape[1]))
        for index, state in zip(order[low:high], read, strict=True):
            states[index] = state
    return torch.stack(states), mask


def written(
    model: PreTrainedModel,
    states: torch.Tensor,
    mask: torch.Tensor,
    inputs: torch.Tensor,
    cache: EncoderDecoderCache | None = None,
) -> torch.Tensor:
    """Logits (rows, tokens, vocabulary) behind `inputs` (rows, tokens), which the decoder reads after what `cache` holds."""
    output = virtual_tokens.bare(model)(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=mask,
        decoder_input_ids=inputs,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return output.logits  # type: ignore[no-any-return]


def continuation_logits(model: PreTrainedModel, source: Sequence[int], targets: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits (all tokens of all targets, vocabulary) for several targets of one source, which is encoded once."""
    states, mask = encode(model, [source])
    start = pairs.start_id(model)
    inputs, own = (torch.from_numpy(part).to(states.device) for part in pairs.filled([[start, *target[:-1]] for target in targets]))
    rows = len(targets)
    return written(model, states.expand(rows, -1, -1), mask.expand(rows, -1), inputs)[own.bool()]


def begin(
    model: PreTrainedModel, indices: Sequence[int], sources: Sequence[Sequence[int]], uniforms: Uniforms, sampling: Sampling
) -> tuple[Batch, torch.Tensor]:
    """The sources with these indices, each different one encoded once: a batch that has written nothing yet, and the encoder's output.
    The batch's `mask` is that of the sources, and its history begins with the start token, as transformers' does."""
    places: dict[tuple[int, ...], int] = {}
    owners = [places.setdefault(tuple(sources[index]), len(places)) for index in indices]
    states, mask = encode(model, list(places))
    if len(places) < len(indices):
        chosen = torch.tensor(owners, device=states.device)
        states, mask = states[chosen], mask[chosen]
    own = DynamicCache()
    own.layer_class_to_replicate = Layer
    start = torch.full((len(indices),), pairs.start_id(model), dtype=torch.long, device=states.device)
    return (
        Batch(
            cache=EncoderDecoderCache(own, DynamicCache()),
            plain=False,
            accepted=frozenset(),
            rows=[Live(index, uniforms(index)) for index in indices],
            mask=mask,
            width=0,
            positions=torch.zeros_like(start),
            logits=None,
            history=start[:, None] if sampling.repetition_penalty != 1.0 else None,
            last=start,
        ),
        states,
    )


def forced_first(model: PreTrainedModel) -> int | None:
    """The token that every answer begins with (BART's `<s>`), or None."""
    for config in (getattr(model, "generation_config", None), model.config):
        found = getattr(config, "forced_bos_token_id", None)
        if found is not None:
            return int(found)
    return None


def decode(
    model: PreTrainedModel,
    sources: Sequence[Sequence[int]],
    uniforms: Uniforms,
    sampling: Sampling,
    stops: frozenset[int],
    ended: Ended | None = None,
    *,
    rows: int = 128,
    tokens: int = 16384,
) -> Iterator[Drawn]:
    """An answer to each source, given out as soon as it is finished, in any order; arguments, bounds and errors are those of
    `decoding.decode`."""
    chain, greedy, forced = processors(sampling), sampling.temperature == 0, forced_first(model)
    waiting = deque(sorted(range(len(sources)), key=lambda index: -len(sources[index])))
    while waiting:
        with still(model):
            batch, states = begin(model, admitted(waiting, sources, sampling, rows, tokens), sources, uniforms, sampling)
        while batch.rows:
            with still(model):
                assert batch.last is not None
                batch.logits = written(model, states, batch.mask, batch.last[:, None], batch.cache)[:, -1].float()
                if forced is not None and batch.width == 0:
                    batch.logits = torch.full_like(batch.logits, float("-inf")).index_fill_(
                        1, torch.tensor([forced], device=states.device), 0.0
                    )
                batch.width += 1
                choose(batch, chain, greedy)
                found = finished(batch, sampling, stops, ended)
                gone = sum(row.done for row in batch.rows)
                if gone == len(batch.rows):
                    batch.rows = []
                elif gone >= LEAVE * len(batch.rows):
                    states = states[leave(batch)]
            yield from found
