"""Rows for people to judge: what is written, that no cell acts, that nobody can tell the models apart, and the way back."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude import annotating, comparison, journal, runs
from etude.failures import DataError, RecipeError

FORMULAS = [
    "=1+1", "=HYPERLINK(\"http://x\",\"y\")", "+1", "-2+3", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1", '"=1"', "'=1", "＝1", "＠x",
    "=cmd|'/C calc'!A0",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of two tasks, 40 rows and 3; answers say whose they are."""
    tasks = [SimpleNamespace(task="qa", split="test"), SimpleNamespace(task="odd", split="validation")]
    monkeypatch.setattr(runs, "recipe_of", lambda folder: SimpleNamespace(tasks=lambda: tasks))
    for task, count in zip(tasks, (40, 3), strict=True):
        for arm in ("start", "tuned"):
            rows = [answered(f"{i:016d}", f"{arm} {i}" if i else "the same") for i in range(count)]
            journal.write_rows(tmp_path / runs.predictions_file(task, arm), rows if arm == "start" else reversed(rows))
    return tmp_path


def answered(id: str, *outputs: str, question: str = "why?") -> dict[str, Any]:
    return {"id": id, "question": question, "outputs": list(outputs), "references": ["because"], "finish": ["stop"], "near_ties": 0}


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def choose(path: Path, choice: Any) -> None:
    """Fill the column in; `choice` is a function of (place, row)."""
    rows = table(path)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "choice": choice(i, row)} for i, row in enumerate(rows))


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_every_row_is_written_once_with_a_hidden_order_and_a_key(folder: Path, name: str) -> None:
    out = folder / name
    assert annotating.export(folder, out, seed=3) == 43
    rows = table(out) if name.endswith("csv") else lines(out)
    key = lines(annotating.key_of(out))
    assert [tuple(row) for row in rows] == [annotating.COLUMNS] * 43
    assert len(key) == 43
    for row, whose in zip(rows, key, strict=True):
        assert (row["task"], row["id"].lstrip("'")) == (whose["task"], whose["id"])
        same = row["answer_a"] == "the same"
        assert row["choice"] == ("tie" if same else "")
        assert row["note"] == ""
        assert same or (row["answer_a"].startswith(whose["a"]) and row["answer_b"].startswith(whose["b"]))
    assert 10 < sum(whose["a"] == "tuned" for whose in key) < 33
    assert {row["task"] for row in rows} == {"qa", "odd (validation)"}
    assert b"tuned" not in out.read_bytes().split(b"\n")[0]


def test_the_order_is_of_the_seed_and_the_row(folder: Path) -> None:
    def key(name: str, **options: Any) -> list[dict[str, Any]]:
        annotating.export(folder, folder / name, **options)
        return lines(annotating.key_of(folder / name))

    first = key("1.csv", seed=1)
    assert first == key("2.csv", seed=1)
    assert (folder / "1.csv").read_bytes() == (folder / "2.csv").read_bytes()
    assert first != key("3.csv", seed=2)
    few, more = key("4.csv", seed=1, limit=9), key("5.csv", seed=1, limit=20)
    assert len(few) == 9
    assert all(row in more for row in few)
    assert all(row in first for row in more)  # which rows are shown changes no order
    assert [first.index(row) for row in more] == sorted(first.index(row) for row in more)
    assert all(row["a"] == "start" for row in key("6.csv", blind=False))


def test_choices_come_back_by_model(folder: Path) -> None:
    out = folder / "out.csv"
    annotating.export(folder, out)
    choose(out, lambda i, row: "" if i < 3 else "Tie" if i < 6 else " A. " if row["answer_a"].startswith("tuned") == (i % 4 > 0) else "b")
    found = annotating.read_back(out)
    qa = found.tasks["qa"]
    assert (qa.open, qa.tie) == (3, 3)
    assert qa.start == sum(i % 4 == 0 for i in range(6, 40))
    assert qa.tuned == sum(i % 4 > 0 for i in range(6, 40))
    assert found.wins.decided == 37
    fewer = sum(math.comb(37, k) for k in range(min(found.wins.tuned, found.wins.start) + 1))
    assert found.wins.p == pytest.approx(2 * fewer / 2**37, rel=1e-12)  # as scipy.stats.binomtest
    expected = comparison.wilson(found.wins.tuned, 37)
    assert found.wins.interval == (expected.low, expected.high)
    plain = json.loads(json.dumps(found.as_json()))
    assert plain["tuned"] == found.wins.tuned
    assert set(plain["tasks"]) == {"qa", "odd (validation)"}
    text = annotating.as_text(found)
    assert "sign test p" in text
    assert text.count("\n") == 2


def test_the_sign_test_and_nothing_decided() -> None:
    assert annotating.Wins(0, 8, 0, 0, 4).p == pytest.approx(2 / 256)
    assert annotating.Wins(5, 5, 9, 0, 4).p == 1.0
    nothing = annotating.Wins(0, 0, 4, 2, 0)
    assert (nothing.p, nothing.interval, nothing.as_json()["share"]) == (1.0, (0.0, 1.0), None)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(43)), st.sampled_from(",;\t"))
def test_a_spreadsheet_may_reorder_and_separate_as_it_likes(places: list[int], separator: str) -> None:
    key = [{"task": "t", "id": f"{i:016d}", "a": "tuned" if i % 3 else "start", "b": "start" if i % 3 else "tuned"} for i in range(43)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(["mine", *reversed(annotating.COLUMNS)])
    for i in places:
        cells = {"task": "t", "id": annotating.protected(key[i]["id"], True), "choice": "A", "question": 'x,;\t"y"\nz'}
        writer.writerow(["?", *(cells.get(name, "") for name in reversed(annotating.COLUMNS))])
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out.csv"
        out.write_text("\ufeff" + text.getvalue(), encoding="utf-8", newline="")
        journal.write_rows(annotating.key_of(out), key)
        found = annotating.read_back(out).wins
    assert (found.tuned, found.start, found.first) == (28, 15, 43)


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    task = SimpleNamespace(task=text, split="test")
    monkeypatch.setattr(runs, "recipe_of", lambda folder: SimpleNamespace(tasks=lambda: [task]))
    monkeypatch.setattr(runs, "predictions_file", lambda task, arm: f"{arm}.jsonl")
    for arm in ("start", "tuned"):
        journal.write_rows(tmp_path / f"{arm}.jsonl", [answered(text, f"{text}{arm}", question=text), answered("1e5", "x\x00\u202e\ud800")])
    out = tmp_path / "out.csv"
    annotating.export(tmp_path, out)
    for row in table(out):
        for cell in row.values():
            assert not cell.lstrip(' \t\r\n"').startswith(tuple("=+-@＝＋－＠")), cell
            assert not any(c in cell for c in "\x00\x1b\r\u202e")
    assert [row["id"] for row in table(out)][1] == "'1e5"
    choose(out, lambda i, row: "a")
    assert annotating.read_back(out).wins.decided == 2  # the ids are known again


@given(st.text(st.characters(codec=None), max_size=60))
@settings(max_examples=50, deadline=None)
def test_protecting_adds_at_most_an_apostrophe(text: str) -> None:
    found = annotating.protected(text)
    assert found.removeprefix("'") == annotating.visible(text).removeprefix("'")
    found.encode("utf-8")


def test_long_cells_fit_a_spreadsheet() -> None:
    assert len(annotating.protected("=" + "x" * 100_000)) < 32_767


def test_what_cannot_be_written(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"\.csv or \.jsonl"):
        annotating.export(folder, folder / "out.xlsx")
    with pytest.raises(RecipeError, match="at least one"):
        annotating.export(folder, folder / "out.csv", limit=0)
    annotating.export(folder, folder / "out.csv")
    with pytest.raises(RecipeError, match="--force"):
        annotating.export(folder, folder / "out.csv")
    (folder / "out.csv").unlink()
    with pytest.raises(RecipeError, match=r"key.*--force"):
        annotating.export(folder, folder / "out.csv")
    assert annotating.export(folder, folder / "out.csv", force=True) == 43
    (folder / "predictions" / "qa.tuned.jsonl").unlink()
    with pytest.raises(DataError, match="tuned model has not answered 'qa'"):
        annotating.export(folder, folder / "new.csv")
    assert not annotating.key_of(folder / "new.csv").exists()
    journal.write_rows(folder / "predictions" / "qa.tuned.jsonl", [answered("other", "x")])
    with pytest.raises(DataError, match="different rows"):
        annotating.export(folder, folder / "new.csv")


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a run folder"):
        annotating.export(tmp_path, tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"choice"', '"verdict"'), "no column 'choice'"),
        (lambda text: text.replace('"",""\r\n', '"C",""\r\n', 1), r"out.csv:3: choice 'c' is none of a, b and tie"),
        (lambda text: text.replace("0001", "9999", 1), "has no row"),
        (lambda text: text + text.split("\r\n")[1] + "\r\n", "twice"),
    ],
)
def test_what_cannot_be_read(folder: Path, change: Any, message: str) -> None:
    out = folder / "out.csv"
    annotating.export(folder, out)
    with open(out, encoding="utf-8", newline="") as file:
        text = file.read()
    assert change(text) != text
    out.write_text(change(text), encoding="utf-8", newline="")
    with pytest.raises(DataError, match=message):
        annotating.read_back(out)


def test_files_that_are_not_there_or_something_else(folder: Path) -> None:
    out = folder / "out.jsonl"
    with pytest.raises(DataError, match="no such file"):
        annotating.read_back(out)
    annotating.export(folder, out)
    text = out.read_text(encoding="utf-8")
    out.write_text(text + "{broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"out.jsonl:44: not JSON"):
        annotating.read_back(out)
    out.write_text(text + "[1]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r":44: a row needs task, id and choice"):
        annotating.read_back(out)
    out.write_bytes(text.encode() + b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        annotating.read_back(out)
    out.write_text(text, encoding="utf-8")
    assert annotating.read_back(out).wins.open == 41
    annotating.key_of(out).write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="not the key"):
        annotating.read_back(out)
