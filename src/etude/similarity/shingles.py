"""Words of any language, and the runs of n of them that two texts are compared by."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
"""A run of letters and digits; one character where words are not set apart (Chinese characters, kana)."""


def tokens(text: str) -> list[str]:
    """The words of a text, whatever its case, punctuation, white space or Unicode form (NFKC)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return TOKEN.findall(text.casefold())


def shingles(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    """The set of runs of n words; of fewer than n words, all of them as one run; of none, the empty set."""
    if not words:
        return set()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """What two sets share, of what they hold together (0 to 1); 0 where both are empty."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0
