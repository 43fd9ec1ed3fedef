"""Parts for the tests of strategies: rows, models that reply by a function (in any order, until they die), runs into a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from etude.generation import Given, running
from etude.generation.asking import Asking
from etude.models import Answer
from etude.models.scripted import Scripted
from etude.records import Conversation, Origin, Record, identify

Reply = Callable[[Conversation, int], "str | Answer"]


class Killed(Exception):
    """The process was killed."""


class Replying(Scripted):
    """A scripted model whose function may reply with a whole Answer; it may answer backwards, and die after some replies."""

    def __init__(self, reply: Reply, backwards: bool = False, dies_after: int | None = None) -> None:
        super().__init__(lambda question, number: "")
        self.reply = reply
        self.backwards = backwards
        self.left = dies_after

    def complete_each(self, conversations, sampling) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        self.calls += 1
        order = range(len(conversations))
        for index in reversed(order) if self.backwards else order:
            if self.left is not None:
                if self.left == 0:
                    raise Killed
                self.left -= 1
            question = conversations[index].question()
            self.asked.append(question)
            replies = [self.reply(question, number) for number in range(sampling.n)]
            yield index, tuple(one if isinstance(one, Answer) else Answer(one, "stop", len(one.split())) for one in replies)


def record(instruction: str, output: str | None = "An answer.", number: int = 1, **fields) -> Record:
    whole = {"instruction": instruction, **({} if output is None else {"output": output}), **fields}
    return Record(identify(whole), whole, Origin("rows.jsonl", number, "CC0-1.0"), "seeds")


def outcomes(strategy, rows, model, seed: int = 0) -> list:
    """Everything a strategy makes and refuses."""
    with Asking(lambda name: model) as asking:
        return list(strategy.generate(Given(rows, asking, seed)))


def run(strategy, rows, model, folder: Path, seed: int = 0) -> tuple[bytes, bytes]:
    """A run into a folder; the bytes of rows.jsonl and refused.jsonl."""
    with Asking(lambda name: model, folder / "asked.jsonl") as asking:
        running.generate(strategy, Given(rows, asking, seed), folder / "made")
    return (folder / "made" / "rows.jsonl").read_bytes(), (folder / "made" / "refused.jsonl").read_bytes()


def lines(data: bytes) -> list[dict]:
    return [json.loads(line) for line in data.splitlines()]


def same_however_it_runs(strategy, rows, reply: Reply, folder: Path) -> tuple[bytes, bytes]:
    """The files of a run, after seeing that runs that die after every few replies, or whose replies arrive backwards, leave the same
    bytes, and that no reply is asked for twice."""
    whole = Replying(reply)
    files = run(strategy, rows, whole, folder / "whole")
    assert run(strategy, rows, Replying(reply, backwards=True), folder / "backwards") == files
    total = len(whole.asked)
    asked = []
    for _ in range(total + 1):
        dying = Replying(reply, dies_after=max(1, total // 5))
        try:
            found = run(strategy, rows, dying, folder / "killed")
        except Killed:
            asked += dying.asked
            continue
        asked += dying.asked
        assert found == files
        assert len(asked) == total
        return files
    raise AssertionError("the run never ended")
