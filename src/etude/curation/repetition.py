"""Answers that say the same over and over: lines, paragraphs, n-grams, and loops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed, looks_like_code

Share = Annotated[float, Field(gt=0, le=1)]

TOP = {2: 0.20, 3: 0.18, 4: 0.16}
"""n -> the most characters, as a share of all, in the most frequent n-gram (Rae et al. 2021, "Gopher", table A1)."""
AGAIN = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""n -> the most characters, as a share of all, in n-grams that came before (the same table)."""

PIECES = re.compile(r"\S+")


class Repetition(Settings):
    """Answers that repeat themselves, by the fractions of Gopher's web filter and by loops.

    The fractions are those of Rae et al. (2021, "Scaling Language Models", table A1): duplicate lines, duplicate paragraphs, characters in
    them, characters in the most frequent 2- to 4-gram and in repeated 5- to 10-grams. They were set for web pages; of a short answer they
    say little, so they hold from `least_words` on. A loop is judged at any length: the same words, `most_loop` times or more
    in a row. Code, tables and lists of numbers repeat rightly, so code is not judged.
    """

    lines: Share = 0.30
    """Most of the lines that are copies of an earlier one."""
    line_characters: Share = 0.20
    """Most characters in them."""
    paragraphs: Share = 0.30
    """Most of the paragraphs that are copies of an earlier one."""
    paragraph_characters: Share = 0.20
    """Most characters in them."""
    ngrams: Annotated[float, Field(gt=0)] | None = 4.0
    """The table's fractions of 2- to 10-grams times this hold too; None leaves them out. At 1, LIMA's hand-picked answers lose
    2 %, and all that 2 takes of Alpaca and LIMA (9 rows, read) are lists whose items follow one form: answers are more regular than
    web pages. Degenerate ones are far above: a 10-gram loop over half an answer is at 5."""
    least_words: Annotated[int, Field(ge=1)] = 100
    """Shorter answers are judged for loops only."""
    most_loop: Annotated[int, Field(ge=2)] = 5
    """A phrase of up to 8 words may follow itself fewer times than this; a single word twice as many."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose answer repeats itself."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """What one row's answer repeats."""
        text = row.answer
        words = text.lower().split()
        if len(words) < self.most_loop:
            return None
        looped = loop(words, self.most_loop)
        long = len(words) >= self.least_words
        if (not looped and not long) or looks_like_code(text):
            return None
        found = Found("loop", looped) if looped else self.copies(text) or (self.grams(words, self.ngrams) if self.ngrams else None)
        return None if found is None or REPEAT_ASKED.search(row.instruction) else found

    def copies(self, text: str) -> Found | None:
        """Repeated lines and paragraphs of a long answer."""
        size = len(text)
        for name, parts, most, most_characters in (
            ("lines", text.split("\n"), self.lines, self.line_characters),
            ("paragraphs", text.split("\n\n"), self.paragraphs, self.paragraph_characters),
        ):
            # lines of marks only ("$$", "---", "}") are no text that could be repeated
            there = [part.strip() for part in parts if any(map(str.isalnum, part))]
            known: set[str] = set()
            again = [part for part in there if part in known or known.add(part)]  # type: ignore[func-returns-value]  # add gives None
            if again and len(again) > most * len(there):
                return Found(f"duplicate {name}", f"{len(again)} of {len(there)}: {again[0]}")
            if again and sum(map(len, again)) > most_characters * size:
                return Found(f"characters in duplicate {name}", again[0])
        return None

    def grams(self, words: Sequence[str], scale: float) -> Found | None:
        """Repeated n-grams of a long answer, by characters of the words."""
        total = sum(map(len, words))
        for n, most in TOP.items():
            counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
            gram, times = counts.most_common(1)[0]
            if times == 1:
                return None
            if times * sum(map(len, gram)) > scale * most * total:
                return Found(f"most frequent {n}-gram", f"{times} times: {' '.join(gram)}")
        # a 10-gram that comes again brings 5-grams that do, so without those there are none
        for n, most in AGAIN.items():
            covered = repeated(words, n)
            if not covered:
                return None
            if sum(len(words[i]) for i in covered) > scale * most * total:
                at = min(covered)
                return Found(f"repeated {n}-grams", " ".join(words[at : at + n]))
        return None


REPEAT_ASKED = re.compile(r"\b(?:repeat|times|over and over|lyrics|song|chorus|multiplication table|pattern)\b", re.IGNORECASE)
"""Requests whose right answer repeats itself."""


def repeated(words: Sequence[str], n: int) -> set[int]:
    """The places of words in n-grams that came before, each word counted once."""
    known: set[tuple[str, ...]] = set()
    places: set[int] = set()
    for at, gram in enumerate(zip(*(words[i:] for i in range(n)), strict=False)):
        if gram in known:
            places.update(range(at, at + n))
        else:
            known.add(gram)
    return places


def loop(words: Sequence[str], most: int, longest: int = 8) -> str:
    """The phrase (of words, without numbers) that follows itself `most` times (a single word twice as many), "" for none.

    For each length n, a run of words that equal the word n places before is counted; n * (k - 1) of them are k repeats.
    """
    # every loop has a pair of words this often, and most texts have none
    if max(Counter(pairwise(words)).values(), default=0) < most - 1:
        return ""
    for n in range(1, min(longest, len(words) // 2) + 1):
        wanted = n * (most - 1) if n > 1 else 2 * most - 1
        if len(words) - n < wanted:
            break
        run = 0
        for at, (word, before) in enumerate(zip(words[n:], words, strict=False)):
            run = run + 1 if word == before else 0
            if run >= wanted:
                phrase = words[at + 1 : at + 1 + n]
                if any(map(str.isalpha, "".join(phrase))) and not any(map(str.isdigit, "".join(phrase))):
                    return " ".join(phrase)
                run = 0
    return ""
