"""A rendered text, what of it is data and what is markup, and how that becomes Segments.

Every format of this folder first writes one text and notes where in it the data stands; only what is not
data is searched for the tokenizer's added tokens. So data never becomes a special token, whatever it spells,
and a format's own markers are special exactly where the tokenizer knows them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from etude.formats.borders import BORDER
from etude.records import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Stretch(NamedTuple):
    """A turn's words and its end, in characters: trained, or (`trained` False) an answer that is only read."""

    start: int
    end: int
    trained: bool = True


NONE = Stretch(sys.maxsize, sys.maxsize, False)
"""Stands behind the last stretch."""


@dataclass(frozen=True, slots=True)
class Written:
    """A plain rendering and where its data is: (start, end, message) in characters, in order (message -1: the
    tools of the conversation); `markup` are the spans of the added tokens; `torn` are the messages of which some
    words are missing."""

    text: str
    data: tuple[tuple[int, int, int], ...]
    markup: tuple[tuple[int, int], ...]
    torn: frozenset[int] = frozenset()


def added_pattern(tokenizer: PreTrainedTokenizerFast) -> re.Pattern[str] | None:
    """Matches the tokenizer's added tokens, longest first, with the white space that a token declared
    `lstrip` or `rstrip` swallows. Tokens of white space alone (runs of spaces in GPT-NeoX and Phi) are
    vocabulary, not markup, and are left out. None when there is none."""
    parts = []
    for token in sorted(tokenizer.added_tokens_decoder.values(), key=lambda t: -len(t.content)):
        if token.content.strip():
            parts.append((r"\s*" if token.lstrip else "") + re.escape(token.content) + (r"\s*" if token.rstrip else ""))
    return re.compile("|".join(parts)) if parts else None


def tokens(text: str, data: Sequence[tuple[int, int, int]], added: re.Pattern[str] | None) -> tuple[tuple[int, int], ...]:
    """The spans of added tokens in the markup: between the data, never across it."""
    if added is None:
        return ()
    found: list[tuple[int, int]] = []
    at = 0
    for start, end, _ in data:
        if start > at:
            found += [m.span() for m in added.finditer(text, at, start)]
        at = end
    if at < len(text):
        found += [m.span() for m in added.finditer(text, at)]
    return tuple(found)


def cut(whole: Written, stretches: Sequence[Stretch]) -> tuple[Segment, ...]:
    """The rendering as Segments: cut at data, added tokens and stretches (never inside an added token). A stretch
    that is not trained, or follows a trained one at once, begins with a border, so that its tokens begin there too."""
    special = dict(whole.markup)
    edges = {0, len(whole.text), *(at for span in whole.data for at in span[:2]), *(at for span in whole.markup for at in span)}
    for stretch in stretches:
        edges.update(at for at in stretch[:2] if at not in edges and not any(a < at < b for a, b in whole.markup))
    segments: list[Segment] = []
    left = iter(stretches)
    first, last, trained = next(left, NONE)
    for start, end in pairwise(sorted(edges)):
        while last <= start:
            first, last, trained = next(left, NONE)
        flag = trained and first <= start
        if start == first and segments and (not trained or segments[-1].trained):
            segments.append(BORDER)
        segments.append(Segment(whole.text[start:end], flag, special.get(start) == end))
    return tuple(segments)
