"""Every training option: equal to its reference where there is one, and bit-exact after a stop with all of them on."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from contracts.test_packing_contract import alike, rows
from etude import attention, catalog, checkpoints, journal, losses, noise, optimizing, packing, pairs, training
from etude.failures import NonFinite, RecipeError, Stopped
from etude.records import IGNORED, Encoded
from etude.steps import Tune
from etude.tunings.full import Full
from etude.tunings.lora import Lora


def settings(**given) -> Tune:
    return Tune(**{"tokens_per_step": 120, "pack_tokens": 64, "learning_rate": 1e-3, "method": Lora(r=2), **given})


def log(folder, key: str) -> list:
    return [row[key] for row in journal.read(folder / "metrics.jsonl") if key in row]


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in checkpoints.learning(model).items()}


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def small(tiny):
    """A factory of one-layer models."""
    return lambda name="llama", **given: tiny(name, **({"n_layer": 1} if name == "gpt2" else {"num_hidden_layers": 1}), **given)


# ---- label smoothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_label_smoothing_is_torchs_own_on_the_trained_tokens(small, weight):
    model, data = small(), [Encoded(r.id, r.ids, r.labels, weight=weight if i else 1.0) for i, r in enumerate(rows(6, seed=3))]
    expected = 0.0
    for row in data:
        logits = model(input_ids=torch.tensor(row.ids[None].astype(np.int64))).logits[0, :-1]
        labels = torch.tensor(row.labels[1:].astype(np.int64))
        loss = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=0.2)
        expected += row.weight * float(loss.detach())
    packs = packing.pack(data, 4096)
    with attention.enable(model), torch.no_grad():
        assert sum(float(losses.loss_of(model, pack, 0.2)) for pack in packs) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_is_trained_and_never_in_the_validation_loss(small, tmp_path):
    data, found = rows(8), {}
    for name, share in (("plain", 0.0), ("smooth", 0.3)):
        tune = settings(label_smoothing=share, learning_rate=1e-12, max_steps=1, rows_per_step=8)
        training.train(small(), data, tune, tmp_path / name, validation=data)
        found[name] = log(tmp_path / name, "loss")[0], log(tmp_path / name, "validation_loss")[0]
    assert found["plain"][0] == pytest.approx(found["plain"][1], rel=1e-5)
    assert found["smooth"][1] == pytest.approx(found["plain"][1], rel=1e-6)
    assert abs(found["smooth"][0] - found["plain"][0]) > 1e-4


# ---- NEFTune ---------------------------------------------------------------------------------------


def embedded(model, pack, lengths, alpha, seed=0):
    """The embeddings a model reads of one pack, with and without noise."""
    seen = []
    with contextlib.ExitStack() as stack:
        if alpha:
            stack.enter_context(noise.enable(model, pack, lengths, alpha, noise.generator(seed, 0, torch.device("cpu"))))
        reader = model.get_encoder() if isinstance(pack, pairs.Pairs) else model
        handle = reader.get_input_embeddings().register_forward_hook(lambda module, given, output: seen.append(output.detach().clone()))
        stack.callback(handle.remove)
        stack.enter_context(attention.enable(model) if isinstance(pack, packing.Pack) else contextlib.nullcontext())
        losses.loss_of(model, pack)
    return seen[0][0] if isinstance(pack, packing.Pack) else seen[0]


def test_noise_has_each_rows_own_length_also_in_packs(small):
    model, data = small(), rows(9, seed=5)
    lengths = [len(row.ids) for row in data]
    (pack,) = packing.pack(data, 4096)
    drawn = embedded(model, pack, lengths, 5.0) - embedded(model, pack, lengths, 0.0)
    for (start, end), row in zip(pack.bounds, pack.members, strict=True):
        bound = 5.0 / (lengths[row] * 32) ** 0.5
        assert float(drawn[start:end].abs().max()) <= bound * (1 + 1e-5)
        assert float(drawn[start:end].abs().max()) > 0.9 * bound
        assert float(drawn[start:end].std()) == pytest.approx(bound / 3**0.5, rel=0.2)


def test_noise_of_a_single_row_is_transformers_own(small):
    """The same draws, sized as `neftune_post_forward_hook` does for one row without padding."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    model, row = small(), Encoded("a", np.arange(20, dtype=np.int32), np.arange(20, dtype=np.int32))
    pack = packing.concatenate([row], [0])
    stream = noise.generator(7, 0, torch.device("cpu"))
    seed = stream.initial_seed()
    ours = embedded(model, pack, [len(pack.ids)], 5.0, seed=7) - embedded(model, pack, [20], 0.0)
    module = torch.nn.Embedding(300, 32)
    module.neftune_noise_alpha = 5.0
    torch.manual_seed(seed)
    theirs = neftune_post_forward_hook(module.train(), None, torch.zeros(1, len(pack.ids), 32))[0]
    torch.testing.assert_close(ours, theirs, atol=2e-7, rtol=1e-4)


def test_noise_on_an_encoders_sources_only():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config).eval()
    batch = pairs.batch(rows(3, seed=1), [0, 1, 2], 0)
    reads = []
    model.get_decoder().register_forward_pre_hook(lambda m, given, named: reads.append(named.get("input_ids")), with_kwargs=True)
    drawn = embedded(model, batch, [], 3.0) - embedded(model, batch, [], 0.0)
    for one, mask in zip(drawn, batch.mask, strict=True):
        length = int(mask.sum())
        assert 0 < float(one[:length].abs().max()) <= 3.0 / (length * 16) ** 0.5 + 1e-6
        assert not one[length:].any()


def test_noise_changes_training_alone_and_switches_sharing_off_unless_asked(small, tmp_path):
    data, found = alike(), {}
    for name, given in {"plain": {}, "noise": {"neftune_alpha": 5}, "asked": {"neftune_alpha": 5, "share_prefix": True}}.items():
        tune = settings(method=Full(), learning_rate=1e-12, max_steps=1, rows_per_step=len(data), pack_tokens=512, **given)
        model, outcome = training.train(small(), data, tune, tmp_path / name, validation=data)
        found[name] = log(tmp_path / name, "loss")[0], log(tmp_path / name, "validation_loss")[0], outcome.shared_tokens > 0
        assert not model.get_input_embeddings()._forward_hooks
    assert found["plain"][1] == pytest.approx(found["noise"][1], rel=1e-6)
    assert found["plain"][0] != found["noise"][0] != found["asked"][0]
    assert [found[name][2] for name in ("plain", "noise", "asked")] == [True, False, True]


# ---- optimizers ------------------------------------------------------------------------------------


def test_decay_groups_go_by_the_kind_of_module(small):
    model = Full().prepare(small("gpt2"), 0)
    kind = optimizing.kinds(model)
    assert kind["transformer.wte.weight"] == kind["transformer.wpe.weight"] == "embeddings"
    assert kind["transformer.h.0.ln_1.bias"] == kind["transformer.ln_f.weight"] == "norms"
    assert kind["transformer.h.0.attn.c_attn.bias"] == "biases"
    assert kind["transformer.h.0.attn.c_attn.weight"] == "matrices"
    decayed, spared = optimizing.groups_of(model, settings(method=Full(), weight_decay=0.1, undecayed=("biases", "norms", "embeddings")))
    names = {id(p): name for name, p in model.named_parameters()}
    assert {kind[names[id(p)]] for p in decayed["params"]} == {"matrices"}
    assert {kind[names[id(p)]] for p in spared["params"]} == {"biases", "norms", "embeddings"}
    assert len(decayed["params"]) + len(spared["params"]) == len(kind)
    assert {"norms"} == {k for n, k in optimizing.kinds(Full().prepare(small(), 0)).items() if "norm" in n}


def test_adafactor_takes_transformers_steps(small, tmp_path):
    from transformers.optimization import Adafactor

    data = rows(6, seed=2)
    tune = settings(method=Full(), optimizer="adafactor", rows_per_step=6, epochs=3, warmup=0, schedule="constant", clip=None)
    ours, _ = training.train(small(), data, tune, tmp_path)
    model = small()
    theirs = Adafactor(model.parameters(), lr=1e-3, scale_parameter=False, relative_step=False, warmup_init=False)
    for _ in range(3):
        total = sum(int((row.labels[1:] != IGNORED).sum()) for row in data)
        for row in data:
            logits = model(input_ids=torch.tensor(row.ids[None].astype(np.int64))).logits[0, :-1]
            (cross_entropy(logits, torch.tensor(row.labels[1:].astype(np.int64)), reduction="sum") / total).backward()
        theirs.step()
        theirs.zero_grad()
    for (name, mine), other in zip(ours.named_parameters(), model.parameters(), strict=True):
        assert float((mine - other).detach().abs().max()) < 1e-4, name


def test_without_clipping_the_step_is_the_gradients_own(small, tmp_path):
    results = []
    for name, clip in (("off", None), ("high", 1e9), ("low", 1e-3)):
        model, _ = training.train(small(), rows(6), settings(clip=clip, max_steps=2, weight_decay=0.1), tmp_path / name)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_what_this_machine_cannot_do_is_refused(small, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="float16 needs a GPU"):
        training.train(small(), rows(3), settings(precision="float16"), tmp_path)
    with pytest.raises(RecipeError, match=r"tune\.compile: not on a CPU"):
        training.train(small(), rows(3), settings(compile=True), tmp_path)
    monkeypatch.setattr(optimizing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"adamw_8bit needs bitsandbytes.*adafactor"):
        training.train(small(), rows(3), settings(optimizer="adamw_8bit"), tmp_path)
    with pytest.raises(RecipeError, match="wandb is not installed: pip install"):
        training.train(small(), rows(3), settings(trackers="wandb"), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_bfloat16_on_a_cpu_is_explained_and_close(small, tmp_path):
    catalog.NOTES.clear()
    found = []
    for precision in ("float32", "bfloat16"):
        training.train(small(), rows(6), settings(precision=precision, max_steps=1), tmp_path / precision)
        found.append(log(tmp_path / precision, "loss")[0])
    assert found[0] == pytest.approx(found[1], rel=2e-2)
    assert any("bfloat16 is slower than float32 on most CPUs" in said for said in catalog.NOTES)


@pytest.mark.parametrize(
    ("name", "method", "pack_tokens"), [("llama", Lora(r=2, dropout=0.1), 64), ("gpt2", Full(), 1), ("llama", Full(), 64)]
)
def test_gradient_checkpointing_is_bit_equal(small, tmp_path, name, method, pack_tokens):
    results = []
    for on in (False, True):
        tune = settings(method=method, gradient_checkpointing=on, max_steps=2, pack_tokens=pack_tokens)
        model, _ = training.train(small(name), rows(6), tune, tmp_path / str(on))
        results.append((log(tmp_path / str(on), "loss"), weights(model)))
        assert not model.is_gradient_checkpointing
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])


def test_gradient_checkpointing_computes_blocks_twice(small, tmp_path):
    counts = []
    for on in (False, True):
        model, count = small(), []
        model.model.layers[0].mlp.register_forward_pre_hook(lambda module, given, count=count: count.append(module.training))
        training.train(model, rows(3), settings(gradient_checkpointing=on, max_steps=1, rows_per_step=3, method=Full()), tmp_path / str(on))
        counts.append(sum(count))
    assert counts[1] == 2 * counts[0] > 0


# ---- measuring in the middle -----------------------------------------------------------------------


def test_the_best_step_by_a_metric_is_kept_and_stops_early(small, tmp_path):
    course = iter([0.1, 0.5, 0.9, float("nan"), 0.7, 0.2, 0.95])
    asked = []

    def evaluate(model):
        asked.append((model.training, torch.is_grad_enabled()))
        torch.rand(5)  # what sampling an answer would draw
        return {"news.accuracy": next(course), "news.f1": 0.5}

    tune = settings(
        best_by="news.accuracy",
        metrics_every=1,
        patience=3,
        evaluate_every="never",
        rows_per_step=2,
        epochs=5,
        method=Lora(r=2, dropout=0.3),
    )
    model, outcome = training.train(small(), rows(6), tune, tmp_path / "a", evaluate=evaluate)
    assert asked == [(False, False)] * 6
    assert log(tmp_path / "a", "metrics")[3] == {"news.accuracy": None, "news.f1": 0.5}
    assert (outcome.best_step, outcome.steps, outcome.best_by, outcome.best_value) == (2, 5, "news.accuracy", 0.9)
    assert outcome.best_validation is None
    assert outcome.ended.startswith("patience")
    # the weights are those of a run that ends at step 2, and measuring left dropout's draws alone
    plain = settings(rows_per_step=2, epochs=5, method=Lora(r=2, dropout=0.3))
    folder = tmp_path / "b"

    def halt(step):
        if step.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        training.train(small(), rows(6), plain, folder, progress=halt)
    from safetensors.torch import load_file

    assert same(weights(model), load_file(folder / "checkpoints" / "step-000002" / "weights.safetensors"))
    assert log(tmp_path / "a", "loss")[:2] == log(folder, "loss")


def test_a_metric_that_is_not_measured_is_named_before_the_first_step(small, tmp_path):
    tune = settings(best_by="news.acuracy", metrics_every="evaluation")
    with pytest.raises(RecipeError, match=r"no metric is called 'news.acuracy'; did you mean 'news.accuracy'"):
        training.train(small(), rows(6), tune, tmp_path, evaluate=lambda model: {"news.accuracy": 1.0})
    assert not log(tmp_path, "loss")
    with pytest.raises(RecipeError, match="is never measured"):
        training.train(small(), rows(6), tune, tmp_path / "b")


def test_the_best_and_the_last_checkpoints_stay(small, tmp_path):
    course = iter([0.0, 0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6])
    tune = settings(best_by="t.m", metrics_every=1, rows_per_step=1, epochs=1, keep_last=3)
    _, outcome = training.train(small(), rows(7), tune, tmp_path, evaluate=lambda model: {"t.m": next(course)})
    assert outcome.best_step == 2
    assert checkpoints.steps(tmp_path / "checkpoints") == [7, 6, 5, 2]


def test_why_a_run_ended_is_said(small, tmp_path):
    for given, said in (({}, "epochs"), ({"max_steps": 1}, "max_steps"), ({"token_budget": 30}, "token_budget")):
        _, outcome = training.train(small(), rows(6), settings(tokens_per_step=50, **given), tmp_path / said)
        assert outcome.ended == said


# ---- everything at once, stopped and killed --------------------------------------------------------

EVERYTHING = {
    "method": Lora(r=2, dropout=0.2), "neftune_alpha": 5, "label_smoothing": 0.1, "schedule": "wsd", "warmup": 2, "decay": 3,
    "min_learning_rate": 1e-5, "weight_decay": 0.1, "undecayed": ("embeddings",), "gradient_checkpointing": True, "clip": 0.5,
    "evaluate_every": 2, "metrics_every": 3, "best_by": "t.m", "keep_last": 2, "save_every": 1, "share_prefix": True, "epochs": 2,
}  # fmt: skip
EIGHT_BIT = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
OPTIMIZERS = ["adamw", pytest.param("adamw_8bit", marks=EIGHT_BIT)]


def score(model) -> dict[str, float]:
    """A metric that samples, and so draws from torch's generator."""
    ids = torch.randint(0, 300, (1, 4))
    return {"t.m": float(model(input_ids=ids).logits.mean())}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resume_with_everything_on_is_bit_exact(small, tmp_path, optimizer):
    data = rows(6, seed=4)
    # 8-bit states begin at 4,096 weights
    given = {"method": Full(), "learning_rate": 1e-4} if optimizer == "adamw_8bit" else {}
    tune = settings(**{**EVERYTHING, "optimizer": optimizer, **given})
    whole, outcome = training.train(small(), data, tune, tmp_path / "whole", validation=rows(2, seed=9), evaluate=score)
    expected = [{k: v for k, v in row.items() if k != "seconds"} for row in journal.read(tmp_path / "whole" / "metrics.jsonl")]
    for stop in (1, 3):
        folder = tmp_path / f"{stop}"

        def halt(step, stop=stop):
            if step.step == stop:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Stopped):
            training.train(small(), data, tune, folder, validation=rows(2, seed=9), evaluate=score, progress=halt)
        torch.rand(stop)
        model, again = training.train(small(), data, tune, folder, validation=rows(2, seed=9), evaluate=score)
        assert same(weights(model), weights(whole)), stop
        assert [{k: v for k, v in row.items() if k != "seconds"} for row in journal.read(folder / "metrics.jsonl")] == expected
        assert (again.best_step, again.best_value, again.shared_tokens) == (outcome.best_step, outcome.best_value, outcome.shared_tokens)


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_killed_at_any_write_with_everything_on(small, tmp_path):
    """kill -9 at the n-th line or sealed checkpoint, then the same call: the weights and the numbers of a run that was left alone."""
    data, tune = rows(6, seed=4), settings(**{**EVERYTHING, "optimizer": "adafactor", "epochs": 1})

    def go(folder):
        model, _ = training.train(small(), data, tune, folder, validation=rows(2, seed=9), evaluate=score)
        return weights(model), [{k: v for k, v in row.items() if k != "seconds"} for row in journal.read(folder / "metrics.jsonl")]

    expected, lines = go(tmp_path / "whole")
    at, fired = 1, 0
    while True:
        folder = tmp_path / f"{at}"
        pid = os.fork()
        if pid == 0:
            count = [0]

            def counted(function, count=count, at=at):
                def wrapper(*given, **named):
                    count[0] += 1
                    if count[0] == at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*given, **named)

                return wrapper

            journal.Journal.append = counted(journal.Journal.append)
            checkpoints.seal = counted(checkpoints.seal)
            try:
                go(folder)
            finally:
                os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            break
        fired += 1
        found, again = go(folder)
        assert same(found, expected), at
        assert again == lines, at
        at += 3
    assert fired >= 3


def test_a_loss_that_is_no_number_still_ends_the_run(small, tmp_path):
    model = small()
    model.lm_head.register_forward_hook(lambda module, given, output: output * float("nan") if model.training else output)
    with pytest.raises(NonFinite, match="step 1: loss nan") as error:
        training.train(model, rows(6), settings(**EVERYTHING), tmp_path, evaluate=score)
    assert error.value.exit_code == 5


def test_the_scaler_of_float16_is_in_the_checkpoint(small, tmp_path):
    """Only a GPU has one in training; its state must travel all the same."""
    model = Lora(r=2).prepare(small(), 0)
    state = checkpoints.State(weights(model), optimizing.optimizer_of(model, settings()).state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    saved = checkpoints.save(tmp_path, 1, state, {}, scaler)
    other, put = torch.amp.GradScaler("cpu", init_scale=2.0), []
    checkpoints.restore(saved, put.append, other)
    assert put[0].weights.keys() == state.weights.keys()
    assert other.get_scale() == 1024.0


@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses(small, tmp_path, monkeypatch):
    """About a minute of compilation. A recipe asks for it on a GPU only."""
    monkeypatch.setattr(training, "check_arithmetic", lambda model, tune: None)
    found = []
    for on in (False, True):
        tune = settings(method=Full(), compile=on, metrics_every="evaluation")
        model, _ = training.train(small(), rows(6), tune, tmp_path / str(on), evaluate=score)
        found.append(log(tmp_path / str(on), "loss"))
        assert model._compiled_call_impl is None
    assert found[0] == pytest.approx(found[1], rel=1e-5)


# ---- plain text ------------------------------------------------------------------------------------


def test_plain_text_is_trained_to_its_last_token(tokenizer, small, tmp_path):
    from etude.encoding import Encoder, examples
    from etude.formats import FORMATS
    from etude.formats.documents import with_documents
    from etude.previewing.checks import Ids, Row, examine
    from etude.sources.plain_text import PlainText
    from etude.templates import write

    text = "The sky is blue <|im_end|> today."
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    (record,) = PlainText(path=str(tmp_path / "a.jsonl")).read("web")
    conversation, encoder = write(record, None), Encoder.of(tokenizer)
    for name in ("auto", "alpaca", "chatml"):
        form = with_documents(FORMATS[name]().bind(tokenizer), tokenizer)
        (row,) = examples(encoder, form, conversation)
        assert tokenizer.decode(row.ids) == text + tokenizer.eos_token
        assert (row.labels == row.ids).all()
        assert list(row.ids).count(tokenizer.eos_token_id) == 1  # what the data spells is no token
        rendered = [form.render(conversation)]
        seen = Row(conversation, rendered, [encoder.pieces(one) for one in rendered], [row])
        ids = Ids.of(form, encoder, None)
        assert not list(examine(seen, form, encoder, ids))
    model = small()
    training.train(model, [row], settings(epochs=20, learning_rate=1e-2, method=Full()), tmp_path / "run")
    assert log(tmp_path / "run", "loss")[-1] < 0.8 * log(tmp_path / "run", "loss")[0]
