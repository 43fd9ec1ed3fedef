"""Reasoning at levels for rows whose answer is known: an LLM writes it in full and then shortens it, step by step.

Every level must end at the row's own answer and be shorter, in words, than the one above; a row for which one does not is refused for
all levels, so that studies of levels compare the same rows. Reasoning to a known answer: STaR's rationalisation (Zelikman et al. 2022,
arXiv 2203.14465).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.failures import RecipeError, nearest
from etude.generation import Given, Made, Refused
from etude.generation.quoting import SAID, quoted
from etude.metrics import math
from etude.models import Answer, Sampling
from etude.records import Conversation, Message, Record
from etude.templates.levels import WRITTEN, Written, answer_field, answer_in, broken, level_field, leveled, words
from etude.templates.reasoning import STATED, answer_of, bare, marked_answer, stated

TOGETHER = 256
"""Rows whose questions are asked together."""
STEPS: tuple[Written, ...] = ("complex", "normal", "simple")
"""The order in which levels are written: each is made of the one before."""
WRITE = (
    "Below are a question and its right answer. Write the reasoning that leads from the question to that answer. Go step by step and leave "
    "no step out; say for each step what is done and why. Do not mention that the answer was given to you."
)
SHORTEN: Mapping[Written, str] = {
    "complex": "",
    "normal": (
        "Below are a question, its right answer, and a detailed reasoning. Write the reasoning again with every step that is needed and no "
        "explanation of why: at most half as long."
    ),
    "simple": (
        "Below are a question, its right answer, and a reasoning. Shorten the reasoning to one or two sentences that hold what decides the "
        "answer."
    ),
}
CLOSING = 'Write the reasoning alone, as plain text. Its last line is "The answer is X.", with the answer in place of X.'
SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
"""Where a sentence or line ends: what follows the last one begins the sentence that states the answer."""
OWN = ("rationale", *(level_field(level) for level in WRITTEN))
"""Fields that are made, and never shown."""


class ChainOfThought(Settings):
    """Reasoning written by an LLM for rows whose answer is known, at the levels simple, normal and complex. The rewrite
    `reasoning_level` chooses one."""

    keeps_fields: ClassVar[bool] = True

    rows: str
    """The source whose training rows get reasoning; each has an answer."""
    llm: str
    """The model that writes."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Rows wanted; by default all that can be had."""
    answer: str | None = None
    """The field with the answer; by default the first of answer, output, response, completion, label, target that a row has."""
    show: tuple[str, ...] = ()
    """Fields that are shown as the question; by default all texts of a row but its answer and its reasoning."""
    compare: Literal["auto", "number", "text"] = "auto"
    """How answers are compared: as numbers, as text, or as numbers where the row's answer is one."""
    sampling: Sampling = Sampling(max_new_tokens=512)
    """How replies are drawn."""

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """A row with its reasoning for each that can be had, under its own id, else why not; in the order of the rows.

        Raises RecipeError where no row is given, or a named field is in none.
        """
        if not given.rows:
            raise RecipeError(f"generate.rows: {self.rows!r} has no training row to write reasoning for")
        known = {name for record in given.rows for name in record.fields}
        for name in (*((self.answer,) if self.answer else ()), *self.show):
            if name not in known:
                raise RecipeError(f"generate: no row of {self.rows!r} has the field {name!r}{nearest(name, known)}")
        made, place = 0, 0
        while place < len(given.rows) and (self.count is None or made < self.count):
            size = TOGETHER if self.count is None else min(TOGETHER, self.count - made)
            for outcome in self.round(given, given.rows[place : place + size]):
                made += isinstance(outcome, Made)
                yield outcome
            place += size

    def round(self, given: Given, rows: Sequence[Record]) -> Iterator[Made | Refused]:
        """The outcomes of some rows: each level is asked of all that are left, at once."""
        asked = [Work.of(record, self.answer, self.show) for record in rows]
        for level in STEPS:
            left = [work for work in asked if not work.rule]
            drawn = given.ask(self.llm, [work.question(level) for work in left], self.sampling) if left else []
            for work, replies in zip(left, drawn, strict=True):
                work.take(level, replies[0], self.compare)
        for work in asked:
            if not work.rule:
                work.rule = broken(work.texts, work.answer)
            yield work.refused() if work.rule else work.made()


class Work:
    """One row on its way: its answer, the levels that are written, and the rule that refused it, "" while none did."""

    def __init__(self, record: Record, answer: str, question: str) -> None:
        self.record = record
        self.answer = answer
        self.asked = question
        self.texts: dict[str, str] = {}
        self.rule = ""
        self.said = ""

    @staticmethod
    def of(record: Record, field: str | None, show: Sequence[str]) -> Work:
        """A row with what is shown of it; refused at once where it has no answer or no question."""
        own = field or answer_field(record.fields)
        value = record.fields.get(own) if own else None
        answer = answer_in({"answer": str(value)}, "answer") if isinstance(value, str | int | float) else ""
        work = Work(record, answer, shown(record.fields, own, show))
        work.rule = "no answer in the row" if not answer else "no question in the row" if not work.asked else ""
        return work

    def question(self, level: Written) -> Conversation:
        """What the LLM is asked at a level."""
        task = WRITE if level == "complex" else SHORTEN[level]
        parts = [task, SAID, quoted("question", self.asked), quoted("answer", self.answer)]
        if level != "complex":
            parts.append(quoted("reasoning", self.texts[STEPS[STEPS.index(level) - 1]]))
        return Conversation(f"{self.record.id}.{level}", (Message("user", "\n\n".join([*parts, CLOSING])),))

    def take(self, level: Written, reply: Answer, compare: str) -> None:
        """Keep a reply as the level's text, or say which rule refuses the row."""
        self.said = reply.text
        if reply.failure:
            self.rule = f"{level}: no reply ({reply.failure})"
        elif reply.finish == "length":
            self.rule = f"{level}: cut off"
        elif not marked_answer(reply.text):
            self.rule = f"{level}: no answer stated"
        elif not same(reply.text, self.answer, compare):
            self.rule = f"{level}: other answer"
        else:
            text = without_answer(reply.text)
            above = self.texts.get(STEPS[STEPS.index(level) - 1]) if level != "complex" else None
            if not text:
                self.rule = f"{level}: no reasoning"
            elif above is not None and words(text) >= words(above):
                self.rule = f"{level}: not shorter"
            elif answer_of(stated(text, self.answer)) != bare(self.answer):
                self.rule = f"{level}: answer not found again"
            self.texts[level] = text

    def refused(self) -> Refused:
        """The row as refused, for all levels."""
        return Refused(self.rule, self.said or self.asked, (self.record.id,))

    def made(self) -> Made:
        """The row with its reasoning: all its fields, its own id."""
        fields = {name: value for name, value in self.record.fields.items() if name not in OWN} | leveled(self.texts)
        lengths = {level: words(self.texts[level]) for level in WRITTEN}
        return Made(fields, self.record.origin, (self.record.id,), {"words": lengths}, self.record.id)


def shown(fields: Mapping[str, Any], answer: str | None, show: Sequence[str]) -> str:
    """A row's question in words: the one text it has, or each field with its name."""
    names = show or [name for name in fields if name != answer and name not in OWN]
    texts = {name: fields[name] for name in names if isinstance(fields.get(name), str) and fields[name].strip()}
    if set(texts) <= {"instruction", "input"}:
        return "\n\n".join(texts[name] for name in ("instruction", "input") if name in texts)
    return next(iter(texts.values())) if len(texts) == 1 else "\n\n".join(f"{name}: {text}" for name, text in texts.items())


def same(text: str, answer: str, compare: str) -> bool:
    """Whether a text's final answer is the row's."""
    if compare == "number" or (compare == "auto" and math.number(answer) is not None):
        return math.same(math.final_answer(text), answer, 0.0)
    return " ".join(marked_answer(text).split()).casefold() == " ".join(bare(answer).split()).casefold()


def without_answer(text: str) -> str:
    """A reply's reasoning: what stands before the last sentence that states the answer."""
    found = list(STATED.finditer(text))
    kept = text[: found[-1].start()] if found else text.rpartition("####")[0]
    ends = [match.end() for match in SENTENCE_END.finditer(kept)]
    return kept[: ends[-1]].strip() if ends else ""
