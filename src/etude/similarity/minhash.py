"""Near duplicates among millions of texts: MinHash with banding (LSH), every hit verified exactly.

Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3 (banding). Two texts are near duplicates when the Jaccard similarity of their
sets of word n-grams is at least the threshold. Hashing only proposes pairs; the sets themselves decide, so a
reported pair is one. A pair can be missed, with the probability that `Bands.recall` states.

Memory: 4 bytes a band and a row are kept (`Bands.bytes_a_row` has the whole), whatever the length of the texts;
texts are read again to verify. Time: linear in the tokens (about 10 microseconds for the words of a text of 50, and
0.1 ns a permutation and shingle upwards), a sort a band, and one exact comparison for each pair proposed whose
rows are not yet known to belong together: m rows that are all half alike in one bucket take m^2/2.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from etude.seeds import stream
from etude.similarity.shingles import jaccard, shingles, tokens
from etude.similarity.unions import UnionFind

BLOCK = 1024
"""Texts hashed at a time: their shingles stay in the processor's cache while every permutation passes over them."""
VOCABULARY = 1 << 19
"""Words whose hashes are kept; beyond, the table starts again (about 100 bytes each)."""
SETS = 1024
"""Shingle sets kept while pairs are verified."""


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: two rows are compared where all `rows` values of one of the `bands` are equal."""

    bands: int
    rows: int

    @staticmethod
    def fit(threshold: float, permutations: int = 128, recall: float = 0.999) -> Bands:
        """The longest bands (the fewest false pairs) that still find a pair at the threshold with probability `recall`."""
        rows = max((r for r in range(1, permutations + 1) if Bands(permutations // r, r).recall(threshold) >= recall), default=1)
        return Bands(permutations // rows, rows)

    def recall(self, similarity: float) -> float:
        """The probability that a pair of this Jaccard similarity is compared."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)

    @property
    def bytes_a_row(self) -> int:
        """Bytes held a text at the peak: 4 a band, and 32 for sorting one band and for the groups."""
        return 4 * self.bands + 32


class Hashes(dict[str, int]):
    """Word -> a 64-bit hash, the same on every machine."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = self[word] = int.from_bytes(digest, "little")
        return value


def near_groups(
    texts: Sequence[str],
    threshold: float = 0.8,
    ngram: int = 3,
    permutations: int = 128,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """The groups of texts that verified pairs connect, each ascending; a text without words is in none.

    `texts` may be any sequence that reads text i when asked (a file of offsets, a column): it is passed over once
    in order, and candidates are read again. `progress` is told the number of texts hashed.
    """
    bands = Bands.fit(threshold, permutations)
    blocks = []
    done = 0
    for block in hashed(texts, ngram, bands, seed):
        blocks.append(block)
        done += block[0].shape[1]
        progress(done)
    joined = UnionFind(len(texts))

    @functools.lru_cache(SETS)
    def shingled(row: int) -> set[tuple[str, ...]]:
        return shingles(tokens(texts[row]), ngram)

    worded = np.concatenate([words for _, words in blocks]) if blocks else np.zeros(0, dtype=bool)
    rows = np.flatnonzero(worded).astype(np.int32)
    for band in range(bands.bands):
        keys = np.concatenate([keys[band] for keys, _ in blocks])[rows] if blocks else np.zeros(0, dtype=np.uint32)
        for bucket in buckets(keys, rows, joined.roots()):
            connect(bucket, joined, shingled, threshold)
    return joined.groups()


def near_pairs(
    left: Sequence[str], right: Sequence[str], threshold: float = 0.8, ngram: int = 3, permutations: int = 128, seed: int = 0
) -> list[tuple[int, int]]:
    """The verified pairs (place in `left`, place in `right`) of two collections, ascending; memory as the smaller `left`."""
    bands = Bands.fit(threshold, permutations)
    tables: list[dict[int, list[int]]] = [{} for _ in range(bands.bands)]
    first = 0
    for keys, worded in hashed(left, ngram, bands, seed):
        for place in np.flatnonzero(worded).tolist():
            for table, key in zip(tables, keys[:, place].tolist(), strict=True):
                table.setdefault(key, []).append(first + place)
        first += len(worded)
    found: set[tuple[int, int]] = set()
    sets = functools.lru_cache(SETS)(lambda place: shingles(tokens(left[place]), ngram))
    known = [np.fromiter(table, dtype=np.uint32, count=len(table)) for table in tables]
    first = 0
    for keys, worded in hashed(right, ngram, bands, seed):
        met: set[tuple[int, int]] = set()
        for band, table in enumerate(tables):
            for place in np.flatnonzero(worded & np.isin(keys[band], known[band])).tolist():
                met.update((other, first + place) for other in table[int(keys[band, place])])
        for other, place in met:
            if jaccard(sets(other), shingles(tokens(right[place]), ngram)) >= threshold:
                found.add((other, place))
        first += len(worded)
    return sorted(found)


def connect(bucket: Sequence[int], joined: UnionFind, shingled: Callable[[int], set[tuple[str, ...]]], threshold: float) -> None:
    """Join the rows of a bucket that are near enough, comparing none that are known to belong together."""
    met: list[int] = []
    for row in bucket:
        mine = shingled(row)
        for other in met:
            if joined.find(other) != joined.find(row):
                theirs = shingled(other)
                if min(len(mine), len(theirs)) >= threshold * max(len(mine), len(theirs)) and jaccard(mine, theirs) >= threshold:
                    joined.join(row, other)
        met.append(row)


def buckets(keys: np.ndarray, rows: np.ndarray, roots: np.ndarray) -> list[list[int]]:
    """The rows of equal key, where there are several that do not all belong together yet; ascending."""
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    cuts = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    starts, ends = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(keys)]])
    several = ends - starts > 1
    starts, ends = starts[several], ends[several]
    if not len(starts):
        return []
    names = roots[rows]
    changes = np.concatenate([[0], np.cumsum(names[1:] != names[:-1])])
    apart = changes[ends - 1] > changes[starts]
    return [rows[start:end].tolist() for start, end in zip(starts[apart].tolist(), ends[apart].tolist(), strict=True)]


def hashed(texts: Iterable[str], ngram: int, bands: Bands, seed: int = 0) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """A block of texts at a time: band keys, shape (bands, texts), uint32; and which texts have words at all."""
    draws = stream(seed, "minhash")
    count = bands.bands * bands.rows
    factors = draws.integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shifts = draws.integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + draws.integers(0, 2, count, dtype=np.uint64)
    places = draws.integers(0, 1 << 63, ngram, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    known = Hashes()
    reading = iter(texts)
    while block := list(islice(reading, BLOCK)):
        found = [tokens(text) for text in block]
        if len(known) > VOCABULARY:
            known.clear()
        lengths = np.array([len(words) for words in found])
        words = lengths > 0
        keys = np.zeros((bands.bands, len(found)), dtype=np.uint32)
        if words.any():
            every = map(known.__getitem__, chain.from_iterable(found))
            values = np.fromiter(every, dtype=np.uint64, count=int(lengths.sum()))
            runs, starts = runs_of(values, lengths[words], ngram, places)
            keys[:, words] = band_keys(runs, starts, factors, shifts, bands)
        yield keys, words


def runs_of(values: np.ndarray, lengths: np.ndarray, ngram: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of every run of `ngram` words of texts that lie end to end (uint64), and where each text's begin.
    A text of fewer words is one run."""
    counts = np.maximum(1, lengths - ngram + 1)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    at = np.arange(int(counts.sum())) + np.repeat(firsts - starts, counts)
    ends = np.repeat(firsts + lengths, counts)
    runs = np.zeros(len(at), dtype=np.uint64)
    for offset in range(ngram):
        inside = at + offset < ends
        runs += np.where(inside, values[np.minimum(at + offset, len(values) - 1)], np.uint64(0)) * places[offset]
    return mixed(runs), starts


def band_keys(runs: np.ndarray, starts: np.ndarray, factors: np.ndarray, shifts: np.ndarray, bands: Bands) -> np.ndarray:
    """The smallest value of each text under every permutation h -> factor * h + shift (mod 2^64), a band's folded
    into one number. Shape (bands, texts), uint32."""
    found = np.empty((bands.bands, len(starts)), dtype=np.uint32)
    work = np.empty_like(runs)
    for band in range(bands.bands):
        key = np.zeros(len(starts), dtype=np.uint64)
        for row in range(band * bands.rows, (band + 1) * bands.rows):
            np.multiply(runs, factors[row], out=work)
            np.add(work, shifts[row], out=work)
            key = mixed(key ^ np.minimum.reduceat(work, starts))
        found[band] = (key >> np.uint64(32)).astype(np.uint32)
    return found


def mixed(values: np.ndarray) -> np.ndarray:
    """Each 64-bit number scrambled (the finisher of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
