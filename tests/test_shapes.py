"""How rows of the known data set formats become Records: every spelling one form, every bad row a reason."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etude import templates
from etude.catalog import NOTES
from etude.failures import DataError, RecipeError
from etude.recipe import Recipe
from etude.records import BadRow, Conversation, Record, ToolCall
from etude.scoring import answered
from etude.sources import SOURCES
from etude.sources.foreign import from_axolotl, from_dataset_info
from etude.sources.mending import RULES, ordered
from etude.sources.rows import Unusable
from etude.sources.sniffing import sniff
from etude.sources.turns import Spelling, tools, turns

ASK, SAY = {"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"name": "add", "arguments": '{"a": 1}', "id": "c1"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "2", "call_id": "c1"}


def write(folder: Path, *rows: Any, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(kind: str, path: str, **settings: Any) -> list[Record | BadRow]:
    return list(SOURCES[kind](path=path, **settings).read("s"))


def one(kind: str, folder: Path, row: Any, **settings: Any) -> Any:
    (found,) = read(kind, write(folder, row), **settings)
    return found


# ---- one form ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("messages", {"messages": [SYSTEM, ASK, SAY]}),
        ("messages", {"messages": [{**SYSTEM, "role": "developer"}, {**ASK, "content": [{"type": "text", "text": "Q?"}]}, SAY]}),
        ("messages", {"conversations": [{"from": "system", "value": "Be brief."}, ASK, SAY]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}], "system": "Be brief."}),
        ("sharegpt", {"items": [{"from": "system", "text": "Be brief."}, {"from": "user", "text": "Q?"}, {"from": "bing", "text": "A."}]}),
        ("sharegpt", {"conversation": [{"human": "Q?", "assistant": "A."}], "system": "Be brief."}),
        ("prompt_completion", {"prompt": "Q?", "completion": "A.", "system": "Be brief."}),
        ("prompt_completion", {"prompt": [SYSTEM, ASK], "completion": [SAY]}),
        ("prompt_completion", {"instruction": "Q?", "context": "", "response": "A.", "system": "Be brief."}),
    ],
)
def test_every_spelling_is_one_record(tmp_path, kind, row):
    record = one(kind, tmp_path, row)
    assert record.fields == {"messages": [SYSTEM, ASK, SAY]}
    assert record.id == one("messages", tmp_path, {"messages": [SYSTEM, ASK, SAY]}).id


def test_tool_calls_of_every_spelling(tmp_path):
    modern = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    function = {"name": "add", "description": "Adds."}
    rows = [
        {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [modern]}, {**RESULT, "tool_call_id": "c1"}, SAY]},
        {"messages": [ASK, CALLING, RESULT, SAY]},
    ]
    for row in rows:
        fields = one("messages", tmp_path, row | {"tools": [{"type": "function", "function": function}]}).fields
        assert fields["messages"] == [ASK, CALLING, RESULT, SAY]
        assert fields["tools"] == [{"type": "function", "function": function}]
    older = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": {"a": 1}}}
    shared = [
        {"from": "human", "value": "Q?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "A."},
    ]
    plain = [{**CALLING, "tool_calls": [{"name": "add", "arguments": '{"a": 1}'}]}, {"role": "tool", "content": "2"}]
    legacy = one("messages", tmp_path, {"messages": [ASK, older, {"role": "function", "name": "add", "content": "2"}, SAY]})
    assert legacy.fields["messages"] == [ASK, plain[0], {**plain[1], "name": "add"}, SAY]
    glaive = one("sharegpt", tmp_path, {"conversations": shared, "tools": json.dumps([function])})
    assert glaive.fields == {"messages": [ASK, *plain, SAY], "tools": [{"type": "function", "function": function}]}
    words = templates.write(glaive, None)
    assert words.messages[1].tool_calls == (ToolCall("add", '{"a": 1}'),)
    assert words.tools == ({"type": "function", "function": function},)


@pytest.mark.parametrize("key", ["weight", "loss_weight", "train", "training", "trained"])
def test_a_turn_says_whether_it_is_trained(tmp_path, key):
    row = {"messages": [ASK, {**SAY, key: 0}, ASK, {**SAY, key: 1}]}
    record = one("messages", tmp_path, row)
    assert [m.get("trained") for m in record.fields["messages"]] == [None, False, None, True]
    assert [m.trained for m in templates.write(record, None).messages] == [None, False, None, True]
    assert "trained (1) or not (0)" in one("messages", tmp_path, {"messages": [ASK, {**SAY, key: 0.5}]}).reason


def test_turns_of_the_prompt_are_not_trained(tmp_path):
    record = one("prompt_completion", tmp_path, {"prompt": [ASK, SAY, ASK], "completion": [SAY]})
    assert [m.get("trained") for m in record.fields["messages"]] == [None, False, None, None]


def test_reasoning_in_a_key_of_its_own_comes_before_the_answer(tmp_path):
    record = one("messages", tmp_path, {"messages": [ASK, {**SAY, "reasoning_content": "Hm."}]})
    assert record.fields["messages"][1]["content"] == "<think>\nHm.\n</think>\n\nA."


def test_dollys_context_stands_beside_the_instruction(tmp_path):
    record = one("prompt_completion", tmp_path, {"instruction": "Q?", "context": "The text.", "response": "A.", "category": "qa"})
    assert record.fields["messages"][0] == {"role": "user", "content": "Q?", "context": "The text."}


def test_keys_of_the_recipe_go_first(tmp_path):
    row = {"chat": [{"wer": "Kunde", "was": "Q?"}, {"wer": "gpt", "was": "A."}], "lang": "de"}
    settings = {"messages": "chat", "role": "wer", "content": "was", "roles": {"Kunde": "user"}, "keep": ("lang",)}
    assert one("sharegpt", tmp_path, row, **settings).fields == {"messages": [ASK, SAY], "lang": "de"}
    with pytest.raises(RecipeError, match=r"no row of .* has the key 'chatt'; did you mean 'chat'"):
        one("sharegpt", tmp_path, row, messages="chatt")
    with pytest.raises(ValidationError, match="which is no role"):
        SOURCES["sharegpt"](path="x", roles={"Kunde": "custommer"})
    with pytest.raises(RecipeError, match="a field of its own"):
        one("messages", tmp_path, {"messages": [ASK, SAY]}, keep=("messages",))


# ---- bad rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "no messages"),
        ({"messages": None}, "nothing (null), not a list"),
        ({"messages": "hello"}, "is text, not a list"),
        ({"messages": [ASK, "A."]}, "message 2: text, not an object"),
        ({"mesages": [ASK, SAY]}, "'messages' is missing; did you mean 'mesages'"),
        ({"messages": [{"rol": "user", "content": "Q?"}, SAY]}, "message 1: 'role' is missing; did you mean 'rol'"),
        ({"messages": [{"role": "asistant", "content": "Q?"}]}, "no role is called 'asistant'; did you mean 'assistant'"),
        ({"messages": [{"role": 3, "content": "Q?"}]}, "its role is a number"),
        ({"messages": [{"role": "user"}, SAY]}, "message 1: 'content' is missing"),
        ({"messages": [ASK, {"role": "assistant", "content": None}]}, "message 2: its content is nothing"),
        ({"messages": [{"role": "user", "content": 42}, SAY]}, "'content' is a number, not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAY]}, "of type 'image_url'; only text"),
        ({"messages": [{"role": "user", "content": "\ud800"}, SAY]}, "lone surrogate"),
        ({"messages": [{**ASK, "content": " "}, SAY]}, "message 1, the user's, is empty"),
        ({"messages": [SAY, ASK, SAY]}, "message 1 is the assistant's, before any of the user; mend: [drop_leading_assistant]"),
        ({"messages": [ASK, ASK, SAY]}, "messages 1 and 2 are both the user's; mend: [merge_same_role]"),
        ({"messages": [ASK, SAY, SAY]}, "messages 2 and 3 are both the assistant's"),
        ({"messages": [ASK, SAY, ASK]}, "the last message is the user's, and nobody answers it; mend: [drop_trailing_user]"),
        ({"messages": [ASK, SYSTEM, SAY]}, "message 2 is a system turn, and not the first"),
        ({"messages": [SYSTEM, SYSTEM, ASK, SAY]}, "message 2 is a system turn"),
        ({"messages": [SYSTEM]}, "the last message is the system's"),
        ({"messages": [ASK, RESULT, SAY]}, "message 2 is a tool result 'c1' that answers no call"),
        ({"messages": [ASK, CALLING, {**RESULT, "call_id": "c9"}, SAY]}, "'c9' that answers no call"),
        ({"messages": [ASK, CALLING, RESULT, RESULT, SAY]}, "message 4 is a tool result"),
        ({"messages": [{**ASK, "tool_calls": [CALL]}, SAY]}, "a tool call in a turn of the user"),
        ({"messages": [ASK, {**CALLING, "tool_calls": [{"name": "f", "arguments": "{"}]}]}, "is not JSON"),
        ({"messages": [ASK, {**CALLING, "tool_calls": [{"name": "f", "arguments": "[1]"}]}]}, "no JSON object"),
        ({"messages": [ASK, {**CALLING, "tool_calls": [{"arguments": "{}"}]}]}, "has no name"),
        ({"messages": [SYSTEM, ASK, SAY], "system": "Other."}, "there is a system turn and the key 'system' beside it"),
        ({"messages": [ASK, SAY], "tools": "not json"}, "'tools' is not JSON"),
        ({"messages": [ASK, SAY], "tools": [{"type": "function"}]}, "a tool needs a name"),
        ({"messages": [ASK, {**SAY, "weight": 1, "train": False}]}, "different things about training"),
        ({"messages": [ASK, {**SAY, "train_detail": [{"begin_offset": 0}]}]}, "trains parts of a turn"),
    ],
)
def test_a_row_that_is_no_conversation_says_why(tmp_path, row, reason):
    (found,) = read("messages", write(tmp_path, row))
    assert isinstance(found, BadRow)
    assert reason in found.reason
    assert found.origin.line == 1


def test_what_is_nested_too_deeply_is_one_bad_row(tmp_path):
    deep: Any = {}
    for _ in range(80):
        deep = {"a": deep}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    found = read("messages", write(tmp_path, {"messages": [ASK, SAY], "tools": [tool]}, {"messages": [ASK, SAY]}))
    assert "nested more than 64 levels deep" in found[0].reason
    assert isinstance(found[1], Record)


# ---- mending -----------------------------------------------------------------------------------------


EITHER = ({"first_system_only", "system_to_front"}, {"drop_empty", "merge_same_role"})
"""Rules of which either one mends a fault below."""


@pytest.mark.parametrize(
    ("rule", "given", "wanted"),
    [
        ("drop_empty", [SYSTEM, {**ASK, "content": ""}, ASK, SAY], [SYSTEM, ASK, SAY]),
        ("first_system_only", [SYSTEM, ASK, {**SYSTEM, "content": "Other."}, SAY], [SYSTEM, ASK, SAY]),
        ("system_to_front", [ASK, SYSTEM, SAY], [SYSTEM, ASK, SAY]),
        ("drop_stray_results", [ASK, RESULT, SAY], [ASK, SAY]),
        ("drop_leading_assistant", [SYSTEM, SAY, ASK, SAY], [SYSTEM, ASK, SAY]),
        ("merge_same_role", [ASK, ASK, SAY], [{**ASK, "content": "Q?\n\nQ?"}, SAY]),
        ("merge_same_role", [ASK, SAY, CALLING, RESULT, SAY], [ASK, {**CALLING, "content": "A."}, RESULT, SAY]),
        ("drop_trailing_user", [ASK, SAY, ASK], [ASK, SAY]),
    ],
)
def test_each_rule_mends_its_fault_and_nothing_else(rule, given, wanted):
    assert ordered(given, [rule]) == (wanted, (rule,))
    with pytest.raises(Unusable):
        ordered(given, [other for other in RULES if other != rule and {other, rule} not in EITHER])
    assert ordered([SYSTEM, ASK, SAY], RULES) == ([SYSTEM, ASK, SAY], ())


def test_turns_of_which_one_is_trained_are_not_merged():
    with pytest.raises(Unusable, match="both the assistant's"):
        ordered([ASK, {**SAY, "trained": False}, SAY], ["merge_same_role"])


def test_mended_rows_are_counted_and_their_id_is_that_of_the_mended_fields(tmp_path):
    NOTES.clear()
    path = write(tmp_path, {"messages": [ASK, SAY, ASK]}, {"messages": [ASK, SAY]}, {"messages": [ASK]})
    found = read("messages", path, mend=["drop_trailing_user"])
    assert found[0].id == found[1].id
    assert isinstance(found[2], BadRow)
    assert "no message is left" in found[2].reason
    assert NOTES == ["sources.s: 1 row mended (drop_trailing_user 1)"]
    with pytest.raises(ValidationError):
        SOURCES["messages"](path=path, mend=["drop_it"])


MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.sampled_from(["", "a", "b"])}
)


@given(st.lists(MESSAGE, max_size=8), st.sets(st.sampled_from(RULES)))
def test_what_is_accepted_is_in_order_and_mending_it_again_changes_nothing(messages, rules):
    try:
        found, _ = ordered(messages, rules)
    except Unusable:
        return
    roles = [m["role"] for m in found]
    assert roles == (["system"] if "system" in roles else []) + ["user", "assistant"] * (len(roles) // 2)
    assert ordered(found, rules) == (found, ())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_no_value_breaks_the_reading_of_turns(value):
    for act in (lambda: turns(value, Spelling(), "it"), lambda: turns([value], Spelling(), "it"), lambda: tools(value)):
        with contextlib.suppress(Unusable):
            act()


# ---- the other shapes --------------------------------------------------------------------------------


def test_plain_text_is_one_trained_message(tmp_path):
    record = one("text", tmp_path, {"text": "Once.", "url": "x"})
    assert record.fields == {"text": "Once."}
    (message,) = templates.write(record, None).messages
    assert (message.role, message.content, message.trained) == ("assistant", "Once.", True)


def test_references_reach_the_predictions(tmp_path):
    record = one("inputs_targets", tmp_path, {"inputs": "Q?", "targets": ["A", "a", "A"]})
    assert record.fields["references"] == ["A", "a"]
    words = templates.write(record, None)
    assert answered(words, ["x"])["references"] == ["A", "a"]
    assert answered(Conversation("i", words.messages), ["x"])["references"] == ["A"]
    file = tmp_path / "qa.yaml"
    file.write_text(
        "task: qa\nfields: [question, context, answer]\nphrasings: [{instruction: '{{question}}', answer: 'It is {{answer}}.'}]\n"
    )
    row = {"question": "Q?", "context": "C", "answers": {"text": ["A", "a"]}}
    worded = templates.write(one("squad", tmp_path, row, template=str(file)), templates.load(str(file)))
    assert worded.notes["references"] == ["It is A.", "It is a."]


def test_tokenised_inputs_are_read_from_their_words(tmp_path):
    row = {"inputs": [3, 4], "targets": [5], "inputs_pretokenized": "Q?", "targets_pretokenized": "\nA."}
    assert one("inputs_targets", tmp_path, row).fields == {"messages": [ASK, SAY]}


def test_squads_articles_and_its_unanswerable_questions(tmp_path):
    answers = [{"text": "A", "answer_start": 0}, {"text": "a", "answer_start": 0}]
    qas = [{"id": "1", "question": "Q?", "answers": answers}, {"id": "2", "question": "R?", "answers": [], "is_impossible": True}]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"version": "2.0", "data": [{"title": "T", "paragraphs": [{"context": "C", "qas": qas}]}]}))
    first, second = read("squad", str(path))
    assert first.fields == {"instruction": "Q?", "input": "C", "output": "A", "references": ["A", "a"]}
    assert second.reason.startswith("question 2: there is no answer")
    NOTES.clear()
    assert len(read("squad", str(path), unanswerable="skip")) == 1
    assert NOTES == ["sources.s: 1 question without an answer left out (unanswerable: skip)"]
    assert read("squad", str(path), unanswerable="say", no_answer="None.")[1].fields["output"] == "None."
    assert read("squad", str(path), keep=("title",), limit=1)[0].fields["title"] == "T"


def test_natural_instructions_of_a_folder(tmp_path):
    for name, definition in (("task2_b", "Say B."), ("task1_a", ["Say A."])):
        task = {"Definition": definition, "Positive Examples": [{"input": "p", "output": "P"}], "Negative Examples": [{"input": "n"}]}
        (tmp_path / f"{name}.json").write_text(json.dumps({**task, "Instances": [{"input": "i", "output": ["I", "j"]}] * 2}))
    first, second = read("natural_instructions", str(tmp_path), per_task=1, examples=1)
    history = [["Say A.\n\np", "P"]]
    fields = {"instruction": "Say A.", "input": "i", "output": "I", "history": history, "task_name": "task1_a", "references": ["I", "j"]}
    assert first.fields == fields
    assert second.fields["task_name"] == "task2_b"
    (tmp_path / "task3.json").write_text("{}")
    with pytest.raises(DataError, match="has no 'Definition'"):
        read("natural_instructions", str(tmp_path))


def test_code_tasks_keep_what_scoring_needs(tmp_path):
    human = {"task_id": "H/0", "prompt": "def f():\n", "canonical_solution": "    pass\n", "test": "check", "entry_point": "f"}
    fields = one("code_tasks", tmp_path, human).fields
    assert (fields["input"], fields["output"], fields["entry_point"]) == ("def f():\n", "    pass\n", "f")
    assert one("code_tasks", tmp_path, human, answer="whole").fields["output"] == "def f():\n    pass\n"
    for key, setup in (("text", {"test_setup_code": "import re"}), ("prompt", {"test_imports": ["import re"]})):
        fields = one("code_tasks", tmp_path, {"task_id": 2, key: "Add.", "code": "x", "test_list": ["assert 1"], **setup}).fields
        assert fields["instruction"] == "Add."
        assert fields["input"].endswith("assert 1")
        assert fields["output"] == "x"
        assert setup.items() <= fields.items()
    assert one("code_tasks", tmp_path, {**human, "canonical_solution": None}, unsolved="keep").fields["output"] == ""


def node(name, role, rank=None, replies=(), **more):
    return {"message_id": name, "text": name, "role": role, "rank": rank, "replies": list(replies), **more}


def flat(tree, parent=None, **shared):
    rows = [{**{k: v for k, v in tree.items() if k != "replies"}, "parent_id": parent, **shared}]
    return rows + [row for reply in tree["replies"] for row in flat(reply, tree["message_id"], **shared)]


TREE = node(
    "q",
    "prompter",
    replies=[
        node("unranked", "assistant"),
        node("worse", "assistant", 1),
        node("best", "assistant", 0, [node("more", "prompter", replies=[node("end", "assistant")]), node("left open", "prompter")]),
        node("gone", "assistant", 2, deleted=True),
        node("bad", "assistant", 3, review_result=False),
    ],
)


def texts(found):
    return [[m["content"] for m in record.fields["messages"]] for record in found]


@pytest.mark.parametrize("scattered", [False, True])
def test_trees_from_root_to_leaf(tmp_path, scattered):
    nested = {"message_tree_id": "q", "tree_state": "ready_for_export", "prompt": TREE}
    shapes = [[nested], [TREE], flat(TREE), flat(TREE, message_tree_id="q")]
    for rows in shapes:
        path = write(tmp_path, *rows)
        assert texts(read("oasst", path, scattered=scattered)) == [["q", "best", "more", "end"]]
        assert texts(read("oasst", path, answers=None)) == [["q", "best", "more", "end"], ["q", "worse"], ["q", "unranked"]]
        assert ["q", "bad"] in texts(read("oasst", path, answers=None, reviewed=False))
        assert read("oasst", path)[0].fields["tree"] == "q"


def test_flat_trees_hold_one_tree_and_say_when_it_is_torn(tmp_path):
    other = node("r", "prompter", replies=[node("s", "assistant")])
    rows = flat(TREE, message_tree_id="q")
    path = write(tmp_path, *rows[:-1], *flat(other, message_tree_id="r"), rows[-1])
    assert [row.reason[:40] for row in read("oasst", path) if isinstance(row, BadRow)] == ["its tree ended further above; scattered:"]
    assert not [row for row in read("oasst", path, scattered=True) if isinstance(row, BadRow)]
    orphan = write(tmp_path, {"message_id": "x", "parent_id": "nobody", "text": "A.", "role": "assistant"})
    assert "is not in its tree" in read("oasst", orphan)[0].reason


def test_trees_that_the_settings_leave_out_are_counted(tmp_path):
    NOTES.clear()
    trees = [{"tree_state": state, "prompt": TREE | {"lang": "de"}} for state in ("growing", "ready_for_export")]
    assert read("oasst", write(tmp_path, *trees), lang="en") == []
    assert NOTES[0].startswith("sources.s: 2 trees left out")


# ---- auto --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("alpaca", {"instruction": "Q?", "input": "", "output": "A.", "text": "Below is"}),
        ("alpaca", {"instruction": "Q?", "category": "c", "input": "", "output": "A."}),
        ("messages", {"messages": [ASK, SAY]}),
        ("messages", {"conversations": [ASK, SAY]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]}),
        ("sharegpt", {"conversation": [{"human": "Q?", "assistant": "A."}]}),
        ("prompt_completion", {"prompt": "Q?", "completion": "A."}),
        ("prompt_completion", {"prompt": [ASK], "completion": [SAY]}),
        ("prompt_completion", {"instruction": "Q?", "context": "", "response": "A.", "category": "c"}),
        ("prompt_completion", {"question": "Q?", "answer": "A."}),
        ("inputs_targets", {"inputs": "Q?", "targets": "A."}),
        ("instances", {"instruction": "Q?", "instances": [{"input": "", "output": "A."}], "is_classification": False}),
        ("oasst", {"message_tree_id": "q", "prompt": TREE}),
        ("oasst", flat(TREE)[0]),
        ("squad", {"context": "C", "question": "Q?", "answers": {"text": ["A"]}}),
        ("code_tasks", {"task_id": 1, "prompt": "p", "canonical_solution": "s", "test": "t", "entry_point": "e"}),
        ("code_tasks", {"task_id": 1, "text": "p", "code": "s", "test_list": ["t"]}),
        ("text", {"text": "Once.", "url": "x"}),
    ],
)
def test_sniffing_tells_every_shape_and_says_what_it_saw(tmp_path, kind, row):
    path = write(tmp_path, row)
    found, seen = sniff(path)
    assert found == kind
    assert next(iter(row)) in seen or "conversation" in seen
    NOTES.clear()
    list(SOURCES["auto"](path=path).read("s"))
    assert any(f"{path} is read as {kind} ({seen})" in text for text in NOTES)


def test_sniffing_never_guesses(tmp_path):
    both = write(tmp_path, {"instruction": "Q?", "output": "A.", "response": "B."})
    with pytest.raises(DataError, match=r"several formats; say which: type: alpaca .*; or type: prompt_completion"):
        sniff(both)
    with pytest.raises(DataError, match=r"the columns are instruction, instances; alpaca lacks 'output'"):
        sniff(write(tmp_path, {"instruction": "Q?", "instances": []}))
    with pytest.raises(DataError, match="preference training, which is out of scope"):
        sniff(write(tmp_path, {"chosen": [ASK, SAY], "rejected": [ASK, SAY]}))
    with pytest.raises(DataError, match=r"none of the first 1 rows can be read; the first, .*rows\.jsonl:1: text"):
        sniff(write(tmp_path, "hello"))
    with pytest.raises(DataError, match="type: dataset_info"):
        sniff(str(index(tmp_path)))
    with pytest.raises(RecipeError, match=r"sources\.s\.mend: rows of type alpaca have no such setting"):
        one("auto", tmp_path, {"instruction": "Q?", "output": "A."}, mend=["drop_empty"])


def test_a_template_makes_a_table_columns(tmp_path):
    path = write(tmp_path, {"text": "Profit rose.", "label": "positive"})
    assert sniff(path, template="sentiment")[0] == "columns"
    assert read("auto", path, template="sentiment")[0].task == "sentiment"


def test_a_source_without_a_type_is_auto(tmp_path):
    recipe = Recipe.model_validate({"name": "x", "model": "m", "sources": {"s": {"path": "rows.jsonl"}}})
    assert recipe.dump()["sources"]["s"]["type"] == "auto"


# ---- entries of other tools --------------------------------------------------------------------------


def index(folder: Path) -> Path:
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "customer", "assistant_tag": "assistant"}
    entries = {
        "plain": {"file_name": "a.json"},
        "mapped": {"file_name": "a.json", "columns": {"prompt": "q", "response": "a"}, "num_samples": 3},
        "chat": {"hf_hub_url": "o/n", "subset": "en", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags},
        "open": {"hf_hub_url": "o/n", "formatting": "openai", "split": "test"},
        "pairs": {"file_name": "a.json", "ranking": True},
        "seen": {"file_name": "a.json", "columns": {"images": "images"}},
        "away": {"ms_hub_url": "o/n"},
    }
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(entries))
    return path


def test_entries_of_dataset_info(tmp_path):
    file = str(index(tmp_path))
    beside = str(tmp_path / "a.json")
    assert from_dataset_info(str(tmp_path), "plain") == ({"type": "alpaca", "path": beside}, [])
    settings, comments = from_dataset_info(file, "mapped")
    assert settings == {"type": "prompt_completion", "path": beside, "prompt": "q", "completion": "a", "limit": 3}
    assert "by lot" in comments[0]
    chat = {"type": "sharegpt", "messages": "messages", "role": "role", "content": "content", "roles": {"customer": "user"}}
    assert from_dataset_info(file, "chat")[0] == {**chat, "path": "hf://o/n/en:train"}
    assert from_dataset_info(file, "open")[0] == {"type": "messages", "path": "hf://o/n:test"}
    for name, why in (("pairs", "preference"), ("seen", "reads text only"), ("away", "ms_hub_url"), ("plian", "did you mean 'plain'")):
        with pytest.raises(DataError, match=why):
            from_dataset_info(file, name)
    for name in ("plain", "mapped", "chat", "open"):
        found = dict(from_dataset_info(file, name)[0])
        SOURCES[found.pop("type")](**found)  # every setting is one that the source has


@pytest.mark.parametrize(
    ("entry", "name", "settings", "said"),
    [
        ({"path": "data/a.jsonl", "type": "alpaca"}, "a", {"type": "alpaca", "path": "data/a.jsonl"}, ""),
        ({"path": "o/n", "type": "sharegpt", "split": "train"}, "n", {"type": "sharegpt", "path": "hf://o/n:train"}, ""),
        (
            {"path": "o/n", "name": "en", "type": "completion", "field": "body"},
            "n",
            {"type": "text", "path": "hf://o/n/en", "text": "body"},
            "",
        ),
        ({"path": "json", "data_files": "x.json", "type": "chat_template"}, "x", {"type": "messages", "path": "x.json"}, ""),
        ({"path": "a.json", "type": "input_output"}, "a", {"type": "auto", "path": "a.json"}, "text segments"),
        ({"path": "a.json", "type": "alpaca", "shards": 4}, "a", {"type": "alpaca", "path": "a.json"}, "shards"),
        ({"path": "a.json", "type": "alpaca", "trust_remote_code": True}, "a", {"type": "alpaca", "path": "a.json"}, "never run"),
        (
            {"path": "a.json", "type": {"field_instruction": "q", "field_output": "a", "format": "[INST] {instruction}"}},
            "a",
            {"type": "prompt_completion", "path": "a.json", "prompt": "q", "completion": "a"},
            "type.format",
        ),
        (
            {
                "path": "a.json",
                "type": "chat_template",
                "field_messages": "turns",
                "message_property_mappings": {"role": "from", "content": "value"},
                "roles": {"user": ["human", "user"], "assistant": ["gpt"]},
                "roles_to_train": ["user"],
                "train_on_eos": "last",
            },
            "a",
            {"type": "messages", "path": "a.json", "messages": "turns", "role": "from", "content": "value"}
            | {"roles": {"human": "user", "gpt": "assistant"}},
            "roles_to_train",
        ),
    ],
)
def test_entries_of_axolotl(entry, name, settings, said):
    found_name, found, comments = from_axolotl(entry)
    assert (found_name, found) == (name, settings)
    assert said in " ".join(comments)
    assert bool(said) == bool(comments)
    SOURCES[found["type"]](**{key: value for key, value in found.items() if key != "type"})


def test_preference_entries_of_axolotl_are_refused():
    with pytest.raises(DataError, match="preference"):
        from_axolotl({"path": "a.json", "type": "chatml.intel"})
    with pytest.raises(DataError, match="needs a path"):
        from_axolotl({"type": "alpaca"})


# ---- real data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "kind", "good"),
    [
        ("alpaca_llamafactory_demo/glaive_toolcall_en_demo.json", "sharegpt", 300),
        ("alpaca_llamafactory_demo/v1_sft_demo.jsonl", "messages", 500),
        ("sharegpt_sample/dummy_conversation.json", "sharegpt", 500),
        ("oasst/en_100_tree.jsonl", "oasst", 102),
        ("xquad_squad/xquad.en.json", "squad", 1190),
        ("natural_instructions/task062_bigbench_repeat_copy_logic.json", "natural_instructions", 29),
        ("self_instruct_seed/seed_tasks.jsonl", "instances", 175),
        ("self_instruct_seed/user_oriented_instructions.jsonl", "instances", 252),
        ("humaneval/HumanEval.jsonl.gz", "code_tasks", 164),
        ("dolly/dolly.json", "prompt_completion", 12),
    ],
)
def test_real_files(shared_data, file, kind, good):
    path = str(shared_data / file)
    assert sniff(path)[0] == kind
    found = read("auto", path)
    assert sum(isinstance(row, Record) for row in found) == good == len(found)
    for row in found:
        assert templates.write(row, None).answer() is not None


def test_the_real_index_of_llama_factory(shared_data):
    folder = shared_data / "alpaca_llamafactory_demo"
    assert len(read("dataset_info", str(folder), name="glaive_toolcall_en_demo")) == 300
    for name in json.loads((folder / "dataset_info.json").read_text()):
        try:
            settings, _ = from_dataset_info(str(folder), name)
        except DataError as error:
            assert any(why in str(error) for why in ("preference", "reads text only", "download it"))  # noqa: PT017
        else:
            SOURCES[settings.pop("type")](**settings)
