"""`etude score`: known tasks, baselines, log-probabilities, second turns, the forgetting probe."""

from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest
from typer.testing import CliRunner

from etude import baselines, cli, forgetting, harness, journal, pipeline, preparing, scoring, tasks
from etude.failures import DataError, RecipeError
from etude.metrics import METRICS, needs
from etude.models import Answer, Sampling
from etude.recipe import build
from etude.records import Conversation, Message
from etude.scoring import Task
from test_pipeline import recipe

ROWS = {
    "gsm8k": [
        {"question": f"Tom has {i} pens and buys 2. How many?", "answer": f"{i} + 2 = <<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}"}
        for i in range(6)
    ],
    "svamp": [{"context": f"There are {i} cups and 3 break. How many are left?", "answer": str(i - 3)} for i in range(4, 10)],
    "dialogsum": [
        {
            "dialogue": f"#A#: Are you in room {i}?\n#B#: Yes.",
            "summary1": f"B is in room {i}.",
            "summary2": f"They meet in {i}.",
            "summary3": "B waits.",
        }
        for i in range(6)
    ],
    "code_alpaca": [{"instruction": f"Print {i}.", "input": "", "output": f"print({i})"} for i in range(6)],
    "t0": [{"prompt": f"Is {i} even?", "completion": " yes" if i % 2 == 0 else " no"} for i in range(6)],
    "multiple_choice": [{"question": f"What is {i} + 1?", "options": [str(i), str(i + 1)], "answer": str(i + 1)} for i in range(6)],
    "likeliest": [{"query": f"After {i} comes", "choices": [str(i), str(i + 1)], "gold": 1} for i in range(6)],
    "humaneval": [
        {
            "task_id": f"T/{i}",
            "prompt": f'def f(x):\n    """Add {i}."""\n',
            "entry_point": "f",
            "canonical_solution": f"    return x + {i}\n",
            "test": f"def check(c):\n    assert c(1) == {i + 1}\n",
        }
        for i in range(4)
    ],
    "mbpp": [
        {
            "task_id": i,
            "text": f"Write f that adds {i}.",
            "code": f"def f(x):\n    return x + {i}\n",
            "test_list": [f"assert f(1) == {i + 1}"],
        }
        for i in range(4)
    ],
    "ifeval": [
        {
            "key": i,
            "prompt": f"Is {i} even? Answer with 'My answer is yes.', 'My answer is no.' or 'My answer is maybe.', without commas.",
            "instruction_id_list": ["detectable_format:constrained_response", "punctuation:no_comma"],
            "kwargs": [{}, {"num_words": None}],
        }
        for i in range(4)
    ],
    "mt_bench": [{"question_id": i, "category": "writing", "turns": [f"Tell of {i}.", "Shorter."]} for i in range(4)],
}
RIGHT = {"ifeval": "My answer is yes."}
"""The right answer to each row of a task whose rows hold none."""
ASKED = [{"id": str(i), "question": f"When, {i}?", "answers": [{"text": "1851", "answer_start": 19}]} for i in range(4)]
SQUAD = {"data": [{"title": "t", "paragraphs": [{"context": "The mill burned in 1851.", "qas": ASKED}]}]}


@pytest.fixture(scope="module")
def folder(model_folder):
    return model_folder("llama")


def file_of(name, place):
    """A small file of a task's own form."""
    if name in ("squad", "xquad"):
        path = place / "squad.json"
        path.write_text(json.dumps(SQUAD))
    elif name == "phrasebank":
        path = place / "news.csv"
        path.write_text(
            "Sentence,Sentiment\n" + "".join(f"Profit of {i} rose,{('positive', 'negative', 'neutral')[i % 3]}\n" for i in range(6))
        )
    elif name == "code_alpaca":
        path = place / "rows.json"
        path.write_text(json.dumps(ROWS[name]))
    else:
        path = place / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, ROWS[name])) + "\n")
    return path


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_reads_its_file_and_scores_the_right_answers_as_right(name, folder, tmp_path):
    chosen = build(tasks.recipe_of(name, str(folder), str(file_of(name, tmp_path))))
    data = preparing.read(chosen)
    (task,) = chosen.tasks()
    asked = preparing.asked(chosen, data, task)
    assert len(asked) >= 4
    assert all(c.question().messages[-1].role == "user" for c in asked)
    metrics = [m for m in preparing.metrics_of(chosen, task) if not needs(m)]
    rows = [scoring.answered(c, [RIGHT.get(name) or c.answer()]) for c in asked]
    for key, one in scoring.measure(rows, metrics, name).items():
        assert one.value == pytest.approx(METRICS.name_of(metrics[0]) and metrics[list(scoring.names(metrics)).index(key)].scale), key
    wrong = [scoring.answered(c, [""]) for c in asked]
    assert all(one.value == 0 for one in scoring.measure(wrong, metrics, name).values())


def test_a_task_without_a_recipe(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = file_of("likeliest", tmp_path)
    done = CliRunner().invoke(cli.app, ["score", "--model", str(folder), "--task", "likeliest", "--data", str(path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["likeliest"]["start"]
    assert found["answers"] == 6
    assert len(found["metrics"]) == 2, "a metric that is there twice has two names"
    for one in found["metrics"].values():
        assert one["interval"][0] <= one["value"] <= one["interval"][1]
    (lines,) = (tmp_path / "runs").glob("score-likeliest-*/predictions/likeliest.start.jsonl")
    row = next(journal.read(lines))
    assert row["outputs"] == [""], "nothing is generated for log-probabilities"
    assert len(row["choice_logprobs"]) == len(row["choices"]) == 2
    again = CliRunner().invoke(cli.app, ["score", "--model", str(folder), "--task", "likeliest", "--data", str(path)])
    assert "reused" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "gsm9k", "--model", "x"], "gsm8k"),
        (["--task", "gsm8k"], "--task needs --model"),
        (["--model", "x"], "score needs one of"),
        (["--task", "svamp", "--model", "x"], "give the file to score with --data"),
        (["--task", "svamp", "--model", "x", "--data", "f.jsonl", "--few-shot", "2"], "--train FILE"),
        (["--task", "svamp", "--model", "x", "sources.svamp.licence=a/b"], "give the file to score with --data"),
        (["--predictions", "p.jsonl"], "--predictions needs --metric"),
        (["--predictions", "p.jsonl", "--metric", "rougeL", "--set", "stemmer"], "key=value"),
    ],
)
def test_what_cannot_be_scored_is_said(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["score", *arguments])
    assert said in str(done.exception)
    assert done.exception.exit_code == 2


def test_a_tuned_run_on_a_known_task(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"instruction": f"Say {i}.", "input": "", "output": "zebra"}) for i in range(40)) + "\n")
    tune = {"method": {"type": "lora", "r": 2}, "learning_rate": 0.05, "max_steps": 3}
    pipeline.run(recipe(folder, path, tune=tune, probes=[]), tmp_path / "runs" / "small")
    rows = str(file_of("svamp", tmp_path))
    arguments = ["score", "--task", "svamp", "--data", rows, "sources.svamp.limit=3", "score.sampling.max_new_tokens=3", "--json"]
    done = CliRunner().invoke(cli.app, [*arguments, "--model", "small"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["svamp"]["start"]["answers"] == 3
    told = [row["outputs"] for row in journal.read(tmp_path / "runs" / "score-svamp-small" / "predictions" / "svamp.start.jsonl")]
    CliRunner().invoke(cli.app, [*arguments, "--model", str(folder), "name=plain"])
    plain = [row["outputs"] for row in journal.read(tmp_path / "runs" / "plain" / "predictions" / "svamp.start.jsonl")]
    assert told != plain, "the tuned model answered, not its start model"


def test_the_other_harness_is_handed_the_model(folder, tmp_path, monkeypatch):
    lm_eval = types.ModuleType("lm_eval")
    told = {}

    def simple_evaluate(**given):
        told.update(given)
        return {"results": {"mine": {"acc,none": 0.25, "alias": "mine"}}}

    lm_eval.simple_evaluate = simple_evaluate
    lm_eval.tasks = types.ModuleType("lm_eval.tasks")
    lm_eval.tasks.TaskManager = lambda include_path=None: types.SimpleNamespace(all_tasks=["mine"])
    with pytest.raises(RecipeError, match=r"etude\[harness\]"):
        harness.evaluate(str(folder), ["mine"], tmp_path)
    monkeypatch.setitem(sys.modules, "lm_eval", lm_eval)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", lm_eval.tasks)
    (tmp_path / "mine.yaml").write_text("task: mine\nprocess: !function x.y\n")
    found = harness.evaluate(str(folder), [str(tmp_path / "mine.yaml")], tmp_path, limit=3)
    assert found["mine"]["acc,none"] == 0.25
    assert (told["tasks"], told["limit"], told["model_args"]["pretrained"]) == (["mine"], 3, str(folder))
    with pytest.raises(RecipeError, match="no task named 'other'"):
        harness.evaluate(str(folder), ["other"], tmp_path)


def test_predictions_of_anybody(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 1, "output": "The cats", "references": ["the cat"]}\n{"id": "2", "output": "", "references": ["a dog"]}\n')
    done = CliRunner().invoke(cli.app, ["score", "--predictions", str(path), "--metric", "rouge1", "--set", "stemmer=true", "--json"])
    found = json.loads(done.stdout)
    assert set(found) == {"score", "signature", "interval", "items"}
    assert (found["score"], found["items"]) == (0.5, 2)


def test_worked_examples_come_from_training_rows_only(folder, tmp_path):
    train = tmp_path / "train.jsonl"
    train.write_text("\n".join(json.dumps({"question": f"Ann has {i} nuts.", "answer": f"It is {i}.\n#### {i}"}) for i in range(20)) + "\n")
    raw = tasks.recipe_of("gsm8k", str(folder), str(file_of("gsm8k", tmp_path)), str(train), {"few_shot": 2})
    chosen = build(raw)
    (task,) = chosen.tasks()
    (first, *_) = preparing.asked(chosen, preparing.read(chosen), task)
    said = [m.content + m.context for m in first.question().messages]
    assert len(said) == 5, "two examples and the question"
    assert "nuts" in said[0]
    assert "The answer is" in said[1]
    assert "pens" in said[-1]


def test_a_test_file_may_have_columns_of_its_own(folder, tmp_path):
    train = tmp_path / "train.jsonl"
    train.write_text(
        "\n".join(json.dumps({"dialogue": f"#A#: {i}?\n#B#: Yes.", "summary": f"B says yes to {i}."}) for i in range(8)) + "\n"
    )
    chosen = build(tasks.recipe_of("dialogsum", str(folder), str(file_of("dialogsum", tmp_path)), str(train), {"few_shot": 1}))
    (task,) = chosen.tasks()
    (first, *_) = preparing.asked(chosen, preparing.read(chosen), task)
    assert len(first.notes["references"]) == 3
    assert "says yes to" in first.messages[1].content
    raw = tasks.recipe_of("dialogsum", str(folder), str(file_of("dialogsum", tmp_path)), str(train))
    raw["split"]["test"]["settings"] = {"colums": {}}
    with pytest.raises(RecipeError, match=r"split\.test\.settings: .*columns"):
        preparing.read(build(raw))


class Echo:
    """An LLM that says what it was asked, and how many turns there were."""

    def complete_each(self, conversations, sampling):
        for index, one in enumerate(conversations):
            yield index, (Answer(f"{len(one.messages)}: {one.messages[-1].content}", "stop", 1),)


def test_a_second_turn_is_asked_after_the_models_own_answer(tmp_path):
    asked = [
        Conversation("a", (Message("user", "First."),), notes={"then": ["Second.", "Third."]}),
        Conversation("b", (Message("user", "Only."),)),
    ]
    rows = scoring.ask(Echo(), asked, Sampling(), tmp_path / "p.jsonl")
    assert rows[0]["turns"] == ["1: First.", "3: Second.", "5: Third."]
    assert rows[0]["outputs"] == ["5: Third."]
    assert rows[1]["outputs"] == ["1: Only."]
    assert scoring.ask(None, asked, Sampling(), tmp_path / "p.jsonl") == rows, "what is journalled is not asked again"


class Likely:
    """A model with fixed odds."""

    def choose(self, conversations, choices):
        return [(0, np.log(np.arange(1, len(choices) + 1) / 10)) for _ in conversations]

    def logprobs(self, conversations):
        return [np.array([-1.0, -2.0]) for _ in conversations]


def test_log_probabilities_are_kept_for_the_metrics_that_need_them(tmp_path):
    asked = [Conversation("a", (Message("user", "x"), Message("assistant", "no")), notes={"choices": ["yes", "no"]})]
    (row,) = scoring.ask(Likely(), asked, Sampling(), tmp_path / "p.jsonl", needed=scoring.LOGPROBS, labels=["yes", "no"])
    assert row["token_logprobs"] == [-1.0, -2.0]
    assert row["label_logprobs"]["no"] == pytest.approx(math.log(0.2), abs=1e-6)
    assert row["choice_logprobs"] == [row["label_logprobs"]["yes"], row["label_logprobs"]["no"]]
    found = scoring.measure([row], [METRICS["multiple_choice"](by="loglikelihood"), METRICS["ece"](), METRICS["perplexity"]()], "t")
    assert found["multiple_choice"].value == 1
    assert found["perplexity"].value == pytest.approx(math.exp(1.5))
    with pytest.raises(DataError, match="at least two choices"):
        scoring.ask(Likely(), [Conversation("b", (Message("user", "x"),))], Sampling(), tmp_path / "q.jsonl", needed=["choice_logprobs"])


def conversation(text, answer):
    return Conversation(answer + text, (Message("user", "Sum up.", context=text), Message("assistant", answer)))


def test_trivial_baselines():
    trained = [conversation(f"good {i} profit rises", "up") for i in range(6)] + [
        conversation(f"bad {i} loss grows", "down") for i in range(5)
    ]
    asked = [
        conversation("One is here. Two is there! Three? Four.", "x"),
        conversation("A: hi\nB: ho\n\nA: so\nB: no", "y"),
        conversation("a loss grows", "down"),
    ]
    assert baselines.majority(asked, trained) == ["up"] * 3
    assert baselines.copy(asked, trained)[2] == "a loss grows"
    assert baselines.lead(asked, trained)[:2] == ["One is here. Two is there! Three?", "A: hi\nB: ho\nA: so"]
    assert baselines.tfidf(asked, trained)[2] == "down"
    with pytest.raises(RecipeError, match="two labels"):
        baselines.tfidf(asked, trained[:6])


def test_the_forgetting_probe_reads_this_machine_and_judges_small_tasks():
    prose, code = forgetting.prose(), forgetting.code()
    assert len(prose) == len(code) == forgetting.PIECES
    assert prose == forgetting.prose()
    assert all(300 <= len(text) <= 700 for text in [*prose, *code])
    assert all(text.startswith(("def ", "class ")) for text in code)
    for said, right, verdict in [
        ("The answer is 12.", ["12"], True), ("112", ["12"], False), ("It is Rome!", ["Rome"], True), ("river", ["RIVER"], False),
        ("RIVER", ["RIVER"], True), ("\n\nyes, it is", ["yes"], True), ("", ["no"], False), ("c - a - t", ["c-a-t"], True),
    ]:  # fmt: skip
        assert forgetting.is_right(said, right) is verdict, (said, right)
    assert all(forgetting.is_right(one["right"][0], one["right"]) for one in forgetting.tasks())


def test_a_run_says_what_tuning_cost(folder, tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"instruction": f"Say {i}.", "input": "", "output": "zebra"}) for i in range(40)) + "\n")
    tune = {"method": {"type": "full"}, "learning_rate": 0.5, "rows_per_step": 8, "epochs": 2, "evaluate_every": "never"}
    score = [{"task": "facts", "metrics": ["exact_match"], "baselines": [], "sampling": {"max_new_tokens": 2}}]
    found = pipeline.run(recipe(folder, path, tune=tune, score=score, probes=[], forgetting=True), tmp_path / "runs" / "small")
    prose, code, small = found.forgetting
    assert small.items == 24
    assert 6 <= prose.items <= 24, "texts longer than the model's context are left out"
    assert 6 <= code.items <= 24
    assert prose.lower
    assert prose.kind == "worse", "a model torn to one word has lost its prose"
    assert prose.base > 0
    assert "What tuning cost" in (tmp_path / "runs" / "small" / "report.html").read_text()
    assert set(json.loads((tmp_path / "runs" / "small" / "results.json").read_text())["forgetting"]) == {m.metric for m in found.forgetting}


def test_metrics_while_tuning_decide_which_step_is_best(folder, tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"instruction": f"Say {i}.", "input": "", "output": "zebra"}) for i in range(40)) + "\n")
    tune = {
        "method": {"type": "full"},
        "learning_rate": 0.02,
        "rows_per_step": 8,
        "max_steps": 4,
        "metrics_every": 2,
        "best_by": "facts.rougeL",
    }
    score = [{"task": "facts", "metrics": ["rougeL", "perplexity"], "baselines": [], "sampling": {"max_new_tokens": 3}}]
    place = tmp_path / "runs" / "small"
    pipeline.run(recipe(folder, path, tune=tune, score=score, probes=[]), place)
    measured = {line["step"]: line["metrics"]["facts.rougeL"] for line in journal.read(place / "metrics.jsonl") if "metrics" in line}
    assert set(measured) == {0, 2, 4}
    with pytest.raises(RecipeError, match=r"facts\.rougeL"):
        pipeline.run(
            recipe(folder, path, name="b", tune={**tune, "best_by": "facts.rouge9"}, score=score, probes=[]), tmp_path / "runs" / "b"
        )


def test_a_task_of_one_metric_twice_keeps_both():
    metrics = [METRICS["exact_match"](), METRICS["exact_match"](ignore_case=True)]
    assert scoring.names(metrics) == ("exact_match", "exact_match (ignore_case True)")
    assert Task(task="x", num_fewshot=3).few_shot == 3
