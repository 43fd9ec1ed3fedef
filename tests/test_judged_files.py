"""`etude judge` over files, and the judged stage of a run."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from etude import digests, journal, judged_files, judged_runs, judging
from etude.cli import app
from etude.failures import CheckFailed, DataError, RecipeError
from etude.models.opening import Script
from etude.models.scripted import Scripted
from etude.recipe import build
from etude.screen import Silent
from test_judging import honest, judge_by

JUDGE = "type: scripted\nalways: whatever\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "judge.yaml").write_text(JUDGE)
    for name, qualities in (("a", (9, 9, 5)), ("b", (1, 8, 6))):
        given = [{"id": i, "question": f"Question {i}?", "output": f"quality {q}"} for i, q in enumerate(qualities)]
        journal.write_rows(tmp_path / f"{name}.jsonl", given)
    return tmp_path


@pytest.fixture
def good(monkeypatch):
    """Every scripted LLM is an honest judge; the list holds what was opened."""
    opened = []

    def one(self, folder=None, told=None):
        opened.append(Scripted(judge_by(honest)))
        return opened[-1]

    monkeypatch.setattr(Script, "open", one)
    return opened


def test_two_files_are_judged_and_again_costs_nothing(files, good):
    (files / "votes.jsonl").write_text('{"id": "0", "vote": "A"}\n{"id": "2", "vote": "A"}\n')
    args = (files / "a.jsonl", files / "b.jsonl", str(files / "judge.yaml"))
    found = judged_files.referee(*args, votes=files / "votes.jsonl", watch=Silent())
    assert (found["scores"]["wins"], found["scores"]["losses"]) == (2, 1)
    assert found["arms"] == ["a", "b"]
    assert found["votes"]["share"] == 0.5
    assert found["scores"]["length_controlled"]["why"].startswith("3 items are too few")
    text = judged_files.as_text(found)
    assert "a against b: win rate 0.667" in text
    assert "people agree on 0.50 " in text
    again = judged_files.referee(*args, watch=Silent())
    assert (again["asked"], again["scores"]) == (0, found["scores"])
    assert (files / "a.judged" / "judge.verdicts.jsonl").is_file()
    (files / "judge.yaml").write_text(JUDGE.replace("whatever", "else"))  # another judge is asked anew
    assert judged_files.referee(*args, watch=Silent())["asked"] > 0


def test_the_model_of_a_run_judging_itself_is_told(files, good, monkeypatch):
    (files / "predictions").mkdir()
    moved = (files / "a.jsonl").rename(files / "predictions" / "t.tuned.jsonl")
    journal.write_json(files / "manifest.json", {"model": {"name": "org/n", "digest": "d"}})
    monkeypatch.setattr(Script, "model", "m", raising=False)
    found = judged_files.referee(moved, None, str(files / "judge.yaml"), watch=Silent())
    assert found["warnings"] == []
    journal.write_json(files / "manifest.json", {"model": {"name": "hf://org/M@v1", "digest": "d"}})
    found = judged_files.referee(moved, None, str(files / "judge.yaml"), watch=Silent())
    assert "warning: the judge is the model of t.tuned" in judged_files.as_text(found)


def test_one_file_is_graded(files, good):
    found = judged_files.referee(files / "a.jsonl", None, str(files / "judge.yaml"), watch=Silent())
    assert found["scores"]["arms"]["a"]["mean"] == pytest.approx(23 / 3)
    assert "a: mean grade 7.67" in judged_files.as_text(found)
    both = judged_files.referee(files / "a.jsonl", files / "b.jsonl", str(files / "judge.yaml"), {"mode": "single"}, watch=Silent())
    assert both["scores"]["difference"] == pytest.approx(23 / 3 - 15 / 3)


def test_a_disqualified_judge_ends_with_4_and_gives_no_score(files):
    with pytest.raises(CheckFailed, match="the judge 'judge' is disqualified, and no score is given") as failed:
        judged_files.referee(files / "a.jsonl", files / "b.jsonl", str(files / "judge.yaml"), watch=Silent())
    assert failed.value.facts["scores"] is None
    kept = json.loads((files / "a.judged" / "judge.json").read_text())
    assert kept["disqualified"]
    assert kept["scores"] is None
    done = CliRunner().invoke(app, ["judge", str(files / "a.jsonl"), "--llm", str(files / "judge.yaml"), "--json", "--quiet"])
    assert isinstance(done.exception, CheckFailed)
    assert json.loads(done.stdout)["scores"] is None


def test_the_command_prints_and_takes_settings(files, good):
    args = ["judge", str(files / "a.jsonl"), str(files / "b.jsonl"), "--llm", str(files / "judge.yaml"), "--quiet"]
    done = CliRunner().invoke(app, [*args, "--set", "limit=2", "--set", "rubric=how short they are"])
    assert done.exit_code == 0, done.exception
    assert "win rate 1.000" in done.stdout
    assert "by how short they are." in good[0].asked[-1].messages[1].content


def test_what_cannot_be_judged_is_said(files, good):
    a, b, judge = files / "a.jsonl", files / "b.jsonl", str(files / "judge.yaml")
    for given, error, text in (
        ((a, None, judge, {"mode": "pairwise"}), RecipeError, "needs two files"),
        ((a, a, judge), RecipeError, "against itself"),
        ((a, b, judge, {"limt": "3"}), RecipeError, "did you mean 'limit'"),
        ((a, b, judge, {"attempts": "0"}), RecipeError, "attempts"),
        ((a, b, str(files / "none.yaml")), RecipeError, "there is no file"),
    ):
        with pytest.raises(error, match=text):
            judged_files.referee(*given, watch=Silent())
    journal.write_rows(files / "c.jsonl", [{"id": "x", "output": "y"}])
    with pytest.raises(DataError, match=r"c.jsonl:1: 'question' is not there"):
        judged_files.referee(files / "c.jsonl", None, judge, watch=Silent())
    (files / "votes.jsonl").write_text('{"id": "0", "vote": "C"}\n')
    with pytest.raises(DataError, match="must be A, B or tie"):
        judged_files.referee(a, b, judge, votes=files / "votes.jsonl", watch=Silent())


def test_a_judge_is_named_by_a_recipe_a_file_or_a_model(files):
    (files / "recipe.yaml").write_text("llms:\n  one: {type: scripted, always: x}\n  two: {type: http, model: m}\n")
    assert judged_files.llm_of(f"{files / 'recipe.yaml'}#two")[0] == "two"
    assert judged_files.llm_of("smollm2-135m-instruct")[1].model == "smollm2-135m-instruct"
    with pytest.raises(RecipeError, match=r"say which: .*#one, .*#two"):
        judged_files.llm_of(str(files / "recipe.yaml"))
    with pytest.raises(RecipeError, match="did you mean 'two'"):
        judged_files.llm_of(f"{files / 'recipe.yaml'}#tow")
    (files / "bad.yaml").write_text("type: http\n")
    with pytest.raises(RecipeError, match=r"bad\.yaml: model: Field required"):
        judged_files.llm_of(str(files / "bad.yaml"))


# ---- in a run --------------------------------------------------------------------------------------


class Weights:
    digest = "d0"
    folder = None


class Student:
    weights = Weights()

    def answering(self):
        return Scripted(judge_by(honest))


class Work:
    watch = Silent()
    student = Student()

    def __init__(self, recipe, folder):
        self.recipe, self.folder = recipe, folder


def recipe(**judge):
    return build(
        {
            "name": "r",
            "model": "m",
            "sources": {"t": {"type": "alpaca", "path": "t.jsonl"}},
            "llms": {"j": {"type": "scripted", "always": "x"}},
            "score": {"task": "t", "judge": judge},
        }
    )


def test_the_judged_stage_leaves_numbers_a_report_can_compare(tmp_path, good):
    for arm, qualities in (("tuned", (9, 9, 5, 7, 7, 8)), ("start", (1, 8, 6, 2, 2, 2))):
        given = [{"id": str(i), "question": f"Q{i}", "outputs": [f"quality {q}"], "references": [""]} for i, q in enumerate(qualities)]
        journal.write_rows(tmp_path / "predictions" / f"t.{arm}.jsonl", given)
    work = Work(recipe(llm="j"), tmp_path)
    facts = judged_runs.judged(work)
    assert facts["judges"]["t"]["disqualified"] == []
    found, _, arms = judging.load(tmp_path / "judged", "t")
    assert list(arms) == ["tuned", "start"]
    assert arms["tuned"].value == pytest.approx(5 / 6)
    assert found["warnings"] == []
    asked = facts["judges"]["t"]["asked"]
    assert asked
    assert judged_runs.judged(work)["judges"]["t"] == {**facts["judges"]["t"], "asked": 0, "from_journal": asked}
    number, said = judging.beside(tmp_path / "judged", work.recipe.tasks()[0])
    assert (number[0], number[2]["tuned"]["judge_win_rate"].value) == ("judge_win_rate", arms["tuned"].value)
    assert said[0].startswith("t: judged by j, which finds 1.00 [0.81, 1.00] of the answer key; 0 of 20 planted attacks move it. Of 6")
    judged_runs.refuse(work.recipe, tmp_path)
    own = judged_runs.judged(Work(recipe(llm="start"), tmp_path))
    assert "the judge is the model of tuned and start" in own["judges"]["t"]["warnings"][0]


def test_a_disqualified_judge_ends_a_run_that_has_no_other_number(tmp_path):
    for arm in ("tuned", "start"):
        journal.write_rows(
            tmp_path / "predictions" / f"t.{arm}.jsonl", [{"id": "1", "question": "Q", "outputs": [arm], "references": [""]}]
        )
    work = Work(recipe(llm="j"), tmp_path)
    assert judged_runs.judged(work)["judges"]["t"]["disqualified"]
    number, said = judging.beside(tmp_path / "judged", work.recipe.tasks()[0])
    assert number is None
    assert "the judge j is disqualified and gives no score" in said[0]
    judged_runs.refuse(work.recipe, tmp_path)  # there are metrics as well
    alone = build({**work.recipe.dump(), "score": {"task": "t", "metrics": [], "judge": "j"}})
    with pytest.raises(CheckFailed, match="disqualified"):
        judged_runs.refuse(alone, tmp_path)
    with pytest.raises(DataError, match="has not been judged"):
        judged_runs.refuse(alone, tmp_path / "none")


def test_a_wrong_judge_is_said_before_any_work_and_a_judge_asks_nothing_again():
    with pytest.raises(RecipeError, match=r"judge.llm: the recipe has no LLM named 'k'"):
        judged_runs.check(recipe(llm="k"))
    judged_runs.check(recipe(llm="start"))
    assert build({**recipe(llm="j").dump(), "score": {"task": "t", "judge": "j"}}).tasks()[0].judge == recipe(llm="j").tasks()[0].judge
    one, other = recipe(llm="j"), recipe(llm="j", mode="single")
    assert digests.asking(one) == digests.asking(other)
    assert digests.judged(one, Weights(), "t") != digests.judged(other, Weights(), "t")


def test_mt_bench_questions_take_their_right_answers_from_a_second_file(tmp_path):
    from etude.sources.questions import Questions

    asked = [{"question_id": i, "category": "math", "turns": [f"{i}?", "Sure?"]} for i in (1, 2)]
    journal.write_rows(tmp_path / "question.jsonl", asked)
    right = tmp_path / "right.jsonl"
    journal.write_rows(right, [{"question_id": 2, "choices": [{"turns": ["two", "yes"]}]}])
    source = Questions(path=str(tmp_path / "question.jsonl"), right_answers=str(right))
    one, two = source.read("mt")
    assert "turn_references" not in one.fields
    assert one.fields["output"] == ""
    assert (two.fields["output"], two.fields["turn_references"]) == ("two", ["two", "yes"])
    assert len(source.inputs()) == 2
    right.write_text('{"question_id": 2}\n')
    with pytest.raises(DataError, match=r"right\.jsonl:1: 'question_id' and 'choices'"):
        list(source.read("mt"))
    with pytest.raises(DataError, match="there is no file"):
        list(source.model_copy(update={"right_answers": str(tmp_path / "none")}).read("mt"))
