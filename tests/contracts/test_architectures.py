"""Architectures beyond the four of the other contracts: each is packed exactly, or read a row at a time with the reason said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_packing_contract import close, gradients, naive, rows

from etude import catalog, losses
from etude.formats.jinja import Auto
from etude.models import Sampling
from etude.models.local import Local
from etude.records import Conversation, Message

SIZE = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
WIDE = {"intermediate_size": 64, "num_key_value_heads": 2, "attention_dropout": 0.0}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    # name -> (transformers' model type, its configuration, why rows are not packed: "" where they are)
    "mistral": ("mistral", {**WIDE, "sliding_window": 512}, ""),
    "mistral, short window": ("mistral", {**WIDE, "sliding_window": 16}, "sliding window"),
    "gemma": ("gemma", {**WIDE, "head_dim": 8}, ""),
    "gemma2, softcap": ("gemma2", {**WIDE, "head_dim": 8, "sliding_window": 512, "attn_logit_softcapping": 5.0}, "softcap"),
    "gemma3": ("gemma3_text", {**WIDE, "head_dim": 8, "sliding_window": 512}, ""),
    "phi": ("phi", {**WIDE, "num_key_value_heads": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0}, ""),
    "phi3": ("phi3", {**WIDE, "resid_pdrop": 0.0, "embd_pdrop": 0.0}, ""),
    "qwen3": ("qwen3", {**WIDE, "head_dim": 8}, ""),
    "bloom, ALiBi": ("bloom", {"n_layer": 2, "n_head": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0}, "differ from single rows"),
}


@pytest.fixture(scope="module")
def built(tokenizer: Any) -> Any:
    """A factory of tiny random models by their name in KINDS."""
    from transformers import AutoConfig, AutoModelForCausalLM

    def make(name: str) -> Any:
        kind, more, _ = KINDS[name]
        config = AutoConfig.for_model(kind, **{**SIZE, **ENDS, **more})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

    return make


@pytest.mark.parametrize("name", KINDS)
def test_packed_exactly_or_not_at_all_with_the_reason(built: Any, name: str) -> None:
    model, data, why = built(name), rows(8), KINDS[name][2]
    catalog.NOTES.clear()
    packed = losses.packable(model, data, share=True)
    assert packed == (not why), catalog.NOTES
    if why:
        assert any("rows are not packed for this model" in said and why in said for said in catalog.NOTES), catalog.NOTES
    passes = losses.passes(model, data, 128, packed, share=True)
    assert (len(passes) < len(data)) == packed
    close(gradients(model, passes, documents=packed), naive(model, data))


@pytest.mark.parametrize("name", KINDS)
def test_greedy_answers_are_those_of_generate(built: Any, tokenizer: Any, name: str) -> None:
    model = built(name)
    local = Local(model, tokenizer, Auto().bind(tokenizer))
    asked = [Conversation(str(n), (Message("user", text),)) for n, text in enumerate(("Why?", "List three long colours for me.", "a"))]
    for conversation, (answer,) in zip(asked, local.complete(asked, Sampling(max_new_tokens=8)), strict=True):
        ids = torch.tensor([local.encoder.ids(local.form.prompt(conversation))])
        stops = sorted(local.stops())
        own = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=stops, pad_token_id=0
        )
        written = own[0, ids.shape[1] :].tolist()
        assert answer.text == local.encoder.text([i for i in written if i not in stops])
