"""Suspected label errors: rows that the tuned model still does not believe, held against rows of their own label."""

import math

import pytest

from etude.curation.rows import Row
from etude.curation.suspects import suspects
from etude.records import Conversation, Message, Origin, Record


def row(id, answer, task="mood"):
    record = Record(id, {"text": id, "label": answer}, Origin("f", 1), "s", task)
    return Row(record, Conversation(id, (Message("user", id), Message("assistant", answer))))


LABELS = {"mood": ("good", "bad", "rare")}


def test_a_planted_error_is_found_and_clean_rows_are_not():
    rows = [row(f"g{i}", "good") for i in range(100)] + [row(f"b{i}", "bad") for i in range(100)]
    losses = {f"g{i}": 0.01 + i / 1000 for i in range(100)} | {f"b{i}": 0.1 + i / 50 for i in range(100)}
    assert suspects(losses, rows, labels=LABELS) == []
    losses |= {"g7": 4.0, "b3": 4.5, "b50": 2.2}
    found = suspects(losses, rows, labels=LABELS, before={"g7": 3.5, "b3": 5.0})
    assert [one.id for one in found] == ["g7", "b3"], "2.2 is usual for a bad one; the good one stands out more"
    assert found[0].group == "mood: good"
    assert found[0].loss == 4.0
    assert "loss 4.00 nats a token after tuning, 3.50 before, where the median of 'mood: good' is 0.06" in found[0].reason
    assert f"probability of {math.exp(-4):.2f}" in found[0].reason
    assert found[0].reason.endswith("tuning did not lower it")
    assert not found[1].reason.endswith("lower it")
    assert [one.id for one in suspects(losses, rows, labels=LABELS, most=1)] == ["g7"]


def test_what_the_model_believes_is_no_suspect_however_far_out():
    rows = [row(f"g{i}", "good") for i in range(50)]
    losses = {f"g{i}": 0.001 for i in range(50)} | {"g1": 0.6}
    assert suspects(losses, rows, labels=LABELS) == []
    assert [one.id for one in suspects(losses | {"g1": 0.7}, rows, labels=LABELS)] == ["g1"]


def test_small_labels_and_open_answers_are_held_against_the_task():
    rows = [row(f"g{i}", "good") for i in range(60)] + [row("r", "rare")] + [row(f"o{i}", f"text {i}", "open") for i in range(60)]
    losses = {one.id: 0.5 + (i % 7) / 20 for i, one in enumerate(rows)} | {"r": 5.0, "o9": 6.0}
    found = suspects(losses, rows, labels=LABELS)
    assert [(one.id, one.group) for one in found] == [("o9", "open"), ("r", "mood")]
    del losses["r"]
    assert [one.id for one in suspects(losses, [*rows, rows[-51]], labels=LABELS)] == ["o9"], "a repeated row is listed once"


def test_what_cannot_be_meant():
    with pytest.raises(ValueError, match="quantile"):
        suspects({}, [], quantile=1)
    with pytest.raises(ValueError, match="not a number"):
        suspects({"a": math.nan}, [row("a", "good")])
    assert suspects({}, [row("a", "good")]) == []
