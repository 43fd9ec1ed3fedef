"""`etude convert`: every format into every other and back, and nothing lost in silence."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude import converting, journal, templates
from etude.converting.shapes import SHAPES, as_text, is_single
from etude.failures import DataError, RecipeError
from etude.records import BadRow, Conversation, Message, ToolCall
from etude.sources import SOURCES
from forked import etude

SOURCE = {"alpaca": "alpaca", "sharegpt": "sharegpt", "messages": "messages", "prompt-completion": "prompt_completion"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}}

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())
answers = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
arguments = st.dictionaries(words, st.one_of(st.integers(), words, st.none()), max_size=2).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)


@st.composite
def conversations(draw, features: frozenset[str]) -> Conversation:
    """A conversation in order, with whatever the features allow."""
    messages = [Message("system", draw(words))] if "system" in features and draw(st.booleans()) else []
    marks = st.sampled_from([None, True, False]) if "marks" in features else st.none()
    turns = draw(st.integers(1, 3)) if {"multi", "prompted"} & features else 1
    for turn in range(turns):
        messages.append(Message("user", draw(words)))
        if "tools" in features and draw(st.booleans()):
            calls = tuple(ToolCall("weather", draw(arguments), f"call_{turn}_{n}") for n in range(draw(st.integers(1, 2))))
            messages.append(Message("assistant", "", tool_calls=calls, trained=draw(marks)))
            messages += [Message("tool", draw(words), name="weather", call_id=call.id) for call in calls]
        earlier = "prompted" in features and turn < turns - 1
        messages.append(Message("assistant", draw(answers), trained=False if earlier else draw(marks)))
    return Conversation("", tuple(messages), tools=(TOOL,) if "tools" in features and draw(st.booleans()) else ())


HOLDS = {
    "alpaca": {"system", "multi"},
    "sharegpt": {"system", "multi", "tools", "marks", "prompted"},
    "messages": {"system", "multi", "tools", "marks", "prompted"},
    "prompt-completion": {"system", "prompted"},
}
FILES = {"alpaca": (".jsonl", ".json", ".jsonl.gz", ".parquet")} | dict.fromkeys(
    ("sharegpt", "messages", "prompt-completion"), (".jsonl", ".json", ".json.gz", ".parquet")
)


def read(path: Path, kind: str) -> list[tuple[str, Conversation]]:
    """(id, conversation) of every row."""
    found = []
    for record in SOURCES[SOURCE[kind]].model_validate({"path": str(path)}).read("data"):
        assert not isinstance(record, BadRow), record
        found.append((record.id, templates.write(record, None)))
    return found


@pytest.mark.parametrize(("here", "there"), permutations(SHAPES, 2))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip_between_all_pairs(tmp_path_factory, here, there, data):
    place = tmp_path_factory.mktemp("round")
    features = frozenset(HOLDS[here] & HOLDS[there])
    said = data.draw(st.lists(conversations(features), min_size=1, max_size=3))
    rows = [SHAPES[here].write(conversation).row for conversation in said]
    if here == "prompt-completion" and all(map(is_single, rows)):
        rows = [as_text(row) for row in rows]
    first = place / "first.jsonl"
    journal.write_rows(first, rows)
    other = place / f"other{data.draw(st.sampled_from(FILES[there]))}"
    back = place / f"back{data.draw(st.sampled_from(FILES[here]))}"
    converting.convert(str(first), other, there, origin=SOURCE[here])
    done = converting.convert(str(other), back, here, origin=SOURCE[there])
    assert (done.read, done.written, done.unusable, dict(done.lost)) == (len(said), len(said), 0, {})
    before, after = read(first, here), read(back, here)
    assert [c.messages for _, c in after] == [c.messages for _, c in before]
    assert [[dict(t) for t in c.tools] for _, c in after] == [[dict(t) for t in c.tools] for _, c in before]
    assert [id for id, _ in after] == [id for id, _ in before]
    if "marks" not in features:
        assert [[(m.role, m.words(), m.tool_calls) for m in c.messages] for _, c in read(other, there)] == [
            [(m.role, m.content, m.tool_calls) for m in c.messages] for c in said
        ]


def write(path: Path, *rows: dict) -> str:
    journal.write_rows(path, rows)
    return str(path)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ALPACA = {"instruction": "Say it in French.", "input": "the sea", "output": "la mer"}
CALLS = {
    "messages": [
        {"role": "user", "content": "Is it cold in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "-3"},
        {"role": "assistant", "content": "Yes."},
    ],
    "tools": [TOOL],
}


def test_the_input_is_sniffed_and_said(tmp_path):
    done = converting.convert(write(tmp_path / "in.jsonl", ALPACA, ALPACA), tmp_path / "out.jsonl", "messages")
    assert done.type == "alpaca"
    assert "instruction" in done.why


def test_context_follows_the_instruction_and_is_told(tmp_path):
    done = converting.convert(write(tmp_path / "in.jsonl", ALPACA), tmp_path / "out.jsonl", "messages", origin="alpaca")
    assert lines(tmp_path / "out.jsonl")[0]["messages"][0]["content"] == "Say it in French.\n\nthe sea"
    assert list(done.lost.values()) == [1]
    assert "border between instruction and input" in converting.summary(done)
    done = converting.convert(str(tmp_path / "in.jsonl"), tmp_path / "same.jsonl", "alpaca", origin="alpaca")
    assert lines(tmp_path / "same.jsonl") == [ALPACA]
    assert not done.lost


def test_other_keys_of_a_row_go_with_it(tmp_path):
    row = {**ALPACA, "category": "translation", "id": 7, "tags": ["a", {"b": 1}]}
    source = write(tmp_path / "in.jsonl", row)
    converting.convert(source, tmp_path / "out.jsonl", "sharegpt", origin="alpaca")
    assert {k: v for k, v in lines(tmp_path / "out.jsonl")[0].items() if k != "conversations"} == {
        "category": "translation",
        "id": 7,
        "tags": ["a", {"b": 1}],
    }
    converting.convert(source, tmp_path / "out.parquet", "alpaca", origin="alpaca")
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()[0]["tags"] == '["a", {"b": 1}]'


def test_a_key_that_the_target_owns_is_not_overwritten(tmp_path):
    done = converting.convert(write(tmp_path / "in.jsonl", {**ALPACA, "messages": "x"}), tmp_path / "o.jsonl", "messages", origin="alpaca")
    assert isinstance(lines(tmp_path / "o.jsonl")[0]["messages"], list)
    assert any("'messages'" in what for what in done.lost)


def test_the_licence_is_told(tmp_path):
    done = converting.convert(
        write(tmp_path / "in.jsonl", ALPACA), tmp_path / "o.jsonl", "alpaca", origin={"type": "alpaca", "licence": "CC0"}
    )
    assert any("licence" in what for what in done.lost)


ASKED, SAID, UNTRAINED = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "assistant", "content": "b", "weight": 0},
)
SPEAKING = [CALLS["messages"][0], {**CALLS["messages"][1], "content": "Hm."}, *CALLS["messages"][2:]]


@pytest.mark.parametrize(
    ("row", "to", "reason"),
    [
        (CALLS, "alpaca", "offers tools"),
        ({"messages": CALLS["messages"]}, "prompt-completion", "a tool's call"),
        ({"messages": [ASKED, SAID, ASKED, SAID]}, "prompt-completion", "message 2 is trained too"),
        ({"messages": [ASKED, UNTRAINED]}, "alpaca", "not trained"),
        ({"messages": [ASKED, UNTRAINED]}, "prompt-completion", "not trained"),
        ({"messages": SPEAKING}, "sharegpt", "both speaks and calls"),
        ({"messages": [ASKED]}, "alpaca", "the last message is the user's"),
    ],
)
def test_what_does_not_fit_is_rejected_with_its_place(tmp_path, row, to, reason):
    origin = "messages"
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    source = write(tmp_path / "in.jsonl", good, row)
    with pytest.raises(DataError) as caught:
        converting.convert(source, tmp_path / "out.jsonl", to, origin=origin)
    assert reason in str(caught.value)
    assert "in.jsonl:2" in str(caught.value)
    assert "--max-bad-rows 1" in str(caught.value)
    assert os.listdir(tmp_path) == ["in.jsonl"], "nothing is written"
    done = converting.convert(source, tmp_path / "out.jsonl", to, origin=origin, max_bad_rows=1)
    assert (done.read, done.written, done.unusable) == (2, 1, 1)
    assert done.rejected[0][0].endswith("in.jsonl:2")


def test_when_no_row_fits_nothing_is_written_whatever_is_allowed(tmp_path):
    with pytest.raises(DataError, match="1 row of 1 cannot become alpaca"):
        converting.convert(write(tmp_path / "in.jsonl", CALLS), tmp_path / "out.jsonl", "alpaca", origin="messages", max_bad_rows=9)
    assert not (tmp_path / "out.jsonl").exists()


def test_prompts_are_texts_only_where_every_row_allows_it(tmp_path):
    single = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    converting.convert(write(tmp_path / "in.jsonl", single), tmp_path / "o.jsonl", "prompt-completion", origin="messages")
    assert lines(tmp_path / "o.jsonl") == [{"prompt": "a", "completion": "b"}]
    told = {"messages": [{"role": "system", "content": "s"}, *single["messages"]]}
    converting.convert(write(tmp_path / "in.jsonl", single, told), tmp_path / "o2.jsonl", "prompt-completion", origin="messages")
    assert [len(row["prompt"]) for row in lines(tmp_path / "o2.jsonl")] == [1, 2]
    with pytest.raises(DataError, match="CSV cell is text"):
        converting.convert(str(tmp_path / "in.jsonl"), tmp_path / "o.csv", "prompt-completion", origin="messages")
    assert not (tmp_path / "o.csv").exists()


def test_csv_holds_what_is_text(tmp_path):
    row = {"instruction": 'a "quoted", one', "input": "two\r\nlines", "output": "=1+1"}
    converting.convert(write(tmp_path / "in.jsonl", row), tmp_path / "o.csv.gz", "alpaca", origin="alpaca")
    assert gzip.decompress((tmp_path / "o.csv.gz").read_bytes()).startswith(b"instruction,input,output\r\n")
    converting.convert(str(tmp_path / "o.csv.gz"), tmp_path / "back.jsonl", "alpaca", origin="alpaca")
    assert lines(tmp_path / "back.jsonl") == [row]
    with pytest.raises(DataError, match=r"write .jsonl, .json or .parquet"):
        converting.convert(str(tmp_path / "in.jsonl"), tmp_path / "o2.csv", "messages", origin="alpaca")


def test_a_template_puts_a_table_into_words(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Sentence,Sentiment\nProfit rose.,positive\n", encoding="utf-8")
    origin = converting.origin_of("{type: columns, template: sentiment, columns: {text: Sentence, label: Sentiment}}")
    converting.convert(str(table), tmp_path / "o.jsonl", "messages", origin=origin)
    row = lines(tmp_path / "o.jsonl")[0]
    assert row["messages"][1] == {"role": "assistant", "content": "positive"}
    assert "Profit rose." in row["messages"][0]["content"]


def test_refusals(tmp_path):
    source = write(tmp_path / "in.jsonl", ALPACA)
    with pytest.raises(RecipeError, match="did you mean 'sharegpt'"):
        converting.convert(source, tmp_path / "o.jsonl", "shargpt")
    with pytest.raises(RecipeError, match="is the input itself"):
        converting.convert(source, Path(source), "messages", force=True)
    with pytest.raises(RecipeError, match="or a part of it"):
        converting.convert(str(tmp_path), Path(source), "messages", force=True)
    with pytest.raises(RecipeError, match="--force"):
        converting.convert(source, Path(write(tmp_path / "o.jsonl", {})), "messages")
    with pytest.raises(RecipeError, match="is a folder"):
        converting.convert(source, tmp_path, "messages")
    with pytest.raises(RecipeError, match="no format is called 'alpacca'; did you mean 'alpaca'"):
        converting.convert(source, tmp_path / "p.jsonl", "messages", origin="alpacca")
    with pytest.raises(RecipeError, match=r"--from: .*'limitt'"):
        converting.convert(source, tmp_path / "p.jsonl", "messages", origin={"type": "alpaca", "limitt": 3})
    with pytest.raises(DataError, match=r"extension '.jsnol'; did you mean '.json"):
        converting.convert(source, tmp_path / "p.jsnol", "messages")
    with pytest.raises(DataError, match=r"in.json does not exist; did you mean 'in.jsonl'"):
        converting.convert(str(tmp_path / "in.json"), tmp_path / "p.jsonl", "messages", origin="alpaca")


def test_a_writer_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    source, out = write(tmp_path / "in.jsonl", ALPACA, ALPACA), tmp_path / "o.jsonl"
    out.write_text("old", encoding="utf-8")
    seen = []

    def line(row):
        seen.append(row)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return b"{}\n"

    monkeypatch.setattr(converting.writing.journal, "line", line)
    with pytest.raises(KeyboardInterrupt):
        converting.convert(source, out, "messages", origin="alpaca", force=True)
    assert out.read_text(encoding="utf-8") == "old"
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "o.jsonl"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_memory_stays_flat(tmp_path, name):
    peaks: list[int] = []
    for rows in (400, 3600):
        source = write(
            tmp_path / f"{rows}.jsonl", *({"instruction": f"say {i} " * 20, "input": "", "output": "x" * 200} for i in range(rows))
        )
        if not peaks:  # the first time libraries are loaded
            converting.convert(source, tmp_path / name, "messages", origin="alpaca", force=True)
        tracemalloc.start()
        converting.convert(source, tmp_path / name, "messages", origin="alpaca", force=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 1_000_000


def test_the_command(tmp_path):
    write(tmp_path / "in.jsonl", ALPACA, {"instruction": "", "output": "x"})
    refused = etude(tmp_path, "convert", "in.jsonl", "out.jsonl", "--to", "messages")
    assert refused.returncode == 3, refused.stderr
    assert "in.jsonl:2: 'instruction' is empty" in refused.stderr
    done = etude(tmp_path, "convert", "in.jsonl", "out.jsonl", "--to", "messages", "--max-bad-rows", "1", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["rows"] == {"in": 2, "out": 1, "rejected": 1}
    assert said["from"]["type"] == "alpaca"
    assert etude(tmp_path, "convert", "in.jsonl", "out.jsonl", "--to", "messages").returncode == 2
