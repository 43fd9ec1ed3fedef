"""The shipped recipes for data of the user's own, each run whole on a tiny model and a few rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from etude import catalog, encoded, journal, pipeline, recipe
from etude.records import IGNORED
from etude.shipped import start

SMALL = (
    "split.validation=4",
    "split.test=6",
    "tune.max_steps=2",
    "tune.method.r=2",
    "score.0.limit=3",
    "score.0.sampling.max_new_tokens=4",
)

INSTRUCTIONS = [
    {
        "instruction": f"Add {n} to the number.",
        "input": f"{n * 3}" if n % 2 else "",
        "output": f"That makes {n * 4}." if n % 2 else "Which number?",
    }
    for n in range(40)
]


def chat(n: int) -> dict[str, Any]:
    """A conversation of two questions and two answers, as ShareGPT writes it; some begin or end as collected ones do."""
    said = [
        ("human", f"I have {n} apples."),
        ("gpt", f"Then you have {n}."),
        ("human", "And if I eat one?"),
        ("gpt", f"Then {n - 1} are left."),
    ]
    if n % 5 == 1:
        said.insert(0, ("gpt", "Welcome back."))
    if n % 5 == 2:
        said.append(("human", "Thanks!"))
    return {"id": f"chat_{n}", "conversations": [{"from": who, "value": text} for who, text in said]}


CHATS = [chat(n) for n in range(2, 42)]


@pytest.fixture
def run(
    tmp_path: Path, model_folder: Callable[..., Path], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, list[list[str]]]]:
    """Start a recipe from a shipped one, run it on rows, and give its findings and the trained stretches of every row."""

    def go(origin: str, path: str, rows: Sequence[Mapping[str, Any]], *more: str) -> tuple[Any, list[list[str]]]:
        monkeypatch.chdir(tmp_path)
        catalog.NOTES.clear()
        journal.write_rows(tmp_path / "rows.jsonl", rows)
        written, _ = start("mine", origin, tmp_path)
        chosen = recipe.load(written, [f"model={model_folder('llama')}", f"{path}=rows.jsonl", *SMALL, *more])
        found = pipeline.run(chosen, tmp_path / "runs" / "mine", written.read_text())
        kept = encoded.load(next((tmp_path / "runs" / "mine").rglob("train.npz")))
        return found, [stretches(row, tokenizer) for row in kept.rows]

    return go


def stretches(row: Any, tokenizer: Any) -> list[str]:
    """The trained stretches of an encoded row, as text."""
    found: list[list[int]] = []
    before = False
    for label in row.labels.tolist():
        if label != IGNORED:
            if not before:
                found.append([])
            found[-1].append(label)
        before = label != IGNORED
    return [tokenizer.decode(ids) for ids in found]


def test_alpaca(run):
    found, trained = run("alpaca", "sources.instructions.path", INSTRUCTIONS)
    assert set(found.tasks) == {"instructions"}
    assert len(trained) == 30
    assert {tuple(one) for one in trained} <= {(row["output"] + "<|im_end|>",) for row in INSTRUCTIONS}


def test_alpaca_writes_stanfords_two_preambles(run, tokenizer, tmp_path):
    run("alpaca", "sources.instructions.path", INSTRUCTIONS, "score=[]", "forgetting=false")
    texts = [tokenizer.decode(row.ids.tolist()) for row in encoded.load(next(tmp_path.rglob("train.npz"))).rows]
    assert sum("### Input:\n" in text and "paired with an input" in text for text in texts) > 5
    assert sum("### Input:" not in text and "paired with an input" not in text for text in texts) > 5
    assert all(text.count("### Response:") == 1 for text in texts)


def test_vicuna_trains_every_answer_of_a_conversation(run):
    found, trained = run("vicuna", "sources.chats.path", CHATS)
    assert set(found.tasks) == {"chats"}
    assert len(trained) == 30
    expected = {(f" Then you have {n}.<|im_end|>", f" Then {n - 1} are left.<|im_end|>") for n in range(2, 42)}
    assert {tuple(one) for one in trained} <= expected
    assert any("drop_leading_assistant" in note and "drop_trailing_user" in note for note in catalog.NOTES)


def test_vicuna_can_train_the_last_answer_alone(run):
    _, trained = run("vicuna", "sources.chats.path", CHATS, "train_on.turns=last", "score=[]", "forgetting=false")
    assert all(len(one) == 1 and "are left." in one[0] for one in trained)
