"""The whole of a run on a tiny model: folder, reuse, refusal, lock, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from etude import catalog, journal, pipeline, runs
from etude.failures import CheckFailed, DataError, Locked, RecipeError
from etude.recipe import build
from etude.reporting.findings import results

STAGES = [stage for stage in runs.STAGES if stage not in runs.OPTIONAL]
"""Those of a recipe that makes no data."""


@pytest.fixture(scope="module")
def folder(model_folder):
    """A model that ends its turn soon: a fifth of its tokens do that."""
    from transformers import GenerationConfig

    place = model_folder("llama")
    GenerationConfig(eos_token_id=list(range(0, 300, 5))).save_pretrained(place)
    return place


ROWS = [{"instruction": f"Name number {i}.", "input": "" if i % 2 else f"item {i}", "output": f"the number {i % 7}"} for i in range(60)]


@pytest.fixture
def facts(tmp_path):
    path = tmp_path / "facts.jsonl"
    journal.write_rows(path, ROWS)
    return path


@pytest.fixture(scope="module")
def once(folder, tmp_path_factory):
    """The file that a finished run has read, and its folder, which nobody changes."""
    root = tmp_path_factory.mktemp("once")
    journal.write_rows(root / "facts.jsonl", ROWS)
    pipeline.run(recipe(folder, root / "facts.jsonl"), root / "runs" / "small")
    return root / "facts.jsonl", root / "runs" / "small"


@pytest.fixture
def finished(once, tmp_path):
    """The file that a finished run has read, and a copy of its folder."""
    path, place = once
    return path, Path(shutil.copytree(place, tmp_path / "runs" / "small"))


def plain(found):
    """A run's numbers as results.json has them."""
    return json.loads(json.dumps(results(found)))


def recipe(folder, facts, **given):
    raw = {
        "name": "small",
        "model": str(folder),
        "sources": {"facts": {"type": "alpaca", "path": str(facts)}},
        "split": {"validation": 6, "test": 8},
        "tune": {"method": {"type": "lora", "r": 2}, "rows_per_step": 8, "learning_rate": 0.01, "evaluate_every": 2},
        "score": [{"task": "facts", "metrics": ["rougeL", "exact_match"], "shots": 2, "sampling": {"max_new_tokens": 6}}],
        "probes": ["Who are you?"],
        "forgetting": False,
    }
    return build({**raw, **given})


class Told:
    """A Watch that remembers what was said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def bar(self, name, total, unit):
        from etude.screen import Silent

        return Silent().bar(name, total, unit)


def test_a_run_leaves_all_that_design_promises(folder, facts, tmp_path):
    catalog.NOTES.clear()
    place = tmp_path / "runs" / "small"
    score = [{"task": "facts", "metrics": ["rougeL", "exact_match", "bleu"], "shots": 2, "sampling": {"max_new_tokens": 6}}]
    found = pipeline.run(recipe(folder, facts, score=score), place, "name: small  # as given\n")
    names = "recipe.yaml recipe.resolved.yaml manifest.json curated/train.jsonl curated/steps.json"
    names += " data/train.jsonl data/validation.jsonl data/test.jsonl dropped.jsonl metrics.jsonl"
    names += " model/adapter_model.safetensors model/adapter_config.json model/tokenizer.json model/chat_template.jinja lock"
    names += " model/generation_config.json predictions/facts.start.jsonl predictions/facts.tuned.jsonl predictions/facts.few_shot.jsonl"
    names += " predictions/probes.start.jsonl predictions/probes.tuned.jsonl scorecard.json report.html report.md results.json"
    for name in names.split():
        assert (place / name).is_file(), name
    assert (place / "recipe.yaml").read_text() == "name: small  # as given\n"
    numbers = json.loads((place / "results.json").read_text())
    assert numbers == plain(found)
    measure = numbers["tasks"]["facts"]["rougeL"]
    assert set(measure) == {
        "base",
        "base_interval",
        "tuned",
        "tuned_interval",
        "difference",
        "interval",
        "p",
        "items",
        "signature",
        "baselines",
    }
    assert measure["items"] == 8
    assert measure["difference"] == pytest.approx(measure["tuned"] - measure["base"])
    assert set(numbers["seconds"]) == set(STAGES)
    assert numbers["schema"] == 1
    ids = {part: {row["id"] for row in journal.read(place / "data" / f"{part}.jsonl")} for part in ("train", "validation", "test")}
    assert [len(ids[part]) for part in ("train", "validation", "test")] == [46, 6, 8]
    assert not ids["train"] & (ids["test"] | ids["validation"])
    assert {row["id"] for row in journal.read(place / "predictions/facts.tuned.jsonl")} == ids["test"]
    card = json.loads((place / "scorecard.json").read_text())["tasks"]["facts"]
    assert len(card["arms"]["tuned"]["bleu"]["stats"]) == len(card["ids"]) == 8
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["inputs"][str(facts)] == journal.file_digest(facts)


def test_a_second_run_reuses_everything_and_another_run_takes_over_what_is_the_same(folder, finished, tmp_path):
    facts, place = finished
    first = json.loads((place / "results.json").read_text())
    told = Told()
    assert plain(pipeline.run(recipe(folder, facts), place, watch=told)) == first
    assert [line.split(":")[0] for line in told.lines if "reused" in line] == STAGES
    other = recipe(folder, facts, name="other", tune={"method": {"type": "lora", "r": 3}, "rows_per_step": 8, "max_steps": 2})
    told = Told()
    pipeline.run(other, tmp_path / "runs" / "other", watch=told)
    assert [line.split(":")[0] for line in told.lines if "taken over from small" in line] == STAGES[:5]
    with journal.Journal(tmp_path / "runs/other/predictions/facts.start.jsonl") as lines:
        lines.append({"id": "x"})
    assert "x" not in {row["id"] for row in journal.read(place / "predictions/facts.start.jsonl")}, "a copy, not a link"


def test_metrics_can_change_without_asking_again(folder, finished, tmp_path):
    facts, told = finished[0], Told()
    score = [{"task": "facts", "metrics": ["chrf"], "shots": 2, "sampling": {"max_new_tokens": 6}}]
    found = pipeline.run(recipe(folder, facts, name="b", score=score), tmp_path / "runs" / "b", watch=told)
    assert sum("taken over" in line for line in told.lines) == len(STAGES)
    assert [m.metric for m in found.tasks["facts"]] == ["chrf"]


def test_a_changed_recipe_is_refused_with_the_difference(folder, finished):
    facts, place = finished
    with pytest.raises(RecipeError, match=r"(?s)\+seed: 5.*name=small-2") as error:
        pipeline.run(recipe(folder, facts, seed=5), place)
    assert error.value.exit_code == 2


def test_what_an_llm_may_cost_and_where_it_is_can_change_on_the_way(folder, finished):
    """A budget was used up, a second server has come; another model is another recipe."""
    facts, place = finished
    teacher = {"type": "http", "model": "small", "base_url": "http://localhost:1/v1", "budget": {"requests": 10}}
    from etude import runs

    runs.claim(place.parent / "asked", recipe(folder, facts, llms={"teacher": teacher}), "")
    (place.parent / "asked" / "stages").mkdir()
    (place.parent / "asked" / "stages" / "tune.json").write_text("{}")
    more = {**teacher, "budget": {"requests": 99}, "also": ["http://localhost:2/v1"], "concurrency": 99}
    runs.claim(place.parent / "asked", recipe(folder, facts, llms={"teacher": more}), "")
    assert "requests: 99" in (place.parent / "asked" / "recipe.resolved.yaml").read_text()
    with pytest.raises(RecipeError, match="different recipe"):
        runs.claim(place.parent / "asked", recipe(folder, facts, llms={"teacher": {**more, "model": "large"}}), "")


def test_changed_data_is_not_resumed(folder, facts, tmp_path):
    place = tmp_path / "runs" / "small"
    pipeline.run(recipe(folder, facts), place)
    before = {row["id"] for row in journal.read(place / "predictions/facts.start.jsonl")}
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(60)]
    journal.write_rows(facts, rows)
    told = Told()
    pipeline.run(recipe(folder, facts), place, watch=told)
    assert not any("reused" in line for line in told.lines)
    after = {row["id"] for row in journal.read(place / "predictions/facts.start.jsonl")}
    assert len(after) == 8
    assert not after & before


def test_tuned_answers_from_disk_equal_those_of_the_live_model(folder, finished):
    facts, place = finished
    first = json.loads((place / "results.json").read_text())
    (place / "stages" / "tuned.json").unlink()
    shutil.rmtree(place / "predictions" / "x", ignore_errors=True)
    live = list(journal.read(place / "predictions/facts.tuned.jsonl"))
    (place / "predictions/facts.tuned.jsonl").unlink()
    again = plain(pipeline.run(recipe(folder, facts), place))
    assert again["tasks"] == first["tasks"]
    assert list(journal.read(place / "predictions/facts.tuned.jsonl")) == live


def test_two_processes_cannot_share_a_folder(folder, facts, tmp_path):
    place = tmp_path / "runs" / "small"
    with journal.locked(place), pytest.raises(Locked, match="in use by process") as error:
        pipeline.run(recipe(folder, facts), place)
    assert error.value.exit_code == 8


def test_full_tuning_and_no_validation(folder, facts, tmp_path):
    place = tmp_path / "runs" / "full"
    tune = {"method": "full", "rows_per_step": 16, "evaluate_every": "never"}
    pipeline.run(recipe(folder, facts, name="full", tune=tune, split={"validation": 0, "test": 8}, probes=[]), place)
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(place / "model").num_parameters() > 0
    (place / "stages" / "tuned.json").unlink()
    pipeline.run(recipe(folder, facts, name="full", tune=tune, split={"validation": 0, "test": 8}, probes=[]), place)


def test_rows_that_do_not_fit_are_refused_or_dropped_as_the_recipe_says(folder, facts, tmp_path):
    journal.write_rows(facts, [*journal.read(facts), {"instruction": "Long.", "input": "", "output": "word " * 400}])
    short = {"rows_per_step": 8, "max_tokens": 96, "max_steps": 1, "method": {"type": "lora", "r": 2}}
    split = {"validation": 6, "test": 8}
    pipeline.run(recipe(folder, facts, tune=short, split=split), tmp_path / "runs" / "cut")
    record = runs.record(tmp_path / "runs" / "cut", "tune")
    assert record is not None
    with pytest.raises((DataError, CheckFailed), match="96"):
        pipeline.run(recipe(folder, facts, tune={**short, "truncation": "refuse"}, split=split), tmp_path / "runs" / "refused")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"split": {"test": 600}}, DataError, "600"),
        ({"score": [{"task": "fact"}]}, RecipeError, "did you mean 'facts'"),
        ({"score": [{"task": "facts", "baselines": ["majority"]}]}, RecipeError, "label set"),
        ({"split": {"test": 0}}, RecipeError, "no test rows"),
        ({"sources": {"facts": {"type": "alpaca", "path": "fact.jsonl"}}}, DataError, "fact.jsonl"),
        ({"model": "smollm2-135m-instuct"}, RecipeError, "smollm2-135m-instruct"),
        ({"tune": {"method": {"type": "lora", "target_modules": ["q_prj"]}}}, RecipeError, "q_proj"),
    ],
)
def test_bad_recipes_say_what_is_wrong(folder, facts, tmp_path, change, kind, words):
    with pytest.raises(kind, match=words):
        pipeline.run(recipe(folder, facts, **change), tmp_path / "runs" / "small")


def test_bad_rows_stop_the_run_and_are_listed_when_allowed(folder, facts, tmp_path):
    with open(facts, "a", encoding="utf-8") as file:
        file.write('{"instruction": 5}\n')
    with pytest.raises(DataError, match=r"facts.jsonl:61: .*instruction") as error:
        pipeline.run(recipe(folder, facts), tmp_path / "runs" / "small")
    assert error.value.exit_code == 3
    place = tmp_path / "runs" / "allowed"
    found = pipeline.run(recipe(folder, facts, max_bad_rows=1), place)
    (row,) = [row for row in journal.read(place / "dropped.jsonl") if "text" in row]
    assert row["line"] == 61
    assert "instruction" in row["reason"]
    assert found.sources[0].bad == 1


def test_a_torn_stage_record_is_not_trusted(folder, finished):
    facts, place = finished
    path = place / "stages" / "data.json"
    path.write_text(path.read_text()[:40])
    (place / "model" / "adapter_model.safetensors").write_bytes(b"short")
    told = Told()
    pipeline.run(recipe(folder, facts), place, watch=told)
    assert [line.split(":")[0] for line in told.lines if "reused" in line] == ["curated", "encoded", "start", "baselines", "tuned"]


def test_labels_get_majority_and_constrained_baselines(folder, tmp_path):
    path = tmp_path / "news.csv"
    lines = [f"the profit of firm {i} {'rose' if i % 3 else 'fell'},{'positive' if i % 3 else 'negative'}" for i in range(60)]
    path.write_text("Sentence,Sentiment\n" + "\n".join(lines) + "\n")
    source = {"type": "columns", "path": str(path), "template": "sentiment", "columns": {"text": "Sentence", "label": "Sentiment"}}
    tune = {"rows_per_step": 8, "max_steps": 1, "method": {"type": "lora", "r": 2}}
    chosen = build(
        {
            "name": "news",
            "model": str(folder),
            "sources": {"news": source},
            "split": {"test": 12, "validation": 4},
            "tune": tune,
            "score": [{"task": "news", "shots": 2, "sampling": {"max_new_tokens": 6}}],
            "forgetting": False,
        }
    )
    found = pipeline.run(chosen, tmp_path / "runs" / "news")
    accuracy = next(m for m in found.tasks["news"] if m.metric == "accuracy")
    assert set(accuracy.baselines) == {"majority", "few_shot", "constrained"}
    truth = [row["fields"]["label"] for row in journal.read(tmp_path / "runs/news/data/test.jsonl")]
    assert accuracy.baselines["majority"]["value"] == pytest.approx(truth.count("positive") / 12)
    constrained = [row["outputs"][0] for row in journal.read(tmp_path / "runs/news/predictions/news.constrained.jsonl")]
    assert set(constrained) <= {"positive", "negative", "neutral"}


def test_rows_are_encoded_once_and_again_only_when_their_words_change(folder, facts, tmp_path):
    """The encodings are taken over by a run with other tuning; another length, seed or wording makes new ones."""

    def stages(name, **given):
        told = Told()
        pipeline.run(recipe(folder, facts, name=name, score=[], probes=[], **given), tmp_path / "runs" / name, watch=told)
        return [line.split(":")[0] for line in told.lines if "taken over" in line]

    quick = {"rows_per_step": 8, "max_steps": 1, "method": {"type": "lora", "r": 2}}
    assert stages("one", tune=quick) == []
    assert "encoded" in stages("two", tune={**quick, "learning_rate": 0.5})
    assert "encoded" not in stages("three", tune={**quick, "max_tokens": 400})
    assert "encoded" not in stages("four", tune=quick, wording={"few_shot": 0.5})
    assert "encoded" not in stages("five", tune=quick, format="alpaca")
    assert "encoded" not in stages("six", tune=quick, train_on={"turns": "last"})


def test_encodings_come_back_as_they_were(tmp_path):
    import numpy as np

    from etude import encoded
    from etude.records import Encoded, Fate

    rows = [
        Encoded("a", np.array([1, 2, 3], np.int32), np.array([-100, 2, 3], np.int32), 4, 0.5),
        Encoded("ü", np.array([7], np.int32), np.array([7], np.int32)),
    ]
    for part in (encoded.Rows(rows, [Fate.drop("b", "longer than 3 tokens")]), encoded.Rows()):
        encoded.save(part, tmp_path / "part.npz")
        back = encoded.load(tmp_path / "part.npz")
        assert back.fates == part.fates
        assert [(r.id, r.ids.tolist(), r.labels.tolist(), r.cut, r.weight) for r in back.rows] == [
            (r.id, r.ids.tolist(), r.labels.tolist(), r.cut, r.weight) for r in part.rows
        ]


def test_a_mixture_decides_what_is_trained(folder, facts, tmp_path):
    other = tmp_path / "other.jsonl"
    journal.write_rows(other, [{"instruction": f"Say {i}.", "output": f"word {i}"} for i in range(40)])
    sources = {name: {"type": "alpaca", "path": str(path)} for name, path in (("facts", facts), ("other", other))}
    score = [{"task": "facts", "metrics": ["exact_match"], "shots": 2, "sampling": {"max_new_tokens": 2}}]
    tune = {"rows_per_step": 8, "max_steps": 1, "method": {"type": "lora", "r": 2}}
    mixture = {"weights": {"facts": 0.75, "other": 0.25}, "total": 24}
    place = tmp_path / "runs" / "mixed"
    pipeline.run(recipe(folder, facts, name="mixed", sources=sources, score=score, tune=tune, mixture=mixture, probes=[]), place)
    done = runs.record(place, "encoded")
    assert done.facts["tokens"]["rows"] == 24
    assert [line["drawn"] for line in done.facts["mixture"]["sources"]] == [18, 6]


def test_class_weights_reach_the_loss(folder, facts, tmp_path):
    """Weights of a balanced mixture stand with the encoded rows, which training reads."""
    from etude import encoded

    place = tmp_path / "runs" / "balanced"
    tune = {"rows_per_step": 8, "max_steps": 1, "method": {"type": "lora", "r": 2}}
    mixture = {"balance": {"field": "output", "by": "weights"}}
    pipeline.run(recipe(folder, facts, name="balanced", tune=tune, mixture=mixture, probes=[]), place)
    answers = {row["id"]: row["fields"]["output"] for row in journal.read(place / "data" / "train.jsonl")}
    weights = {}
    for row in encoded.load(place / "encoded" / "train.npz").rows:
        weights.setdefault(answers[row.id], []).append(row.weight)
    totals = [sum(given) for given in weights.values()]
    assert len({len(given) for given in weights.values()}) > 1, "the classes differ in size"
    assert totals == pytest.approx([totals[0]] * len(totals)), "and count alike"


def test_before_a_model_was_asked_a_changed_recipe_goes_on_in_its_folder(folder, facts, tmp_path):
    place = tmp_path / "runs" / "small"
    pipeline.curate(recipe(folder, facts), place)
    pipeline.curate(recipe(folder, facts, curate=["echo"]), place)
    found = pipeline.find_rate(recipe(folder, facts, curate=["echo"]), place)
    assert len(found.rates) > 8
    assert found.suggestion in found.rates
    pipeline.tune_only(recipe(folder, facts, curate=["echo"], tune={"max_steps": 1, "learning_rate": found.suggestion}), place)
    with pytest.raises(RecipeError, match="name=small-2"):
        pipeline.curate(recipe(folder, facts), place)


def test_other_baselines_ask_the_start_model_nothing_again(finished, folder):
    path, place = finished
    told = Told()
    pipeline.run(
        recipe(
            folder,
            path,
            name="bare",
            score=[{"task": "facts", "metrics": ["rougeL", "exact_match"], "baselines": [], "sampling": {"max_new_tokens": 6}}],
        ),
        place.parent / "bare",
        watch=told,
    )
    assert [line.split(":")[0] for line in told.lines if "taken over" in line] == [stage for stage in STAGES if stage != "baselines"]
