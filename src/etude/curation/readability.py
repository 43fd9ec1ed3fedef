"""How hard an answer is to read, by the classic formulas for English."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed, looks_like_code, sentences

LETTERS = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
VOWELS = re.compile(r"[aeiouy]+")


class Readability(Settings):
    """Prose answers outside the bounds of a reading formula; code, labels, and short or non-English answers are not judged.

    `ease` is Flesch (1948), 206.835 - 1.015 words/sentence - 84.6 syllables/word: 60 to 70 is plain English, below 0 is
    nearly unreadable. `grade` is Kincaid et al. (1975), .39 words/sentence + 11.8 syllables/word - 15.59: years of school.
    `automated` is the Automated Readability Index (Senter and Smith 1967), 4.71 letters/word + .5 words/sentence - 21.43.
    Syllables are groups of vowels, without a silent e: a heuristic.
    """

    formula: Literal["ease", "grade", "automated"] = "ease"
    """The formula that is bounded."""
    least: float | None = -60.0
    """Below this a row leaves; the default takes only runs of words without sentences. None bounds nothing."""
    most: float | None = None
    """Above this a row leaves."""
    least_words: Annotated[int, Field(ge=1)] = 40
    """Shorter answers are not judged: the formulas are for passages."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows outside the bounds; facts have the quartiles of the formula over the rows that were judged."""
        values: list[float] = []

        def find(row: Row) -> Found | None:
            if closed(row, beside):
                return None
            value = self.value(row.answer)
            if value is None:
                return None
            values.append(value)
            if self.least is not None and value < self.least:
                return Found(f"{self.formula} of reading below {self.least:g}", f"{value:.0f}: {row.answer}")
            if self.most is not None and value > self.most:
                return Found(f"{self.formula} of reading above {self.most:g}", f"{value:.0f}: {row.answer}")
            return None

        verdicts = decide(rows, beside, find)
        ordered = sorted(values)
        quartiles = [round(ordered[int(q * (len(ordered) - 1))], 1) for q in (0, 0.25, 0.5, 0.75, 1)] if ordered else []
        return Verdicts(verdicts.fates, {**verdicts.facts, "formula": self.formula, "judged": len(values), "quartiles": quartiles})

    def value(self, text: str) -> float | None:
        """The formula's number for a text, None where it is not prose in Latin letters of enough words."""
        if len(text) < 2 * self.least_words:
            return None
        words = LETTERS.findall(text)
        if len(words) < self.least_words or sum(map(len, words)) < 0.6 * len(text) or looks_like_code(text):
            return None
        length = len(words) / max(1, len(sentences(text)))
        if self.formula == "automated":
            return 4.71 * sum(map(len, words)) / len(words) + 0.5 * length - 21.43
        spoken = sum(map(syllables, words)) / len(words)
        return 206.835 - 1.015 * length - 84.6 * spoken if self.formula == "ease" else 0.39 * length + 11.8 * spoken - 15.59


@lru_cache(maxsize=1 << 16)
def syllables(word: str) -> int:
    """Groups of vowels in an English word, at least 1; a final silent e (not "le" after a consonant) is not spoken."""
    word = word.lower()
    count = len(VOWELS.findall(word))
    if (word.endswith("e") and not word.endswith(("le", "ee", "ye")) and count > 1) or (
        word.endswith("le") and len(word) > 2 and word[-3] in "aeiouy" and count > 1
    ):
        count -= 1
    if word.endswith("ed") and len(word) > 3 and word[-3] not in "td" and count > 1:
        count -= 1
    return max(1, count)
