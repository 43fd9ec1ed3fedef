"""Evol-Instruct (Xu et al. 2023, arXiv 2304.12244): instructions made harder, or others made beside them, round after round.

A round changes every instruction of the pool by one operation drawn at random. What a rule gives up goes back to the pool as it was
before; the others take their parents' place there, and each becomes a row together with the answer to it. All instructions of a round
are asked about at once, and all are decided in the pool's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from etude import seeds
from etude.catalog import Settings
from etude.failures import nearest
from etude.generation import Given, Made, Refused
from etude.generation.evolve.elimination import dismissed, leaks
from etude.generation.evolve.operations import AGAIN, OPERATIONS, Variant, compared, prompt
from etude.generation.replies import equality, folded, said, until_read, unusable
from etude.generation.requests import Request, enough, requests
from etude.models import Sampling
from etude.records import Conversation, Message, identify

ROUNDS: dict[Variant, int] = {"text": 4, "code": 3}
"""WizardLM's M = 4 (arXiv 2304.12244); three rounds for WizardCoder (arXiv 2306.08568)."""
DRAWN: dict[Variant, Sampling] = {
    "text": Sampling(max_new_tokens=2048, temperature=1.0, top_p=0.95),
    "code": Sampling(max_new_tokens=2048, temperature=1.0, top_p=0.9),
}
"""As the programs of WizardLM and (nickrosh/evol-teacher) of WizardCoder draw their texts."""


@dataclass(frozen=True, slots=True)
class Item:
    """An instruction of the pool: the row it goes back to, the id of the row it is now, its text and the material with it."""

    root: Request
    id: str
    text: str
    material: str = ""

    def words(self) -> str:
        """Text and material as one."""
        return f"{self.text}\n\n{self.material}" if self.material else self.text


@dataclass(slots=True)
class Attempt:
    """One item in one round: what it was changed into so far, the answer to that, or the rule that gave it up."""

    item: Item
    operation: str
    round: int
    text: str = ""
    response: str = ""
    rule: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def id(self, what: str) -> str:
        """The id of a question about it."""
        return f"{self.item.root.id}.{self.round}.{what}"

    def give_up(self, rule: str, **facts: Any) -> None:
        """No row comes of it."""
        self.rule = rule
        self.facts.update(facts)

    def outcome(self) -> tuple[Made | Refused, Item]:
        """What is decided, and what is in the pool from now on."""
        notes = {"operation": self.operation, "round": self.round, "root": self.item.root.id, **self.facts}
        if self.rule:
            return Refused(self.rule, self.text, (self.item.id,), notes), self.item
        system = {"system": self.item.root.system} if self.item.root.system else {}
        fields = {**system, "instruction": self.text, "input": "", "output": self.response}
        made = Made(fields, self.item.root.record.origin, (self.item.id,), notes, identify(fields))
        return made, Item(self.item.root, made.id, self.text)


class Evolve(Settings):
    """Instructions made harder or varied over some rounds, each with an answer (Evol-Instruct).

    An evolved instruction is refused where a judge finds it equal to the one before, where it repeats another or the prompt's own
    words, and where its answer is cut off, says "sorry" in fewer than 80 words, or is nothing but stop words. `notes` of a
    row name its `operation`, `round` and `root`; `parents` the row it was made of.
    """

    keeps_fields: ClassVar[bool] = False

    rows: Annotated[str, Field(min_length=1)]
    """The data whose training rows it starts from: rows of one question each."""
    llm: Annotated[str, Field(min_length=1)]
    """Who evolves: a name of the recipe's `llms`, or `start`."""
    judge: str = ""
    """Who says whether an evolved instruction is equal to the one before; by default the same as `llm`."""
    teacher: str = ""
    """Who answers the evolved instructions; by default the same as `llm`."""
    variant: Variant = "text"
    """`text` for any instruction, `code` for programming tasks, with operations of their own."""
    operations: tuple[str, ...] = ()
    """The operations to draw from; by default all of the variant's. The paper's own are all of `text` but the last two."""
    rounds: Annotated[int, Field(ge=1, le=20)] | None = None
    """Rounds over the pool; by default 4, for code 3."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Rows wanted: as many rows as it takes are started from, drawn at random. By default all, and what comes of them is made."""
    unreadable: Literal["refuse", "keep"] = "refuse"
    """What becomes of an instruction about which the judge never gave a readable verdict; a kept one's notes say so."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """How often the judge is asked about one instruction at most."""
    sampling: Sampling | None = None
    """How evolved instructions are drawn; by default as the originals do (temperature 1, top_p 0.95, for code 0.9)."""
    answers: Sampling | None = None
    """How answers are drawn; by default the same."""
    judging: Sampling = Sampling(max_new_tokens=64)
    """How verdicts are drawn; greedily unless said otherwise."""

    @model_validator(mode="after")
    def known_operations(self) -> Evolve:
        """Only operations of the variant, and one answer to a question."""
        known = OPERATIONS[self.variant]
        for name in self.operations:
            if name not in known:
                raise ValueError(f"the {self.variant} variant has no operation {name!r}{nearest(name, known)}")
        if len(set(self.operations)) < len(self.operations):
            raise ValueError(f"operations: one is named twice in {list(self.operations)}")
        for key in ("sampling", "answers", "judging"):
            if (drawn := getattr(self, key)) is not None and drawn.n != 1:
                raise ValueError(f"{key}.n is {drawn.n}; every question has one answer here")
        return self

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """Evolved rows and what was given up, round after round.

        Raises RecipeError where there are no rows, or more are wanted than their rounds make; DataError for a row that is no request.
        """
        asked, refused = requests(given.rows, self.rows, "evolve", several=False)
        rounds = self.rounds or ROUNDS[self.variant]
        enough(self.count, len(asked) * rounds, "evolve", f"{len(asked):,} rows in {rounds} rounds")
        yield from refused
        waiting = asked
        if self.count is not None:
            waiting = sorted(asked, key=lambda one: seeds.share(given.seed, "generate", "evolve", "roots", one.id))
        seen = {folded(one.question.words()) for one in asked}
        made = 0
        while waiting:
            start = len(waiting) if self.count is None else -(-(self.count - made) // rounds)
            pool = [Item(one, one.id, one.question.content, one.question.context) for one in waiting[:start]]
            waiting = waiting[start:]
            for number in range(1, rounds + 1):
                decided = self.round(pool, number, given, seen)
                pool = [item for _, item in decided]
                for outcome, _ in decided:
                    yield outcome
                    made += isinstance(outcome, Made)
                    if made == self.count:
                        return

    def round(self, pool: Sequence[Item], number: int, given: Given, seen: set[str]) -> list[tuple[Made | Refused, Item]]:
        """One round over a pool: what is decided of each item, and what takes its place; `seen` takes in the new texts."""
        attempts = [Attempt(item, self.draw(item, number, given.seed), number) for item in pool]
        self.evolve(attempts, given, seen)
        self.compare([one for one in attempts if not one.rule], given)
        self.respond([one for one in attempts if not one.rule], given)
        seen.update(folded(one.text) for one in attempts if not one.rule)
        return [one.outcome() for one in attempts]

    def draw(self, item: Item, number: int, seed: int) -> str:
        """The operation for an item in a round: each as likely as the other, whatever else is in the pool."""
        names = self.operations or tuple(OPERATIONS[self.variant])
        return names[int(seeds.share(seed, "generate", "evolve", number, item.root.id) * len(names))]

    def evolve(self, attempts: Sequence[Attempt], given: Given, seen: set[str]) -> None:
        """Ask for the evolved texts; give up what is no text, the prompt's own words, or there already."""
        questions = [
            question(one.id(one.operation), prompt(self.variant, one.operation, one.item.text, one.item.material)) for one in attempts
        ]
        found = set(seen)
        for one, (answer,) in zip(attempts, given.ask(self.llm, questions, self.sampling or DRAWN[self.variant]), strict=True):
            one.text = said(answer)
            if failed := unusable(answer):
                one.give_up(failed[0], **failed[1], of="instruction")
            elif leaked := leaks(one.text, one.item.words()):
                one.give_up("prompt leak", leaked=leaked)
            elif folded(one.text) == folded(one.item.words()):
                one.give_up("equal")
            elif folded(one.text) in found:
                one.give_up("repeated")
            else:
                found.add(folded(one.text))

    def compare(self, attempts: Sequence[Attempt], given: Given) -> None:
        """Ask the judge; give up what is equal to the instruction before."""
        questions = [question(one.id("equal"), compared(one.item.words(), one.text)) for one in attempts]
        verdicts = until_read(given, self.judge or self.llm, questions, self.judging, equality, AGAIN, self.attempts) if questions else []
        for one, equal in zip(attempts, verdicts, strict=True):
            if equal:
                one.give_up("equal", judge="equal")
            elif equal is None and self.unreadable == "refuse":
                one.give_up("no verdict")
            elif equal is None:
                one.facts["judge"] = "unreadable"

    def respond(self, attempts: Sequence[Attempt], given: Given) -> None:
        """Ask for the answers; give up instructions for theirs."""
        if not attempts:
            return
        questions = [asked_for(one) for one in attempts]
        drawn = self.answers or self.sampling or DRAWN[self.variant]
        for one, (answer,) in zip(attempts, given.ask(self.teacher or self.llm, questions, drawn), strict=True):
            one.response = said(answer)
            if failed := unusable(answer):
                one.give_up(failed[0], **failed[1], of="response", response=one.response)
            elif rule := dismissed(one.response):
                one.give_up(rule, response=one.response)


def question(id: str, text: str) -> Conversation:
    """One message to a model."""
    return Conversation(id, (Message("user", text),))


def asked_for(one: Attempt) -> Conversation:
    """An evolved instruction, asked as its user would."""
    asked = question(one.id("answer"), one.text)
    system = one.item.root.system
    return replace(asked, messages=(Message("system", system), *asked.messages)) if system else asked
