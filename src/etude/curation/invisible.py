"""Characters that a reader does not see and a model does."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.secrets import changed
from etude.records import Record

Kind = Literal["bidi", "zero_width", "tag", "control", "unassigned", "private_use"]

WORDS: dict[str, str] = {
    "bidi": "bidirectional control",
    "zero_width": "zero-width character",
    "tag": "tag character",
    "control": "control character",
    "unassigned": "unassigned code point",
    "private_use": "private-use character",
}
BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates: what "Trojan Source" (Boucher and Anderson 2021) reorders text with."""
MARKS = frozenset("\u200e\u200f\u061c")
"""Direction marks: right beside Arabic, Hebrew and the like, hidden elsewhere."""
ZERO_WIDTH = frozenset("\u200b\u2060\u2061\u2062\u2063\u2064\u180e\ufeff\u034f\u115f\u1160\u3164\uffa0")
JOINERS = frozenset("\u200c\u200d")
"""Non-joiner and joiner: letters of Persian and Indic scripts, and of emoji, need them."""
SELECTORS = re.compile("[\U000e0100-\U000e01ef]")
"""Variation selectors beyond those of emoji: after a CJK character they choose a form, elsewhere they can hide bytes."""
ASCII_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{1,8}\U000e007f")
"""A flag of a region (Scotland's): a black flag and tag letters, the one right use of tags."""


class Invisible(Settings):
    """Rows with invisible characters in any turn, where they have no business: direction marks outside right-to-left text,
    joiners outside the scripts and emoji that need them, tags outside a region's flag; `strip_invisible` keeps such rows without.

    Unassigned is what the Unicode of this Python does not know, so a newer Python may keep more.
    """

    kinds: tuple[Kind, ...] = ("bidi", "zero_width", "tag", "control", "unassigned")
    """What is looked for; private-use characters (icons of fonts) only where named."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with invisible characters; facts count the characters by code point."""
        counts: Counter[str] = Counter()

        def find(row: Row) -> Found | None:
            first = None
            for message in row.conversation.messages:
                for text in (message.content, message.context):
                    for place, kind in hidden(text, self.kinds) if text else ():
                        code = f"U+{ord(text[place]):04X}"
                        counts[code] += 1
                        first = first or Found(f"invisible: {WORDS[kind]}", f"{code} after {text[max(0, place - 40) : place]!r}")
            return first

        verdicts = decide(rows, beside, find)
        return Verdicts(verdicts.fates, {**verdicts.facts, "characters": dict(counts.most_common(20))})


class StripInvisible(Settings):
    """Invisible characters taken out of every text of a row, where they have no business (as the check `invisible` has it)."""

    kinds: tuple[Kind, ...] = ("bidi", "zero_width", "tag", "control", "unassigned")
    """What is taken out."""

    def rewrite(self, record: Record) -> Record | str:
        """The Record without them, or the same Record where there are none."""
        fields = changed(record.fields, lambda text: strip(text, self.kinds))
        return record if fields == record.fields else replace(record, fields=fields)


def strip(text: str, kinds: Sequence[Kind]) -> str:
    """A text without its hidden characters."""
    places = {place for place, _ in hidden(text, kinds)}
    return "".join(c for place, c in enumerate(text) if place not in places) if places else text


def hidden(text: str, kinds: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(place, kind) of each hidden character."""
    if text.isascii():
        if "control" in kinds:
            yield from ((found.start(), "control") for found in ASCII_CONTROLS.finditer(text))
        return
    suspects = {c: kind for c in set(text) if (kind := kind_of(c)) and kind in kinds}
    if not suspects:
        return
    flags = {place for found in FLAG.finditer(text) for place in range(*found.span())}
    right = any(unicodedata.bidirectional(c) in ("R", "AL") for c in set(text) - MARKS)
    for found in re.finditer("[" + "".join(map(re.escape, suspects)) + "]", text):
        place, c = found.start(), found.group()
        if (
            place in flags
            or (c in MARKS and right)
            or (c in JOINERS and joins(text, place))
            or (SELECTORS.match(c) and chooses(text, place))
        ):
            continue
        if c == "\ufeff" and place == 0 and len(text) == 1:
            continue
        yield place, suspects[c]


def kind_of(c: str) -> str:
    """The kind that a character may be hidden as, "" for none."""
    if c.isascii():
        return "control" if ASCII_CONTROLS.match(c) else ""
    if c in BIDI or c in MARKS:
        return "bidi"
    if c in ZERO_WIDTH or c in JOINERS:
        return "zero_width"
    if "\U000e0000" <= c <= "\U000e007f" or SELECTORS.match(c):
        return "tag"
    # U+0085 is a line end; the rest of C1 is damage from a wrong encoding
    return {"Cn": "unassigned", "Co": "private_use", "Cc": "control"}.get(unicodedata.category(c), "") if c != "\x85" else ""


def joins(text: str, place: int) -> bool:
    """Whether a joiner stands where one is written: between emoji, or beside a letter of a script that joins."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if any(c and unicodedata.category(c) in ("So", "Sk", "Mn") for c in (before, after)):
        return True
    return any(
        c and (unicodedata.bidirectional(c) == "AL" or "\u0900" <= c <= "\u0dff" or "\u1780" <= c <= "\u18af") for c in (before, after)
    )


def chooses(text: str, place: int) -> bool:
    """Whether a variation selector follows a CJK character."""
    return place > 0 and unicodedata.name(text[place - 1], "").startswith("CJK")
