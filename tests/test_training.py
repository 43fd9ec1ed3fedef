"""The training loop: its loss is the stock Trainer's, its resume is bit-exact, its guard stops NaN."""

from __future__ import annotations

import json
import math
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.test_packing_contract import alike, rows
from etude import checkpoints, journal, optimizing, steps, training
from etude.failures import DataError, NonFinite, RecipeError, Stopped
from etude.records import IGNORED, Encoded
from etude.steps import Tune
from etude.tunings.full import Full
from etude.tunings.lora import Lora


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in checkpoints.learning(model).items()}


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


METHODS = {"lora": Lora(r=4, dropout=0.2), "full": Full()}


def settings(**given) -> Tune:
    return Tune(**{"tokens_per_step": 120, "pack_tokens": 64, "learning_rate": 1e-3, "epochs": 2, **given})


def test_loss_equals_the_stock_trainers(tiny, tmp_path):
    """Token-exact under accumulation: the first steps of transformers' Trainer on the same rows."""
    from transformers import Trainer, TrainingArguments

    data = rows(12, seed=5)
    plan = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    ours = tiny("llama")
    tune = settings(method=Full(), rows_per_step=4, epochs=1, warmup=0, schedule="constant", clip=1.0)
    ordered = [data[i] for step in steps.plan_steps(data, tune, 0) for i in step]
    model, _ = training.train(ours, data, tune, tmp_path / "ours")

    def collate(batch):
        longest = max(len(row["input_ids"]) for row in batch)
        pad = lambda values, filler: [v + [filler] * (longest - len(v)) for v in values]  # noqa: E731
        return {
            "input_ids": torch.tensor(pad([r["input_ids"] for r in batch], 0)),
            "labels": torch.tensor(pad([r["labels"] for r in batch], IGNORED)),
            "attention_mask": torch.tensor(pad([[1] * len(r["input_ids"]) for r in batch], 0)),
        }

    class InOrder(Trainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    arguments = TrainingArguments(
        output_dir=str(tmp_path / "stock"), per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1,
        learning_rate=1e-3, lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
        max_grad_norm=1.0, weight_decay=0.0, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    stock = tiny("llama")
    trainer = InOrder(
        model=stock,
        args=arguments,
        train_dataset=[{"input_ids": r.ids.tolist(), "labels": r.labels.tolist()} for r in ordered],
        data_collator=collate,
    )
    trainer.train()
    theirs = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    mine = [row["loss"] for row in journal.read(tmp_path / "ours" / "metrics.jsonl")]
    assert len(mine) == len(plan)
    assert mine == pytest.approx(theirs, rel=2e-4)  # the Trainer logs rounded losses
    for name, value in stock.named_parameters():
        # AdamW divides by the gradient's size, so a rounding of a tiny gradient can move a weight by a share of one step
        assert float((dict(model.named_parameters())[name] - value).detach().abs().max()) < 3e-4, name


@pytest.mark.parametrize("pack_tokens", [1, 50, 4096])
def test_packing_never_changes_the_losses(tiny, tmp_path, pack_tokens):
    data = rows(15, seed=2)
    runs = []
    for name, size in (("a", 64), ("b", pack_tokens)):
        training.train(tiny("llama"), data, settings(pack_tokens=size, method=Lora(r=4)), tmp_path / name)
        runs.append([row["loss"] for row in journal.read(tmp_path / name / "metrics.jsonl")])
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_resume_at_any_step_is_bit_exact(tiny, tmp_path, method):
    data, held = rows(14, seed=4), rows(3, seed=9)
    tune = settings(method=METHODS[method], evaluate_every=2)
    whole, outcome = training.train(tiny("llama"), data, tune, tmp_path / "whole", validation=held)
    expected, log = weights(whole), [r["loss"] for r in journal.read(tmp_path / "whole" / "metrics.jsonl") if "loss" in r]
    assert outcome.steps >= 6
    for stop in range(1 + list(METHODS).index(method) % 2, outcome.steps, 2):  # every step is one method's
        folder = tmp_path / f"{stop}"

        def halt(step, stop=stop):
            if step.step == stop:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Stopped) as stopped:
            training.train(tiny("llama"), data, tune, folder, validation=held, progress=halt)
        assert stopped.value.exit_code == 143
        torch.rand(stop)  # whatever happened to the generator in between must not matter
        model, again = training.train(tiny("llama"), data, tune, folder, validation=held)
        assert same(weights(model), expected), stop
        assert [r["loss"] for r in journal.read(folder / "metrics.jsonl") if "loss" in r] == log
        assert again.best_step == outcome.best_step


def test_a_torn_checkpoint_is_set_aside_and_the_one_before_used(tiny, tmp_path):
    data = rows(14, seed=4)
    tune = settings(method=Lora(r=4), save_every=1, evaluate_every="never")
    whole, outcome = training.train(tiny("llama"), data, tune, tmp_path / "whole")
    folder = tmp_path / "torn"
    calls = []

    def halt(step):
        calls.append(step.step)
        if step.step == 4:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        training.train(tiny("llama"), data, tune, folder, progress=halt)
    newest = folder / "checkpoints" / "step-000004"
    for name in ("weights.safetensors", "state.pt", "progress.json", checkpoints.MARKER):
        copy = tmp_path / f"torn-{name}"
        import shutil

        shutil.copytree(folder, copy)
        path = copy / "checkpoints" / newest.name / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found = checkpoints.newest(copy / "checkpoints")
        assert found is None or found.step < 4
        assert (copy / "checkpoints" / "quarantine" / newest.name).is_dir()
        model, _ = training.train(tiny("llama"), data, tune, copy)
        assert same(weights(model), weights(whole))
    assert outcome.steps > 4


def test_a_flipped_byte_is_found(tiny, tmp_path):
    training.train(tiny("llama"), rows(6), settings(method=Lora(r=2), epochs=1), tmp_path)
    (path,) = tmp_path.glob("checkpoints/step-*/weights.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert "changed" in checkpoints.torn(path.parent)


def test_nan_stops_before_the_step(tiny, tmp_path):
    model = tiny("llama")
    data = rows(14, seed=4)
    tune = settings(method=Full(), save_every=1, evaluate_every="never")
    poison = threading.Event()

    def spoil(step):
        if step.step == 2:
            poison.set()

    def hook(module, inputs, output):
        return output * math.nan if poison.is_set() else output

    model.lm_head.register_forward_hook(hook)
    with pytest.raises(NonFinite, match=r"step 3: loss nan.*no weight was changed") as error:
        training.train(model, data, tune, tmp_path, progress=spoil)
    assert error.value.exit_code == 5
    assert all(torch.isfinite(p).all() for p in model.parameters())
    last = checkpoints.newest(tmp_path / "checkpoints")
    assert last is not None
    assert last.step == 2


def test_only_the_methods_own_weights_change(tiny, tmp_path):
    model = tiny("llama")
    before = {name: p.clone() for name, p in model.named_parameters()}
    tuned, outcome = training.train(model, rows(10), settings(method=Lora(r=4)), tmp_path)
    frozen = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): p for name, p in tuned.named_parameters() if "lora_" not in name
    }
    assert frozen.keys() == before.keys()
    assert all(torch.equal(frozen[name], before[name]) for name in before)
    assert outcome.trainable == sum(p.numel() for name, p in tuned.named_parameters() if "lora_" in name) > 0
    assert any(float(p.detach().abs().max()) > 0 for name, p in tuned.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_learns_and_reloads_to_the_same_logits(tiny, tmp_path, method):
    data = [
        Encoded(str(i), np.array([5, 6, 7 + i, 40 + i, 2], np.int32), np.array([IGNORED] * 3 + [40 + i, 2], np.int32)) for i in range(6)
    ]
    chosen, rate = (Lora(r=16, alpha=64), 0.05) if method == "lora" else (Full(), 0.01)
    tune = settings(method=chosen, epochs=60, rows_per_step=6, learning_rate=rate)
    # frozen output rows of the usual tiny size would cap what an adapter can say
    make = lambda: tiny("llama", initializer_range=0.3)  # noqa: E731
    model, _ = training.train(make(), data, tune, tmp_path)
    losses = [row["loss"] for row in journal.read(tmp_path / "metrics.jsonl")]
    assert losses[-1] < 0.5 * losses[0]
    tune.method.save(model, tmp_path / "model")
    again = tune.method.load(make(), tmp_path / "model").eval()
    ids = torch.tensor([[5, 6, 9, 42]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-5)


def test_lora_loads_with_plain_peft(tiny, tmp_path):
    from peft import PeftModel

    model, _ = training.train(tiny("llama"), rows(6), settings(method=Lora(r=2)), tmp_path)
    Lora(r=2).save(model, tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir() if p.suffix != ".md") == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "start_model.json",
    ]
    plain = PeftModel.from_pretrained(tiny("llama"), str(tmp_path / "model")).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(torch.tensor([[1, 2, 3]])).logits, model(torch.tensor([[1, 2, 3]])).logits)


def test_target_modules_that_match_nothing_are_named(tiny):
    with pytest.raises(RecipeError, match=r"q_prj.*matches no layer.*q_proj"):
        Lora(target_modules=("q_prj",)).prepare(tiny("llama"), 0)


def test_early_stopping_and_best_weights(tiny, tmp_path):
    """On rows that contradict validation, the loss there rises: training stops and the best step is kept."""
    data = [Encoded(str(i), np.array([5, 6, 40], np.int32), np.array([IGNORED, IGNORED, 40], np.int32)) for i in range(8)]
    held = [Encoded("v", np.array([5, 6, 41], np.int32), np.array([IGNORED, IGNORED, 41], np.int32))]
    tune = settings(method=Full(), rows_per_step=2, epochs=20, evaluate_every=1, patience=3, learning_rate=1e-2, warmup=0)
    model, outcome = training.train(tiny("llama"), data, tune, tmp_path, validation=held)
    values = {r["step"]: r["validation_loss"] for r in journal.read(tmp_path / "metrics.jsonl") if "validation_loss" in r}
    assert outcome.steps == outcome.best_step + 3 < 80
    assert outcome.best_validation == min(values.values()) == values[outcome.best_step]
    again = training.evaluate(model, training.packing.pack(held, 64), documents=False)
    assert again == pytest.approx(values[outcome.best_step], rel=1e-5)


def test_steps_are_a_pure_function_and_cover_each_epoch():
    data = rows(23, seed=7)
    tune = settings(epochs=2.5)
    plan = steps.plan_steps(data, tune, seed=3)
    assert plan == steps.plan_steps(data, tune, seed=3) != steps.plan_steps(data, tune, seed=4)
    order = [i for step in plan for i in step]
    assert sorted(order[:23]) == sorted(order[23:46]) == list(range(23))
    assert len(order) == math.ceil(23 * 2.5)
    assert order[:23] != order[23:46]
    assert all(sum(len(data[i].ids) for i in step) <= 120 for step in plan if len(step) > 1)
    assert steps.plan_steps(data, settings(max_steps=2), 0) == steps.plan_steps(data, settings(), 0)[:2]
    assert [len(s) for s in steps.plan_steps(data, settings(rows_per_step=5, epochs=1), 0)] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_schedules(schedule, expected):
    tune = settings(schedule=schedule, warmup=10, learning_rate=1.0)
    assert steps.rate(0, 110, tune) == pytest.approx(1 / 11)
    assert steps.rate(9, 110, tune) == pytest.approx(10 / 11)
    assert steps.rate(10, 110, tune) == 1.0
    assert steps.rate(60, 110, tune) == pytest.approx(expected)
    assert steps.rate(50, 100, settings(warmup=0.5, learning_rate=1.0)) == 1.0


def test_weight_decay_leaves_vectors_alone(tiny):
    model = Full().prepare(tiny("gpt2"), 0)
    decayed, spared = optimizing.optimizer_of(model, settings(method=Full(), weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert {p.dim() for p in decayed["params"]} == {2}
    assert spared["weight_decay"] == 0.0
    assert {p.dim() for p in spared["params"]} == {1}


def test_dropout_of_the_model_is_set_and_used(tiny, tmp_path):
    model = tiny("gpt2")
    training.set_dropout(model, 0.4)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.4}
    llama = tiny("llama")
    training.set_dropout(llama, 0.4)
    assert llama.model.layers[0].self_attn.attention_dropout == 0.4
    losses = []
    for share in (0.0, 0.4):
        training.train(tiny("llama"), rows(6), settings(method=Full(), dropout=share, max_steps=1), tmp_path / str(share))
        losses.append(next(journal.read(tmp_path / str(share) / "metrics.jsonl"))["loss"])
    assert losses[0] != losses[1]


def test_dropout_switches_sharing_off_unless_asked(tiny, tmp_path):
    data = alike()
    shared = {}
    for name, given in {
        "plain": {},
        "off": {"share_prefix": False},
        "adapter": {"method": Lora(r=2, dropout=0.1)},
        "model": {"dropout": 0.1},
        "asked": {"method": Lora(r=2, dropout=0.1), "share_prefix": True},
    }.items():
        model = tiny("gpt2")
        _, outcome = training.train(model, data, settings(**{"method": Lora(r=2), "epochs": 1, **given}), tmp_path / name)
        shared[name] = outcome.shared_tokens > 0
    assert shared == {"plain": True, "off": False, "adapter": False, "model": False, "asked": True}


def test_sharing_never_changes_the_losses(tiny, tmp_path):
    data, logs = alike(), []
    for share in (False, True):
        tune = settings(method=Full(), share_prefix=share)
        training.train(tiny("llama"), data, tune, tmp_path / str(share), validation=alike(1))
        logs.append([row.get("loss", row.get("validation_loss")) for row in journal.read(tmp_path / str(share) / "metrics.jsonl")])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_rows_without_a_trained_token_are_refused(tiny, tmp_path):
    empty = [Encoded("a", np.array([1, 2, 3], np.int32), np.full(3, IGNORED, np.int32))]
    with pytest.raises(DataError, match="no training row has a trained token"):
        training.train(tiny("llama"), empty, settings(), tmp_path)


def test_progress_of_a_resumed_run_keeps_counts(tiny, tmp_path):
    data = rows(14, seed=4)
    seen = []
    tune = settings(method=Lora(r=2), save_every=1)

    def halt(step):
        if step.step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stopped:
        training.train(tiny("llama"), data, tune, tmp_path, progress=halt)
    assert stopped.value.exit_code == 130
    training.train(tiny("llama"), data, tune, tmp_path, progress=seen.append)
    assert seen[0].step == 4
    assert seen[-1].tokens == seen[-1].all_tokens
    state = json.loads((tmp_path / "checkpoints" / f"step-{seen[-1].step:06d}" / "progress.json").read_text())
    assert state["tokens"] == seen[-1].all_tokens


def test_row_weights_scale_the_loss_and_equal_ones_change_nothing(tiny, tmp_path):
    """The loss of a step is the weighted mean over its trained tokens: a row of weight 2 counts like two of it."""

    def losses(data, name):
        chosen = settings(rows_per_step=len(data), max_steps=1, epochs=1, method=Lora(r=4))
        training.train(tiny("llama"), data, chosen, tmp_path / name)
        return [row["loss"] for row in journal.read(tmp_path / name / "metrics.jsonl") if "loss" in row]

    data = rows(6)
    heavy = [replace(row, weight=2.0 if i == 0 else 1.0) for i, row in enumerate(data)]
    assert losses(heavy, "heavy") == pytest.approx(losses([*data, data[0]], "twice"), rel=1e-5)
    assert losses([replace(row, weight=3.0) for row in data], "even") == pytest.approx(losses(data, "plain"), rel=1e-6)
    assert losses(heavy, "again") != losses(data, "plain2")
