"""Recipes: defaults, overrides, old spellings, and errors that name file, line, key and the nearest right thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etude import catalog, recipe
from etude.failures import RecipeError
from etude.shipped import names, start
from etude.tunings import TUNINGS

LEAST = "name: small\nmodel: some/folder\nsources:\n  rows: {type: alpaca, path: rows.jsonl}\n"


@pytest.fixture(autouse=True)
def no_notes():
    catalog.NOTES.clear()


def load(text: str, *overrides: str) -> recipe.Recipe:
    return recipe.build(recipe.override(recipe.parse(text, "r.yaml"), overrides), "r.yaml", text)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load(text, *overrides)
    assert error.value.exit_code == 2
    return str(error.value)


def test_three_keys_are_enough_and_every_default_is_written_out():
    chosen = load(LEAST)
    resolved = recipe.to_yaml(chosen.dump())
    for key in ("learning_rate", "epochs", "max_bad_rows", "truncation", "target_modules", "validation", "seed"):
        assert f"{key}:" in resolved
    assert recipe.build(recipe.parse(resolved, "x"), "x") == chosen
    assert recipe.build(recipe.parse(resolved, "x"), "x").digest() == chosen.digest()


def test_overrides_reach_any_key():
    text = LEAST + "tune: {method: lora}\nscore:\n  - {task: rows}\n"
    chosen = load(
        text, "tune.method.r=4", "tune.learning_rate=3e-4", "score.0.limit=5", "sources.rows.where=input == ''", "seed=3", "probes=[hi]"
    )
    assert (chosen.tune.method.r, chosen.tune.learning_rate, chosen.seed, chosen.probes) == (4, 3e-4, 3, ("hi",))
    assert chosen.score[0].limit == 5
    assert chosen.sources["rows"].where == "input == ''"
    assert load(LEAST, "tune.method=full").tune.method == TUNINGS["full"]()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LEAST + "tune:\n  learning_rat: 1\n", "r.yaml:6: tune.learning_rat: unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        (LEAST + "tune:\n  method: {type: lorra}\n", "r.yaml:6: tune.method: no method named 'lorra'; did you mean 'lora'?"),
        (LEAST + "tune:\n  method: {type: lora, rnk: 3}\n", "r.yaml:6: tune.method.rnk: unknown key 'rnk'"),
        (LEAST + "tune:\n  epochs: many\n", "r.yaml:6: tune.epochs: "),
        (LEAST + "tune:\n  epochs: -1\n", "greater than 0, not -1"),
        (LEAST.replace("alpaca", "alpacca"), "r.yaml:4: sources.rows: no source named 'alpacca'; did you mean 'alpaca'?"),
        (LEAST.replace("path: rows.jsonl", "pth: x"), "r.yaml:4: sources.rows.pth: unknown key 'pth'; did you mean 'path'?"),
        ("name: x\nmodel: y\n", "r.yaml: sources: a recipe needs data: a source, or something to generate"),
        (LEAST.replace("small", "../evil"), "r.yaml:1: name: "),
        (
            LEAST + "score:\n  - {task: rows, metrics: [rougel]}\n",
            "r.yaml:6: score.0.metrics.0: no metric named 'rougel'; did you mean 'rougeL'?",
        ),
        ("name: [x\n", "r.yaml:2: not YAML"),
        ("- 1\n", "a mapping of keys was expected, not list"),
        ("name: !!python/object/apply:os.system [ls]\n", "not YAML"),
    ],
)
def test_faults_are_placed(text, words):
    assert words in refusal(text)


@pytest.mark.parametrize("override", ["tune", "tune.epochs.x=1", "score.4.limit=1", "=3", "tune.learning_rat=1", "name=[1"])
def test_bad_overrides(override):
    assert refusal(LEAST + "tune: {epochs: 1}\nscore:\n  - {task: rows}\n", override)


def test_every_fault_is_listed_at_once():
    text = LEAST + "tune:\n  epochs: -1\n  clip: -1\nseed: x\n"
    assert len(refusal(text).splitlines()) == 3


def test_the_spellings_of_tutorials_and_other_tools():
    text = (
        "model_name_or_path: some/folder\ntrain_data: data/train.jsonl\noutput_dir: runs/my-run\nlr: 2e-5\nnum_train_epochs: 3\n"
        "per_device_train_batch_size: 4\ngradient_accumulation_steps: 2\nevaluation_strategy: steps\neval_steps: 7\nmax_seq_length: 512\n"
        "lora_r: 4\nlora_alpha: 5\nlora_dropout: 0.1\nlora_target_modules: [q_proj]\nwarmup_ratio: 0.1\nweight_decay: 0.01\n"
        "lr_scheduler_type: linear\nfp16: false\nload_best_model_at_end: true\nmax_grad_norm: 0.5\nseed: 3\n"
    )
    chosen = load(text)
    tune = chosen.tune
    assert (chosen.name, chosen.model, chosen.seed) == ("my-run", "some/folder", 3)
    assert chosen.sources["train"].path == "data/train.jsonl"
    assert (tune.learning_rate, tune.epochs, tune.rows_per_step, tune.evaluate_every, tune.max_tokens) == (2e-5, 3, 8, 7, 512)
    assert (tune.method.r, tune.method.alpha, tune.method.dropout, tune.method.target_modules) == (4, 5, 0.1, ("q_proj",))
    assert (tune.warmup, tune.weight_decay, tune.schedule, tune.clip, tune.precision) == (0.1, 0.01, "linear", 0.5, "float32")
    said = "\n".join(catalog.NOTES)
    for name in ("learning_rate", "epochs", "rows_per_step", "evaluate_every", "max_tokens", "method.alpha", "warmup", "clip"):
        assert name in said


def test_the_json_configuration_of_the_fourth_source_document():
    text = json.dumps({"model": "codellama-7b", "train_data": "data/instructions/train.jsonl", "batch_size": 8, "lr": 2e-5})
    chosen = load(text, "name=code")
    assert (chosen.model, chosen.tune.rows_per_step, chosen.tune.learning_rate) == ("codellama-7b", 8, 2e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LEAST + "lr: 1e-4\ntune: {learning_rate: 1e-3}\n", "both are given"),
        (LEAST + "model_name_or_path: x\n", "both are given"),
        (LEAST + "evaluation_strategy: sometimes\n", "'epoch', 'steps' or 'no' was expected"),
        (LEAST + "batch_size: lots\n", "whole number of rows"),
        (LEAST + "learning_rte: 1\n", "did you mean"),
    ],
)
def test_spellings_that_cannot_be_meant(text, words):
    assert words in refusal(text)


@pytest.mark.parametrize(("given", "expected"), [("no", "never"), ("epoch", "epoch"), ("'no'", "never")])
def test_evaluation_strategy(given, expected):
    assert load(LEAST + f"evaluation_strategy: {given}\n").tune.evaluate_every == expected


def test_plugins_from_another_package(tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text(
        "from etude.catalog import Settings\n\nclass Mine(Settings):\n    path: str\n    template: str | None = None\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = LEAST.replace("{type: alpaca, path: rows.jsonl}", "{type: 'their_package:Mine', path: here}")
    chosen = load(text)
    assert chosen.sources["rows"].path == "here"
    assert chosen.dump()["sources"]["rows"]["type"] == "their_package:Mine"
    assert "cannot load" in refusal(text.replace("Mine", "Nobody"))


def test_a_huge_or_aliased_file_is_refused():
    assert "characters" in refusal("x: " + "y" * 1_100_000)
    assert "aliases" in refusal("a: &a [1]\nb: [" + "*a, " * 1200 + "*a]\n")


@pytest.mark.parametrize("name", names())
def test_shipped_recipes_load_and_are_wired_to_the_schema(name, tmp_path):
    path = Path(recipe.__file__).parent / "recipes" / f"{name}.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert recipe.load(path).name == name
    written = start("my-task", name, tmp_path)
    assert recipe.load(written[0]).name == "my-task"
    assert written[1].name == "recipe.schema.json"
    with pytest.raises(RecipeError, match="there already"):
        start("my-task", name, tmp_path)


def test_the_schema_file_is_current_and_names_every_catalog_entry():
    path = Path(recipe.__file__).parent / "recipes" / "recipe.schema.json"
    assert json.loads(path.read_text()) == recipe.schema(), "etude schema > src/etude/recipes/recipe.schema.json"
    text = path.read_text()
    for name in ("alpaca", "columns", "stdlib", "lora", "full", "rougeL", "jinja"):
        assert f'"{name}"' in text


def test_names_and_wrong_origins_of_new(tmp_path):
    for bad in ("My Task", "../x", ""):
        with pytest.raises(RecipeError, match="a name has"):
            start(bad, "quickstart", tmp_path)
    with pytest.raises(RecipeError, match="did you mean 'sentiment'"):
        start("x", "sentimnt", tmp_path)
