"""One number a row for how good it is: seed 1's score as it stands there, and a better one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, settle
from etude.curation.emptiness import Echo, EmptyAnswer, OnlyPunctuation, Placeholder
from etude.curation.endings import CodeFence, CutOff
from etude.curation.following import Follows, overlap
from etude.curation.leftovers import FieldOrder, LeftoverPrompt, MergedRows
from etude.curation.refusal import Refusal
from etude.curation.repetition import Repetition
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed, count_words, looks_like_code, question
from etude.curation.unsafe import Unsafe, substring
from etude.curation.vagueness import VagueInstruction

Share = Annotated[float, Field(ge=0, le=1)]
Scores = Mapping[str, float]


class SeedQuality(Settings):
    """Seed 1's quality score, exactly: `length` (min(instruction words/20, 1) x min(answer words/50, 1)), `format` (1, or .5 for an empty
    side or an answer that starts with "I cannot" or "As an AI"), `relevance` (twice the share of the instruction's words in the
    answer, at most 1), `safety` (0 where the answer holds "hack", "illegal", "weapon" or "drug"), and `total`, their mean.

    It is here to be compared with: its mean is at least .5 for any answer that does not start with those two words, so the default bound
    drops hardly anything, and its length part calls every short right answer a bad one, closed labels above all. Use `quality`.
    """

    least: Share = 0.5
    """Rows with a smaller total leave."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with a small total; facts have the quartiles of every part."""
        return judged(rows, beside, seed_scores, self.least, "seed quality")


def seed_scores(row: Row) -> Scores:
    """The parts of seed 1's score and their mean, as `total`."""
    asked, said = row.instruction, row.answer
    length = min(len(asked.split()) / 20, 1.0) * min(len(said.split()) / 50, 1.0)
    fine = len(asked) > 0 and len(said) > 0 and not said.startswith(("I cannot", "As an AI"))
    keywords, words = set(asked.lower().split()), set(said.lower().split())
    share = len(keywords & words) / len(keywords) if keywords else 0
    scores = {
        "length": length,
        "format": 1.0 if fine else 0.5,
        "relevance": min(share * 2, 1.0),
        "safety": 0.0 if substring(said) else 1.0,
    }
    return {**scores, "total": sum(scores.values()) / len(scores)}


class Quality(Settings):
    """A score from 0 to 1 with the same four parts as seed 1's, each asking what it means to ask, multiplied.

    - `length`: 1 for an answer that is long enough for what is asked: of one word on, and up to `enough_words` where the question asks to
      explain, describe, write or the like (from .4 for one word). Longer is no better, and the instruction's length is no merit.
    - `format`: 1, or 0 with any of: empty, placeholder, only punctuation, echo, refusal, leftover prompt, merged rows, wrong
      field order, open code fence, a vague question; .3 with an answer that is cut off, loops, or misses a demand that can be counted.
    - `relevance`: from .5 with no word in common to 1 with a third of the question's content words (stop words left out, endings cut), so
      that parroting the question gains nothing; 1 for code and for answers of under 25 words, which need repeat nothing.
    - `safety`: 0 where `unsafe` finds something in context, else 1: "drug store" is safe.

    Better than the seed's in four ways. The parts are multiplied, so an unsafe or empty row cannot earn its place with the others
    (the seed's mean is at least .5 for any answer, and up to .75 for an unsafe one). Closed labels are judged by format alone. Words
    are compared without punctuation and stop words. And it sees more defects: of 2,500 rows of Alpaca and Dolly and 8 x 1,000 with a
    planted one (another row's answer, cut off, refusal, placeholder, loop, merged row, echo, leaked preamble), the area under the ROC
    curve is .94 against the seed's .64, and at .4 it drops 1.3 % of the rows that were left alone.

    It finds defects and is no judge of content: AlpaGasus' judge of accuracy liked short answers of Alpaca better, its judge of
    helpfulness long ones, and no score of this kind agrees with both. For content there is `judged`.
    """

    least: Share = 0.4
    """Rows with a smaller total leave."""
    enough_words: Annotated[int, Field(ge=1)] = 12
    """Words from which an answer to a request for prose is long enough."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with a small total; facts have the quartiles of every part."""
        # where writers leave full stops out by habit (`cut_off`), an open end says nothing
        ends = CutOff(unfinished_sentences=not ENDS.judge(rows, Beside(labels=beside.labels)).facts["kept_as_habit"])
        return judged(rows, beside, lambda row: self.scores(row, beside, ends), self.least, "quality")

    def scores(self, row: Row, beside: Beside, ends: CutOff | None = None) -> Scores:
        """The parts of one row's score and their product, as `total`; `ends` judges where the answer ends."""
        label = closed(row, beside)
        said = row.answer
        scores = {
            "length": 1.0 if label and said.strip() else self.length(row.instruction, said),
            "format": self.format(row, beside, label, ends or ENDS),
            "relevance": 1.0 if label else self.relevance(row),
            "safety": 0.0 if not label and UNSAFE.harm(row) else 1.0,
        }
        total = 1.0
        for part in scores.values():
            total *= part
        return {**scores, "total": total}

    def length(self, asked: str, said: str) -> float:
        """Whether there is as much of an answer as was asked for."""
        words = count_words(said)
        if words and (words >= self.enough_words or not PROSE.search(asked) or BRIEF.search(asked)):
            return 1.0
        return 0.4 + 0.6 * words / self.enough_words if words else 0.0

    def format(self, row: Row, beside: Beside, label: bool, ends: CutOff) -> float:
        """Whether the row is well formed."""
        if any(find(row) for find in ALWAYS) or ORDER.find(row, beside):
            return 0.0
        if label:
            return 1.0
        if any(find(row) for find in FATAL) or any(find(row, beside) for find in ODD):
            return 0.0
        return 0.3 if ends.find(row) or any(find(row) for find in POOR) else 1.0

    def relevance(self, row: Row) -> float:
        """Whether the answer speaks of what was asked."""
        said = row.answer
        share = overlap(question(row), said)
        if share is None or count_words(said) < 25 or looks_like_code(said):
            return 1.0
        return 0.5 + 0.5 * min(1.0, 3 * share)


PROSE = re.compile(
    r"^\W*(?:please |can you |could you )?(?:explain|describe|discuss|elaborate|analy[sz]e|compare|"
    r"write (?:an? )?(?:\w+ )?(?:essay|story|paragraph|article|"
    r"letter|e-?mail|report|poem|speech|summary|review|blog)|compose|tell me about|outline|narrate|argue)",
    re.IGNORECASE,
)
BRIEF = re.compile(
    r"\b(?:word|words|phrase|sentence|line|title|name|headline|tweet|slogan|short|brief(?:ly)?|concise(?:ly)?|number)\b", re.IGNORECASE
)

# settings are made once: making one costs more than most findings do
ORDER, UNSAFE, ENDS = FieldOrder(), Unsafe(), CutOff()
ALWAYS: tuple[Callable[[Row], Found | None], ...] = (EmptyAnswer().find, CodeFence().find, VagueInstruction().find)
ODD: tuple[Callable[[Row, Beside], Found | None], ...] = (OnlyPunctuation().find, Placeholder().find)
FATAL: tuple[Callable[[Row], Found | None], ...] = (Echo().find, Refusal().find, LeftoverPrompt().find, MergedRows().find)
POOR: tuple[Callable[[Row], Found | None], ...] = (Repetition().find, Follows().find)


def judged(rows: Sequence[Row], beside: Beside, score: Callable[[Row], Scores], least: float, name: str) -> Verdicts:
    """Verdicts by a least total; facts: quartiles of every part and a histogram of the total in tenths."""
    scored = []
    for row in rows:
        scored.append(score(row))
        beside.progress(1)
    found = [
        Found(
            f"{name} below {least:g}",
            " ".join(f"{part} {value:.2f}" for part, value in scores.items()) + f" | {row.instruction} -> {row.answer}",
        )
        if scores["total"] < least
        else None
        for row, scores in zip(rows, scored, strict=True)
    ]
    parts = {}
    for part in scored[0] if scored else ():
        values = sorted(scores[part] for scores in scored)
        parts[part] = [round(values[int(q * (len(values) - 1))], 3) for q in (0, 0.25, 0.5, 0.75, 1)]
    tenths = [0] * 10
    for scores in scored:
        tenths[min(9, int(10 * scores["total"]))] += 1
    return settle(rows, found, quartiles=parts, tenths=tenths)
