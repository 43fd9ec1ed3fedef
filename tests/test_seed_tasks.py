"""etude's own seed tasks are many, varied and right, and Self-Instruct's own file is read as well."""

from __future__ import annotations

import ast
import json
import re

import pytest
import yaml

from etude.failures import DataError, RecipeError
from etude.records import BadRow, Record
from etude.similarity.novelty import NoveltyIndex
from etude.similarity.rouge import words
from etude.sources.seed_tasks import OWN, SeedTasks, own_bytes
from etude.templates.rows import worded


@pytest.fixture(scope="module")
def lines():
    return [json.loads(line) for line in own_bytes().decode("utf-8").splitlines()]


@pytest.fixture(scope="module")
def tasks(lines):
    return {line["id"]: line for line in lines}


@pytest.fixture(scope="module")
def records():
    return list(SeedTasks().read("seeds"))


def code_of(output: str) -> str:
    """The Python of an answer: from its first line of code to the last that still parses."""
    start = re.search(r"^(?:def |import |from |@|\"\"\")", output, re.MULTILINE)
    code = output[start.start() :]
    while code:
        try:
            ast.parse(code)
            return code
        except SyntaxError:
            code = code.rpartition("\n\n")[0]
    raise AssertionError(f"no code in {output!r}")


def test_there_are_enough_and_of_the_right_kinds(lines):
    assert len(lines) >= 180
    assert all(list(line) == ["id", "instruction", "input", "output", "is_classification"] for line in lines)
    assert 0.14 <= sum(line["is_classification"] for line in lines) / len(lines) <= 0.2
    assert 0.25 <= sum(not line["input"] for line in lines) / len(lines) <= 0.4
    assert len({line["id"] for line in lines}) == len(lines)
    for line in lines:
        assert all(line[key] == line[key].strip() for key in ("instruction", "input", "output")), line["id"]
        assert line["instruction"]
        assert line["output"]


def test_labels_are_short_and_stand_in_the_task(lines):
    for line in lines:
        if line["is_classification"]:
            assert len(line["output"].split()) <= 3, line["id"]


def test_no_two_are_alike(lines):
    index = NoveltyIndex(0.6)
    for line in lines:
        near = index.admit(words(line["instruction"]))
        assert near is None, (line["id"], lines[near.id]["id"], near.score)


def test_none_is_near_a_known_seed(lines, shared_data):
    for name in ("self_instruct_seed/seed_tasks.jsonl", "alpaca/seed_tasks.jsonl", "self_instruct_seed/user_oriented_instructions.jsonl"):
        index = NoveltyIndex(0.6)
        for text in (shared_data / name).read_text(encoding="utf-8").splitlines():
            index.add(words(json.loads(text)["instruction"]))
        for line in lines:
            assert index.above(words(line["instruction"])) is None, line["id"]


def test_they_load_as_records(records, lines):
    assert all(isinstance(row, Record) for row in records)
    assert [row.fields["instruction"] for row in records] == [line["instruction"] for line in lines]
    assert all(set(row.fields) == {"instruction", "input", "output", "is_classification"} for row in records)
    assert str(records[2].origin) == f"{OWN}:3"
    assert records[0].origin.licence == "Apache-2.0"
    assert len({row.id for row in records}) == len(records)
    assert list(SeedTasks().inputs()) == [OWN]


def test_the_words_of_a_row_are_its_own(records):
    for record in records:
        user, assistant = worded(record)
        assert (user.content, user.context) == (record.fields["instruction"], record.fields["input"])
        assert assistant.content == record.fields["output"]


def test_where_and_limit():
    rows = list(SeedTasks(where="is_classification and input != ''", limit=7).read("seeds"))
    assert len(rows) == 7
    assert all(row.fields["is_classification"] for row in rows)
    with pytest.raises(RecipeError, match="is_clasification"):
        list(SeedTasks(where="is_clasification").read("seeds"))
    with pytest.raises(DataError, match="none of the"):
        list(SeedTasks(where="instruction == 'no such'").read("seeds"))


PYTHON = {
    "python_running_median": "assert moving_average([1, 2, 3, 4], 2) == [1.5, 2.5, 3.5]",
    "python_group_anagrams": "assert group_anagrams(['tea', 'plum', 'eat']) == [['tea', 'eat'], ['plum']]",
    "python_debug_default_list": "assert add_guest('a') == ['a'] == add_guest('a')",
    "python_dataclass_from_dict": "assert kitchen.area() == 12",
    "python_off_by_one": "assert coprime_to_ten(11) == [1, 3, 7, 9, 11]",
    "python_read_config_error": "",
    "python_roman_numerals": "assert to_roman(1994) == 'MCMXCIV' and to_roman(3999) == 'MMMCMXCIX'",
    "python_docstring_write": "",
    "python_speed_up_lookup": "assert only_in_first(['a', 'b', 'a'], ['b']) == ['a', 'a']",
    "python_context_timer": "with timed('x'): pass",
    "python_flatten_nested": "assert flatten([1, [2, ['ab', []], 3], [[4]]]) == [1, 2, 'ab', 3, 4]",
    "pseudocode_to_python": "assert steps(6) == 8",
    "variable_naming": "assert count_above([1, 2, 3], 1) == 2",
}


@pytest.mark.parametrize("name", PYTHON)
def test_python_answers_run(tasks, name):
    space = {"__name__": "__main__"}
    exec(compile(code_of(tasks[name]["output"]), name, "exec"), space)
    exec(PYTHON[name], space)


def test_every_python_task_is_tried(tasks):
    assert {name for name in tasks if name.startswith("python_")} <= {*PYTHON, "python_tests_for_slug", "python_trace_by_hand"}


def test_written_tests_pass_on_the_function_given(tasks):
    task = tasks["python_tests_for_slug"]
    space: dict = {}
    exec(task["input"], space)
    exec(task["output"], space)
    tests = [name for name in space if name.startswith("test_")]
    assert len(tests) == 4
    for name in tests:
        space[name]()


def test_traced_output_is_what_the_program_prints(tasks, capsys):
    exec(tasks["python_trace_by_hand"]["input"], {})
    assert tasks["python_trace_by_hand"]["output"].endswith("Output:\n" + capsys.readouterr().out.rstrip())


def test_structured_answers_parse(tasks):
    assert json.loads(tasks["invoice_fields_json"]["output"])["total"] == 386.4
    assert len(json.loads(tasks["split_address"]["output"])) == 2
    assert json.loads(tasks["fix_broken_json"]["output"].partition("\n\n")[0])["available"] is True
    assert yaml.safe_load(tasks["yaml_from_notes"]["output"])["meetings"][1]["time"] == "17:30"
    base, local = yaml.safe_load_all(tasks["config_merge"]["input"])
    assert yaml.safe_load(tasks["config_merge"]["output"]) == {**base, **local, "log": {**base["log"], **local["log"]}}
    pattern = tasks["regex_licence_plate"]["output"].partition("\n")[0]
    assert re.search(pattern, "AB-1234/c")
    assert not re.search(pattern, "AB-1234/C")


# --- Self-Instruct's own shape


def write(folder, *rows):
    path = folder / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_every_instance_is_a_row(tmp_path):
    instances = [{"input": "a", "output": "A"}, {"input": "", "output": "B"}, {"output": "C"}]
    path = write(tmp_path, {"id": "seed_task_0", "name": "n", "instruction": "Do.", "instances": instances, "is_classification": True})
    rows = list(SeedTasks(path=path, licence="mine").read("seeds"))
    assert [(row.fields["input"], row.fields["output"]) for row in rows] == [("a", "A"), ("", "B"), ("", "C")]
    assert all(row.fields["is_classification"] and row.origin.line == 1 and row.origin.licence == "mine" for row in rows)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "Do.", "instances": []}, "'instances' is empty"),
        ({"instruction": "Do.", "instances": {"input": ""}}, "'instances' is an object, not a list of objects"),
        ({"instruction": "Do.", "instances": ["x"]}, "instance 1 is text, not an object"),
        ({"instruction": " ", "instances": [{"output": "A"}]}, "'instruction' is empty"),
        ({"instruction": "Do.", "instances": [{"input": "x"}]}, "'output' is missing"),
        ({"instruction": "Do.", "output": "A", "is_classification": "no"}, "'is_classification' is text, not true or false"),
    ],
)
def test_bad_rows_say_why(tmp_path, row, reason):
    good = {"instruction": "Do.", "input": "", "output": "A"}
    first, second = SeedTasks(path=write(tmp_path, row, good)).read("seeds")
    assert isinstance(first, BadRow)
    assert reason in first.reason
    assert first.origin.line == 1
    assert second.fields["is_classification"] is False


def test_self_instructs_own_file(shared_data):
    rows = list(SeedTasks(path=str(shared_data / "self_instruct_seed" / "seed_tasks.jsonl")).read("seeds"))
    assert len(rows) == 175
    assert all(isinstance(row, Record) for row in rows)
    assert sum(row.fields["is_classification"] for row in rows) == 26
