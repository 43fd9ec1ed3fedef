"""Verdicts over items: of pairs in both orders, and grades.

What cannot be read has a stated value, and is counted: over a pair, that order says nothing and the item is a tie; a grade is the
lowest. (FastChat leaves such rows out of the mean.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etude.judging import prompts
from etude.judging.items import Item
from etude.judging.prompts import Question
from etude.scoring import Judge

Ask = Callable[[Sequence[Question]], list[str | None]]
"""Questions -> verdicts, None for what could not be read (`asking.Asking`)."""
LOWEST = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said of an item's turn (from 1).

    Over a pair: `value` is 1 where the first arm won in both orders, 0 where the second did, else .5; `said` is what each order came to
    for the first arm ("won", "lost", "tie", None for unreadable; first as A, then as B), empty where the answers were identical and
    nobody was asked. A grade: `value` from 1 to 10, `said` the grade as read, `arm` the answer's."""

    id: str
    turn: int
    value: float
    said: tuple[str | None, ...]
    arm: int = 0

    @property
    def unreadable(self) -> int:
        """Questions of this verdict that got no readable reply."""
        return self.said.count(None)


def compare(items: Sequence[Item], settings: Judge, ask: Ask, choose: bool = False) -> list[Verdict]:
    """The first arm's answers against the second's, each turn in both orders; disagreement is a tie."""
    questions, places = [], []
    for item in items:
        for turn in range(1, len(item.requests) + 1):
            first, second = (answers[:turn] for answers in item.answers[:2])
            if first == second:
                continue
            for name, a, b in (("first-as-a", first, second), ("first-as-b", second, first)):
                questions.append(
                    prompts.pair(
                        f"{item.id}.{turn}.{name}",
                        item.requests[:turn],
                        a,
                        b,
                        reference=item.references[turn - 1],
                        rubric=settings.rubric,
                        seed=settings.seed,
                        choose=choose,
                    )
                )
            places.append((item.id, turn))
    replies = ask(questions)
    asked = {place: (outcome(a, "A"), outcome(b, "B")) for place, a, b in zip(places, replies[0::2], replies[1::2], strict=True)}
    found = []
    for item in items:
        for turn in range(1, len(item.requests) + 1):
            said = asked.get((item.id, turn), ())
            agreed = said[0] if said and said[0] == said[1] else "tie"
            found.append(Verdict(item.id, turn, {"won": 1.0, "lost": 0.0}.get(agreed or "tie", 0.5), said))
    return found


def outcome(reply: str | None, own: str) -> str | None:
    """What a verdict means for the arm under the letter `own`."""
    return reply if reply in (None, "tie") else "won" if reply == own else "lost"


def grade(items: Sequence[Item], settings: Judge, ask: Ask, choose: bool = False) -> list[Verdict]:
    """A grade from 1 to 10 for each arm's answer to each turn; the lowest for what could not be read."""
    questions, places = [], []
    for item in items:
        for arm, answers in enumerate(item.answers):
            for turn in range(1, len(item.requests) + 1):
                questions.append(
                    prompts.single(
                        f"{item.id}.{turn}.{arm}",
                        item.requests[:turn],
                        answers[:turn],
                        reference=item.references[turn - 1],
                        rubric=settings.rubric,
                        seed=settings.seed,
                        choose=choose,
                    )
                )
                places.append((item.id, turn, arm))
    return [
        Verdict(id, turn, float(said) if said is not None else LOWEST, (said,), arm)
        for (id, turn, arm), said in zip(places, ask(questions), strict=True)
    ]
