"""Rounds of questions, and when they end: the rows wanted are there, or nothing comes any more, or enough was asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

from pydantic import Field

from etude.catalog import note
from etude.generation import Made, Refused
from etude.generation.asking import Asking
from etude.models import Answer, Sampling
from etude.records import Conversation, Message

RequestsARound = Annotated[
    int, Field(ge=1, description="Requests for tasks that are asked together, all from the pool as it was before them.")
]
Patience = Annotated[int, Field(ge=1, description="End after this many rounds in a row that made no row.")]
MostRequests = Annotated[
    int | None, Field(ge=1, description="Ask at most this many questions of any kind; null: as many as the rows need.")
]


class Questions:
    """Asks one LLM, up to a most number of questions; `spent` once it had to say no."""

    def __init__(self, ask: Asking, llm: str, most: int | None) -> None:
        self.ask, self.llm, self.most = ask, llm, most
        self.asked = 0
        self.spent = False

    def __call__(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer] | None:
        """The first answer to each, or None where that would be more than may be asked (then nothing is)."""
        if self.most is not None and self.asked + len(conversations) > self.most:
            self.spent = True
            return None
        self.asked += len(conversations)
        return [answers[0] for answers in self.ask(self.llm, conversations, sampling)] if conversations else []


def conversation(id: str, *turns: str, system: str = "") -> Conversation:
    """A question: the turns of user and assistant in turn, the user's first and last."""
    opening = (Message("system", system),) if system else ()
    return Conversation(id, (*opening, *(Message("assistant" if place % 2 else "user", turn) for place, turn in enumerate(turns))))


def until(
    strategy: str, count: int, patience: int, questions: Questions, play: Callable[[int], Iterator[Made | Refused]]
) -> Iterator[Made | Refused]:
    """The outcomes of rounds 1, 2, 3 ... up to `count` rows made. Ends sooner, with a note, after `patience` rounds in a row without a
    row, or where the questions are spent."""
    made = idle = 0
    for number in itertools.count(1):
        before = made
        for outcome in play(number):
            yield outcome
            made += isinstance(outcome, Made)
            if made == count:
                return
        idle = 0 if made > before else idle + 1
        if questions.spent:
            note(f"{strategy}: {made} of {count} rows were made with {questions.asked} questions; most_requests is {questions.most}")
            return
        if idle == patience:
            note(f"{strategy}: the last {patience} rounds made no row; it ends with {made} of {count}. refused.jsonl says why")
            return


def failed(answer: Answer, text: str, parents: Sequence[str], id: str) -> Refused:
    """The refusal for a question that got no answer."""
    return Refused("no answer", text, tuple(parents), {"request": id, "failure": answer.failure})
