"""The same instruction in other words, with the answer it has: augmentation that may not lose what the answer depends on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.generation import Given, Made, Refused
from etude.generation.quoting import SAID, quoted
from etude.generation.replies import folded, said, unusable
from etude.generation.requests import Request, enough, requests
from etude.models import Sampling
from etude.records import Conversation, Message

WAVE = 256
"""Rows asked about at once."""

NUMERAL = re.compile(r"\d+(?:[.,:/]\d+)*")
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
CODE = re.compile(r"(?P<fence>`{3,}|~{3,})[^\n]*\n(?P<block>.*?)(?P=fence)|(?P<ticks>`+)(?P<span>[^`]+?)(?P=ticks)", re.DOTALL)
NAME = re.compile(r"\b\w+(?:\.\w+)*\(\)|\b[A-Za-z]\w*_\w+\b|https?://[^\s<>\"')\]]+|\{\w+\}")
"""What is code without any marks: `name()`, names with underscores, addresses, `{places}` to fill."""
STRING = re.compile(r"\"(?P<a>[^\"\n]+)\"|“(?P<b>[^”\n]+)”|«(?P<c>[^»\n]+)»|(?<!\w)'(?P<d>[^'\n]+)'(?!\w)|(?<!\w)‘(?P<e>[^’\n]+)’(?!\w)")
LEAK = re.compile(r"</?instruction [0-9a-f]{8}>")

TOLD = (
    "Say the instruction below in other words. It must ask for exactly the same, so that the same answer is right for both. Keep every "
    "number, everything in quotation marks and all code as they are written."
)
REST = "Do not carry the instruction out. Reply with its new wording alone: no heading, no introduction, no quotation marks around it."


class Paraphrases(Settings):
    """Instructions in other words, `n` a row, with the row's own input and answer.

    Refused are wordings equal to the row's or an earlier one's, and those that lose a number, a quoted string or a piece of code
    (which the answer may depend on).
    """

    keeps_fields: ClassVar[bool] = False

    rows: Annotated[str, Field(min_length=1)]
    """The data whose training rows are put in other words: rows of one question each."""
    llm: Annotated[str, Field(min_length=1)]
    """Who paraphrases: a name of the recipe's `llms`, or `start`."""
    n: Annotated[int, Field(ge=1, le=100)] = 1
    """Wordings asked for a row."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Rows wanted, from the first row on; by default all that come."""
    sampling: Sampling = Sampling(max_new_tokens=1024, temperature=0.9, top_p=0.95)
    """How wordings are drawn."""

    @model_validator(mode="after")
    def several_can_differ(self) -> Paraphrases:
        """Several wordings are drawn, not decoded greedily."""
        if self.sampling.n != 1:
            raise ValueError("the number of wordings is `n` beside `sampling`, not sampling.n")
        if self.n > 1 and self.sampling.temperature == 0:
            raise ValueError(f"{self.n} wordings drawn at temperature 0 are all the same; set sampling.temperature, or n: 1")
        return self

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """Reworded rows and what was refused, in the order of the rows.

        Raises RecipeError where there are no rows, or more are wanted than can come of them; DataError for a row that is no request.
        """
        asked, refused = requests(given.rows, self.rows, "paraphrases", several=False)
        enough(self.count, len(asked) * self.n, "paraphrases", f"{len(asked):,} rows with {self.n} wordings each")
        yield from refused
        made = 0
        drawn = self.sampling.model_copy(update={"n": self.n})
        while asked and made != self.count:
            size = WAVE if self.count is None else min(WAVE, -(-(self.count - made) // self.n))
            wave, asked = asked[:size], asked[size:]
            questions = [Conversation(f"{one.id}.paraphrase", (Message("user", prompt(one)),)) for one in wave]
            for one, answers in zip(wave, given.ask(self.llm, questions, drawn), strict=True):
                before = {folded(one.question.content)}
                for number, answer in enumerate(answers, 1):
                    text = said(answer)
                    outcome = decide(one, text, number, unusable(answer), before)
                    before.add(folded(text))
                    yield outcome
                    made += isinstance(outcome, Made)
                    if made == self.count:
                        return


def decide(one: Request, text: str, number: int, failed: tuple[str, dict[str, object]] | None, before: set[str]) -> Made | Refused:
    """What becomes of one wording of a row."""
    notes: dict[str, object] = {"wording": number}
    if failed:
        return Refused(failed[0], text, (one.id,), {**notes, **failed[1]})
    if LEAK.search(text):
        return Refused("prompt leak", text, (one.id,), notes)
    if folded(text) in before:
        return Refused("equal" if folded(text) == folded(one.question.content) else "repeated", text, (one.id,), notes)
    for rule, pieces in lost(one.question.content, text):
        if pieces:
            return Refused(rule, text, (one.id,), {**notes, "lost": pieces})
    return Made(one.reworded(text), one.record.origin, (one.id,), notes)


def prompt(one: Request) -> str:
    """What a model is told; the row's input stays as it is and is not shown."""
    return "\n\n".join([SAID, TOLD, quoted("instruction", one.question.content), REST])


def lost(before: str, after: str) -> list[tuple[str, list[str]]]:
    """What a wording no longer has of the one before: (rule, pieces), code first, then quoted strings, then numbers.

    Code and quoted strings must stand there letter by letter, whatever marks are around them; numbers as often as before, with
    commas between thousands or without.
    """
    rest = CODE.sub(" ", before)
    code = [(found["block"] if found["block"] is not None else found["span"]).strip() for found in CODE.finditer(before)]
    code += [found[0].rstrip(".,;:!?") for found in NAME.finditer(rest)]
    strings = [next(text for text in found.groups() if text is not None).strip() for found in STRING.finditer(rest)]
    fewer = numerals(before) - numerals(after)
    return [
        ("code lost", missing(code, after)),
        ("quoted text lost", missing(strings, after)),
        ("number lost", sorted(fewer.elements())),
    ]


def missing(pieces: Sequence[str], text: str) -> list[str]:
    """The pieces that do not stand in a text."""
    return [piece for piece in dict.fromkeys(pieces) if piece and piece not in text]


def numerals(text: str) -> Counter[str]:
    """The numbers written in figures, commas between thousands left out."""
    return Counter(one.replace(",", "") if THOUSANDS.fullmatch(one) else one for one in NUMERAL.findall(text))
