"""ROUGE of many pairs of texts at once, the same numbers as `etude.similarity.rouge` one by one.

The n-grams of all pairs are sorted and counted together, and rapidfuzz compares a whole block of pairs written with
one character a token. Pairs are taken in blocks of bounded size; a pair too large for one is compared by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cpdist

from etude.similarity.numbering import BITS, Numbered, Stem, enough_bits, numbered_together, slots
from etude.similarity.rouge import lcs_places, numbered, rouge_l, rouge_l_sum, rouge_n, words

BLOCK = 100_000
"""Most characters of text in a block of pairs: few enough for the processor's cache, and at most half as many tokens."""
PAIRS = 1 << 14
"""Most pairs in a block."""
GRAM_BITS = 20
"""Bits of an n-gram's number; beside a token's and a pair's it fits in 63."""
CELLS = 4_000_000
"""Most cells of the tables of lengths that are held at once."""
FEW = 32
"""With fewer sentence pairs than this, one by one is quicker."""


def rouge_n_pairs(references: Sequence[str], candidates: Sequence[str], n: int, stem: Stem | None = None) -> np.ndarray:
    """ROUGE-N F1 (float64, 0 to 1) of each reference and the candidate at the same place."""

    def together(theirs: list[str], ours: list[str]) -> np.ndarray:
        both = numbered_together((*theirs, *ours), stem)
        return f_measures(grams_shared(both, n), *halves(np.maximum(both.sizes - n + 1, 0)))

    def alone(reference: str, candidate: str) -> float:
        known: dict[str, int] = {}
        return rouge_n(numbered(words(reference, stem), known), numbered(words(candidate, stem), known), n)

    return by_blocks(references, candidates, together, alone)


def rouge_l_pairs(references: Sequence[str], candidates: Sequence[str], stem: Stem | None = None) -> np.ndarray:
    """ROUGE-L F1 (float64, 0 to 1) of each reference and the candidate at the same place."""

    def together(theirs: list[str], ours: list[str]) -> np.ndarray:
        both = numbered_together((*theirs, *ours), stem)
        written = both.written()
        compare: Any = cpdist  # rapidfuzz is not typed
        hits = compare(written[: len(theirs)], written[len(theirs) :], scorer=LCSseq.similarity, workers=1)
        return f_measures(hits, *halves(both.sizes))

    def alone(reference: str, candidate: str) -> float:
        known: dict[str, int] = {}
        return rouge_l(numbered(words(reference, stem), known), numbered(words(candidate, stem), known))

    return by_blocks(references, candidates, together, alone)


def rouge_l_sum_pairs(references: Sequence[str], candidates: Sequence[str], stem: Stem | None = None) -> np.ndarray:
    """ROUGE-Lsum F1 (float64, 0 to 1) of each pair of texts whose sentences are lines."""

    def together(theirs: list[str], ours: list[str]) -> np.ndarray:
        return lines_together(theirs, ours, stem)

    def alone(reference: str, candidate: str) -> float:
        known: dict[str, int] = {}
        left, right = ([numbered(words(line, stem), known) for line in text.split("\n")] for text in (reference, candidate))
        return rouge_l_sum(left, right)

    found = np.zeros(len(references))
    marks = np.array(["\n" in left or "\n" in right for left, right in zip(references, candidates, strict=True)], dtype=bool)
    several, single = np.flatnonzero(marks).tolist(), np.flatnonzero(~marks).tolist()  # single sentences have nothing to unite
    found[several] = by_blocks([references[i] for i in several], [candidates[i] for i in several], together, alone, 4 * BLOCK)
    found[single] = rouge_l_pairs([references[i] for i in single], [candidates[i] for i in single], stem)
    return found


def by_blocks(
    references: Sequence[str],
    candidates: Sequence[str],
    together: Callable[[list[str], list[str]], np.ndarray],
    alone: Callable[[str, str], float],
    size: int = BLOCK,
) -> np.ndarray:
    """`together` over blocks of pairs of at most `size` characters, `alone` for a larger pair; float64, shape (pairs,)."""
    found = np.zeros(len(references))
    for start, end in blocks(references, candidates, size):
        if len(references[start]) + len(candidates[start]) > size:
            found[start] = alone(references[start], candidates[start])
        else:
            found[start:end] = together(list(references[start:end]), list(candidates[start:end]))
    return found


def blocks(references: Sequence[str], candidates: Sequence[str], most: int) -> Iterator[tuple[int, int]]:
    """Where blocks of pairs begin and end; a pair larger than a block is one of its own."""
    start = size = 0
    for place, more in enumerate(map(sum, zip(map(len, references), map(len, candidates), strict=True))):
        if place > start and (size + more > most or place - start >= PAIRS):
            yield start, place
            start, size = place, 0
        size += more
    if start < len(references):
        yield start, len(references)


def halves(of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What belongs to the references, and to the candidates, of texts numbered in that order."""
    return of[: len(of) // 2], of[len(of) // 2 :]


def grams_shared(both: Numbered, n: int) -> np.ndarray:
    """How many n-grams each pair has in common, each counted as often as it is in both texts (int64, shape (pairs,))."""
    pairs, owners, tokens = len(both.sizes) // 2, both.owners(), both.tokens
    if len(tokens) < n:
        return np.zeros(pairs, dtype=np.int64)
    grams = tokens
    for k in range(1, n):
        if k > 1:
            grams = slots(grams.view(np.uint64), None, enough_bits(len(grams)))
        grams = (grams[:-1] << BITS) | tokens[k:]
    whole = owners[: len(grams)] == owners[n - 1 :]
    owners, grams = owners[: len(grams)][whole], grams[whole]
    return overlap(owners, grams, pairs, 2 * BITS if n == 2 else BITS if n == 1 else GRAM_BITS + BITS)


def overlap(owners: np.ndarray, items: np.ndarray, pairs: int, bits: int) -> np.ndarray:
    """For each pair, how many items (below 2^bits) its two multisets have in common (int64, shape (pairs,)): text i and text
    i + pairs, each item as often as it is in both."""
    later = owners >= pairs
    if bits > 48:  # no room for the pair beside it
        items, bits = slots(items.view(np.uint64), None, enough_bits(len(items))), GRAM_BITS
    keys = np.sort(((((owners - pairs * later) << bits) | items) << 1) | later)
    if not len(keys):
        return np.zeros(pairs, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    counts = np.diff(starts, append=len(keys))
    kinds = keys[starts]
    # One item of one pair stands twice in a row where both texts have it: first the reference's, then the candidate's.
    met = np.flatnonzero(kinds[1:] == kinds[:-1] + (kinds[:-1] & 1 == 0))
    return np.bincount(kinds[met] >> (bits + 1), weights=np.minimum(counts[met], counts[met + 1]), minlength=pairs).astype(np.int64)


def lines_together(references: list[str], candidates: list[str], stem: Stem | None) -> np.ndarray:
    """ROUGE-Lsum F1 of each pair of texts as sentences.

    A token counts as often as it stands in the union of the sentences' longest common subsequences, at most
    as often as in the candidate; so the union is itself a text, whose tokens are counted like any other's.
    """
    everything = (*references, *candidates)
    lines = numbered_together(tuple("\n".join(everything).split("\n")), stem)  # no list a text: the garbage collector would count them
    many = np.fromiter((text.count("\n") + 1 for text in everything), dtype=np.int64, count=len(everything))
    written, starts, pairs = lines.written(), np.concatenate(([0], np.cumsum(lines.sizes))), len(references)
    texts = np.concatenate(([0], np.cumsum(many)))
    sizes = np.diff(starts[texts])
    full, owners = np.flatnonzero(lines.sizes), np.repeat(np.arange(2 * pairs), many)
    theirs, ours = np.split(full, [np.searchsorted(full, texts[pairs])])
    partners = np.bincount(owners[ours] - pairs, minlength=pairs)  # sentences of each candidate
    times, first = partners[owners[theirs]], (np.cumsum(partners) - partners)[owners[theirs]]
    lefts = np.repeat(theirs, times)
    rights = ours[np.arange(len(lefts)) - np.repeat(np.cumsum(times) - times - first, times)]
    counted = np.zeros(len(lines.tokens), dtype=bool)
    counted[starts[texts[pairs]] :] = True
    counted[union(written, lines.sizes, starts, lefts, rights)] = True
    holders = np.repeat(np.arange(2 * pairs), sizes)[counted]
    return f_measures(overlap(holders, lines.tokens[counted], pairs, BITS), *halves(sizes))


def union(written: list[str], sizes: np.ndarray, starts: np.ndarray, lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """The places, among all tokens, of the left sentences' tokens in `lcs_places` of each pair of sentences."""
    found = [np.zeros(0, dtype=np.int64)]
    high, wide = sizes[lefts], sizes[rights]
    order = np.lexsort((high, wide))
    start = 0
    while start < len(order):
        # Sentences of about one length together: rows of the table as long as the longest, and not too many cells.
        end = int(np.searchsorted(wide[order], wide[order[start]] + 2 + wide[order[start]] // 8, side="right"))
        end = min(end, start + max(1, CELLS // int((high[order[start:end]].max() + 1) * (wide[order[end - 1]] + 1))))
        chosen = order[start:end]
        if end - start < FEW:
            pairs = zip(lefts[chosen].tolist(), rights[chosen].tolist(), strict=True)
            found += [np.array(lcs_places(written[a], written[b]), dtype=np.int64) + starts[a] for a, b in pairs]
        else:
            theirs, ours = ([written[i] for i in lines[chosen].tolist()] for lines in (lefts, rights))
            found.append(places_together(theirs, ours, high[chosen], wide[chosen], starts[lefts[chosen]]))
        start = end
    return np.concatenate(found)


def places_together(lefts: list[str], rights: list[str], high: np.ndarray, wide: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`lcs_places` of many pairs of sentences, each from its own start on: the textbook table, a row at a time for all
    of them, and the same way back. A row is the running maximum of the one above and of its diagonal plus a match.

    A left token that the right sentence lacks has a row like the one above, which the way back always leaves upwards;
    such rows are left out.
    """
    left, right = padded(lefts, high, 0xFFFFFFFF), padded(rights, wide, 0xFFFFFFFE)
    match = left[:, :, None] == right[:, None, :]
    shared = match.any(axis=2)
    first = np.argsort(~shared, axis=1, kind="stable")[:, : int(shared.sum(axis=1).max())]
    pairs, rows, columns = np.arange(len(lefts)), first.shape[1], right.shape[1]
    match = match[pairs[:, None], first]
    table = np.zeros((len(lefts), rows + 1, columns + 1), dtype=np.int16 if columns < 1 << 15 else np.int32)
    for k in range(rows):
        above = table[:, k]
        np.maximum.accumulate(np.maximum(above[:, 1:], above[:, :-1] + match[:, k]), axis=1, out=table[:, k + 1, 1:])
    lengths, matched, places, found = table.ravel(), match.ravel(), (starts[:, None] + first).ravel(), [np.zeros(0, dtype=np.int64)]
    i, j = shared.sum(axis=1), wide
    going = i > 0
    pairs, i, j = pairs[going], i[going], j[going]
    while len(pairs):
        row = pairs * rows + i - 1
        same = matched[row * columns + j - 1]
        found.append(places[row[same]])
        corner = (row + pairs + 1) * (columns + 1) + j
        across = lengths[corner - 1] > lengths[corner - columns - 1]
        i, j = i - (same | ~across), j - (same | across)
        going = (i > 0) & (j > 0)
        pairs, i, j = pairs[going], i[going], j[going]
    return np.concatenate(found)


def padded(sentences: list[str], sizes: np.ndarray, filler: int) -> np.ndarray:
    """uint32, shape (sentences, longest): the written tokens, then the filler."""
    table = np.full((len(sentences), int(sizes.max())), filler, dtype=np.uint32)
    table[np.arange(table.shape[1]) < sizes[:, None]] = np.frombuffer("".join(sentences).encode("utf-32-le"), dtype="<u4")
    return table


def f_measures(hits: np.ndarray, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """`f_measure` of each pair (float64): 2PR / (P + R) is twice the hits over both lengths."""
    found: np.ndarray = 2.0 * hits / np.maximum(candidate + reference, 1)
    return found
