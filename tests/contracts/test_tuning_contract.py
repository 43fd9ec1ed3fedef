"""What every method of the catalog promises; a new line in TUNINGS is enrolled by itself."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from contracts.test_packing_contract import alike
from etude import attention, checkpoints, journal, losses, packing, training, virtual_tokens
from etude.failures import Stopped
from etude.records import IGNORED, Encoded
from etude.steps import Tune
from etude.tunings import TUNINGS

SMALL: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "dropout": 0.1},
    "qlora": {"r": 4},
    "adalora": {"init_r": 6, "target_r": 3},
    "prefix": {"tokens": 5},
    "p_tuning": {"tokens": 5},
    "prompt": {"tokens": 5},
}
"""Settings that suit a model of width 32; a method without an entry is tried with its defaults."""
RATES = {"full": 0.01, "lora": 0.03, "qlora": 0.03, "adalora": 0.05, "ia3": 0.1, "prefix": 0.1, "p_tuning": 0.01, "prompt": 0.1}
"""Rates at which a tiny random model learns in a few steps."""

DATA = [Encoded(str(i), np.array([5, 6, 7 + i, 40 + i, 2], np.int32), np.array([IGNORED] * 3 + [40 + i, 2], np.int32)) for i in range(6)]
IDS = torch.tensor([[5, 6, 9, 42], [7, 3, 3, 1]])


def settings(name: str, **given: Any) -> Tune:
    method = TUNINGS[name](**SMALL.get(name, {}))
    return Tune(**{"method": method, "learning_rate": RATES.get(name), "rows_per_step": 6, "epochs": 10, "evaluate_every": "never"} | given)


@pytest.fixture(scope="module")
def make(tiny):
    # output rows of the usual tiny size would cap what a method that leaves them alone can say
    return lambda: tiny("llama", initializer_range=0.3, num_hidden_layers=1)


@pytest.fixture(scope="module", params=list(TUNINGS))
def name(request) -> str:
    if request.param == "qlora" and not importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is not installed")
    return request.param


@pytest.fixture(scope="module")
def trained(name, make, tmp_path_factory):
    """(the settings, the folder, the tuned model, its facts, its losses); the model is saved in folder/model."""
    folder, tune = tmp_path_factory.mktemp(name), settings(name)
    model, outcome = training.train(make(), DATA, tune, folder, seed=3)
    tune.method.save(model, folder / "model")
    return tune, folder, model, outcome, [row["loss"] for row in journal.read(folder / "metrics.jsonl")]


def logits(model, ids=IDS):
    with torch.no_grad():
        output = model(input_ids=ids).logits
        return output[:, -ids.shape[1] :]  # peft gives those of embedded virtual tokens, too


def test_it_learns(trained):
    losses = trained[4]
    assert losses[-1] < 0.8 * losses[0]


def test_it_trains_exactly_its_own_weights_and_counts_them(name, make, trained):
    tune, _, model, outcome, _ = trained
    untouched = tune.method.prepare(make(), training.seeds.number(3, "adapter") % 2**32)
    learning = checkpoints.learning(untouched)
    after = dict(model.named_parameters())
    assert learning.keys() == checkpoints.learning(model).keys()
    assert 0 < outcome.trainable == sum(p.numel() for p in learning.values())
    assert outcome.trainable <= outcome.parameters
    changed = {n for n, p in untouched.named_parameters() if not torch.equal(p, after[n])}
    assert changed <= set(learning)
    assert len(changed) > 0.5 * len(learning)
    for n, value in untouched.named_buffers():
        assert torch.equal(value, dict(model.named_buffers())[n]), n


def test_it_reloads_from_disk_to_the_same_logits(make, trained):
    tune, folder, model, _, _ = trained
    again = tune.method.load(make(), folder / "model").eval()
    torch.testing.assert_close(logits(again), logits(model), atol=2e-4, rtol=1e-4)
    assert not torch.allclose(logits(again), logits(make()), atol=1e-2)


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match")  # peft of its own AdaLoRA
def test_plain_peft_or_transformers_loads_it(name, make, trained):
    tune, folder, model, _, _ = trained
    if (folder / "model" / "adapter_config.json").exists():
        from peft import PeftModel

        base = tune.method.quantise(make()) if name == "qlora" else make()
        plain = PeftModel.from_pretrained(base, str(folder / "model")).eval()
    else:
        from transformers import AutoModelForCausalLM

        plain = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    torch.testing.assert_close(logits(plain), logits(model), atol=2e-4, rtol=1e-4)


def test_packed_loss_and_gradients_are_those_of_single_rows_through_peft_itself(trained):
    """Each row by the (Peft)model's own forward pass and labels against our packs with a shared start."""
    tune, _, model, _, _ = trained
    data = alike()[:6]
    learning = list(checkpoints.learning(model).values())
    counted = sum(int((row.labels[1:] != IGNORED).sum()) for row in data)
    found = []
    model.zero_grad()
    with attention.enable(model):
        packed = sum(losses.loss_of(model, pack) for pack in packing.pack(data, 128, share=True)) / counted
    packed.backward()
    found.append((float(packed.detach()), [p.grad.clone() for p in learning]))
    model.zero_grad()
    total = 0.0
    for row in data:
        ids, labels = torch.from_numpy(row.ids.astype(np.int64))[None], torch.from_numpy(row.labels.astype(np.int64))[None]
        output = model(input_ids=ids, labels=labels)  # the mean over the row's targets
        # AdaLoRA's own forward adds its penalty
        penalty = tune.method.penalty(model) if hasattr(tune.method, "penalty") else 0.0
        loss = (output.loss - penalty) * int((row.labels[1:] != IGNORED).sum()) / counted
        loss.backward()
        total += float(loss.detach())
    found.append((total, [p.grad.clone() for p in learning]))
    model.zero_grad()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    largest = max(float(g.abs().max()) for g in found[1][1])
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4 * largest


def test_packs_do_not_change_the_run(name, make, tmp_path):
    runs = []
    for size, share in ((1, False), (4096, True)):
        tune = settings(name, pack_tokens=size, share_prefix=share, max_steps=2, rows_per_step=6, learning_rate=1e-3)
        method = tune.method.model_copy(update={"dropout": 0.0}) if getattr(tune.method, "dropout", 0) else tune.method
        _, outcome = training.train(make(), alike(), tune.model_copy(update={"method": method}), tmp_path / str(size))
        runs.append([row["loss"] for row in journal.read(tmp_path / str(size) / "metrics.jsonl")])
        assert outcome.packed
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)


def test_resume_is_bit_exact(name, make, trained, tmp_path):
    tune = trained[0]
    stop = trained[3].steps // 2  # AdaLoRA's ranks are falling

    def halt(step):
        if step.step == stop:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        training.train(make(), DATA, tune, tmp_path, seed=3, progress=halt)
    torch.rand(stop)
    model, _ = training.train(make(), DATA, tune, tmp_path, seed=3)
    whole, mine = checkpoints.learning(trained[2]), checkpoints.learning(model)
    assert all(torch.equal(whole[key], mine[key]) for key in whole)


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # peft says so of its own generation
def test_it_answers_as_generate_does(name, trained, tokenizer):
    """Greedy, in batches of unlike prompts that share a start, against (peft's) generate one by one."""
    from etude.models import Sampling
    from etude.models.decoding import decode

    model = trained[2]
    start = list(range(30, 50))
    prompts = [(*start, *range(60, 60 + n)) for n in (1, 3, 9)] + [(5, 6, 9), (5, 6)]
    sampling = Sampling(max_new_tokens=6)
    found = {one.index: list(one.ids) for one in decode(model, prompts, lambda i: None, sampling, frozenset())}
    for index, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert found[index] == theirs[0, len(prompt) :].tolist()


@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_beams_and_scores_see_it(name, trained, tokenizer):
    from etude.formats.jinja import Auto
    from etude.models import Sampling
    from etude.models.local import Local
    from etude.records import Conversation, Message

    model = trained[2]
    local = Local(model, tokenizer, Auto().bind(tokenizer))
    asked = [
        Conversation(str(i), (Message("user", text), Message("assistant", "Yes."))) for i, text in enumerate(("One?", "And two, then?"))
    ]
    together = local.logprobs(asked)
    local._documents = False
    for a, b in zip(together, local.logprobs(asked), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert local.context() == 512 - virtual_tokens.count(model)
    prompts = [(5, 6, 9), (5, 6, 7, 8)]
    from etude.models.beams import beams

    found = beams(model, tokenizer, prompts, Sampling(max_new_tokens=4, num_beams=2), frozenset())
    for prompt, (best, *_) in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        given = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2, "eos_token_id": None, "pad_token_id": 0}
        theirs = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **given)
        assert list(best.ids) == theirs[0, len(prompt) :].tolist()


def test_its_facts_are_plain_data(trained):
    json.dumps(dict(trained[3].method))


def test_a_method_is_imported_only_when_a_recipe_names_it():
    code = (
        "import sys; from etude.tunings import TUNINGS; from etude.steps import Tune; Tune(method='prefix'); "
        "loaded = set(sys.modules); assert 'etude.tunings.prefix' in loaded; "
        "assert not loaded & {'etude.tunings.adalora', 'etude.tunings.qlora', 'torch', 'peft', 'transformers', 'numpy'}, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_rates_are_given():
    assert all(0 < TUNINGS[name].default_learning_rate < 0.1 for name in TUNINGS)
