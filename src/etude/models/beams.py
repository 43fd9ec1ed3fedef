"""Beam search of the local model, by transformers' own `generate`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from etude import pairs, virtual_tokens
from etude.models import Sampling
from etude.models.decoding import Drawn, Ended, still
from etude.models.reading import padded
from etude.models.sequences import forced_first


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
    """Beam search by transformers' `generate`: for each prompt (an encoder-decoder's source) its `sampling.n` best answers.

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
    if paired := pairs.is_paired(model):
        config.decoder_start_token_id, config.forced_bos_token_id = pairs.start_id(model), forced_first(model)
        ids, mask = (torch.from_numpy(part).to(device) for part in pairs.filled(prompts))
    else:
        # padded with the row's own first token, so that a repetition penalty on the padding changes nothing
        ids = padded(prompts, [prompt[0] for prompt in prompts]).to(device)
        mask = padded([[1] * len(prompt) for prompt in prompts], [0] * len(prompts)).to(device)
    given: dict[str, Any] = {"tokenizer": tokenizer} if config.stop_strings else {}
    with still(model), own_options(model) as inner, torch.random.fork_rng(enabled=sampled):
        if ahead := virtual_tokens.count(model):
            # virtual tokens have been read; any id may stand for them, such as the row's first
            ids, mask = torch.cat([ids[:, :1].expand(-1, ahead), ids], 1), torch.cat([mask.new_ones(len(mask), ahead), mask], 1)
            ids[:, :ahead] = torch.tensor([[prompt[0]] for prompt in prompts], device=device)
            given["past_key_values"] = DynamicCache(config=inner.config)
            virtual_tokens.begin(model, given["past_key_values"], len(prompts) * sampling.num_beams)
        if sampled:
            torch.manual_seed(seed)
        read = virtual_tokens.source(model, ids, mask) if paired else {"input_ids": ids, "attention_mask": mask}
        output = inner.generate(**read, generation_config=config, **given)
    answers = output[:, 1 if paired else ids.shape[1] :].tolist()  # a decoder's output begins with its start token
    return [
        [until_end(index, row, stops, ended, pad) for row in answers[index * sampling.n : (index + 1) * sampling.n]]
        for index in range(len(prompts))
    ]
