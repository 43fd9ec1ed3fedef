"""Studies on a tiny model: the design announced before the first step, equal budgets, trials, failures that cost no other arm, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etude import journal, pipeline, runs, studies
from etude.engines.here import Here
from etude.failures import RecipeError, Stopped
from etude.screen import Silent
from etude.studies import Study, costing, running, searching, telling
from etude.studies.designing import design

ROWS = [{"instruction": f"Name number {i}.", "input": "" if i % 2 else f"item {i}", "output": f"the number {i % 7}"} for i in range(60)]


@pytest.fixture(scope="module")
def base(model_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny(model_folder, tmp_path_factory)


def tiny(model_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe on a tiny model that ends its turns soon."""
    from transformers import GenerationConfig

    place = model_folder("llama")
    GenerationConfig(eos_token_id=list(range(0, 300, 5))).save_pretrained(place)
    path = tmp_path_factory.mktemp("rows") / "facts.jsonl"
    journal.write_rows(path, ROWS)
    return {
        "name": "base",
        "model": str(place),
        "sources": {"facts": {"type": "alpaca", "path": str(path)}},
        "split": {"validation": 6, "test": 8},
        "tune": {"method": {"type": "lora", "r": 2}, "rows_per_step": 8, "learning_rate": 0.01, "max_steps": 2},
        "score": [{"task": "facts", "metrics": ["rougeL", "exact_match"], "baselines": [], "sampling": {"max_new_tokens": 4}}],
        "forgetting": False,
    }


def study(base: dict[str, Any], **given: Any) -> Study:
    arms = {"lora": {}, "full": {"tune.method": "full", "tune.learning_rate": 1e-3}}
    return Study.model_validate({"name": "s", "recipe": base, "arms": arms, "seeds": [0, 1], **given})


@pytest.fixture(scope="module")
def finished(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Study]:
    """A study with trials and an arm that cannot be: its folder, its findings, itself."""
    folder = tmp_path_factory.mktemp("studies") / "s"
    arms = {"lora": {}, "wide": {"tune.method": {"type": "lora", "r": 4}}, "broken": {"tune.method": {"type": "lora", "r": 500}}}
    own = study(base, arms=arms, slices="input", trials={"keys": {"tune.learning_rate": [1e-2, 1e-3]}})
    return folder, running.run(own, Path(), folder), own


def test_the_design_stands_before_the_first_step(finished: Any, base: dict[str, Any]) -> None:
    folder, _, _ = finished
    said = json.loads((folder / "study.json").read_text())
    assert said["primary"] == "facts.rougeL"
    assert said["baseline"] == "lora"
    assert said["seeds"] == [0, 1]
    assert said["trials"]["wide"] == [{"tune.learning_rate": 0.01}, {"tune.learning_rate": 0.001}]
    assert 0 < said["smallest visible difference"] <= 1
    assert (folder / "study.json").stat().st_mtime_ns < min(p.stat().st_mtime_ns for p in folder.glob("*/stages/tune.json"))


def test_a_failed_arm_costs_no_other_and_is_marked(finished: Any) -> None:
    _, found, _ = finished
    broken = found.arm("broken")
    assert not broken.reached
    assert set(broken.failed) == {0, 1}
    assert "above the width" in broken.failed[0]
    assert any("broken: 2 of 2 runs failed" in note for note in found.notes)
    assert set(found.arm("wide").reached["rougeL"].seeds) == {0, 1}
    assert found.arm("wide").against["rougeL"].family == 1
    assert found.arm("wide").cost.trainable == 2 * found.arm("lora").cost.trainable
    assert found.arm("lora").cost.memory_gb > 0.1


def test_every_arm_tried_as_much_and_chose_on_validation_rows(finished: Any) -> None:
    folder, found, _ = finished
    for arm in (found.arm("lora"), found.arm("wide")):
        values = [trial.value for trial in arm.trials]
        assert len(values) == 2
        assert arm.trials[values.index(min(values))].chosen
        chosen = next(trial for trial in arm.trials if trial.chosen)
        for seed in (0, 1):
            assert runs.recipe_of(folder / f"{arm.name}.s{seed}").tune.learning_rate == chosen.changes["tune.learning_rate"]
    assert not any((folder / f"lora.t{n}" / "predictions").exists() for n in (0, 1)), "a trial never sees a test row"


def test_slices_are_exploratory(finished: Any) -> None:
    _, found, _ = finished
    assert {one.arm for one in found.slices} == {"wide"}
    assert max(one.items for one in found.slices if one.name == "") > 1
    assert sum(one.items for one in found.slices) == 8
    assert all("exploratory" in one.comparison.label for one in found.slices)


def test_what_arms_share_is_done_once(finished: Any) -> None:
    folder, _, _ = finished
    for stage in ("data", "start"):
        done = [runs.record(place, stage) for place in folder.iterdir() if (place / "stages" / f"{stage}.json").exists()]
        assert sum(not one.reused_from for one in done if one) == 1, stage
    first = runs.record(folder / "lora.s0", "tune")
    assert first is not None
    assert first.reused_from.startswith("lora.t"), "the first seed's run is the trial that won"


def test_the_same_study_again_does_nothing_and_says_the_same(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found, own = finished
    from etude import training

    trained, train = list[str](), training.train
    monkeypatch.setattr(
        "etude.training.train", lambda model, rows, tune, place, **k: (trained.append(place.name), train(model, rows, tune, place, **k))[1]
    )
    again = running.run(own, Path(), folder)
    assert {name.split(".")[0] for name in trained} <= {"broken"}, "only what failed is tried again"
    assert again.arm("wide").reached == found.arm("wide").reached
    assert again.arm("wide").against == found.arm("wide").against


def test_another_study_in_the_same_folder_is_refused(finished: Any) -> None:
    folder, _, own = finished
    with pytest.raises(RecipeError, match="announced other seeds"):
        running.run(own.model_copy(update={"seeds": (0, 1, 2)}), Path(), folder)


def test_the_folder_holds_the_report_and_text_for_a_terminal(finished: Any) -> None:
    folder, found, _ = finished
    assert json.loads((folder / "results.json").read_text())["baseline"] == "lora"
    text = telling.as_text(found, folder)
    assert "wide" in text
    assert "broken               failed: every trial failed" in text


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"arms": {"a": {}}}, "arms"),
        ({"seeds": [1, 1]}, "a seed is given twice"),
        ({"baseline": "ful"}, "did you mean 'full'"),
        ({"own_trials": {"x": {"tune.learning_rate": [1]}}}, "no arm named 'x'"),
        ({"trials": {"search": "random", "keys": {"tune.learning_rate": [1e-3]}}}, "trials.count"),
        ({"arms": {"A b": {}, "c": {}}}, "pattern"),
        ({"trials": {"keys": {"tune.learning_rate": []}}}, "at least 1 item"),
        ({"own_trials": {"full": {"tune.learning_rate": []}}}, "at least 1 item"),
    ],
)
def test_a_wrong_study_is_refused(base: dict[str, Any], given: dict[str, Any], why: str) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match=why):
        study(base, **given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"arms": {"a": {}, "b": {"tune.learning_rat": 1}}}, "arm b: tune.learning_rat: unknown key 'learning_rat'"),
        ({"primary": "facts.rogueL"}, "did you mean 'facts.rougeL'"),
        ({"arms": {"a": {}, "b": {"split.seed": 9}}}, "arms.b: it is asked other test rows"),
        ({"own_trials": {"full": {"tune.learning_rate": [1e-3, 1e-4]}}}, "equally many combinations"),
        ({"recipe": "quickstar"}, "did you mean 'quickstart'"),
        ({"slices": "inputs"}, "slices: test row .* has no field 'inputs'; did you mean 'input'"),
        ({"group": "file"}, "group: test row .* has no field 'file'"),
        ({"trials": {"keys": {"mixture.total": [10, 20]}}}, "trials of mixture.total: mixture cannot be tried; what changes rows"),
        ({"trials": {"keys": {"tune.epochs": [1, 2]}}}, "trials of tune.epochs: tune.epochs cannot be tried: every arm gets the same rows"),
        ({"trials": {"keys": {"tune.seed": [1, 2]}}, "same": None}, "tune.seed cannot be tried: seeds are the study's"),
        (
            {"own_trials": {"full": {"tune.rows_per_step": [4]}}, "same": "steps"},
            "every arm must try equally many|tune.rows_per_step cannot be tried",
        ),
        ({"trials": {"keys": {"tune.num_train_epochs": [1, 3]}}}, "trials of tune.num_train_epochs: tune.epochs cannot be tried"),
        ({"trials": {"keys": {"tune.max_length": [16, 64]}}}, "tune.max_tokens cannot be tried"),
        ({"trials": {"keys": {"tune": [{"rows_per_step": 4, "max_steps": 1}]}}}, "trials of tune: tune.max_steps cannot be tried"),
    ],
)
def test_a_wrong_arm_is_named_before_any_step(base: dict[str, Any], tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        running.run(study(base, **given), tmp_path, tmp_path / "s")
    assert not list(tmp_path.glob("s/*/metrics.jsonl"))


def test_an_arm_whose_questions_cannot_be_asked_stops_no_other(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etude import answering
    from etude.failures import NoSandbox

    start = answering.start

    def jailed(work: Any, data: Any) -> Any:
        if work.recipe.name.startswith("full."):
            raise NoSandbox("no jail here")
        return start(work, data)

    monkeypatch.setattr(answering, "start", jailed)
    other = {"score": {**base["score"][0], "sampling": {"max_new_tokens": 3}}}  # asked otherwise, so that it takes over no answers
    found = running.run(study(base, arms={"lora": {}, "full": {"tune.method": "full", **other}}), Path(), tmp_path / "s")
    assert found.arm("full").failed == {0: "no jail here", 1: "no jail here"}
    assert set(found.arm("lora").reached["rougeL"].seeds) == {0, 1}
    assert not found.arm("lora").against
    assert any("only one arm has a finished run" in note for note in found.notes)


def test_budgets_are_made_equal_in_what_the_study_says(base: dict[str, Any], tmp_path: Path) -> None:
    free = {**base, "tune": {**base["tune"], "max_steps": None, "epochs": 1}}
    for same, expected in (("rows", "drawn"), ("steps", "steps"), ("tokens", "tokens")):
        longer = {"arms": {"short": {}, "long": {"tune.epochs": 2}}}
        ready = design(study(free, same=same, **longer), Path(), tmp_path / same, Silent())
        got = {getattr(rows, expected) for rows in ready.rows.values()}
        assert len(got) == 1 or (same == "tokens" and max(got) - min(got) < 60), (same, ready.rows)
        assert got == {getattr(ready.rows["short"], expected)} or same == "tokens"
    ready = design(study(free, same=None, arms={"short": {}, "long": {"tune.epochs": 2}}), Path(), tmp_path / "none", Silent())
    assert ready.rows["long"].drawn == 2 * ready.rows["short"].drawn


def test_rows_are_matched_by_id_where_the_study_says(base: dict[str, Any], tmp_path: Path) -> None:
    arms = {"all": {}, "short": {"curate": [{"type": "length", "input": {"most_characters": 3}}]}}
    free = design(study(base, arms=arms), Path(), tmp_path / "free", Silent())
    assert len(free.rows["short"].ids) < len(free.rows["all"].ids)
    ready = design(study(base, arms=arms, match=True), Path(), tmp_path / "matched", Silent())
    assert set(ready.rows["all"].ids) == set(ready.rows["short"].ids) == set(free.rows["short"].ids)
    assert ready.shared == len(free.rows["short"].ids)


def test_a_study_that_was_stopped_goes_on_to_the_same_end(base: dict[str, Any], finished: Any, tmp_path: Path) -> None:
    class Dying(Here):
        def map(self, work: str, jobs: Any) -> Any:
            for count, one in enumerate(super().map(work, jobs)):
                if count == 1:
                    raise Stopped("enough", 15)
                yield one

    whole = running.run(study(base), Path(), tmp_path / "whole")
    for _ in range(2):
        with pytest.raises(Stopped):
            running.run(study(base), Path(), tmp_path / "cut", engine=Dying())
    again = running.run(study(base), Path(), tmp_path / "cut")
    assert [arm.reached for arm in again.arms] == [arm.reached for arm in whole.arms]


def test_halving_is_honest_about_what_it_tried(base: dict[str, Any], tmp_path: Path) -> None:
    rates = {"tune.learning_rate": [3e-2, 1e-2, 3e-3, 1e-3]}
    own = study(base, seeds=[0], trials={"search": "halving", "count": 4, "factor": 2, "keys": rates})
    ready = design(own, Path(), tmp_path / "h", Silent())
    tried = running.trials(ready, tmp_path / "h", Here(), Silent())
    for trials in tried.values():
        assert [trial.share for trial in trials] == [0.25] * 4 + [0.5] * 2 + [1.0]
        assert [trial.chosen for trial in trials] == [False] * 6 + [True]
    assert searching.rungs(9, 3) == [(9, 1 / 9), (3, 1 / 3), (1, 1.0)]


def test_random_trials_are_drawn_once_each(base: dict[str, Any]) -> None:
    own = study(base, trials={"search": "random", "count": 3, "keys": {"tune.learning_rate": [1, 2, 3, 4, 5, 6]}})
    first = searching.candidates(own, "lora")
    assert len({one["tune.learning_rate"] for one in first}) == 3
    assert first == searching.candidates(own, "lora")
    with pytest.raises(RecipeError, match="9 combinations are asked for, and arm 'lora' has 6"):
        searching.candidates(own.model_copy(update={"trials": own.trials.model_copy(update={"count": 9})}), "lora")


def test_a_plan_says_cost_and_power(base: dict[str, Any], tmp_path: Path) -> None:
    found = costing.plan(study(base), Path(), tmp_path / "s")
    assert found["runs"] == 4
    assert found["arms"]["full"]["tokens"] > 100
    assert found["arms"]["lora"]["steps"] == 2
    assert "can show a difference of" in telling.plan_text(found)


def test_studies_are_told_from_recipes(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\nrecipe: quickstart\narms: {a: {}, b: {}}\n")
    (tmp_path / "r.yaml").write_text("name: r\nmodel: m\n")
    assert studies.is_study(tmp_path / "s.yaml")
    assert not studies.is_study(tmp_path / "r.yaml")
    assert studies.load(tmp_path / "s.yaml", ["seeds=[5]"])[0].seeds == (5,)


def test_training_seeds_share_everything_before_training(base: dict[str, Any], tmp_path: Path) -> None:
    from etude.recipe import build

    for seed in (0, 1):
        one = build({**base, "name": f"r{seed}", "tune": {**base["tune"], "seed": seed}})
        pipeline.run(one, tmp_path / f"r{seed}")
    second = {stage: runs.record(tmp_path / "r1", stage) for stage in ("data", "encoded", "start", "tune")}
    assert [bool(done and done.reused_from) for done in second.values()] == [True, True, True, False]
