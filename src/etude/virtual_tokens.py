"""Virtual tokens: what peft's prompt methods put before every row, read by us instead of by peft.

Prompt and P-tuning learn vectors that stand where the embeddings of tokens would; prefix tuning learns the keys and
values of every layer. No virtual token sees a real one, so they are computed once a pack and once a batch of prompts,
and everything behind attends to them like to a shared prefix. Positions of real tokens begin behind them, as in peft.

An encoder's virtual tokens do see the row, so there they stand before every source (`in_source`), as peft puts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache


def count(model: PreTrainedModel) -> int:
    """Virtual tokens in front of every row of a decoder-only model: 0 without a prompt method."""
    config = settings(model)
    return int(config.num_virtual_tokens) if config is not None else 0


def in_source(model: PreTrainedModel) -> int:
    """Virtual tokens in front of every source of an encoder-decoder: 0 without a prompt method."""
    config = learned(model)
    return int(config.num_virtual_tokens) if config is not None and model.config.is_encoder_decoder else 0


def settings(model: PreTrainedModel) -> Any:
    """peft's settings of a decoder-only model's prompt method, or None."""
    return None if getattr(model.config, "is_encoder_decoder", False) else learned(model)


def learned(model: PreTrainedModel) -> Any:
    """peft's settings of the model's prompt method, or None."""
    config = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    return config if config is not None and config.is_prompt_learning else None


def bare(model: PreTrainedModel) -> PreTrainedModel:
    """The model that reads the virtual tokens: without the wrapper that would put them in again."""
    return model.get_base_model() if learned(model) is not None else model


def in_cache(model: PreTrainedModel) -> bool:
    """Whether the virtual tokens are keys and values (prefix tuning) and not embeddings."""
    config = settings(model)
    return config is not None and config.peft_type.value == "PREFIX_TUNING"


def embedded(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Embeddings (rows, virtual + tokens, width): the virtual tokens, then those of `ids` (rows, tokens)."""
    import torch

    wrapped: Any = model
    own = bare(model).get_input_embeddings()(ids)
    return torch.cat([wrapped.get_prompt(batch_size=len(ids)).to(own.dtype), own], 1)


def source(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """The arguments of an encoder's forward pass that bring `ids` (rows, tokens), masked by `mask`, and the virtual tokens before them."""
    import torch

    ahead = in_source(model)
    if not ahead:
        return {"input_ids": ids, "attention_mask": mask}
    return {"inputs_embeds": embedded(model, ids), "attention_mask": torch.cat([mask.new_ones(len(mask), ahead), mask], 1)}


def given(model: PreTrainedModel, ids: torch.Tensor) -> dict[str, Any]:
    """The arguments of the bare model's forward pass that bring `ids` (rows, tokens) and the virtual tokens before them."""
    if in_cache(model):
        wrapped: Any = model
        return {"input_ids": ids, "past_key_values": wrapped.get_prompt(batch_size=len(ids))}
    return {"inputs_embeds": embedded(model, ids)}


def begin(model: PreTrainedModel, cache: Cache, rows: int) -> None:
    """Put the virtual tokens' keys and values into an empty cache of `rows` rows."""
    import torch

    wrapped: Any = model
    if in_cache(model):
        for index, layer in enumerate(wrapped.get_prompt(batch_size=rows).layers):
            if layer.keys is not None:  # layers that share another's keys have none
                cache.update(layer.keys, layer.values, index)
        return
    prompt = wrapped.get_prompt(batch_size=rows)
    mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
    prompt = prompt.to(bare(model).get_input_embeddings().weight.dtype)
    bare(model)(inputs_embeds=prompt, attention_mask=mask, past_key_values=cache, use_cache=True)
