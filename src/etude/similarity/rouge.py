"""How alike two token sequences are: longest common subsequences and ROUGE-L.

Tokens are whole numbers from `numbered`, so that comparing two of them is exact and fast.
ROUGE is Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries"; the choices that the
paper leaves open (tokens, ties, double counting) are those of Google's `rouge-score` 0.1.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rapidfuzz.distance import LCSseq

WORD = re.compile(r"[a-z0-9]+")
"""A ROUGE token: what is left when everything but a-z and 0-9 of the lower-cased text is a space."""


def words(text: str, stem: Callable[[str], str] | None = None) -> list[str]:
    """The ROUGE tokens of a text; `stem` is applied to tokens of more than three letters."""
    found = WORD.findall(text.lower())
    return [stem(word) if len(word) > 3 else word for word in found] if stem else found


def numbered(tokens: Iterable[str], known: dict[str, int]) -> list[int]:
    """The tokens as numbers, the same token as the same number; `known` grows with new tokens."""
    return [known.setdefault(token, len(known)) for token in tokens]


def f_measure(hits: float, candidate: int, reference: int) -> float:
    """The harmonic mean of hits / candidate and hits / reference; 0 where any of them is 0."""
    if not hits or not candidate or not reference:
        return 0.0
    precision, recall = hits / candidate, hits / reference
    return 2 * precision * recall / (precision + recall)


def lcs_length(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the longest common subsequence of two sequences of token numbers."""
    return int(LCSseq.similarity(left, right))


def rouge_l(reference: Sequence[int], candidate: Sequence[int]) -> float:
    """ROUGE-L F1 (0 to 1) of two sequences of token numbers; 0 where one is empty."""
    return f_measure(lcs_length(reference, candidate), len(candidate), len(reference))


def rouge_n(reference: Sequence[int], candidate: Sequence[int], n: int) -> float:
    """ROUGE-N F1 (0 to 1): n-grams in common, each counted as often as it is in both."""
    ours = Counter(tuple(candidate[i : i + n]) for i in range(len(candidate) - n + 1))
    theirs = Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
    return f_measure((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l_sum(reference: Sequence[Sequence[int]], candidate: Sequence[Sequence[int]]) -> float:
    """ROUGE-L F1 (0 to 1) of two texts as sentences of token numbers.

    Each reference sentence hits the union of its longest common subsequences with every candidate
    sentence; a token is hit at most as often as it is in both texts (as in ROUGE 1.5.5).
    """
    ours: Counter[int] = Counter()
    theirs: Counter[int] = Counter()
    for sentence in candidate:
        ours.update(sentence)
    for sentence in reference:
        theirs.update(sentence)
    left = ours & theirs
    hits = 0
    for sentence in reference:
        union = {place for other in candidate for place in lcs_places(sentence, other)}
        for place in sorted(union):
            if left[sentence[place]] > 0:
                left[sentence[place]] -= 1
                hits += 1
    return f_measure(hits, ours.total(), theirs.total())


def lcs_places(reference: Sequence[int], candidate: Sequence[int]) -> list[int]:
    """The places in `reference`, last first, of one longest common subsequence with `candidate`.

    Of several, the one found by walking back from both ends: a match is taken, else the candidate
    goes one back if that alone keeps the length, else the reference does. The table of lengths is
    kept a row a whole number: bit j of `rows[i]` says that the length for the first i reference
    tokens grows from j to j + 1 candidate tokens (the bit-parallel recurrence of Hyyrö 2004).
    """
    where: dict[int, int] = {}
    for j, token in enumerate(candidate):
        where[token] = where.get(token, 0) | 1 << j
    full = (1 << len(candidate)) - 1
    flat, rows = full, [0]
    for token in reference:
        match = flat & where.get(token, 0)
        flat = ((flat + match) | (flat - match)) & full
        rows.append(full ^ flat)
    places = []
    i, j = len(reference), len(candidate)
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            places.append(i - 1)
            i, j = i - 1, j - 1
            continue
        before = (1 << (j - 1)) - 1
        grows = rows[i - 1] >> (j - 1) & 1
        if not grows and (rows[i] & before).bit_count() > (rows[i - 1] & before).bit_count():
            j -= 1
        else:
            i -= 1
    return places
