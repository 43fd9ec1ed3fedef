"""How a row is put into words: what the recipe asks for, and what that means for one row.

The shares are the FLAN collections' (Wei et al. 2021, arXiv 2109.01652; Longpre et al. 2023, arXiv
2301.13688): zero-shot and few-shot, options and none, some rows asked the other way round, some
answered with their reasoning. Every choice is a pure function of the seed, the row and the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from etude import seeds
from etude.catalog import Settings
from etude.records import Record
from etude.templates.filling import undeclared
from etude.templates.options import MARKED, STYLES
from etude.templates.reasoning import worked
from etude.templates.template import Template

Phrasings = Literal["first", "all"]
Share = Annotated[float, Field(ge=0, le=1)]

SAMPLED = 25
"""Exemplars tried for a token budget: FLAN 2022 samples 25 and keeps what fits (flan/v2, few-shot)."""
FRAMES = (("Input: ", "\nOutput:"), ("Q: ", "\nA:"), ("Example: ", "\nAnswer:"), ("Problem: ", "\nSolution:"))
"""What stands before the material and before the answer of a worked example inside one message; the
first is the one used where only one is."""


class Shots(Settings):
    """The worked examples before a few-shot row: training rows of the same template in the same phrasing."""

    spellings: ClassVar[dict[str, str]] = {"separator": "separators", "max_tokens": "most_tokens"}

    k: Annotated[int, Field(ge=1, le=64)] | None = None
    """How many; without a budget 3, with one as many as fit it (25 are tried)."""
    most_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of the row in words, its examples and its answer included; examples beyond it are left out."""
    style: Literal["turns", "inline"] = "turns"
    """`turns`: earlier turns of the conversation. `inline`: one message that holds the worked examples."""
    separators: Annotated[tuple[str, ...], Field(min_length=1)] = ("\n\n",)
    """What stands between two examples inside one message; of several, one a row by lot (FLAN 2022: one to three line ends)."""

    @field_validator("separators", mode="before")
    @classmethod
    def one_or_many(cls, given: Any) -> Any:
        """A single separator may stand without a list."""
        return (given,) if isinstance(given, str) else given

    def tried(self) -> int:
        """How many exemplars are drawn."""
        return self.k or (SAMPLED if self.most_tokens else 3)


class Wording(Settings):
    """How training rows are put into words, as shares of the rows; each row's lot depends on its id and the seed alone."""

    phrasings: Phrasings = "first"
    """Phrasings of a task's template that are used: the first one that fits, or all, one a row (list styles and separators too)."""
    few_shot: Share = 0.0
    """Share of the rows that come with worked examples."""
    shots: Shots = Shots()
    """The worked examples of those rows."""
    options: Share | None = None
    """Share of the rows whose phrasing gives the options; None: as the phrasing does, and a list where it leaves that open."""
    letters: Share = 0.0
    """Share of the rows with a lettered list of their own options that are answered with the letter alone."""
    inverted: Share = 0.0
    """Share of the rows that ask for the input, given the output, where the template can; never in scoring."""
    cot: Share | None = None
    """Share of the rows that are answered with their reasoning, where they have one; None: as the template's first phrasing does."""

    def scored(self) -> Wording:
        """The same for rows that are scored: none inverted, none with examples (a task says its own shots)."""
        return self.model_copy(update={"inverted": 0.0, "few_shot": 0.0})


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for one row."""

    phrasing: int = 0
    """Which phrasing, from 0."""
    listed: bool = True
    """Whether the options are listed, where the phrasing leaves it open."""
    style: int = 0
    """How they are listed: a position in `options.STYLES`."""
    by_letter: bool = False
    """Whether the answer is the option's letter."""
    few_shot: bool = False
    """Whether worked examples come with it."""
    inline: bool = False
    """Whether those stand inside the message."""
    separator: str = "\n\n"
    """What stands between two of them there."""
    frame: int = 0
    """What stands around them there: a position in FRAMES."""


def wording(template: Template | None, record: Record, seed: int, settings: Wording) -> Choices:
    """What a row's words will be: a pure function of the template, the row, the seed and the settings."""

    def lot(what: str, share: float) -> bool:
        return share > 0 and (share >= 1 or seeds.share(seed, "wording", what, record.source, record.id) < share)

    def one_of(what: str, several: int) -> int:
        chance = settings.phrasings == "all" and several > 1
        return seeds.number(seed, "wording", what, record.source, record.id) % several if chance else 0

    few_shot = lot("few_shot", settings.few_shot)
    shots = settings.shots
    inline = few_shot and shots.style == "inline"
    separator = shots.separators[seeds.number(seed, "separator", record.id) % len(shots.separators)] if inline else "\n\n"
    frame = one_of("frame", len(FRAMES)) if inline else 0
    if template is None:
        return Choices(few_shot=few_shot, inline=inline, separator=separator, frame=frame)
    listed = settings.options is None or lot("options", settings.options)
    cot = template.phrasings[0].cot if settings.cot is None else lot("cot", settings.cot)
    fitting = phrasings_for(
        template,
        inverted=lot("inverted", settings.inverted),
        cot=cot and template.rationale is not None and has_reasoning(record, template),
        listed=listed if settings.options is not None else None,
    )
    by_letter = template.options_field is not None and lot("letters", settings.letters)
    style = 0
    if template.choices():
        style = MARKED[one_of("list", len(MARKED))] if by_letter else one_of("list", len(STYLES))
    phrasing = fitting[0] if settings.phrasings == "first" else fitting[drawn(template, record.id, seed) % len(fitting)]
    return Choices(phrasing, listed, style, by_letter, few_shot, inline, separator, frame)


def phrasings_for(template: Template, *, inverted: bool = False, cot: bool | None = None, listed: bool | None = None) -> tuple[int, ...]:
    """The phrasings that fit, by number; a wish that none of them can meet is passed over.

    `listed`: True, those that give the options; False, those that need not; None, those that are not for
    rows without options, unless there are no others.
    """
    fitting = tuple(i for i, phrasing in enumerate(template.phrasings) if phrasing.inverts == inverted) or template.forward()
    if inverted and template.phrasings[fitting[0]].inverts:
        return fitting
    if cot is not None:
        fitting = tuple(i for i in fitting if template.phrasings[i].cot == cot) or fitting
    if template.choices():
        wanted = ("hidden", "mixed") if listed is False else ("told", "shown", "mixed")
        fitting = tuple(i for i in fitting if template.switch(i) in wanted) or fitting
    return fitting


def drawn(template: Template, record_id: str, seed: int) -> int:
    """The lot that decides a row's phrasing."""
    return seeds.number(seed, "phrasing", template.name, record_id)


def has_reasoning(record: Record, template: Template) -> bool:
    """Whether a row has the reasoning that an answer with chain of thought needs."""
    return bool(rationale_of(record, template)[0])


def rationale_of(record: Record, template: Template) -> tuple[str, dict[str, str]]:
    """A row's reasoning ("" where there is none), and the answer's field without it, where one text holds
    both in GSM8K's form (`reasoning\\n#### answer`)."""
    given = record.fields.get(template.rationale) if template.rationale else None
    reasoning = given.strip() if isinstance(given, str) else ""
    for field in answer_fields(template):
        text = record.fields.get(field)
        if isinstance(text, str) and "####" in text and (found := worked(text)):
            return reasoning or found[0], {field: found[1]}
    return reasoning, {}


def answer_fields(template: Template) -> tuple[str, ...]:
    """The fields that the first phrasing's answer reads, sorted."""
    return tuple(sorted(undeclared(template.phrasings[0].answer) - {"labels"}))
