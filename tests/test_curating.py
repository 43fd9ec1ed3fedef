"""Curation as a stage of a run, and of a data set on its own."""

from __future__ import annotations

import json

import pytest

from etude import cleaning, curating, journal, pipeline, preparing, runs, suspecting
from etude.curation import CHECKS, PRESETS
from etude.failures import CheckFailed, DataError, RecipeError
from etude.reporting.findings import results
from test_pipeline import Told, recipe

QUICK = {"tune": {"method": {"type": "lora", "r": 2}, "max_steps": 1}, "probes": []}


def rows_in(path, **more):
    """A small alpaca file with what is usually wrong with one."""
    rows = [{"instruction": f"What is {i} and {i}?", "input": "", "output": f"It is {2 * i}."} for i in range(60)]
    rows += [
        {"instruction": "Draw a cat.", "input": "", "output": "<nooutput>"},
        {"instruction": "What is 3 and 3?", "input": "", "output": "It is 6."},
    ]
    rows += [{"instruction": "Add one to x in Python.", "input": "", "output": "```python\nx += 1  # one more\n```"}]
    path.write_text("\n".join(json.dumps({**row, **more}) for row in rows) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(model_folder):
    return model_folder("llama")


@pytest.fixture
def sums(tmp_path):
    return rows_in(tmp_path / "sums.jsonl")


def test_a_recipe_curates_and_every_dropped_row_has_its_reason(folder, sums, tmp_path):
    chosen = recipe(folder, sums, curate="standard", rewrite="remove_comments", split={"test": 8, "validation": 4, "seed": 3})
    place = pipeline.curate(chosen, tmp_path / "runs" / "small")
    steps = json.loads((place / "curated" / "steps.json").read_text())
    assert [step["name"] for step in steps] == ["remove_comments", *PRESETS["standard"], "contamination"]
    left = {row["reason"].split(":")[0]: row for row in journal.read(place / "dropped.jsonl")}
    kept = preparing.stored(place / "curated", chosen).parts["facts"]
    read = preparing.stored(place / "data", chosen).parts["facts"]
    assert len(read.train) - len(kept.train) == sum(step["dropped"] for step in steps)
    assert len(list(journal.read(place / "dropped.jsonl"))) == len(read.dropped) + len(read.train) - len(kept.train)
    if any("<nooutput>" in r.fields["output"] for r in read.train):
        assert left["placeholder"]["fields"]["output"] == "<nooutput>"
    codes = [r.fields["output"] for r in kept.train if "python" in r.fields["output"]]
    assert all("#" not in code for code in codes)
    assert {r.id for r in kept.train} < {r.id for r in read.train} | {"none"}
    assert (place / "curation.html").is_file()
    assert (place / "curation.md").is_file()


def test_contamination_is_looked_for_unless_it_only_reports(folder, sums, tmp_path):
    assert [CHECKS.name_of(check) for check in recipe(folder, sums).curate] == ["contamination"]
    listed = recipe(folder, sums, curate=[{"type": "contamination", "drop": False}, "echo"])
    assert [CHECKS.name_of(check) for check in listed.curate] == ["contamination", "echo"]
    with pytest.raises(RecipeError, match="exact_duplicate"):
        recipe(folder, sums, curate=["exact_duplicates"])


def touched(tmp_path):
    """Training rows that hold a test question, with another answer (so that they are other rows)."""
    text = "please count how many apples are left in basket number {} after lunch on monday is over today"
    test = [{"instruction": text.format(i), "input": "", "output": f"There are {i} apples left."} for i in range(8)]
    train = [{"instruction": f"Name the colour number {i}.", "input": "", "output": f"Colour {i}."} for i in range(40)]
    train += [{"instruction": "Now " + row["instruction"], "input": "", "output": "Some."} for row in test[:3]]
    for name, rows in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path / "train.jsonl", {"test": {"path": str(tmp_path / "test.jsonl")}, "validation": 0}


def test_the_report_gives_the_score_on_the_rows_that_training_never_saw(folder, tmp_path):
    train, split = touched(tmp_path)
    kept = recipe(folder, train, split=split, curate=[{"type": "contamination", "drop": False}], **QUICK)
    found = pipeline.run(kept, tmp_path / "runs" / "small")
    assert (found.contamination.found, found.contamination.dropped) == (3, 0)
    (one,) = found.contamination.sets
    assert (one.name, one.rows, one.touched) == ("facts.test", 8, 3)
    rows = list(journal.read(tmp_path / "runs" / "small" / "predictions" / "facts.start.jsonl"))
    assert len(rows) == 8
    assert [c.metric for c in one.clean] == [m.metric for m in found.tasks["facts"]]
    assert results(found)["contamination"]["sets"]["facts.test"]["touched"] == 3
    page = (tmp_path / "runs" / "small" / "report.html").read_text()
    assert "hold something of an evaluation set; they were kept" in page
    told = Told()
    dropped = pipeline.run(recipe(folder, train, split=split, name="b", **QUICK), tmp_path / "runs" / "b", watch=told)
    assert (dropped.contamination.found, dropped.contamination.dropped) == (3, 3)
    assert any(line.startswith("start: taken over") for line in told.lines), "another curation asks the start model nothing again"


def test_too_much_contamination_ends_the_run_with_what_was_found_on_disk(folder, tmp_path):
    train, split = touched(tmp_path)
    chosen = recipe(folder, train, split=split, curate=[{"type": "contamination", "most": 0.01}])
    place = tmp_path / "runs" / "small"
    with pytest.raises(CheckFailed, match="contamination: 37") as error:
        pipeline.run(chosen, place)
    assert error.value.exit_code == 4
    (step,) = json.loads((place / "curated" / "steps.json").read_text())
    assert len(step["facts"]["found"]) == 3
    assert runs.record(place, "curated") is None
    assert runs.record(place, "start") is None


def test_nothing_left_is_said(folder, sums, tmp_path):
    with pytest.raises(DataError, match="curation leaves no training row: length dropped"):
        pipeline.curate(recipe(folder, sums, curate=[{"type": "length", "most_words": 1}]), tmp_path / "runs" / "small")


def test_bounds_in_tokens_are_counted_with_the_recipes_model(folder, sums, tmp_path):
    place = pipeline.curate(recipe(folder, sums, curate=[{"type": "length", "answer": {"most_tokens": 9}}]), tmp_path / "runs" / "small")
    chosen = runs.recipe_of(place)
    from etude.models import weights
    from etude.working import Student

    student = Student(weights.locate(chosen.model), chosen)
    sizes = [student.count(r.fields["output"]) for r in preparing.stored(place / "data", chosen).parts["facts"].train]
    kept = preparing.stored(place / "curated", chosen).parts["facts"].train
    assert len(kept) == sum(size <= 9 for size in sizes) < len(sizes)


def test_a_check_that_asks_a_model_asks_the_start_model_once(folder, sums, tmp_path):
    chosen = recipe(folder, sums, curate=[{"type": "difficulty", "model": "start", "hardest": 0.5}])
    place = pipeline.curate(chosen, tmp_path / "runs" / "small")
    asked = list(journal.read(place / "asked" / "difficulty.jsonl"))
    before = len(preparing.stored(place / "data", chosen).parts["facts"].train)
    assert before - 2 <= len(asked) <= before, "rows that read alike are asked once"
    (place / "stages" / "curated.json").unlink()
    pipeline.curate(chosen, place)
    assert len(list(journal.read(place / "asked" / "difficulty.jsonl"))) == len(asked), "the second time nothing is asked again"
    assert curating.asks(chosen.curate[0])


def test_a_data_set_without_a_recipe(sums, tmp_path):
    done = cleaning.clean(str(sums), cleaning.checks_of(["standard"]))
    left = cleaning.save(done, tmp_path / "kept.jsonl")
    kept, gone = list(journal.read(tmp_path / "kept.jsonl")), list(journal.read(left))
    assert len(kept) + len(gone) == 63
    assert {row["check"] for row in gone} == {"exact_duplicate", "placeholder"}
    assert all(row["reason"] for row in gone)
    with pytest.raises(RecipeError, match="there already"):
        cleaning.save(done, tmp_path / "kept.jsonl")
    with pytest.raises(RecipeError, match="the input itself"):
        cleaning.save(done, sums, force=True)
    assert "Draw a cat." in cleaning.page(done)


def test_a_data_set_against_an_evaluation_set(tmp_path):
    train, split = touched(tmp_path)
    done = cleaning.clean(str(train), cleaning.checks_of(["contamination"]), against=[split["test"]["path"]])
    assert len(done.applied.dropped) == 3


@pytest.mark.parametrize(
    ("named", "said"), [("exact_dup", "exact_duplicate"), ("{type: length, most: 3}", "most"), ("{type: [", "not YAML")]
)
def test_a_wrong_check_is_named(named, said):
    with pytest.raises(RecipeError, match=said):
        cleaning.checks_of([named])


def test_bad_rows_of_a_data_set_stop_it(sums):
    sums.write_text(sums.read_text() + '{"instruction": "half"\n')
    with pytest.raises(DataError, match=r"(?s)sums.jsonl.*64.*--max-bad-rows 1"):
        cleaning.clean(str(sums), cleaning.checks_of(["standard"]))
    assert len(cleaning.clean(str(sums), [], max_bad_rows=1).bad) == 1


def test_suspects_of_a_run_are_listed_and_resumed(folder, tmp_path):
    path = tmp_path / "facts.jsonl"
    rows = [{"instruction": f"Say yes to {i}", "input": "", "output": "yes" if i % 30 else "zebra quilt"} for i in range(64)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    place = tmp_path / "runs" / "small"
    tune = {"rows_per_step": 16, "epochs": 5, "learning_rate": 0.02, "evaluate_every": "never", "method": {"type": "full"}}
    pipeline.run(
        recipe(
            folder,
            path,
            tune=tune,
            split={"test": 4, "validation": 0},
            probes=[],
            score=[{"task": "facts", "baselines": [], "sampling": {"max_new_tokens": 2}}],
        ),
        place,
    )
    found = suspecting.listed(place)
    assert found, "wrong labels stand out after tuning"
    assert {row.answer for _, row in found[:2]} == {"zebra quilt"}
    assert [line["id"] for line in journal.read(place / "suspects.jsonl")] == [one.id for one, _ in found]
    (after,) = (place / "suspects").glob("tuned-*.jsonl")
    lines = after.read_text().splitlines(keepends=True)
    after.write_text("".join(lines[:30]) + lines[30][:10])  # killed while it wrote
    assert [one.id for one, _ in suspecting.listed(place)] == [one.id for one, _ in found]
    with pytest.raises(RecipeError, match="not a run folder"):
        suspecting.listed(tmp_path)


def test_the_clean_score_leaves_the_touched_rows_out():
    from etude import scoring
    from etude.metrics import METRICS
    from etude.reporting.gathering import untouched

    rows = [{"id": id, "outputs": [said], "references": ["yes"]} for id, said in (("a", "yes"), ("b", "yes"), ("c", "no"), ("d", "no"))]
    metrics = [METRICS["exact_match"]()]
    measured = {
        "start": scoring.measure(rows, metrics, "t"),
        "tuned": scoring.measure([{**row, "outputs": ["yes"]} for row in rows], metrics, "t"),
    }
    (clean,) = untouched(rows, metrics, measured, frozenset("c"))
    assert (clean.base, clean.tuned) == (pytest.approx(2 / 3), 1.0)
    assert untouched(rows, metrics, measured, frozenset("abcd")) == ()
