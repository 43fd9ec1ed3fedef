"""What is particular to single tuning methods; tests/contracts/test_tuning_contract.py has what all of them promise."""

from __future__ import annotations

import copy
import importlib.util
import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from contracts.test_packing_contract import alike
from contracts.test_tuning_contract import DATA, logits
from etude import attention, checkpoints, losses, optimizing, packing, training, virtual_tokens
from etude.failures import DataError, RecipeError
from etude.models import weights
from etude.records import IGNORED
from etude.steps import Tune
from etude.tunings.adalora import Adalora
from etude.tunings.full import Full
from etude.tunings.ia3 import IA3
from etude.tunings.lora import Lora
from etude.tunings.p_tuning import PTuning
from etude.tunings.prefix import Prefix
from etude.tunings.prompt import Prompt
from etude.tunings.qlora import Qlora


def tune(method, **given) -> Tune:
    return Tune(**{"method": method, "learning_rate": 0.02, "rows_per_step": 3, "epochs": 2, "evaluate_every": "never"} | given)


def learning(model) -> set[str]:
    return set(checkpoints.learning(model))


def reloads(tiny, method, tmp_path, name="llama", **given) -> torch.nn.Module:
    """Train three steps, save, load over a fresh start model by plain peft and by us: the same logits."""
    from peft import PeftModel

    model, _ = training.train(tiny(name), DATA, tune(method, **{"max_steps": 3, **given}), tmp_path)
    method.save(model, tmp_path / "model")
    for again in (PeftModel.from_pretrained(tiny(name), str(tmp_path / "model")), method.load(tiny(name), tmp_path / "model")):
        torch.testing.assert_close(logits(again.eval()), logits(model), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(logits(model), logits(tiny(name)), atol=1e-3)
    return model


# ---- full ------------------------------------------------------------------------------------------


def test_parts_of_the_model_learn(tiny):
    def chosen(**given):
        model = tiny("qwen2")
        return learning(Full(**given).prepare(model, 0)), {name for name, _ in model.named_parameters()}

    found, every = chosen(freeze=("embed_tokens", r"layers\.0\."))
    assert found == {n for n in every if "embed_tokens" not in n and "layers.0." not in n}
    found, every = chosen(only=("bias",))
    assert found == {n for n in every if n.endswith("bias")}
    found, every = chosen(last_layers=1)
    assert found == {n for n in every if "layers.1." in n or n in ("model.norm.weight", "lm_head.weight")}
    assert found - chosen(last_layers=1, freeze=("norm",))[0] == {n for n in found if "norm" in n}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"freeze": ("embed_token$",)}, r"freeze: 'embed_token\$' matches no weight .*embed_tokens"),
        ({"only": ("q_proj(",)}, "no regular expression"),
        ({"last_layers": 3}, "3 asked for, and this model has 2"),
        ({"only": ("norm",), "freeze": ("norm",)}, "leave no weight"),
    ],
)
def test_full_refuses_what_chooses_nothing(tiny, given, said):
    with pytest.raises(RecipeError, match=said):
        Full(**given).prepare(tiny("llama"), 0)


def test_full_reloads_a_model_in_several_files_and_refuses_another(tiny, tmp_path):
    model = tiny("llama", seed=5)
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    torch.testing.assert_close(logits(Full().load(tiny("llama"), tmp_path / "m")), logits(model))
    with pytest.raises(DataError, match="do not fit"):
        Full().load(tiny("llama", hidden_size=64), tmp_path / "m")
    with pytest.raises(DataError, match="missing"):
        Full().load(tiny("llama", num_hidden_layers=3), tmp_path / "m")


# ---- LoRA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"rslora": True},
        {"dora": True},
        {"init": "gaussian"},
        {"init": "orthogonal"},
        {"init": "pissa"},
        {"init": "pissa_niter_4", "rslora": True},
        {"init": "olora"},
        {"modules_to_save": ("norm",)},
        {"target_modules": r".*layers\.1\..*(q|v)_proj"},
        {"target_modules": ("q_proj", "up_proj"), "layers": (0,)},
    ],
    ids=str,
)
def test_lora_variants_train_and_reload(tiny, tmp_path, given):
    model = reloads(tiny, Lora(r=4, **given), tmp_path)
    updated = {n for n in learning(model) if "lora_" in n}
    if "layers" in given:
        assert updated
        assert all("layers.0." in n for n in updated)
    if isinstance(given.get("target_modules"), str):
        assert len(updated) == 4
    if "modules_to_save" in given:
        assert {n for n in learning(model) if "norm" in n}


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_init_from_the_weights_starts_as_the_start_model(tiny, tmp_path, init):
    base = logits(tiny("llama"))
    model = Lora(r=4, init=init).prepare(tiny("llama"), 0).eval()
    torch.testing.assert_close(logits(model), base, atol=1e-5, rtol=1e-4)
    Lora(r=4, init=init).save(model, tmp_path)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {v.shape[0] for n, v in saved.items() if "lora_A" in n} == {8}
    torch.testing.assert_close(logits(Lora().load(tiny("llama"), tmp_path)), base, atol=1e-5, rtol=1e-4)


def test_biases_learn_on_request(tiny):
    for bias, wanted in (("none", 0), ("lora_only", 2), ("all", 6)):
        model = Lora(r=2, target_modules=("q_proj",), bias=bias).prepare(tiny("qwen2"), 0)
        assert sum(n.endswith("bias") for n in learning(model)) == wanted


def test_lora_plus_gives_b_a_rate_of_its_own(tiny, tmp_path):
    method = Lora(r=2, b_rate=16)
    model = method.prepare(tiny("llama"), 0)
    groups = optimizing.groups_of(model, tune(method, weight_decay=0.1))
    by_scale = {g["scale"]: {id(p) for p in g["params"]} for g in groups}
    assert by_scale[16.0] == {id(p) for n, p in model.named_parameters() if "lora_B" in n}
    assert by_scale[1.0] == {id(p) for n, p in model.named_parameters() if "lora_A" in n}
    # the first AdamW step moves each weight by its rate, whatever the gradient's size
    trained, _ = training.train(tiny("llama"), DATA, tune(method, max_steps=1, warmup=0, learning_rate=1e-3), tmp_path)
    moved = {name: float(p.detach().abs().max()) for name, p in trained.named_parameters() if "lora_B" in name}
    assert max(moved.values()) == pytest.approx(16e-3, rel=1e-3)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_new_special_tokens_learn_under_lora(tiny, tmp_path, tied):
    """Two rows are added to the vocabulary; they learn, in both tables, and no other row does."""

    def grown():
        model = tiny("llama", tie_word_embeddings=tied)
        weights.add_mean_row(model, 302)
        return model

    data = copy.deepcopy(DATA[:4])
    for row in data:
        row.ids[0], row.ids[1], row.ids[-1], row.labels[-1] = 300, 301, 301, 301
    method = Lora(r=2, train_tokens=(300, 301))
    model, _ = training.train(grown(), data, tune(method, epochs=4), tmp_path)
    names = [n for n in learning(model) if "token" in n]
    assert len(names) == (1 if tied else 2)
    rows = model.get_input_embeddings()(torch.arange(302)).detach()
    before = grown().get_input_embeddings()(torch.arange(302)).detach()
    assert torch.equal(rows[:300], before[:300])
    assert all(float((rows[i] - before[i]).abs().max()) > 1e-3 for i in (300, 301))
    assert heads_learned(model)
    method.save(model, tmp_path / "model")
    for start in (grown(), tiny("llama", tie_word_embeddings=tied)):  # the second is given the rows on loading
        again = method.load(start, tmp_path / "model").eval()
        torch.testing.assert_close(
            logits(again, torch.tensor([[300, 6, 301]])), logits(model, torch.tensor([[300, 6, 301]])), atol=2e-5, rtol=1e-4
        )


def heads_learned(model) -> bool:
    """Whether the output layer's rows of the new tokens differ from each other, as they only do once they learned."""
    with torch.no_grad():
        scores = model.get_output_embeddings()(torch.eye(32)).T
    return not torch.allclose(scores[300], scores[301])


def test_tokens_are_found_by_text_where_the_model_has_a_folder(tiny, tokenizer, tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = weights.load(tmp_path)
    prepared = Lora(r=2, train_tokens=("<think>",)).prepare(model, 0)
    (delta,) = [p for n, p in checkpoints.learning(prepared).items() if "token" in n]
    assert delta.shape == (1, 32)
    with pytest.raises(RecipeError, match=r"'<thinks>' is no token .*did you mean '<think>'"):
        Lora(train_tokens=("<thinks>",)).prepare(weights.load(tmp_path)[0], 0)
    with pytest.raises(RecipeError, match="not loaded from a folder"):
        Lora(train_tokens=("<think>",)).prepare(tiny("llama"), 0)
    text = Prompt(tokens=4, text="Yes or no").prepare(weights.load(tmp_path)[0], 0)
    ids = torch.tensor((tokenizer("Yes or no")["input_ids"] * 4)[:4])
    assert torch.equal(text.prompt_encoder["default"].embedding.weight, text.get_base_model().get_input_embeddings()(ids))
    assert reloaded_names_no_folder(text, tmp_path / "saved")


def reloaded_names_no_folder(model, folder) -> bool:
    Prompt().save(model, folder)
    return 'tokenizer_name_or_path": null' in (folder / "adapter_config.json").read_text()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Lora(target_modules=("q_proj", "q_prj")), r"'q_prj' matches no layer .*did you mean 'q_proj'"),
        (Lora(target_modules="no_such.*"), "matches no layer of this model .*q_proj"),
        (Lora(r=33), "rank 33 is above the width"),
        (Lora(layers=(2,)), "2 asked for"),
        (Lora(modules_to_save=("lm_hed",)), "no module 'lm_hed'.*lm_head"),
        (Lora(train_tokens=(400,)), "400 is no token"),
        (Adalora(init_r=40), "rank 40 is above the width"),
        (IA3(target_modules=("k",)), "'k' matches no layer"),
        (Prompt(tokens=300), "more than half of the model's context of 512"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_model_say_what_would(tiny, method, said):
    with pytest.raises(RecipeError, match=said):
        method.prepare(tiny("llama"), 0)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Lora, {"init": "pizza"}, "pizza"),
        (Lora, {"init": "pissa", "dora": True}, "dora does not allow"),
        (Lora, {"target_modules": "a.*b", "layers": (0,)}, "write the numbers"),
        (Qlora, {"init": "olora"}, "4 bits"),
        (Adalora, {"init_r": 4, "target_r": 4}, "ranks only fall"),
        (Adalora, {"initial": 0.6, "final": 0.4}, "no steps"),
        (Prompt, {"init": "text"}, "belong together"),
        (Prefix, {"hidden": 5}, "projection: true"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(kind, given, said):
    with pytest.raises(ValidationError, match=said):
        kind(**given)


def test_an_adapter_of_another_architecture_is_refused(tiny, tmp_path):
    method = Lora(r=2)
    method.save(method.prepare(tiny("llama"), 0), tmp_path)
    with pytest.raises(DataError, match=r"trained on another llama \(config"):
        method.load(tiny("llama", num_hidden_layers=3), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="damaged"):
        method.load(tiny("llama"), tmp_path)


# ---- AdaLoRA ---------------------------------------------------------------------------------------


def test_ranks_fall_to_the_target_and_stay(tiny, tmp_path):
    method = Adalora(init_r=6, target_r=2)
    model, outcome = training.train(tiny("llama"), DATA, tune(method, epochs=7), tmp_path)
    ranks = outcome.method["ranks"]
    assert len(ranks) == 14
    assert sum(ranks.values()) == 2 * 14
    assert len(set(ranks.values())) > 1, "ranks went where they matter"
    assert method.facts(model) == outcome.method
    settings = model.peft_config["default"]
    assert (settings.total_step, settings.tinit, settings.tfinal) == (14, 1, 4)


def test_the_best_weights_keep_the_ranks_they_had(tiny, tmp_path):
    """Weights of a step before ranks fell, put back as the loop does with the best: nothing of them is cut on saving."""
    method = Adalora(init_r=6, target_r=2)
    model, outcome = training.train(tiny("llama"), DATA, tune(method, epochs=3, save_every=1, keep_last=9), tmp_path)
    early = checkpoints.weights_of(checkpoints.read(tmp_path / "checkpoints" / "step-000002"))
    with torch.no_grad():
        for name, weight in checkpoints.learning(model).items():
            weight.copy_(early[name])
    assert sum(method.facts(model)["ranks"].values()) > sum(outcome.method["ranks"].values()) == 2 * 14
    method.save(model, tmp_path / "model")
    torch.testing.assert_close(logits(method.load(tiny("llama"), tmp_path / "model").eval()), logits(model), atol=2e-5, rtol=1e-4)


def test_too_few_steps_for_ranks_to_fall_are_refused(tiny, tmp_path):
    with pytest.raises(RecipeError, match="1 in all; use lora"):
        training.train(tiny("llama"), DATA, tune(Adalora(), max_steps=1), tmp_path)


# ---- virtual tokens --------------------------------------------------------------------------------

VIRTUAL = [
    Prefix(tokens=4),
    Prefix(tokens=4, projection=True, hidden=7),
    Prompt(tokens=4, init="random"),
    PTuning(tokens=4, encoder="lstm"),
]


@pytest.mark.parametrize(("method", "name"), zip(VIRTUAL, itertools.cycle(["gpt2", "opt", "qwen2"])))
def test_packs_behind_virtual_tokens_are_pefts_own_single_rows(tiny, method, name):
    model, data = method.prepare(tiny(name), 1).eval(), alike()[:5]
    with attention.enable(model), torch.no_grad():
        packed = sum(float(losses.loss_of(model, pack)) for pack in packing.pack(data, 200, share=True))
    total = 0.0
    for row in data:
        ids, labels = (torch.from_numpy(part.astype(np.int64))[None] for part in (row.ids, row.labels))
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * int((row.labels[1:] != IGNORED).sum())
    assert packed == pytest.approx(total, rel=1e-5)
    assert virtual_tokens.count(model) == 4


@pytest.mark.parametrize("method", [VIRTUAL[1], VIRTUAL[3]], ids=str)
def test_what_a_network_makes_is_what_is_kept(tiny, tmp_path, method):
    model = reloads(tiny, method, tmp_path)
    assert any("transform" in n or "lstm" in n for n in learning(model))
    assert (tmp_path / "model" / "adapter_model.safetensors").stat().st_size < 4 * (4 * 2 * 2 * 32 + 1000)


def test_a_prefix_starts_as_the_keys_of_real_tokens(tiny):
    """So the model begins as if those tokens stood before the row."""
    from etude.tunings import prompts

    model = Prefix(tokens=4).prepare(tiny("llama"), 3).eval()
    rows = prompts.sampled(tiny("llama"), 4, 3)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        plain = tiny("llama")(torch.cat([rows[None], ids], 1)).logits[:, 4:]
    torch.testing.assert_close(logits(model, ids), plain, atol=1e-5, rtol=1e-4)
    zero = Prefix(tokens=4, init="zero").prepare(tiny("llama"), 3)
    assert not zero.prompt_encoder["default"].embedding.weight.any()


def test_peft_names_of_initialisations_are_known():
    assert Prompt(num_virtual_tokens=3, prompt_tuning_init="SAMPLE_VOCAB").init == "vocabulary"
    assert Prompt(prompt_tuning_init="TEXT", prompt_tuning_init_text="Say").text == "Say"
    assert Prompt(text="Say").init == "text"


# ---- QLoRA -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
def test_four_bit_layers_are_near_the_weights_and_do_not_change(tiny):
    model = Qlora(r=2).prepare(tiny("llama", initializer_range=0.3), 0)
    layer = model.base_model.model.model.layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype == torch.uint8
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    own = tiny("llama", initializer_range=0.3).model.layers[0].mlp.up_proj
    with torch.no_grad():
        first, exact = layer(x), own(x)
        assert 0.01 < float((first - exact).norm() / exact.norm()) < 0.25
        assert torch.equal(layer.eval()(x), layer.train()(x))
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    count = sum(training.size(p) for n, p in model.named_parameters() if "lora_" not in n)
    assert count == sum(p.numel() for p in tiny("llama").parameters())


def test_without_bitsandbytes_the_way_out_is_named(tiny, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"etude\[quantised\].*lora gives the same"):
        Qlora().prepare(tiny("llama"), 0)
