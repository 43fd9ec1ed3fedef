"""What every source of the catalog promises. A new source is enrolled by its line in SOURCES and needs an
entry in EXAMPLES: settings, and a writer of a small data set with at least 3 good rows (and bad ones)."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from etude.failures import DataError, RecipeError
from etude.records import BadRow, Record, identify
from etude.sandbox import ladder
from etude.sources import SOURCES

ROWS = [{"instruction": f"Question {i}?", "input": "", "output": f"Answer {i}."} for i in range(5)]


def alpaca(folder: Path):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"instruction": 1}\nnot json\n')
    return {"path": str(path)}, {6, 7}, "input == ''"


def columns(folder: Path):
    path = folder / "rows.csv"
    path.write_text("text,label\n" + "".join(f"Sentence {i},neutral\n" for i in range(5)) + "x,odd\nx\n")
    return {"path": str(path), "template": "sentiment"}, {7, 8}, "label != ''"


def stdlib(folder: Path):
    (folder / "ast.py").write_text("")
    code = '    """Compute the number that is wanted here."""\n    value = x + 1000 * 1000\n    return value + 12345\n'
    (folder / "m.py").write_text("".join(f"def f{i}(x):\n{code}\n" for i in range(5)))
    return {}, set(), "len(code) > 3"


def lines(folder: Path, rows, *bad):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *bad)))
    return {"path": str(path)}, set(range(6, 6 + len(bad)))


def messages(folder: Path):
    rows = [{"messages": [{"role": "user", "content": f"Q{i}?"}, {"role": "assistant", "content": "A."}]} for i in range(5)]
    bad = ({"messages": []}, {"messages": [{"role": "user", "content": "Q?"}]}, {"mesages": []})
    return *lines(folder, rows, *bad), "len(messages) != 7"


def sharegpt(folder: Path):
    rows = [{"conversations": [{"from": "human", "value": f"Q{i}?"}, {"from": "gpt", "value": "A."}]} for i in range(5)]
    bad = ({"conversations": "hello"}, {"conversations": [{"from": "humen", "value": "Q?"}]})
    return *lines(folder, rows, *bad), "len(conversations) > 0"


def prompt_completion(folder: Path):
    rows = [{"prompt": f"Q{i}?", "completion": "A."} for i in range(5)]
    return *lines(folder, rows, {"prompt": 3, "completion": "A."}, {"prompt": "Q?"}), "prompt != ''"


def questions(folder: Path):
    rows = [{"turns": [f"Q{i}?", "And then?"], "category": "writing"} for i in range(5)]
    return *lines(folder, rows, {"turns": []}, {"turns": ["Q?", 7]}), "category != ''"


def inputs_targets(folder: Path):
    rows = [{"inputs": f"Q{i}?", "targets": ["A.", "a"]} for i in range(5)]
    return *lines(folder, rows, {"inputs": "Q?", "targets": []}, {"inputs": "Q?", "targets": [1]}), "inputs != ''"


def natural_instructions(folder: Path):
    rows = [{"input": f"Q{i}?", "output": ["A."]} for i in range(5)]
    path = folder / "task1_x.json"
    path.write_text(json.dumps({"Definition": ["Answer."], "Instances": [*rows, {"input": "Q?"}, 7]}))
    return {"path": str(path)}, {6, 7}, "input != ''"


def instances(folder: Path):
    rows = [{"instruction": f"Q{i}?", "instances": [{"input": "", "output": "A."}], "is_classification": False} for i in range(4)]
    rows.append({"instruction": "Q?", "instances": [{"input": "I", "output": "A."}, 7]})
    settings, bad = lines(folder, rows, {"instruction": "Q?", "instances": []}, {"instruction": 1, "instances": [{"output": "A."}]})
    return settings, {5, *bad}, "input != 'x'"


def oasst(folder: Path):
    def tree(i):
        answer = {"message_id": f"a{i}", "text": "A.", "role": "assistant", "replies": []}
        return {"message_tree_id": f"t{i}", "prompt": {"message_id": f"t{i}", "text": f"Q{i}?", "role": "prompter", "replies": [answer]}}

    bad = ({"message_tree_id": "t9", "prompt": {"text": "Q?", "role": "prompter", "replies": []}}, {"other": 1})
    return *lines(folder, map(tree, range(5)), *bad), "tree != ''"


def squad(folder: Path):
    rows = [{"context": "It is A.", "question": f"Q{i}?", "answers": {"text": ["A", "a"], "answer_start": [6, 6]}} for i in range(5)]
    bad = ({"context": "It is.", "question": "Q?", "answers": {"text": []}}, {"context": "It is.", "question": "Q?"})
    return *lines(folder, rows, *bad), "question != ''"


def code_tasks(folder: Path):
    rows = [{"task_id": i, "text": f"Add {i}.", "code": "def f(): pass", "test_list": ["assert f"]} for i in range(5)]
    bad = ({"task_id": 6, "text": "Add.", "code": None, "test_list": []}, {"task_id": 7, "prompt": "def f():", "test": ""})
    return *lines(folder, rows, *bad), "task_id < 9"


def seed_tasks(folder: Path):
    rows = [{"instruction": f"Q{i}?", "instances": [{"input": "", "output": "A."}], "is_classification": i == 1} for i in range(5)]
    bad = ({"instruction": "Q?", "instances": []}, {"instruction": 3, "instances": [{"input": "", "output": "A."}]}, {"output": "A."})
    return *lines(folder, rows, *bad), "instruction != ''"


def text(folder: Path):
    return *lines(folder, [{"text": f"Once upon {i}."} for i in range(5)], {"text": " "}, {"text": None}), "text != 'x'"


def dataset_info(folder: Path):
    settings, bad, where = sharegpt(folder)
    index = folder / "dataset_info.json"
    index.write_text(json.dumps({"mine": {"file_name": Path(settings["path"]).name, "formatting": "sharegpt"}}))
    return {"path": str(index), "name": "mine"}, bad, where


def execution_traces(folder: Path):
    if not any(there for _, there, _ in ladder.rungs()):
        pytest.skip("no jail on this machine, and programs are traced in one")
    return {"count": 5}, set(), "steps > 0"


EXAMPLES = {
    "alpaca": alpaca, "auto": alpaca, "code_tasks": code_tasks, "columns": columns, "dataset_info": dataset_info,
    "execution_traces": execution_traces,
    "inputs_targets": inputs_targets, "instances": instances, "messages": messages,
    "natural_instructions": natural_instructions, "oasst": oasst,
    "prompt_completion": prompt_completion, "questions": questions, "seed_tasks": seed_tasks,
    "sharegpt": sharegpt, "squad": squad, "stdlib": stdlib,
    "text": text,
}  # fmt: skip


@pytest.fixture(params=list(SOURCES))
def source(request, tmp_path, monkeypatch):
    assert request.param in EXAMPLES, f"add an example of the source {request.param!r} to this file"
    monkeypatch.setattr("etude.sources.stdlib.library", lambda: tmp_path)
    settings, bad_lines, where = EXAMPLES[request.param](tmp_path)

    def make(**more):
        return SOURCES[request.param](**settings, **more)

    return make, bad_lines, where


def test_every_row_is_a_record_or_a_bad_row(source):
    make, bad_lines, _ = source
    rows = list(make(licence="mine").read("name"))
    records = [row for row in rows if isinstance(row, Record)]
    assert len(records) == 5
    assert {row.origin.line for row in rows if isinstance(row, BadRow)} == bad_lines
    assert all(row.reason for row in rows if isinstance(row, BadRow))
    assert all(row.origin.line > 0 and row.origin.path and row.origin.licence == "mine" for row in rows)
    for record in records:
        assert record.id == identify(record.fields)
        assert record.source == "name"
        assert record.task
        assert json.loads(json.dumps(record.fields)) == record.fields  # what goes to disk comes back the same


def test_reading_twice_gives_the_same(source):
    make, _, _ = source
    assert list(make().read("a")) == list(make().read("a"))
    assert make().inputs() == make().inputs()
    assert all(len(value) == 64 for value in make().inputs().values())
    assert make().inputs()


def test_where_and_limit(source):
    make, _, where = source
    assert sum(isinstance(row, Record) for row in make(where=where).read("a")) == 5
    assert sum(isinstance(row, Record) for row in make(where=where, limit=3).read("a")) == 3
    with pytest.raises(RecipeError, match="no field 'nothing_like_it'"):
        list(make(where="nothing_like_it == 1").read("a"))
    with pytest.raises(DataError):
        list(make(where="1 == 2").read("a"))


def test_settings_are_frozen_and_know_their_keys(source):
    make, _, _ = source
    settings = make()
    assert isinstance(settings, BaseModel)
    with pytest.raises(ValidationError):
        settings.licence = "other"
    with pytest.raises(ValidationError, match="unknown key 'limt'; did you mean 'limit'"):
        make(limt=3)
    again = type(settings).model_validate(settings.model_dump(mode="json"))
    assert again == settings
    assert type(settings).model_json_schema()["properties"]["where"]["description"]


def test_a_missing_file_is_a_data_error(source, tmp_path):
    make, _, _ = source
    if "path" not in type(make()).model_fields:
        pytest.skip("this source reads no file of the user's")
    moved = make().model_copy(update={"path": str(tmp_path / "absent.csv")})
    for act in (lambda: list(moved.read("a")), moved.inputs):
        with pytest.raises(DataError, match=r"absent\.csv"):
            act()
