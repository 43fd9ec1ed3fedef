"""Tests and intervals that draw at random: sign flips, swaps between arms, resampling.

Sources: Fisher 1935 (sign flips); Riezler and Maxwell 2005 and sacrebleu (swapping sufficient statistics); Efron 1979 (bootstrap).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from etude.metrics import Metric
from etude.seeds import stream

DRAWS = 10_000
"""Random assignments of a randomisation test (sacrebleu's default)."""
RESAMPLES = 1_000
"""Resamples of a bootstrap (sacrebleu's default)."""
BLOCK = 2_000_000
"""Numbers held at once while drawing, so that memory does not grow with draws x items."""


def sign_flip(differences: np.ndarray, draws: np.random.Generator) -> float:
    """Two-sided p of the mean difference when every sign is as likely as the other: (c + 1) / (n + 1).

    Only sizes are flipped, in the order of size: neither the order of the items nor which arm is first moves p.
    """
    moved = np.sort(np.abs(differences[differences != 0]))
    seen, slack = abs(differences.sum()), 1e-9 * moved.sum()
    count = 0
    for flips in coins(draws, len(moved), 1):
        count += int((np.abs(moved.sum() - 2 * (flips @ moved)) >= seen - slack).sum())
    return (count + 1) / (DRAWS + 1)


def swapped(base: np.ndarray, tuned: np.ndarray, metric: Metric, draws: np.random.Generator) -> float:
    """Two-sided p of the difference of two corpus scores when each item's two statistics may change
    arms: (c + 1) / (n + 1). A draw as far apart as what was seen counts, and one without a finite score."""
    first, second = base.sum(axis=0), tuned.sum(axis=0)
    steps = (tuned - base)[(tuned != base).any(axis=1)]
    if not len(steps):
        return 1.0
    seen, slack = abs(metric.score(second) - metric.score(first)), 1e-9 * metric.scale
    count = 0
    for swaps in coins(draws, len(steps), base.shape[1]):
        moved = swaps @ steps
        gaps = np.array([metric.score(second - move) - metric.score(first + move) for move in moved])
        count += int((~(np.abs(gaps) < seen - slack)).sum())
    return (count + 1) / (DRAWS + 1)


def coins(draws: np.random.Generator, items: int, width: int) -> Iterator[np.ndarray]:
    """DRAWS rows of fair coins (float64 0 or 1, shape (block, items)), a block at a time."""
    block = max(1, BLOCK // max(items, width, 1))
    for start in range(0, DRAWS, block):
        rows = min(block, DRAWS - start)
        bits = np.frombuffer(draws.bytes(rows * ((items + 7) // 8)), dtype=np.uint8).reshape(rows, -1)
        yield np.unpackbits(bits, axis=1, count=items).astype(np.float64)


def resampled(metric: Metric, seed: int, *arms: np.ndarray) -> np.ndarray:
    """float64, shape (arms, RESAMPLES): scores of items drawn with replacement, the same for each arm."""
    draws = stream(seed, "comparison", "bootstrap")
    items, width = arms[0].shape
    block = max(1, BLOCK // max(items, width))
    scores: list[list[float]] = [[] for _ in arms]
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        picks = draws.integers(items, size=(rows, items)) + items * np.arange(rows)[:, None]
        counts = np.bincount(picks.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float64)
        for arm, found in zip(arms, scores, strict=True):
            found.extend(metric.score(totals) for totals in counts @ arm)
    return np.array(scores)
