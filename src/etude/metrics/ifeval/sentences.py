"""How many sentences an English text has, by rules that need no data.

The reference counts with NLTK's Punkt (Kiss and Strunk 2006), whose model is a download. These rules are our own and follow what
Punkt does to answers of language models; docs/ifeval.md has the agreement measured. A line break ends no sentence (Punkt reads
none), so a heading belongs to the sentence after it, and a list without full stops is one sentence.
"""

from __future__ import annotations

import re
from functools import lru_cache


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


TITLES = words("adm capt cmdr col dr fr gen gov hon lt maj messrs mr mrs ms mt pres prof rep rev sen sgt st supt")
"""Abbreviations that a name follows: never the end of a sentence."""

ABBREVIATIONS = words(
    "a.m p.m e.g i.e u.s u.k u.n e.u d.c b.c a.d ph.d m.d b.a m.a b.s m.s ft co corp inc ltd bros jr sr ave blvd rd jan feb apr jun jul "
    "aug sep sept oct nov dec tues wed thurs fri vs v viz nos vol"
)
"""Abbreviations behind which a sentence may end, or go on; those that are also words (`no.`, `in.`) are left out."""

STARTERS = words(
    "a after all also although an and another as at because but by each even every finally first for from he her here his how however i if "
    "in it its last many meanwhile more moreover most my no now of on once one only or other our second she since so some still such that "
    "the their then there these they third this those though thus to today under until we what when where which while who why with yet you "
    "your"
)
"""Words that, with a capital, begin a sentence even after an abbreviation."""

END = re.compile(r"[.?!]+[\"')\]}*_”’»]*(?=\s|$)")
"""Where a sentence may end: marks, and what closes behind them, before a space."""

TOKEN = re.compile(r"\S*$")
NEXT = re.compile(r"\s*[\"'(\[{*_“‘«]*(\S*)")


@lru_cache(maxsize=4096)
def count_sentences(text: str) -> int:
    """The number of sentences of a text; what stands behind the last full stop counts as one."""
    found, start = 0, 0
    for mark in END.finditer(text):
        if ends(text, mark) and text[start : mark.end()].strip():
            found += 1
            start = mark.end()
    return found + bool(text[start:].strip())


def ends(text: str, mark: re.Match[str]) -> bool:
    """Whether a sentence ends at this mark."""
    said = mark.group()
    if "?" in said or "!" in said:
        return True
    following = NEXT.match(text, mark.end())
    after = following.group(1) if following else ""
    if not after:
        return True
    before = TOKEN.search(text, max(0, mark.start() - 40), mark.start())
    word = before.group().lstrip("\"'([{*_“‘«-") if before else ""
    if said.startswith(".."):
        return not after[0].islower()
    return not goes_on(word, after)


def goes_on(word: str, after: str) -> bool:
    """Whether the sentence goes on behind a word and its full stop, before the word `after`."""
    plain = word.lower()
    if not plain.strip("."):
        return False
    if plain in TITLES:
        return True
    starts = after[0].isupper() and re.sub(r"\W.*", "", after).lower() in STARTERS
    if plain in ABBREVIATIONS:
        return not starts
    if len(plain) == 1 and plain.isalpha() and plain != "i":  # an initial
        return not starts
    return plain.isdigit() and after[0].islower()
