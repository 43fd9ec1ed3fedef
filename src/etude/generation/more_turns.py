"""Longer conversations: a model writes what the user says next, and a model answers, turn after turn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.generation import Given, Made, Refused
from etude.generation.quoting import SAID, quoted
from etude.generation.replies import folded, said, unusable
from etude.generation.requests import Request, enough, plain, requests
from etude.models import Answer, Sampling
from etude.records import Conversation, Message

WAVE = 256
"""Conversations asked about at once."""
ROLE = re.compile(r"^(?:\*\*)?(?:the )?(?:user|human)(?:\*\*)?\s*:\s*(?:\*\*)?\s*", re.IGNORECASE)
"""A label that models put before a turn they write for somebody."""

TOLD = (
    "A user talks with an assistant; their turns so far stand below, in order. Write what this user says next, in the language and tone "
    "they have used: a question about the last answer, a request to change or extend it, an objection, or a step further in the same "
    "matter. It must not repeat what the user said before, and must not be thanks or a farewell alone."
)
REST = "Reply with the user's words alone: no label, no quotation marks, and no answer to them."
LEAK = re.compile(r"</?(?:user|assistant|system|tool) [0-9a-f]{8}>")
"""Our marks around a turn."""


@dataclass(slots=True)
class Talk:
    """A conversation that grows: its turns, how many were added, and the rule that ended it early."""

    request: Request
    turns: tuple[Message, ...]
    added: int = 0
    rule: str = ""
    text: str = ""
    facts: dict[str, Any] | None = None

    def said_before(self, role: str, text: str) -> bool:
        """Whether somebody of this role said just that already."""
        return any(message.role == role and folded(message.content) == folded(text) for message in self.turns)

    def end(self, rule: str, text: str, facts: dict[str, Any]) -> None:
        """It does not go on."""
        self.rule, self.text, self.facts = rule, text, facts


class MoreTurns(Settings):
    """Conversations of rows carried on by `turns` more exchanges; the rows have `messages`.

    A conversation ends early where the user's next words or the answer fail, are cut off, or repeat an earlier turn; it still
    makes a row where `least` exchanges were added.
    """

    keeps_fields: ClassVar[bool] = False

    rows: Annotated[str, Field(min_length=1)]
    """The data whose training rows are carried on: any that have an answer."""
    llm: Annotated[str, Field(min_length=1)]
    """Who writes the user's turns: a name of the recipe's `llms`, or `start`."""
    teacher: str = ""
    """Who answers them; by default the same as `llm`."""
    turns: Annotated[int, Field(ge=1, le=50)] = 1
    """Exchanges (a user's turn and its answer) to add."""
    least: Annotated[int, Field(ge=1, le=50)] | None = None
    """Exchanges with which a conversation that ended early is a row; by default all of `turns`."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Rows wanted, from the first on; by default one for each row."""
    sampling: Sampling = Sampling(max_new_tokens=256, temperature=0.9, top_p=0.95)
    """How the user's turns are drawn."""
    answers: Sampling = Sampling(max_new_tokens=2048, temperature=0.7)
    """How answers are drawn."""

    @model_validator(mode="after")
    def possible(self) -> MoreTurns:
        """One reply to a question, and no more wanted than is asked for."""
        if self.sampling.n != 1 or self.answers.n != 1:
            raise ValueError("sampling.n and answers.n are 1 here: a conversation goes on in one way")
        if self.least is not None and self.least > self.turns:
            raise ValueError(f"least is {self.least}, and only {self.turns} exchanges are added")
        return self

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """Longer conversations and what was refused, in the order of the rows.

        Raises RecipeError where there are no rows or fewer than wanted, DataError for a row that is no conversation.
        """
        asked, refused = requests(given.rows, self.rows, "more_turns", several=True)
        refused += [Refused("not answered yet", one.question.words(), (one.id,)) for one in asked if not one.answer.strip()]
        asked = [one for one in asked if one.answer.strip()]
        enough(self.count, len(asked), "more_turns", f"{len(asked):,} rows with an answer")
        yield from refused
        made = 0
        while asked and made != self.count:
            wave = WAVE if self.count is None else min(WAVE, self.count - made)
            talks = [Talk(one, (*one.messages, Message("assistant", one.answer))) for one in asked[:wave]]
            asked = asked[wave:]
            for number in range(1, self.turns + 1):
                self.carry_on([talk for talk in talks if not talk.rule], number, given)
            for talk in talks:
                outcome = self.outcome(talk)
                made += isinstance(outcome, Made)
                yield outcome

    def carry_on(self, talks: Sequence[Talk], number: int, given: Given) -> None:
        """One more exchange in each conversation."""
        if not talks:
            return
        questions = [Conversation(f"{talk.request.id}.{number}.user", (Message("user", prompt(talk.turns)),)) for talk in talks]
        going = []
        for talk, (answer,) in zip(talks, given.ask(self.llm, questions, self.sampling), strict=True):
            text = ROLE.sub("", said(answer))
            if not fault(talk, "user", answer, text):
                talk.turns = (*talk.turns, Message("user", text))
                going.append(talk)
        if not going:
            return
        asked = [Conversation(f"{talk.request.id}.{number}.answer", talk.turns, tools=talk.request.tools) for talk in going]
        for talk, (answer,) in zip(going, given.ask(self.teacher or self.llm, asked, self.answers), strict=True):
            text = said(answer)
            if not fault(talk, "assistant", answer, text):
                talk.turns = (*talk.turns, Message("assistant", text))
                talk.added += 1

    def outcome(self, talk: Talk) -> Made | Refused:
        """What is decided of a conversation."""
        early = {"ended": talk.rule} if talk.rule else {}
        if talk.added < (self.least or self.turns):
            return Refused(talk.rule, talk.text, (talk.request.id,), {"added": talk.added, **(talk.facts or {})})
        turns = talk.turns if talk.turns[-1].role == "assistant" else talk.turns[:-1]
        tools = {"tools": list(talk.request.tools)} if talk.request.tools else {}
        fields = {"messages": [plain(message) for message in turns], **tools}
        return Made(fields, talk.request.record.origin, (talk.request.id,), {"added": talk.added, **early})


def fault(talk: Talk, role: str, answer: Answer, text: str) -> bool:
    """Whether a reply cannot be the next turn; then the conversation ends."""
    of = {"of": role, "turn": talk.added + 1}
    if failed := unusable(answer):
        talk.end(failed[0], text, {**failed[1], **of})
    elif role == "user" and not text:
        talk.end("no answer", text, {"failure": "empty", **of})
    elif role == "user" and LEAK.search(text):
        talk.end("prompt leak", text, of)
    elif talk.said_before(role, text):
        talk.end("repeated", text, of)
    return bool(talk.rule)


def prompt(turns: Sequence[Message]) -> str:
    """What a model is told to write a user's next turn."""
    shown = [quoted(turn.role, turn.words()) for turn in turns if turn.words().strip()]
    return "\n\n".join([SAID, TOLD, *shown, REST])
