"""Two arms on the same items: how much better, how sure, and in words.

Everything starts from a metric's statistics, float64, shape (items, k), and never from texts. Three
kinds of them are told apart by the metrics' convention (`etude.metrics.Metric.stats`):

| rows                      | one arm                       | two arms                                           |
|---------------------------|-------------------------------|----------------------------------------------------|
| (0 or 1, 1)               | Wilson score interval         | McNemar mid-p; Tango's score interval              |
| (value, 1)                | t interval of the mean        | sign-flip randomisation; paired t interval         |
| anything else (corpus)    | percentile bootstrap          | approximate randomisation; paired bootstrap        |

Sources: Wilson 1927; Fagerland, Lydersen and Laake 2013 (mid-p); Tango 1998 (paired interval); Fisher
1935 (sign flips); Riezler and Maxwell 2005 and sacrebleu (randomising sufficient statistics).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from etude.metrics import Metric, bounds, lower_is_better
from etude.seeds import stream

LEVEL = 0.05
DRAWS = 10_000
"""Random assignments of a randomisation test (sacrebleu's default)."""
RESAMPLES = 1_000
"""Resamples of a bootstrap (sacrebleu's default)."""
ONE_SEED = "these checkpoints only"
"""What one training seed can speak for: two checkpoints, not two methods."""

Z = NormalDist().inv_cdf(1 - LEVEL / 2)
REACH = Z + NormalDist().inv_cdf(0.8)
"""Standard errors that a difference must span to be found with 80 % power at the level (2.80)."""
BLOCK = 2_000_000
"""Numbers held at once while drawing, so that memory does not grow with draws x items."""

Kind = Literal["binary", "mean", "corpus"]
FEWEST: dict[Kind, int] = {"binary": 5, "mean": 6, "corpus": 6}
"""With fewer items than this even a clean sweep has p > .05: mid-p 2^-n, sign flips 2 * 2^-n."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval, both ends in the metric's own units."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned minus base. `p` is two-sided, and 1 where nothing could be tested; `verdict` begins
    with "better", "worse", "no difference shown" or "cannot test"."""

    difference: float
    interval: Interval
    p: float
    items: int
    method: str
    label: str
    verdict: str


def interval(stats: np.ndarray, metric: Metric, seed: int = 0) -> Interval:
    """The interval of one arm's score; the whole range of the metric where nothing can be said."""
    whole = Interval(*bounds(metric))
    if len(stats) == 0 or not np.isfinite(stats).all():
        return whole
    of = kind(stats)
    if of == "binary":
        return wilson(float(stats[:, 0].sum()), len(stats))
    if len(stats) == 1:
        return whole
    if of == "mean":
        mean, half = float(stats[:, 0].mean()), t_half_width(stats[:, 0])
        return Interval(max(whole.low, mean - half), min(whole.high, mean + half))
    return percentiles(resampled(metric, seed, stats)[0])


def compare(base: np.ndarray, tuned: np.ndarray, metric: Metric, seed: int = 0) -> Comparison:
    """Tuned against base, row i of both being the same item; `seed` draws the randomisation.

    Raises ValueError where the two do not have the same shape.
    """
    if base.shape != tuned.shape or base.ndim != 2:
        raise ValueError(f"statistics of different shapes cannot be paired: {base.shape} and {tuned.shape}")
    of = kind(base, tuned)
    why = untestable(base, tuned, of)
    items = len(base)
    if items == 0 or not (np.isfinite(base).all() and np.isfinite(tuned).all()):
        whole = Interval(-metric.scale, metric.scale)
        return Comparison(math.nan, whole, 1.0, items, "none", ONE_SEED, f"cannot test: {why}")
    difference = metric.score(tuned.sum(axis=0)) - metric.score(base.sum(axis=0))
    found, p, smallest, method = TESTS[of](base, tuned, metric, seed)
    words = f"cannot test: {why}" if why else verdict(difference, found, p, smallest, metric.scale, lower_is_better(metric))
    return Comparison(difference, found, p, items, method, ONE_SEED, words)


def smallest_difference(items: int, disagreement: float = 0.2) -> float:
    """The smallest difference of two accuracies that `items` paired items show with 80 % power.

    `disagreement` is the share of items on which the arms differ (one right, the other wrong).
    On 0 to 1. Raises ValueError for no items or a share outside 0 to 1.
    """
    if items < 1 or not 0 < disagreement <= 1:
        raise ValueError(f"need at least one item and a disagreement in (0, 1], not {items} and {disagreement}")
    return min(1.0, REACH * math.sqrt(disagreement / items))


def kind(*arms: np.ndarray) -> Kind:
    """What the rows are, by the metrics' convention."""
    rows = np.concatenate(arms)
    if rows.shape[1] != 2 or not (rows[:, 1] == 1).all():
        return "corpus"
    return "binary" if np.isin(rows[:, 0], (0, 1)).all() else "mean"


def untestable(base: np.ndarray, tuned: np.ndarray, of: Kind) -> str:
    """Why these arms cannot be tested; "" if they can."""
    items = len(base)
    if items == 0:
        return "there are no items"
    broken = ~(np.isfinite(base) & np.isfinite(tuned)).all(axis=1)
    if broken.any():
        return f"{broken.sum()} of {items} items have a score that is NaN or infinite"
    if items < FEWEST[of]:
        return f"{items} item{'s' if items > 1 else ''}, and no outcome of fewer than {FEWEST[of]} has p < .05"
    if (base == tuned).all():
        return f"all {items} items are ties"
    return ""


def verdict(difference: float, found: Interval, p: float, smallest: float, scale: float, lower: bool = False) -> str:
    """The comparison in words; `lower`: a smaller score is the better one."""
    digits = 3 if scale <= 1 else 2
    if p < LEVEL:
        sure = "p < .001" if p < 0.001 else f"p = {p:.3f}"
        side = "better" if (difference > 0) != lower else "worse"
        return f"{side}: {difference:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}], {sure}"
    return f"no difference shown; could have seen >= {smallest:.{digits}f}"


Tested = tuple[Interval, float, float, str]
"""Interval of the difference, p, smallest difference that would have been seen, and the method."""


def paired_binary(base: np.ndarray, tuned: np.ndarray, metric: Metric, seed: int) -> Tested:
    """Right or wrong: McNemar's test on the items where the arms disagree."""
    won = int((tuned[:, 0] > base[:, 0]).sum())
    lost = int((tuned[:, 0] < base[:, 0]).sum())
    items = len(base)
    # A difference is at most the disagreement, so a tiny one seen here bounds nothing below REACH^2 / items.
    smallest = max(REACH * math.sqrt((won + lost) / items), REACH**2 / math.sqrt(items)) / math.sqrt(items)
    return tango(won, lost, items), mid_p(won, lost), min(1.0, smallest), f"McNemar mid-p ({won} won, {lost} lost), Tango score interval"


def paired_mean(base: np.ndarray, tuned: np.ndarray, metric: Metric, seed: int) -> Tested:
    """Any values: flip the signs of the items' differences at random."""
    differences = tuned[:, 0] - base[:, 0]
    p = sign_flip(differences, stream(seed, "comparison", "signs"))
    if len(differences) < 2:
        return Interval(-metric.scale, metric.scale), p, metric.scale, "sign-flip randomisation"
    mean, half = float(differences.mean()), t_half_width(differences)
    smallest = REACH * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return Interval(mean - half, mean + half), p, smallest, f"sign-flip randomisation ({DRAWS} draws), paired t interval"


def paired_corpus(base: np.ndarray, tuned: np.ndarray, metric: Metric, seed: int) -> Tested:
    """Corpus scores: swap the arms' statistics item by item at random."""
    p = swapped(base, tuned, metric, stream(seed, "comparison", "swaps"))
    if len(base) < 2:
        return Interval(-metric.scale, metric.scale), p, metric.scale, "approximate randomisation"
    scores = resampled(metric, seed, base, tuned)
    method = f"approximate randomisation ({DRAWS} draws), paired bootstrap interval ({RESAMPLES} resamples)"
    return percentiles(scores[1] - scores[0]), p, REACH * float((scores[1] - scores[0]).std(ddof=1)), method


TESTS: dict[Kind, Callable[[np.ndarray, np.ndarray, Metric, int], Tested]] = {
    "binary": paired_binary,
    "mean": paired_mean,
    "corpus": paired_corpus,
}


def mid_p(won: int, lost: int) -> float:
    """Two-sided mid-p of McNemar's test: the binomial tail with half of what was seen itself."""
    from scipy.special import bdtr

    if won == lost:
        return 1.0
    total, fewer = won + lost, min(won, lost)
    below = float(bdtr(fewer - 1, total, 0.5)) if fewer else 0.0
    return min(1.0, below + float(bdtr(fewer, total, 0.5)))


def wilson(successes: float, items: int) -> Interval:
    """Wilson's score interval of a share, on 0 to 1."""
    share = successes / items
    spread = Z * math.sqrt(share * (1 - share) / items + Z**2 / (4 * items**2))
    middle, stretch = share + Z**2 / (2 * items), 1 + Z**2 / items
    return Interval(max(0.0, (middle - spread) / stretch), min(1.0, (middle + spread) / stretch))


def tango(won: int, lost: int, items: int) -> Interval:
    """Tango's score interval of the difference of two paired shares: the differences that the score
    test does not refuse. Agrees with McNemar's test about 0, and holds without a single disagreement."""

    def score(difference: float) -> float:
        # Standardised distance of won - lost from `difference`, with the most likely share lost under it.
        b = (2 * items - won + lost) * difference - won - lost
        c = -lost * difference * (1 - difference)
        share = (math.sqrt(max(0.0, b * b - 8 * items * c)) - b) / (4 * items)
        variance = items * (2 * share + difference * (1 - difference))
        gap = won - lost - items * difference
        return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0

    def end(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if abs(score(middle)) <= Z else (inside, middle)
        return inside

    seen = (won - lost) / items
    return Interval(end(seen, -1.0), end(seen, 1.0))


def t_half_width(values: np.ndarray) -> float:
    """Half the width of the t interval of a mean, for two values or more."""
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, 1 - LEVEL / 2)) * float(values.std(ddof=1)) / math.sqrt(len(values))


def sign_flip(differences: np.ndarray, draws: np.random.Generator) -> float:
    """Two-sided p of the mean difference when every sign is as likely as the other: (c + 1) / (n + 1)."""
    moved = differences[differences != 0]
    seen, slack = abs(moved.sum()), 1e-9 * np.abs(moved).sum()
    count = 0
    for flips in coins(draws, len(moved), 1):
        count += int((np.abs(moved.sum() - 2 * (flips @ moved)) >= seen - slack).sum())
    return (count + 1) / (DRAWS + 1)


def swapped(base: np.ndarray, tuned: np.ndarray, metric: Metric, draws: np.random.Generator) -> float:
    """Two-sided p of the difference of two corpus scores when each item's two statistics may change
    arms: (c + 1) / (n + 1). A draw as far apart as what was seen counts."""
    first, second = base.sum(axis=0), tuned.sum(axis=0)
    steps = (tuned - base)[(tuned != base).any(axis=1)]
    if not len(steps):
        return 1.0
    seen, slack = abs(metric.score(second) - metric.score(first)), 1e-9 * metric.scale
    count = 0
    for swaps in coins(draws, len(steps), base.shape[1]):
        moved = swaps @ steps
        gaps = np.array([metric.score(second - move) - metric.score(first + move) for move in moved])
        count += int((np.abs(gaps) >= seen - slack).sum())
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


def percentiles(scores: np.ndarray) -> Interval:
    """The middle 95 % of resampled scores."""
    low, high = np.quantile(scores, (LEVEL / 2, 1 - LEVEL / 2))
    return Interval(float(low), float(high))
