"""Self-Instruct's novelty filter, exact at scale: which text of a pool is nearest by ROUGE-L F1?

Wang et al. (2023), "Self-Instruct": a new instruction is rejected when its largest ROUGE-L F1 against the
pool is over 0.7. Comparing with every pool member is quadratic; here most members are never looked at, and no
decision changes, since a longest common subsequence is no longer than what two texts share as multisets:

- *Length.* F1 > t needs a common subsequence of at least `need(a, b)` tokens, impossible where the shorter text is too short.
- *Prefix* (Chaudhuri et al. 2006; Bayardo et al. 2007, AllPairs). Write each text's tokens rarest first, equal
  tokens numbered apart. Two texts that share o tokens share one of the first `length - o + 1` of each, so only
  these are indexed and looked up.
- *Position* (Xiao et al. 2008, PPJoin). From where the first shared token stands, at most 1 + min(what is left) can be shared.

What is left is compared with the bit-parallel LCS of rapidfuzz, many texts a call. All bounds use the very
float arithmetic of the score, so ties at the threshold fall as they do in `rouge-score`.

Time a text: the postings of its rarer half, which grow with the pool, at a small constant (0.1 ms at tens of thousands);
a pool of n costs n times that, in the worst case (everything half alike) n^2/2 comparisons of 10-50 ns.
Memory a text of 20 tokens: about 0.3 kB, twice that once `neighbours` is asked.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

NEVER = 1 << 30
"""More tokens than any text shares."""
LETTERS = 0x10FFFF
"""Words with numbers up to here are written as characters, which rapidfuzz reads without a copy."""
REST_BITS = 24
"""Bits of a posting for what is left of its text after the token (texts of at most 16 million tokens)."""
KEPT = 1 << 21
"""Numbers that the tables of `need` may hold together before they start again."""
FEW = 8
"""Up to so many comparisons, single calls are quicker than a batch."""

Spelled = str | array  # type: ignore[type-arg]


class Nearest(NamedTuple):
    """A member of the pool (its number in the order of adding; -1 for none) and its ROUGE-L F1, 0 to 1."""

    id: int
    score: float


NOTHING = Nearest(-1, 0.0)


def f_measures(hits: np.ndarray, length: int, lengths: np.ndarray) -> np.ndarray:
    """`f_measure` of many pairs, bit for bit; 0 where there are no hits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = hits / length, hits / lengths
        return np.where(hits > 0, 2 * precision * recall / (precision + recall), 0.0)


class Ranks(dict[int, int]):
    """Token -> its place among all, rarest first; one that is not listed yet is rarer than all, and the newer the rarer."""

    def __missing__(self, token: int) -> int:
        return -2 * token - 1 if token >= 0 else 2 * token


class NoveltyIndex:
    """A pool of token sequences that answers which member a new one is nearest to, by ROUGE-L F1.

    `threshold`: what `above` and `admit` call too near (score > threshold, as Self-Instruct does; equality is not).
    Members are numbered in the order of adding. The answers do not depend on how the index is laid out.
    """

    def __init__(self, threshold: float = 0.7) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"a ROUGE-L threshold lies between 0 and 1, not at {threshold}")
        self.threshold = threshold
        self.known: dict[str, int] = {}
        self.repeats: dict[tuple[int, int], int] = {}
        self.spelled: list[Spelled] = []
        self.lengths = np.zeros(64, dtype=np.int64)
        self.longest = 0
        self.rank = Ranks()
        self.prefixes: dict[int, array[int]] = {}
        self.everywhere: dict[int, array[int]] = {}
        self.spread = 0  # members that `everywhere` holds
        self.rebuild_at = 256
        self.needs: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.spelled)

    def add(self, tokens: Sequence[str]) -> int:
        """Make a text a member; returns its number."""
        words = [self.known.setdefault(token, len(self.known) + 1) for token in tokens]
        number = len(self.spelled)
        self.spelled.append(spell(words))
        if number == len(self.lengths):
            self.lengths = np.concatenate([self.lengths, np.zeros_like(self.lengths)])
        self.lengths[number] = len(words)
        self.longest = max(self.longest, len(words))
        if number + 1 >= self.rebuild_at:
            self.rebuild()
        else:
            self.post(number, words)
        return number

    def above(self, tokens: Sequence[str]) -> Nearest | None:
        """The nearest member, the first of equals, if its score is over the threshold; else None. Exact."""
        words = [self.known.get(token, 0) for token in tokens]
        found = self.candidates(words)
        if not len(found):
            return None
        best = max(self.scores(words, found), key=lambda one: (one.score, -one.id))
        return best if best.score > self.threshold else None

    def every_above(self, tokens: Sequence[str]) -> list[Nearest]:
        """All members with a score over the threshold, nearest first, then in the order of adding. Exact."""
        words = [self.known.get(token, 0) for token in tokens]
        found = [one for one in self.scores(words, self.candidates(words)) if one.score > self.threshold]
        return sorted(found, key=lambda one: (-one.score, one.id))

    def admit(self, tokens: Sequence[str]) -> Nearest | None:
        """Make a text a member unless `above` finds one too near, which is then returned."""
        near = self.above(tokens)
        if near is None:
            self.add(tokens)
        return near

    def nearest(self, tokens: Sequence[str]) -> Nearest:
        """The nearest member whatever its score, the first of equals; id -1 and 0.0 where none shares a token. Exact."""
        return self.above(tokens) or next(iter(self.neighbours(tokens, 1)), NOTHING)

    def neighbours(self, tokens: Sequence[str], most: int = 10) -> list[Nearest]:
        """The nearest members with a score over 0, nearest first, then in the order of adding. Exact."""
        words = [self.known.get(token, 0) for token in tokens]
        shared = self.overlaps(words)
        rows = np.flatnonzero(shared)
        bounds = f_measures(shared[rows], max(1, len(words)), self.lengths[rows])
        best: list[Nearest] = []
        size, floor = max(64, 4 * most), 0.0
        while len(rows):
            size = min(size, len(rows))
            taken = np.zeros(len(rows), dtype=bool)
            taken[np.argpartition(-bounds, size - 1)[:size]] = True
            best += self.scores(words, rows[taken])
            best = sorted((one for one in best if one.score > 0), key=lambda one: (-one.score, one.id))[:most]
            floor = best[-1].score if len(best) == most else 0.0
            left = ~taken & (bounds >= floor)
            rows, bounds, size = rows[left], bounds[left], size * 4
        return best

    # how it is laid out

    def parted(self, words: Sequence[int]) -> list[int]:
        """The words with repeats told apart: the first of a kind as it is, the second, third ... numbered
        below zero. Then what two texts share as multisets is what they share as sets."""
        if len(set(words)) == len(words):
            return list(words)
        seen: dict[int, int] = {}
        repeats, found = self.repeats, []
        for word in words:
            before = seen.get(word, 0)
            seen[word] = before + 1
            found.append(repeats.setdefault((word, before), -1 - len(repeats)) if before else word)
        return found

    def ordered(self, words: Sequence[int]) -> list[int]:
        """The parted words, rarest first (as far as the last layout knows; newer ones are rarer)."""
        return sorted(self.parted(words), key=self.rank.__getitem__)

    def post(self, number: int, words: Sequence[int]) -> None:
        """Index the prefix of a member."""
        size = len(words)
        least = int(self.need(size)[: size + 1].min()) if size else NEVER
        prefixes, posting = self.prefixes, number << REST_BITS | size - 1
        for place, token in enumerate(self.ordered(words)[: max(0, size - least + 1)]):
            held = prefixes.get(token)
            if held is None:
                held = prefixes[token] = array("q")
            held.append(posting - place)

    def rebuild(self) -> None:
        """Lay the index out again by today's frequencies, each time the pool is four times as large."""
        self.rebuild_at = 4 * len(self.spelled)
        members = [numbers(one) for one in self.spelled]
        counts = Counter(chain.from_iterable(self.parted(words) for words in members))
        self.prefixes = {}
        self.rank = Ranks((token, place) for place, token in enumerate(sorted(counts, key=lambda token: (counts[token], token))))
        for number, words in enumerate(members):
            self.post(number, words)

    def need(self, length: int) -> np.ndarray:
        """For partners of 0, 1, 2 ... tokens, how long a common subsequence with a text of `length` tokens must
        be for a score over the threshold; NEVER where it cannot be."""
        table = self.needs.get(length)
        if table is None or len(table) <= max(self.longest, length):
            partners = np.arange(2 * max(self.longest, length, 32))
            guess = (self.threshold * (length + partners) / 2).astype(np.int64)
            table = np.full(len(partners), NEVER)
            for hits in (guess + 2, guess + 1, guess, guess - 1):
                enough = (hits > 0) & (hits <= np.minimum(length, partners)) & (f_measures(hits, length, partners) > self.threshold)
                table[enough] = hits[enough]
            if len(self.needs) * len(table) > KEPT:
                self.needs.clear()
            self.needs[length] = table
        return table

    def candidates(self, words: Sequence[int]) -> np.ndarray:
        """Every member that may score over the threshold, ascending (and some that do not)."""
        size = len(words)
        if not size or not self.spelled:
            return np.zeros(0, dtype=np.int64)
        need = self.need(size)
        least = int(need[: self.longest + 1].min())
        parts, rests = [], []
        for place, token in enumerate(self.ordered(words)[: max(0, size - least + 1)]):
            if (postings := self.prefixes.get(token)) is not None:
                parts.append(np.frombuffer(postings, dtype=np.int64))
                rests.append(size - 1 - place)
        if not parts:
            return np.zeros(0, dtype=np.int64)
        found = np.concatenate(parts)
        rest = np.repeat(np.array(rests), [len(part) for part in parts])
        rows = found >> REST_BITS
        shared = 1 + np.minimum(rest, found & ((1 << REST_BITS) - 1))
        return np.unique(rows[shared >= need[self.lengths[rows]]])

    def overlaps(self, words: Sequence[int]) -> np.ndarray:
        """How many tokens each member shares with a text as multisets, shape (members,)."""
        for number in range(self.spread, len(self.spelled)):
            for token in self.parted(numbers(self.spelled[number])):
                self.everywhere.setdefault(token, array("q")).append(number)
        self.spread = len(self.spelled)
        parts = [np.frombuffer(self.everywhere[token], dtype=np.int64) for token in self.parted(words) if token in self.everywhere]
        return np.bincount(np.concatenate(parts), minlength=len(self.spelled)) if parts else np.zeros(len(self.spelled), dtype=np.int64)

    def scores(self, words: Sequence[int], rows: np.ndarray) -> list[Nearest]:
        """The exact ROUGE-L F1 of a text with each of these members."""
        text, others = spell(words), [self.spelled[row] for row in rows.tolist()]
        if len(others) <= FEW:
            hits = np.array([LCSseq.similarity(text, other) for other in others])
        else:
            hits = process.cdist([text], others, scorer=LCSseq.similarity, dtype=np.int32)[0]
        found = f_measures(hits, len(words), self.lengths[rows])
        return [Nearest(row, score) for row, score in zip(rows.tolist(), found.tolist(), strict=True)]


def spell(words: Sequence[int]) -> Spelled:
    """Word numbers as rapidfuzz compares them quickest; texts with very large numbers as an array."""
    return "".join(map(chr, words)) if not words or max(words) <= LETTERS else array("Q", words)


def numbers(spelled: Spelled) -> list[int]:
    """The word numbers of a spelled text."""
    return [ord(letter) for letter in spelled] if isinstance(spelled, str) else list(spelled)
