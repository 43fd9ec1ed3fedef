"""ROUGE tokens of many texts at once, as numbers: exact, and some ten times faster than a dictionary of words.

All texts are one array of bytes. The first 16 bytes of a token are two 64-bit numbers, and a table of slots, found by
hashing and checked for equality, gives equal tokens the same slot and different ones different slots.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Stem = Callable[[str], str]

SPACES = bytes(b + 32 if 65 <= b <= 90 else b if 48 <= b <= 57 or 97 <= b <= 122 else 0 for b in range(256))
"""Every byte as ROUGE's tokenizer sees it: a small letter or digit, else 0."""
MASKS = np.array([(1 << 8 * length) - 1 for length in range(9)], dtype=np.uint64)
"""The first bytes of a little-endian 64-bit number."""
MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3)
"""Odd multipliers with well spread bits; a key whose slot another key has taken tries the next."""
BITS = 20
"""A token's number has at most this many bits: as a character it is below the end of Unicode."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """Texts as token numbers below 2^20 (int64, one after another) and how many tokens each text has."""

    tokens: np.ndarray
    sizes: np.ndarray

    def owners(self) -> np.ndarray:
        """The text of each token (int64)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def between(self, start: int, end: int) -> Numbered:
        """The texts from `start` to `end`."""
        ends = np.concatenate(([0], np.cumsum(self.sizes)))
        return Numbered(self.tokens[ends[start] : ends[end]], self.sizes[start:end])

    def written(self) -> list[str]:
        """Each text as a string with one character a token (surrogates are left out)."""
        letters = np.where(self.tokens < 0xD800, self.tokens, self.tokens + 0x800).astype("<u4").tobytes().decode("utf-32-le")
        ends = np.cumsum(self.sizes).tolist()
        return [letters[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@functools.lru_cache(maxsize=64)
def numbered_together(texts: tuple[str, ...], stem: Stem | None = None) -> Numbered:
    """The tokens of `words(text, stem)` of each text, as numbers; together at most 2^18 tokens.

    The last blocks are kept: a task is scored by several ROUGEs, and tokenising is most of their work.
    """
    joined = " ".join(texts)
    if not joined.isascii():  # lowering may lengthen a text, and makes a few letters (the Kelvin sign) ASCII
        texts = tuple(text.lower() for text in texts)
        joined = " ".join(texts)
    letters = b"".join((b"\0", joined.encode("ascii", "replace").translate(SPACES), bytes(17)))
    seen = np.frombuffer(letters, dtype=np.uint8) != 0
    edges = np.flatnonzero(seen[1:] != seen[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    borders = 1 + np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1)
    sizes = np.diff(np.searchsorted(starts, borders), prepend=0)
    long = ends - starts
    eight = np.ndarray((len(letters) - 7,), dtype="<u8", buffer=letters, strides=(1,))
    head = eight[starts] & MASKS[np.minimum(long, 8)]
    tail = np.zeros_like(head)
    more = np.flatnonzero(long > 8)
    tail[more] = eight[starts[more] + 8] & MASKS[np.minimum(long[more] - 8, 8)]
    others: dict[bytes, int] = {}
    for place in np.flatnonzero(long > 16).tolist():
        # No token of letters and digits has a last byte above 127, so these pairs are of long tokens only.
        word = letters[starts[place] : ends[place]]
        head[place], tail[place] = others.setdefault(word, len(others)), 1 << 63
    tokens = slots(head, tail, enough_bits(len(head)))
    return Numbered(stemmed(tokens, starts, ends, letters, stem) if stem else tokens, sizes)


def stemmed(tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray, letters: bytes, stem: Stem) -> np.ndarray:
    """Token numbers as numbers of stems; tokens of at most three letters stay."""
    first = np.zeros(int(tokens.max(initial=0)) + 1, dtype=np.int64)
    first[tokens] = np.arange(1, len(tokens) + 1)
    used = np.flatnonzero(first)
    places, known = first[used] - 1, dict[str, int]()
    for slot, start, end in zip(used.tolist(), starts[places].tolist(), ends[places].tolist(), strict=True):
        word = letters[start:end].decode()
        first[slot] = known.setdefault(stem(word) if end - start > 3 else word, len(known))
    numbers: np.ndarray = first[tokens]
    return numbers


def enough_bits(keys: int) -> int:
    """Bits of a table that is at most half full, and so small that it stays in the processor's cache."""
    return max(8, (2 * keys - 1).bit_length())


def slots(head: np.ndarray, tail: np.ndarray | None, bits: int) -> np.ndarray:
    """A number for each key (head, tail), both uint64: the same for equal keys, different for different ones.

    A key takes the slot (below 2^bits) its hash says unless another key sits there; then it tries the next hash. The few
    keys that six hashes do not place are sorted, and numbered from 2^bits on.
    """
    heads = np.zeros(1 << bits, dtype=np.uint64)
    tails = np.zeros(1 << bits, dtype=np.uint64) if tail is not None else None
    taken = np.zeros(1 << bits, dtype=bool)
    found = np.empty(len(head), dtype=np.int64)
    left: np.ndarray | slice = slice(None)
    for mix in MIX:
        a, b = head[left], tail[left] if tail is not None else None
        mixed = a if b is None else a ^ (b * np.uint64(MIX[-1])) ^ (b >> np.uint64(29))
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(mix)
        slot = (mixed >> np.uint64(64 - bits)).astype(np.int64)
        free = slice(None) if isinstance(left, slice) else np.flatnonzero(~taken[slot])
        heads[slot[free]] = a[free]
        same = heads[slot] == a
        if b is not None and tails is not None:
            tails[slot[free]] = b[free]
            same &= tails[slot] == b
        taken[slot] = True
        found[left] = slot
        lost = np.flatnonzero(~same)
        if not len(lost):
            return found
        left = lost if isinstance(left, slice) else left[lost]
    keys = np.stack([head[left], head[left] if tail is None else tail[left]], axis=1)
    found[left] = (1 << bits) + np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return found
