"""Answers to requests that have none yet, or new ones: the first, or the best of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.generation import Given, Made, Refused
from etude.generation.choosing import Choice, Judging, by_agreement, by_pairs, by_scores, by_tests
from etude.generation.replies import said, unusable
from etude.generation.requests import Request, enough, requests
from etude.metrics.pass_at_k import PassAtK
from etude.models import Answer, Sampling

WAVE = 256
"""Rows asked about at once: what waits for the slowest reply."""


class Responses(Settings):
    """Answers to the instructions (or conversations) of rows, the best of `n`.

    `choose` says how: the `first` usable one; a judge's `scores` of each, or its comparisons of all `pairs` in both orders; `tests`, for
    rows that say how answers are tested (as pass@k: `test_list`, or `test` and `entry_point`); or `agreement`, the final answer
    that most of them reach.
    """

    keeps_fields: ClassVar[bool] = False

    rows: Annotated[str, Field(min_length=1)]
    """The data whose training rows are answered."""
    llm: Annotated[str, Field(min_length=1)]
    """Who answers: a name of the recipe's `llms`, or `start`."""
    n: Annotated[int, Field(ge=1, le=1000)] = 1
    """Answers drawn for each row."""
    choose: Literal["first", "scores", "pairs", "tests", "agreement"] = "first"
    """How one of them is chosen."""
    judge: str = ""
    """Who scores or compares; by default the same as `llm`."""
    least: Annotated[float, Field(ge=0, le=10)] = 0
    """`scores`: rows whose best answer scores less are refused (0 to 10)."""
    agreeing: Annotated[float, Field(ge=0, le=1)] = 0.5
    """`agreement`: the share of the answers drawn that must reach the same end; at least two must."""
    running: PassAtK = PassAtK()
    """`tests`: the jail and its limits, as the metric pass_at_k has them."""
    added: str = ""
    """Words asked after each question that are no part of the row, such as how to end the answer."""
    answered: Literal["anew", "refuse"] = "anew"
    """Rows that have an answer: answered `anew`, which makes another row, or refused."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Rows wanted, from the first on; by default one for each row."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """How often the judge is asked one question at most."""
    sampling: Sampling = Sampling(max_new_tokens=2048, temperature=0.7)
    """How answers are drawn."""
    judging: Sampling = Sampling(max_new_tokens=64)
    """How verdicts are drawn; greedily unless said otherwise."""

    @model_validator(mode="after")
    def something_to_choose(self) -> Responses:
        """Several answers that can differ, where one of several is chosen."""
        if self.sampling.n != 1 or self.judging.n != 1:
            raise ValueError("the number of answers is `n` beside `sampling`, not sampling.n; a verdict is asked for once")
        if self.n == 1 and self.choose in ("pairs", "agreement"):
            raise ValueError(f"choose: {self.choose} needs more than one answer; set n: 4, say")
        if self.n > 1 and self.sampling.temperature == 0:
            raise ValueError(f"{self.n} answers drawn at temperature 0 are all the same; set sampling.temperature, or n: 1")
        return self

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """Answered rows and what was refused, in the order of the rows.

        Raises RecipeError where there are no rows or fewer than wanted, DataError for a row that is no request or has no tests,
        NoSandbox where there is no jail for them.
        """
        asked, refused = requests(given.rows, self.rows, "responses", several=True)
        if self.answered == "refuse":
            refused += [Refused("answered", one.question.words(), (one.id,)) for one in asked if one.answer]
            asked = [one for one in asked if not one.answer]
        enough(self.count, len(asked), "responses", f"{len(asked):,} rows")
        yield from refused
        made = 0
        while asked and made != self.count:
            wave = WAVE if self.count is None else min(WAVE, self.count - made)
            for outcome in self.answer(asked[:wave], given):
                yield outcome
                made += isinstance(outcome, Made)
            asked = asked[wave:]

    def answer(self, wave: Sequence[Request], given: Given) -> Iterator[Made | Refused]:
        """What is decided of some rows, asked about at once."""
        drawn = self.sampling.model_copy(update={"n": self.n})
        replies = given.ask(self.llm, [one.asking(f"{one.id}.answer", self.added) for one in wave], drawn)
        texts = [list(dict.fromkeys(said(answer) for answer in answers if not unusable(answer))) for answers in replies]
        if self.choose == "agreement":  # equal answers agree, so each has its vote
            texts = [[said(answer) for answer in answers if not unusable(answer)] for answers in replies]
        some = [place for place, answers in enumerate(texts) if answers]
        chosen = dict(zip(some, self.best([wave[place] for place in some], [texts[place] for place in some], given), strict=True))
        for place, one in enumerate(wave):
            choice = chosen.get(place) or Choice(None, *none_usable(replies[place]))
            notes = {**({"drawn": self.n, "usable": len(texts[place])} if self.n > 1 else {}), **choice.facts}
            if choice.place is None:
                yield Refused(choice.rule, one.question.words(), (one.id,), {**notes, "answers": texts[place]})
            else:
                fields = one.answered(texts[place][choice.place])
                yield Made(fields, one.record.origin, (one.id,), notes)

    def best(self, wave: Sequence[Request], texts: Sequence[Sequence[str]], given: Given) -> list[Choice]:
        """The choice among the usable answers (one at least) to each row."""
        judging = Judging(self.judge or self.llm, self.judging, self.attempts)
        match self.choose:
            case "scores":
                return by_scores(given, judging, wave, texts, self.least)
            case "pairs":
                return by_pairs(given, judging, wave, texts)
            case "tests":
                return by_tests(given, self.running, wave, texts)
            case "agreement":
                return by_agreement(texts, self.n, self.agreeing)
            case _:
                return [Choice(0) for _ in texts]


def none_usable(answers: Sequence[Answer]) -> tuple[str, dict[str, object]]:
    """The rule for a row without a usable answer: that of its first one."""
    return unusable(answers[0]) or ("no answer", {})
