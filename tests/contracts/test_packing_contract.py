"""Packing never changes a loss or a gradient: packs equal single rows, for every architecture."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from conftest import MODELS
from etude import attention, packing, training
from etude.records import IGNORED, Encoded


def rows(count: int, seed: int = 0, vocabulary: int = 300) -> list[Encoded]:
    """Random rows: a prompt of 1 to 30 tokens, an answer of 1 to 20; some with a second trained turn."""
    draws = np.random.default_rng(seed)
    made = []
    for number in range(count):
        ids = draws.integers(0, vocabulary, draws.integers(4, 60)).astype(np.int32)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        start = int(draws.integers(1, len(ids) - 1))
        end = int(draws.integers(start + 1, len(ids) + 1))
        labels[start:end] = ids[start:end]
        if number % 3 == 0 and end + 2 < len(ids):
            labels[-1] = ids[-1]
        made.append(Encoded(str(number), ids, labels))
    return made


def gradients(model, packs, documents):
    model.zero_grad()
    total = 0.0
    with attention.enable(model) if documents else contextlib.nullcontext():
        for pack in packs:
            loss = training.loss_of(model, pack)
            loss.backward()
            total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def naive(model, data):
    """The loss as transformers' documentation has it: each row alone, shifted labels."""
    model.zero_grad()
    total = 0.0
    for row in data:
        logits = model(input_ids=torch.tensor(row.ids[None].astype(np.int64))).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels[1:].astype(np.int64)), reduction="sum")
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close(left, right):
    assert left[0] == pytest.approx(right[0], rel=2e-6)
    assert left[1].keys() == right[1].keys()
    biggest = max(float(g.abs().max()) for g in right[1].values())
    for name, value in right[1].items():
        assert float((left[1][name] - value).abs().max()) < 5e-6 * biggest, name


@pytest.mark.parametrize("name", MODELS)
def test_packs_equal_single_rows_in_loss_and_gradients(tiny, name):
    model, data = tiny(name), rows(12)
    expected = naive(model, data)
    close(gradients(model, packing.pack(data, 128), documents=True), expected)
    close(gradients(model, packing.pack(data, 1), documents=False), expected)


def alike(seed: int = 0) -> list[Encoded]:
    """Rows with two instructions (15 and 22 tokens, 10 of them common), answers of 1 to 9 tokens; in one row
    of each the answer follows the shared tokens at once, so a prefix position predicts it."""
    draws = np.random.default_rng(seed)
    system = draws.integers(0, 300, 10)
    made = []
    for number in range(14):
        head = np.concatenate([system, np.random.default_rng(number % 2).integers(0, 300, 5 + 7 * (number % 2))])
        own = draws.integers(0, 300, 0 if number in (4, 5) else draws.integers(1, 25))
        answer = draws.integers(0, 300, draws.integers(1, 10))
        ids = np.concatenate([head, own, answer]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) >= len(head) + len(own), ids, IGNORED).astype(np.int32)
        made.append(Encoded(str(number), ids, labels))
    return made


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("most", [64, 4096])
def test_a_shared_prefix_changes_neither_loss_nor_gradients(tiny, name, most):
    model, data = tiny(name), alike()
    packs = packing.pack(data, most, share=True)
    assert sum(len(pack.ids) for pack in packs) < 0.8 * sum(len(pack.ids) for pack in packing.pack(data, most))
    assert {pack.prefix for pack in packs} == {15, 22}
    assert any(int(pack.sources.min()) == pack.prefix - 1 for pack in packs), "a prefix position predicts a first answer token"
    close(gradients(model, packs, documents=True), naive(model, data))


def test_sharing_holds_every_target_once_and_no_pack_is_too_long():
    data = alike(3) + rows(9, seed=8)
    for most in (48, 100, 1000):
        packs = packing.pack(data, most, share=True)
        found = sorted((int(r), int(t)) for pack in packs for r, t in zip(pack.rows, pack.targets, strict=True))
        assert found == sorted((i, int(t)) for i, row in enumerate(data) for t in row.labels[1:][row.labels[1:] != IGNORED])
        assert all(len(pack.ids) <= most for pack in packs if len(pack.bounds) > 1)


def test_rows_that_are_one_another_share_all_they_may():
    row = alike()[0]
    (group,) = packing.prefix_groups([row, row, row])
    assert group == (int(packing.pairs(row)[0][0]) + 1, [0, 1, 2])
    assert packing.prefix_groups(rows(1)) == [(0, [0])]
    assert packing.prefix_groups([]) == []


@pytest.mark.parametrize("name", MODELS)
def test_a_document_that_sees_its_neighbour_is_noticed(tiny, name):
    """The measurement behind packing must fail a model that ignores the bounds."""
    model, data = tiny(name), rows(2)
    together, alone = packing.concatenate(data, [0, 1]), [packing.concatenate(data, [i]) for i in range(2)]
    assert attention.honours_documents(model, together, alone) == ""
    blurred = packing.Pack(
        together.ids, together.positions, 0, ((0, len(together.ids)),), together.sources, together.targets, together.rows
    )
    assert "differ from single rows" in attention.honours_documents(model, blurred, alone)


@pytest.mark.parametrize("name", MODELS)
def test_branches_share_their_prompt_exactly(tiny, name):
    model = tiny(name)
    draws = np.random.default_rng(1)
    prompt = draws.integers(0, 300, 17).tolist()
    endings = [draws.integers(0, 300, n).tolist() for n in (1, 2, 5)]
    pack = packing.branches(prompt, endings)
    with attention.enable(model), torch.no_grad():
        shared = attention.target_logits(model, pack)
    single = []
    with torch.no_grad():
        for ending in endings:
            logits = model(input_ids=torch.tensor([prompt + ending])).logits[0]
            single.append(logits[len(prompt) - 1 : -1])
    assert pack.targets.tolist() == [token for ending in endings for token in ending]
    torch.testing.assert_close(shared, torch.cat(single), atol=2e-5, rtol=1e-4)


def test_packs_hold_every_target_once_and_respect_their_size():
    data = rows(40, seed=3)
    packs = packing.pack(data, 100)
    assert all(len(pack.ids) <= 100 for pack in packs)
    found = sorted((int(r), int(t)) for pack in packs for r, t in zip(pack.rows, pack.targets, strict=True))
    wanted = sorted((i, int(t)) for i, row in enumerate(data) for t in row.labels[1:][row.labels[1:] != IGNORED])
    assert found == wanted
    longest = packing.pack(data, 1)
    assert len(longest) == len(data)


@pytest.mark.parametrize("feature", ["softcap", "s_aux", "position_bias"])
def test_document_attention_refuses_what_it_does_not_honour(feature):
    tensor = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match=feature):
        attention.attend(torch.nn.Module(), tensor, tensor, tensor, None, documents=attention.Documents(0, (4,)), **{feature: 1.0})


def test_a_sliding_window_shorter_than_a_document_is_refused(tiny, tokenizer):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mistral", vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=4, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert not training.packable(model, rows(4), share=False)
