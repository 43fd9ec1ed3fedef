"""What makes a study fair: budgets for every seed, what was announced is held, every task and group counts, plans that promise no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from etude import journal, runs
from etude.comparison.found import worded
from etude.engines.here import Here
from etude.engines.processes import Processes
from etude.failures import RecipeError
from etude.recipe import to_yaml
from etude.reporting import study_words
from etude.screen import Silent
from etude.studies import costing, running, telling
from etude.studies.designing import design, planned
from etude.studies.gathering import sizes
from test_studies import study, tiny


@pytest.fixture(scope="module")
def facts(model_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny(model_folder, tmp_path_factory)


def loose(facts: dict[str, Any], **tune: Any) -> dict[str, Any]:
    """The recipe with other settings of tune, and no bound in steps."""
    return {**facts, "tune": {**facts["tune"], "max_steps": None, **tune}}


class Scripted:
    """An engine that trains nothing: what every job gives is told."""

    def __init__(self, told: Callable[[str], dict[str, Any]]) -> None:
        self.told = told

    def map(self, _: str, jobs: Any) -> Any:
        for index, job in enumerate(jobs):
            yield index, self.told(Path(job["folder"]).name)


# ---- budgets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", ["rows", "steps", "tokens"])
def test_arms_get_as_much_with_every_seed(facts: dict[str, Any], tmp_path: Path, same: str) -> None:
    arms = {"all": {}, "few": {"mixture.total": 30}, "small": {"tune.tokens_per_step": 150}}
    own = study(loose(facts, rows_per_step=None, tokens_per_step=200), arms=arms, same=same, seeds=[3, 4, 5])
    ready = design(own, Path(), tmp_path / "s", Silent())
    amounts = set()
    for arm in arms:
        for rows in planned(ready.recipe(arm, "rows"), tmp_path / "s", own.seeds):
            amounts.add({"rows": rows.drawn, "steps": rows.steps, "tokens": rows.tokens}[same])
    assert len(amounts) == 1 or (same == "tokens" and max(amounts) - min(amounts) < 60), amounts


def test_a_batch_that_is_tried_moves_no_rows(facts: dict[str, Any], tmp_path: Path) -> None:
    own = study({**facts}, arms={"a": {}, "b": {"tune.method": "full"}}, trials={"keys": {"tune.rows_per_step": [4, 8]}})
    folder = tmp_path / "s"
    ready = design(own, Path(), folder, Silent())
    rows = running.trained(ready, folder, {"a": {"tune.rows_per_step": 4}, "b": {"tune.rows_per_step": 8}})
    assert rows["a"].drawn == rows["b"].drawn == 16
    assert (rows["a"].steps, rows["b"].steps) == (4, 2)


# ---- trials ----------------------------------------------------------------------------------------------


def test_an_arm_whose_trials_all_fail_in_the_middle_costs_no_other(facts: dict[str, Any], tmp_path: Path) -> None:
    def told(name: str) -> dict[str, Any]:
        if name.startswith("lora") and name.endswith("r1"):
            return {"failed": "broken"}
        return {"tuned": {"best_validation": 0.5, "best_value": 0.5}}

    rates = {"tune.learning_rate": [n * 1e-3 for n in range(1, 10)]}
    own = study(facts, seeds=[0], trials={"search": "halving", "count": 9, "keys": rates})
    tried = running.trials(design(own, Path(), tmp_path / "s", Silent()), tmp_path / "s", Scripted(told), Silent())
    assert not any(trial.chosen for trial in tried["lora"])
    assert [trial.share for trial in tried["lora"]] == [1 / 9] * 9 + [1 / 3] * 3
    assert sum(trial.chosen for trial in tried["full"]) == 1


def test_every_arm_is_judged_by_what_it_says_itself(facts: dict[str, Any], tmp_path: Path) -> None:
    arms = {"loss": {}, "score": {"tune.best_by": "facts.rougeL"}}
    own = study(facts, arms=arms, trials={"keys": {"tune.learning_rate": [1e-3, 1e-2]}})
    ready = design(own, Path(), tmp_path / "s", Silent())

    def told(name: str) -> dict[str, Any]:
        value = 0.1 if name.endswith("t0") else 0.9
        return {"tuned": {"best_validation": value, "best_value": value}}

    tried = running.trials(ready, tmp_path / "s", Scripted(told), Silent())
    assert [trial.chosen for trial in tried["loss"]] == [True, False], "less loss"
    assert [trial.chosen for trial in tried["score"]] == [False, True], "more ROUGE"


# ---- what was announced ------------------------------------------------------------------------------------


def test_a_recipe_that_changed_under_its_study_is_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    path, folder = tmp_path / "base.yaml", tmp_path / "runs" / "s"
    own = study(facts).model_copy(update={"recipe": "base.yaml"})

    def announced(**changes: Any) -> None:
        path.write_text(to_yaml({**facts, **changes}))
        running.announce(design(own, tmp_path, folder, Silent()), folder)

    announced()
    before = (folder / "study.json").read_bytes()
    announced()
    assert (folder / "study.json").read_bytes() == before
    with pytest.raises(RecipeError, match=r"announced another primary, recipe of lora, recipe of full: its recipe or its data changed"):
        announced(score=[{**facts["score"][0], "metrics": ["exact_match", "rougeL"]}])
    with pytest.raises(RecipeError, match="announced another recipe of lora"):
        announced(tune={**facts["tune"], "learning_rate": 0.02})
    rows = Path(facts["sources"]["facts"]["path"])
    kept = rows.read_text()
    try:
        rows.write_text("\n".join(kept.splitlines()[:50]) + "\n")
        with pytest.raises(RecipeError, match="announced another budget, training rows in every arm"):
            announced()
    finally:
        rows.write_text(kept)


# ---- what a plan promises ------------------------------------------------------------------------------------


def test_a_plan_counts_groups(facts: dict[str, Any], tmp_path: Path) -> None:
    alone = design(study(facts), Path(), tmp_path / "a", Silent())
    own = study(facts, group="output")
    grouped = design(own, Path(), tmp_path / "g", Silent())
    split = design(study({**facts, "split": {**facts["split"], "group": "output"}}), Path(), tmp_path / "p", Silent())
    assert (alone.groups, alone.items) == (0, 8)
    assert grouped.groups < 8
    assert 0 < split.groups < split.items
    assert alone.smallest is not None
    assert grouped.smallest is not None
    assert grouped.smallest > alone.smallest
    assert f"8 test rows in {grouped.groups} groups" in telling.plan_text(
        costing.plan(study(facts, group="output"), Path(), tmp_path / "g")
    )


@pytest.mark.parametrize(("metric", "known"), [("chrf", False), ("bits_per_token", False), ("exact_match", True), ("rougeL", True)])
def test_a_plan_promises_nothing_it_does_not_know(facts: dict[str, Any], tmp_path: Path, metric: str, known: bool) -> None:
    only = {**facts, "score": [{**facts["score"][0], "metrics": [metric]}]}
    ready = design(study(only), Path(), tmp_path / "s", Silent())
    assert (ready.smallest is not None) == known
    own = design(study(only, item_sd=9.0, seed_sd=1.0), Path(), tmp_path / "s", Silent())
    assert own.smallest is not None
    assert own.smallest > 9
    if not known:
        text = telling.plan_text(costing.plan(study(only), Path(), tmp_path / "s"))
        assert "what it can show is not known" in text


def test_a_plan_asks_no_model(facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etude.curation.difficulty.Difficulty.judge", lambda *_: pytest.fail("asked"))
    hard = {"curate": [{"type": "length", "input": {"most_characters": 3}}, {"type": "difficulty", "model": "start", "hardest": 0.5}]}
    found = costing.plan(study(facts, arms={"a": {}, "b": hard}), Path(), tmp_path / "s")
    assert "b: 1 checks ask a model" in found["notes"][0]
    assert costing.plan(study(facts, arms={"a": {}, "b": hard}), Path(), tmp_path / "s") == {
        **found,
        "seconds": ANY,
        "arms": ANY,
        "disk gb": ANY,
    }
    assert 0 < found["arms"]["b"]["rows"] < found["arms"]["a"]["rows"]
    made = {
        **facts,
        "llms": {"x": {"type": "scripted", "always": "x"}},
        "generate": {"more": {"type": "evolve", "rows": "facts", "llm": "x"}},
    }
    with pytest.raises(RecipeError, match=r"arms\.lora: its rows are still to be made by a model \(more\)"):
        costing.plan(study(made), Path(), tmp_path / "m")


def test_what_was_thought_for_the_plan_holds_nobody_up(facts: dict[str, Any], tmp_path: Path) -> None:
    ready = design(study(facts), Path(), tmp_path / "s", Silent())
    running.announce(ready, tmp_path / "s")
    path = tmp_path / "s" / "study.json"
    said = json.loads(path.read_text())
    said["study"]["seed_sd"] = 0.016
    journal.write_json(path, said)
    running.refuse_another(tmp_path / "s", study(facts, item_sd=0.2))
    with pytest.raises(RecipeError, match="announced other margin"):
        running.refuse_another(tmp_path / "s", study(facts, margin=0.1))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"score.1.metrics": ["chrf"]}, "more: not compared: more: the arms share no metric"),
        ({"sources.more.path": "twice.jsonl"}, "more: not compared: "),
    ],
)
def test_a_further_task_that_cannot_be_compared_costs_nothing(
    facts: dict[str, Any], tmp_path: Path, other: dict[str, Any], why: str
) -> None:
    for name, words in (("more", "Say"), ("twice", "Tell")):
        rows = [{"instruction": f"{words} {i}.", "input": "", "output": f"word {i % 3}"} for i in range(40)]
        journal.write_rows(tmp_path / f"{name}.jsonl", rows)
    other = {key: str(tmp_path / value) if value == "twice.jsonl" else value for key, value in other.items()}
    (score,) = facts["score"]
    two = {
        **facts,
        "sources": {**facts["sources"], "more": {"type": "alpaca", "path": str(tmp_path / "more.jsonl")}},
        "split": {"validation": 6, "test": 8},
        "score": [score, {**score, "task": "more"}],
    }
    own = study(two, arms={"a": {}, "b": other}, seeds=[0], same=None, primary="facts.rougeL")
    found = running.run(own, Path(), tmp_path / "s")
    assert any(note.startswith(why) for note in found.notes), found.notes
    assert "rougeL" in found.arm("b").against
    assert (tmp_path / "s" / "report.md").is_file()


def test_rows_are_counted_of_the_test_and_not_of_validation(facts: dict[str, Any], tmp_path: Path) -> None:
    (score,) = facts["score"]
    ready = design(study({**facts, "score": [{**score, "split": "validation"}, score]}), Path(), tmp_path / "s", Silent())
    assert (ready.task, ready.items) == ("facts", 8)


def test_more_data_is_a_question_only_where_nothing_else_differs(facts: dict[str, Any], tmp_path: Path) -> None:
    arms = {"all": {}, "half": {"mixture.total": 20}, "third": {"mixture.total": 10}}
    ready = design(study(facts, arms=arms), Path(), tmp_path / "a", Silent())
    assert list(sizes(ready, {arm: {} for arm in arms})) == ["all", "half", "third"]
    assert sizes(ready, {"all": {}, "half": {}, "third": {"tune.learning_rate": 1}}) == {}
    other = design(study(facts, arms={**arms, "third": {"mixture.total": 10, "tune.method": "full"}}), Path(), tmp_path / "b", Silent())
    assert sizes(other, {arm: {} for arm in arms}) == {}


# ---- the whole -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A study of two tasks in groups, in a folder with a comma, of which one run an arm is left."""

    class Half(Here):
        def map(self, work: str, jobs: Any) -> Any:
            for index, result in super().map(work, jobs):
                lost = jobs[index]["folder"].endswith(".s1") and jobs[index]["until"] == "report"
                yield index, {"failed": "lost"} if lost else result

    rows = tmp_path_factory.mktemp("rows") / "more.jsonl"
    journal.write_rows(rows, [{"instruction": f"Say {i}.", "input": "", "output": f"word {i % 3}"} for i in range(40)])
    (score,) = facts["score"]
    two = {
        **facts,
        "sources": {**facts["sources"], "more": {"type": "alpaca", "path": str(rows)}},
        "split": {"validation": 6, "test": 20},
        "score": [{**score, "task": "more"}, score],
    }
    folder = tmp_path_factory.mktemp("a, b") / "s"
    return folder, running.run(study(two, primary="facts.rougeL", group="output", slices="input"), Path(), folder, engine=Half())


def test_one_seed_that_is_left_speaks_of_its_checkpoints(whole: tuple[Path, Any]) -> None:
    _, found = whole
    full = found.arm("full")
    one = worded(replace(full.against["rougeL"], why=""))  # of a tiny model nothing may vary
    assert one.seeds == (1, 1)
    tested = replace(found, arms=tuple(replace(arm, against={"rougeL": one}) if arm is full else arm for arm in found.arms))
    assert "one of 2 seeds is left, so this speaks of these checkpoints only" in study_words.sentence(tested)
    assert "results of one seed speak of these checkpoints" in study_words.paragraph(tested)


def test_a_comma_in_the_folder_voids_nothing(whole: tuple[Path, Any]) -> None:
    folder, found = whole
    assert "," in str(folder)
    assert not [note for note in found.notes if "cannot test" in note]
    assert runs.record(folder / "lora.s0", "tune") is not None


def test_further_tasks_and_slices_are_one_family_each_and_know_of_groups(whole: tuple[Path, Any]) -> None:
    folder, found = whole
    full = found.arm("full")
    assert list(full.reached) == ["rougeL", "exact_match", "more.rougeL", "more.exact_match"]
    others = [one for name, one in full.against.items() if name != "rougeL"]
    assert all(one.groups for one in others), "the study's groups are those of every task that has the field"
    assert {one.family for one in others} == {3}
    assert all(one.label == "exploratory; these checkpoints only" for one in others)
    assert full.against["rougeL"].groups > 0
    assert any(one.comparison.groups for one in found.slices)
    assert {one.comparison.family for one in found.slices} == {len(found.slices)}
    assert "more: ROUGE-L" in (folder / "report.md").read_text()
    assert "more: ROUGE-L" in (folder / "report.html").read_text()
    json.loads((folder / "results.json").read_text())


def test_what_is_not_the_baseline_is_never_called_so(whole: tuple[Path, Any]) -> None:
    folder, found = whole
    untested = replace(found, arms=tuple(replace(arm, against={}) for arm in found.arms))
    (line,) = (line for line in telling.as_text(untested, folder).splitlines() if line.startswith("  full"))
    assert line.endswith("not tested")


@pytest.mark.slow
def test_a_study_is_the_same_in_processes(facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "src"))
    own = study(facts, seeds=[0])
    here = running.run(own, Path(), tmp_path / "here")
    there = running.run(own, Path(), tmp_path / "there", engine=Processes(slots=1))
    assert [arm.reached for arm in here.arms] == [arm.reached for arm in there.arms]
    for arm in ("lora.s0", "full.s0"):
        one, two = ((tmp_path / where / arm / "scorecard.json").read_bytes() for where in ("here", "there"))
        assert one == two, "answers and statistics, to the last digit"
