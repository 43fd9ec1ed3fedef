"""What changed between two texts, word by word: the longest matching blocks of Python's `difflib` (Ratcliff and Obershelp 1988).

A word is a stretch without spaces, its punctuation apart; a Chinese or Japanese character is a word. Space that follows a word goes with
it and makes no difference. The cost is bounded: `MOST` words of each side are compared, and a caller who compares many texts can hold a
`Budget`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from etude.curation.texts import WIDE

MOST = 400
"""Words of a side that are compared, after what both begin and end with; the rest is shown as not compared."""

PUNCTUATION = r"!-&(-,./:-@\[-^`{-~。、，！？；：「」『』（）《》…—“”"
"""Characters that are words of their own: ASCII's without the apostrophe, hyphen and underscore, which stand inside words."""

WORD = re.compile(rf"(?:{WIDE.pattern}|[{PUNCTUATION}]|(?:(?!{WIDE.pattern})[^\s{PUNCTUATION}])+|^(?=\s))\s*")

Kind = Literal["same", "gone", "new", "rest"]


class Piece(NamedTuple):
    """A stretch of text: in both (`same`, as the later text has it), only in the earlier (`gone`), only in the later (`new`), or of
    the later and not compared (`rest`)."""

    kind: Kind
    text: str


@dataclass(slots=True)
class Budget:
    """How much comparing is still allowed, in pairs of words (words of one side times words of the other)."""

    left: int

    def take(self, before: str, after: str) -> bool:
        """Whether comparing these two is still allowed; if so it is paid for."""
        cost = min(len(WORD.findall(before)), MOST) * min(len(WORD.findall(after)), MOST)
        if cost > self.left:
            return False
        self.left -= cost
        return True


def diff(before: str, after: str) -> tuple[Piece, ...]:
    """The later text with what left the earlier one in between, as stretches, neighbours of different kinds.

    All but the `gone` stretches, joined, are `after`; the `same` and `gone` ones are the words of `before` that were compared.
    """
    old, new = WORD.findall(before), WORD.findall(after)
    left, right = [word.strip() for word in old], [word.strip() for word in new]
    shorter = min(len(left), len(right))
    start = next((i for i in range(shorter) if left[i] != right[i]), shorter)
    end = next((i for i in range(shorter - start) if left[-1 - i] != right[-1 - i]), shorter - start)
    return tuple(joined(stretches(old, new, left, right, start, end)))


def stretches(
    old: Sequence[str], new: Sequence[str], left: Sequence[str], right: Sequence[str], start: int, end: int
) -> Iterator[tuple[Kind, Sequence[str]]]:
    """Stretches of words: what both begin with, the compared middle, what is over the limit, what both end with."""
    yield "same", new[:start]
    a, b = min(len(left) - end, start + MOST), min(len(right) - end, start + MOST)
    for tag, i, j, k, m in SequenceMatcher(None, left[start:a], right[start:b]).get_opcodes():
        if tag == "equal":
            yield "same", new[start + k : start + m]
        else:
            yield "gone", old[start + i : start + j]
            yield "new", new[start + k : start + m]
    yield "rest", new[b : len(new) - end]
    yield "same", new[len(new) - end :]


def joined(found: Iterable[tuple[Kind, Sequence[str]]]) -> Iterator[Piece]:
    """Stretches as texts, neighbours of one kind joined, empty ones left out."""
    kind: Kind = "same"
    text = ""
    for now, words in found:
        more = "".join(words)
        if not more:
            continue
        if now != kind:
            if text:
                yield Piece(kind, text)
            kind, text = now, ""
        text += more
    if text:
        yield Piece(kind, text)


def alike(pieces: Sequence[Piece]) -> float:
    """Characters that both texts have, as a share of the longer one, 0 to 1; 1 for two empty texts."""
    size = {kind: sum(len(piece.text.strip()) for piece in pieces if piece.kind == kind) for kind in ("same", "gone", "new", "rest")}
    longest = size["same"] + max(size["gone"], size["new"] + size["rest"])
    return size["same"] / longest if longest else 1.0
