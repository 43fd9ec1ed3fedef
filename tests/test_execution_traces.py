"""Execution traces: what the steps say is what really happens, at every level; and a recipe's rewrite chooses the level."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude import catalog, curating, preparing
from etude.curation import REWRITES
from etude.failures import DataError, NoSandbox
from etude.metrics import METRICS
from etude.recipe import Recipe
from etude.records import BadRow, Origin, Prediction, Record
from etude.sandbox import ladder, tracer
from etude.sources import SOURCES, written_programs
from etude.sources.code_calls import Untraceable, traceable
from etude.sources.explaining import Told, explain, with_values
from etude.sources.trace_questions import questions
from etude.sources.tracing import Call, call_of, read, trace
from etude.sources.written_programs import Traceable, write_program
from etude.templates import answer_of
from etude.templates.levels import LEVELS, WRITTEN, at_level, broken, lengths_by_level
from etude.templates.reasoning import bare, stated

AVAILABLE = [name for name, there, _ in ladder.rungs() if there]
jailed = pytest.mark.skipif(not AVAILABLE, reason="no jail on this machine: " + "; ".join(f"{n}: {w}" for n, _, w in ladder.rungs()))
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

CODE = """\
def twice(x):
    return x * 2

def gather(values, n):
    total = 0
    for v in values:
        if v > n:
            total += twice(v)
        elif v == n:
            continue
        else:
            total -= 1
    return total
"""
CALL = "gather([5, 2, 1], 2)"


def source(**settings: Any) -> Any:
    return SOURCES["execution_traces"](**settings)


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    if not AVAILABLE:
        pytest.skip("no jail on this machine, and programs are traced in one")
    return list(source(count=120, seed=3).read("traces"))


@pytest.fixture(scope="module")
def told() -> tuple[Told, Call]:
    if not AVAILABLE:
        pytest.skip("no jail on this machine, and programs are traced in one")
    code = ast.unparse(ast.parse(CODE))
    found = trace([Traceable("p", code, "gather", (CALL,))], 30, ladder.choose())[0][0]
    assert isinstance(found, Call)
    return Told.of(code, "gather"), found


def run(code: str) -> dict[str, Any]:
    """The functions of a program of our own, in this process."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def stepped(code: str, call: str, entry: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, variables before it) as a debugger of this process sees them; the last is (0, variables at the end)."""
    names, seen = {}, []

    def local(frame: Any, event: str, value: Any) -> Any:
        if event in ("line", "return"):
            seen.append((frame.f_lineno if event == "line" else 0, {key: repr(value) for key, value in frame.f_locals.items()}))
        return local

    exec(compile(code, "<own>", "exec"), names)
    before = sys.gettrace()
    sys.settrace(lambda frame, event, value: local if frame.f_code is names[entry].__code__ else None)
    try:
        eval(call, names)
    finally:
        sys.settrace(before)
    return seen


# ---- what a row says is what happens ----------------------------------------------------------------


def test_answers_are_what_running_the_code_gives(rows):
    kinds = Counter(row.fields["kind"] for row in rows)
    assert set(kinds) == {"returns", "branch", "value"}
    assert min(kinds.values()) >= 30
    for row in rows:
        fields = row.fields
        entry = fields["call"].partition("(")[0]
        if fields["kind"] == "returns":
            assert repr(eval(fields["call"], run(fields["code"]))) == fields["answer"]
            continue
        line = int(re.search(r"line (\d+)", fields["question"])[1])
        time = {"second": 2, "third": 3}.get((re.search(r"the (first|second|third) time", fields["question"]) or ["", "first"])[1], 1)
        seen = stepped(fields["code"], fields["call"], entry)
        place = [i for i, (number, _) in enumerate(seen) if number == line][time - 1]
        if fields["kind"] == "value":
            name = re.search(r"what is (\w+) right after", fields["question"])[1]
            assert seen[place + 1][1][name] == fields["answer"]
        else:
            node = next(one for one in ast.walk(ast.parse(fields["code"])) if isinstance(one, ast.If) and one.lineno == line)
            chain = [node, *([node.orelse[0]] if node.orelse and isinstance(node.orelse[0], ast.If) else [])]
            words = ["if", "elif"]
            names = {**run(fields["code"]), **{key: ast.literal_eval(value) for key, value in seen[place][1].items()}}
            holds = [word for word, one in zip(words, chain, strict=False) if eval(ast.unparse(one.test), names)]
            assert fields["answer"] == (holds[0] if holds else "else" if chain[-1].orelse else "none")


def test_the_steps_are_the_executed_lines_with_the_values_they_left(rows):
    for row in rows:
        fields = row.fields
        entry = fields["call"].partition("(")[0]
        seen = stepped(fields["code"], fields["call"], entry)
        said = [line for line in fields["rationale_normal"].split("\n") if line.startswith("Line ") and " calls " not in line]
        assert [int(re.match(r"Line (\d+):", line)[1]) for line in said] == [number for number, _ in seen[: len(said)]]
        for place, line in enumerate(said):
            after = seen[place + 1][1]
            for name, value in after.items():
                if seen[place][1].get(name) != value:
                    assert f"{name} = {value}" in line
            if found := re.fullmatch(r"Line \d+: (.*) is (True|False)\.", line):
                names = {**run(fields["code"]), **{key: ast.literal_eval(value) for key, value in seen[place][1].items()}}
                assert str(bool(eval(found[1], names))) == found[2]


def test_the_reasons_of_the_full_level_are_true(rows):
    checked = 0
    for row in rows:
        names = run(row.fields["code"])
        for line in row.fields["rationale_complex"].split("\n"):
            if found := re.search(r" is (.+), which is (True|False), so line", line):
                assert str(bool(eval(found[1], names))) == found[2]
            elif found := re.search(r": .+? is (.+), so (?:\w+ = |it returns )(.+?)(?:; now .*)?\.$", line):
                value, result = eval(found[1], names), ast.literal_eval(found[2])
                # of `counts[key] = ...` the reason is that of the item
                assert value == result or value in getattr(result, "values", list)()
            else:
                continue
            checked += 1
    assert checked > 150


def test_every_level_holds_the_answer_and_is_longer_than_the_one_below(rows):
    for row in rows:
        texts = {level: row.fields[f"rationale_{level}"] for level in WRITTEN}
        assert broken(texts, row.fields["answer"]) == ""
        assert all(answer_of(stated(text, row.fields["answer"])) == bare(row.fields["answer"]) for text in texts.values())
        assert row.fields["rationale"] == texts["normal"]
        assert len(texts["simple"].split("\n")) <= 2
    found = lengths_by_level(rows, lambda text: len(text.split()))
    assert [found[level]["rows"] for level in LEVELS] == [120] * 4
    means = [found[level]["mean"] for level in LEVELS]
    assert means == sorted(set(means))


def test_a_hand_checked_row_at_each_level(told):
    known, call = told
    assert [explain(known, call, call.steps, level) for level in WRITTEN] == [
        "Line 9: v == n is False.\nLine 13: return total with total = 9.",
        "\n".join(
            [
                "Line 5: total = 0.",
                "Line 6: v = 5.",
                "Line 7: v > n is True.",
                "Line 8 calls twice with x = 5.",
                "twice, line 2: returns 10.",
                "Line 8: total = 10.",
                "Line 6: v = 2.",
                "Line 7: v > n is False.",
                "Line 9: v == n is True.",
                "Line 10: on to the next round.",
                "Line 6: v = 1.",
                "Line 7: v > n is False.",
                "Line 9: v == n is False.",
                "Line 12: total = 9.",
                "Line 6: the loop ends.",
                "Line 13: returns 9.",
            ]
        ),
        "\n".join(
            [
                "The call begins with values = [5, 2, 1], n = 2.",
                "Line 5: total = 0.",
                "Line 6: the next of values gives v = 5; now total = 0, v = 5.",
                "Line 7: v > n is 5 > 2, which is True, so line 8 is next.",
                "Line 8 calls twice with x = 5.",
                "twice, line 2: x * 2 is 5 * 2, so it returns 10.",
                "Line 8: total + twice(v) is 0 + twice(5), so total = 10; now total = 10, v = 5.",
                "Line 6: the next of values gives v = 2; now total = 10, v = 2.",
                "Line 7: v > n is 2 > 2, which is False, so line 9 is next.",
                "Line 9: v == n is 2 == 2, which is True, so line 10 is next.",
                "Line 10: on to the next round, line 6 is next.",
                "Line 6: the next of values gives v = 1; now total = 10, v = 1.",
                "Line 7: v > n is 1 > 2, which is False, so line 9 is next.",
                "Line 9: v == n is 1 == 2, which is False, so line 12 is next.",
                "Line 12: total - 1 is 10 - 1, so total = 9; now total = 9, v = 1.",
                "Line 6: no value is left in values, so the loop ends, line 13 is next.",
                "Line 13: total is 9, so it returns 9.",
            ]
        ),
    ]


def test_questions_about_a_call(told):
    known, call = told
    found = {one.question: one.answer for kind in ("returns", "branch", "value") for one in questions(known, CALL, call, kind)}
    asked = f"In the call {CALL}, which branch of the condition in line 7 is taken the %s time it is reached: if, elif or else?"
    assert found == {
        f"What does {CALL} return?": "9",
        asked % "first": "if",
        asked % "second": "elif",
        asked % "third": "else",
        f"In the call {CALL}, what is total right after line 8 has run?": "10",
        f"In the call {CALL}, what is total right after line 12 has run?": "9",
    }


# ---- programs ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**20))
def test_written_programs_end_and_are_the_same_each_time(seed, number):
    one = write_program(seed, number, 2)
    assert one == write_program(seed, number, 2)
    assert ast.unparse(ast.parse(one.code)) == one.code
    for call in one.calls:
        stepped(one.code, call, one.entry)  # ends, and raises nothing


@jailed
def test_reading_twice_gives_the_same_and_more_rows_begin_alike(rows):
    again = list(source(count=120, seed=3).read("traces"))
    assert again == rows
    assert list(source(count=30, seed=3).read("traces")) == rows[:30]
    assert list(source(count=30, seed=4).read("traces")) != rows[:30]
    inputs = [source(**s).inputs() for s in ({}, {"seed": 1}, {"most_steps": 9}, {"sandbox": "landlock"})]
    assert inputs[0] == inputs[3]
    assert inputs[0] != inputs[1] != inputs[2]


def test_another_version_of_the_programs_is_another_input(monkeypatch):
    before = source().inputs()
    monkeypatch.setattr(written_programs, "VERSION", 99)
    assert source().inputs() != before


def test_the_program_is_a_group_to_split_by(rows):
    assert len({row.fields["program"] for row in rows}) == len({row.fields["code"] for row in rows}) < len(rows)


@jailed
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def f(n):\n    while n:\n        n += 1\n    return n", "too many steps"),
        ("def f(n):\n    return [][n]", "raises IndexError"),
        ("def f(n):\n    s = {n, n + 1}\n    return n", "has a variable that is not written down (set)"),
        ("def f(n):\n    return {n, n + 1}", "its value cannot be written down"),
        ("import os\ndef f(n):\n    os._exit(0)\n    return n", "ends its process"),
        ("def f(n):\n    import socket\n    socket.socket()\n    return n", "raises PermissionError"),
        ("def f(n):\n    return 'x' * 10 ** 12", "raises MemoryError"),
        ("f = lambda n: n", "calls no function of the program"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_reason(code, why):
    assert trace([Traceable("p", code, "f", ("f(1)",))], 20, ladder.choose()) == [[why]]


@jailed
def test_a_program_that_prints_as_the_tracer_does_is_not_believed():
    lie = f"import os\nos.write(1, {tracer.MARK!r}.encode() + b'[[[]]]')\nos._exit(0)\n\ndef f(n):\n    return n"
    assert trace([Traceable("p", lie, "f", ("f(1)",))], 20, ladder.choose()) == [["ends its process"]]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5), lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(max_size=6), s)
    )
)
@settings(max_examples=25, deadline=None)
def test_what_a_jailed_process_prints_is_checked(value):
    program = Traceable("p", "", "f", ("f(1)",))
    found = read(tracer.MARK + json.dumps(value), [program])
    assert found is None or all(isinstance(one, str | Call) for one in found[0])


def test_events_that_do_not_fit_are_refused():
    whole = {"value": "1", "events": [["call", 0, "f", {}], ["line", 0, 2, {}], ["return", 0, "1", {}]]}
    assert isinstance(call_of(whole), Call)
    assert isinstance(call_of({**whole, "value": "2"}), str)
    with pytest.raises(ValueError, match="does not return"):
        call_of({**whole, "events": whole["events"][:2]})


def test_no_jail_ends_the_run(monkeypatch):
    def nothing(*_: Any) -> Any:
        raise NoSandbox("none here")

    monkeypatch.setattr(ladder, "choose", nothing)
    with pytest.raises(NoSandbox):
        list(source().read("traces"))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("a ** 2 - b", "(-3) ** 2 - 4"),
        ("a % b", "-3 % 4"),
        ("names[0] + 'é' + names[b]", "['x'][0] + 'é' + ['x'][4]"),
        ("[a for a in names]", ""),
        ("1 + 2", ""),
        ("names * unknown", "['x'] * unknown"),
    ],
)
def test_values_in_place_of_names(expression, said):
    values = {"a": "-3", "b": "4", "names": "['x']"}
    assert with_values(ast.parse(expression, mode="eval").body, values) == said


# ---- tasks of a file ---------------------------------------------------------------------------------

TASKS = [
    {"task_id": 1, "text": "Sum.", "code": CODE, "test_list": [f"assert {CALL} == 9", "assert gather([1], 1) == 0"]},
    {
        "task_id": "H/2",
        "prompt": 'def most(xs):\n    """The largest."""\n',
        "canonical_solution": "    best = xs[0]\n    for x in xs:  # look\n        if x > best: best = x\n    return best\n",
        "test": "def check(candidate):\n    assert candidate([1, 3, 2]) == 3\n",
        "entry_point": "most",
    },
    {"task_id": 3, "text": "Class.", "code": "class A:\n    pass\n\ndef f(x):\n    return x", "test_list": ["assert f(1) == 1"]},
    {"task_id": 4, "text": "Nothing.", "code": None, "test_list": []},
]


@jailed
def test_tasks_of_a_file(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    catalog.NOTES.clear()
    found = list(source(programs=str(path), most_steps=30, questions=2).read("traces"))
    good = [row for row in found if isinstance(row, Record)]
    assert [(row.fields["program"], row.origin.line) for row in good] == [("task-1", 1)] * 2 + [("task-H/2", 2)] * 2
    assert [row.origin.line for row in found if isinstance(row, BadRow)] == [4]
    assert {row.fields["code"] for row in good if row.fields["program"] == "task-H/2"} == {
        "def most(xs):\n    best = xs[0]\n    for x in xs:\n        if x > best:\n            best = x\n    return best"
    }
    assert any("1 tasks: has a statement that steps are not written of (ClassDef)" in note for note in catalog.NOTES)
    assert str(path) in source(programs=str(path)).inputs()
    path.write_text(json.dumps(TASKS[2]) + "\n")
    with pytest.raises(DataError, match=r"no program of .*tasks\.jsonl' gives a row \(1 tasks: has a statement"):
        list(source(programs=str(path)).read("traces"))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def f(x):\n    yield x", "yield"),
        ("def f(x):\n    try:\n        return 1\n    except ValueError:\n        return 2", "Try"),
        ("def f(x):\n    while True:\n        return 1", "constant"),
        ("if 1 < 2:\n    def f(x):\n        return 1", "no test calls"),
        ("def f(x) return", "cannot be parsed"),
        ("import functools\n@functools.cache\ndef f(x):\n    return 1", "decorated"),
    ],
)
def test_programs_that_steps_are_not_written_of(code, why):
    with pytest.raises(Untraceable, match=why):
        traceable({"output": code, "test_list": ["assert f(1) == 1"]}, 1, 3)


@jailed
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_real_tasks_give_rows():
    found = list(source(programs=str(SHARED / "humaneval" / "HumanEval.jsonl.gz"), limit=20, most_steps=30).read("traces"))
    assert len(found) == 20


# ---- the level, through a recipe ---------------------------------------------------------------------


@jailed
def test_a_recipe_writes_the_rows_at_a_level_and_nothing_else_differs(tmp_path):
    read_once: list[Any] = []

    def arm(level: str) -> tuple[list[Any], list[Any]]:
        recipe = Recipe.model_validate(
            {
                "name": "levels",
                "model": "smollm2-135m-instruct",
                "sources": {"traces": {"type": "execution_traces", "count": 60}},
                "split": {"test": 0.3, "group": "program"},
                "rewrite": [{"type": "reasoning_level", "level": level}],
                "rewrite_evaluation": True,
                "score": [{"task": "traces", "baselines": []}],
            }
        )
        if not read_once:
            read_once.append(preparing.read(recipe))
        data = curating.curate(recipe, read_once[0]).data
        asked = preparing.asked(recipe, data, recipe.score[0])
        return preparing.training(recipe, data, preparing.drawn(recipe, data)), asked

    arms = {level: arm(level) for level in LEVELS}
    for part in (0, 1):
        ids = {tuple(conversation.id for conversation in found[part]) for found in arms.values()}
        assert len(ids) == 1
        answers = {level: [c.answer() for c in arms[level][part]] for level in LEVELS}
        for level in LEVELS:
            assert all(bool(c.notes.get("cot")) == (level != "none") for c in arms[level][part])
        for plain, *others in zip(*answers.values(), strict=True):
            assert {answer_of(other) for other in others} == {bare(plain)}
            lengths = [len(text.split()) for text in (plain, *others)]
            assert lengths == sorted(lengths)
            assert len(set(others)) == 3
        questions = {level: [c.messages[0].context for c in arms[level][part]] for level in LEVELS}
        assert len({tuple(texts) for texts in questions.values()}) == 1
        assert len({c.messages[0].content for level in WRITTEN for c in arms[level][part]}) == 1


def leveled_row(**more: Any) -> Record:
    fields = {"question": "2 + 3?", "answer": "5", "rationale": "n", "rationale_simple": "s", "rationale_normal": "n n", **more}
    return Record("kept", fields, Origin("f", 1), "s", "t")


def test_the_rewrite():
    rewrite = {level: REWRITES["reasoning_level"](level=level) for level in LEVELS}
    row = leveled_row(rationale_complex="c c c")
    for level, text in (("simple", "s"), ("normal", "n n"), ("complex", "c c c"), ("none", None)):
        new = rewrite[level].rewrite(row)
        assert (new.id, new.origin, new.fields["answer"], new.fields.get("rationale")) == ("kept", row.origin, "5", text)
        assert rewrite[level].rewrite(new) is new
        for other in LEVELS:
            assert rewrite[other].rewrite(new) == rewrite[other].rewrite(row)
    assert rewrite["complex"].rewrite(leveled_row()) == "no reasoning at the level complex (field 'rationale_complex')"


def test_levels_of_other_forms():
    row = {"question": "Q?", "answer": "2 + 3 = 5\n#### 5", "rationale_simple": "s"}
    assert at_level(row, "none") == {"question": "Q?", "answer": "5", "rationale_simple": "s"}
    assert at_level(row, "simple")["answer"] == "5"
    alpaca = {"instruction": "Add.", "input": "2, 3", "output": "5", "rationale_simple": "Two and three."}
    simple = at_level(alpaca, "simple")
    assert simple["output"] == "Two and three.\nThe answer is 5."
    assert at_level(simple, "none")["output"] == "5"


@pytest.mark.parametrize(
    ("output", "reference", "right"),
    [
        ("Line 2: x = 1.\nThe answer is 'ab'.", "Line 2.\nThe answer is 'ab'.", 1),
        ("'ab'", "Line 2.\nThe answer is 'ab'.", 1),
        ("[1, 2]", "[1, 2]", 1),
        ("The answer is [1, 2].", "[1, 2]", 1),
        ("The answer is [1, 3].", "[1, 2]", 0),
        ("2", "[1, 2]", 0),
    ],
)
def test_final_answers_are_compared_whatever_stands_before_them(output, reference, right):
    metric = METRICS["final_answer"]()
    assert metric.stats([Prediction("a", (output,), (reference,))])[0, 0] == right
    assert metric.signature().startswith("final_answer|")
