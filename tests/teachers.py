"""Scripted teachers for generation: replies are a function of the question, so any order of asking gives the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from etude import seeds
from etude.generation import Given, Made, Refused
from etude.generation.asking import Asking
from etude.models import Answer, Sampling
from etude.records import Conversation, Origin, Record, identify

WORDS = [a + b + c for a in "bdfklmnprst" for b in ("ala", "eno", "iru", "osi", "uta") for c in ("ker", "lin", "mos", "nar", "pet")]


class Killed(Exception):
    """The process died."""


class Teacher:
    """Replies by a function of the question; `order` is the order they come in, and `after` replies the process dies."""

    def __init__(self, reply: Callable[[Conversation], str | Answer], order: str = "forward", after: int | None = None) -> None:
        self.reply, self.order, self.left = reply, order, after
        self.questions: list[Conversation] = []

    def complete_each(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        places = list(range(len(conversations)))
        for place in places[::-1] if self.order == "reverse" else sorted(places, key=lambda p: p % 3) if self.order == "mixed" else places:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise Killed
            self.questions.append(conversations[place])
            said = self.reply(conversations[place])
            yield place, (said if isinstance(said, Answer) else Answer(said, "stop", len(said.split())),)


class Chunks:
    """The same, for LLMs that answer whole lists."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[tuple[Answer, ...]]:
        return [answers for _, answers in sorted(self.teacher.complete_each(conversations, sampling))]


def nonsense(*names: object, words: int = 8) -> str:
    """A sentence of made-up words, the same for the same names."""
    return " ".join(WORDS[seeds.number(0, *names, place) % len(WORDS)] for place in range(words)).capitalize()


def rows(count: int, classification: bool | None = None, **more: object) -> list[Record]:
    """Seed rows; every fourth is classification unless said otherwise, and every third has an input."""
    found = []
    for number in range(count):
        flag = number % 4 == 0 if classification is None else classification
        fields = {
            "instruction": f"{nonsense('seed', number)}.",
            "input": nonsense("input", number) if number % 3 == 0 else "",
            "output": nonsense("output", number),
            "is_classification": flag,
            **more,
        }
        found.append(Record(identify(fields), fields, Origin("seeds.jsonl", number + 1, "CC0-1.0"), "seeds"))
    return found


def given(teacher: object, seed_rows: Sequence[Record], path=None, seed: int = 0) -> Given:
    return Given(seed_rows, Asking(lambda name: teacher, path), seed)


def outcomes(strategy, teacher: object, seed_rows: Sequence[Record], seed: int = 0) -> tuple[list[Made], list[Refused]]:
    """What a strategy made and refused."""
    found = list(strategy.generate(given(teacher, seed_rows, seed=seed)))
    return [one for one in found if isinstance(one, Made)], [one for one in found if isinstance(one, Refused)]
