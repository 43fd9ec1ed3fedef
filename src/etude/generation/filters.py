"""What an instruction must look like before its novelty is asked about: the rules of Self-Instruct's and Alpaca's code.

| rule | Self-Instruct (`bootstrap_instructions.py`) | Alpaca (`generate_instruction.py`) |
|---|---|---|
| `too short`, `too long` | 3 words or fewer, more than 150 | the same |
| `keyword` | what a text model cannot do (`KEYWORDS`), as whole words | `ALPACA_KEYWORDS` |
| `start` | begins with "Write a program" | the same |
| `punctuation` | begins with an ASCII punctuation mark | the same |
| `not ascii` | begins with a character outside ASCII | the same |

Two departures. Case is ignored in "Write a program", for their texts were all capitalised before they were looked at. And an
instruction keeps its capitals: theirs went through Python's `capitalize`, which lower-cases everything but the first letter.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

KEYWORDS = ("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot", "go to")
"""Words of tasks that need eyes, hands or files (Self-Instruct)."""
ALPACA_KEYWORDS = (*KEYWORDS, "video", "audio", "music", "flowchart", "diagram")
"""The same, and what Alpaca added."""
STARTS = ("Write a program",)
"""Openings that led to programs too long to write out (both)."""

MinWords = Annotated[int, Field(ge=0, description="Fewest words of an instruction.")]
MaxWords = Annotated[int, Field(ge=1, description="Most words of an instruction.")]
Keywords = Annotated[
    tuple[str, ...], Field(description="Instructions with one of these as a whole word are refused, whatever their case; [] for none.")
]
Starts = Annotated[tuple[str, ...], Field(description="Instructions that begin so are refused, whatever their case; [] for none.")]
Punctuation = Annotated[bool, Field(description="Refuse instructions that begin with a punctuation mark.")]
NonAscii = Annotated[
    bool, Field(description="Refuse instructions that begin with a character outside ASCII; turn it off for other languages.")
]
Similarity = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Refuse instructions whose largest ROUGE-L F1 against seeds and accepted ones is above this; equality is kept.",
    ),
]


@dataclass(frozen=True, slots=True)
class Filters:
    """The rules with their limits."""

    min_words: int = 4
    max_words: int = 150
    keywords: tuple[str, ...] = KEYWORDS
    starts: tuple[str, ...] = STARTS
    punctuation: bool = True
    non_ascii: bool = True

    def broken(self, instruction: str) -> str:
        """The first rule that an instruction breaks, or ""."""
        count = len(instruction.split())
        if count < self.min_words:
            return "too short"
        if count > self.max_words:
            return "too long"
        if (found := has_word(self.keywords)) and found.search(instruction):
            return "keyword"
        if instruction.casefold().startswith(tuple(start.casefold() for start in self.starts)):
            return "start"
        if self.punctuation and instruction[:1] in tuple(string.punctuation):
            return "punctuation"
        return "not ascii" if self.non_ascii and not instruction[:1].isascii() else ""


@functools.lru_cache(maxsize=16)
def has_word(keywords: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern for any of the keywords between word boundaries; None for no keywords."""
    words = "|".join(re.escape(word) for word in keywords if word)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None


def tidied(text: str) -> str:
    """An instruction on one line, with a capital where its first word is all in lower case ("iPhone" and "SSN" stay)."""
    text = " ".join(text.split())
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.islower() else text
