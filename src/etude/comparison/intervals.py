"""Confidence intervals by formula, and the level all of them have.

Sources: Wilson 1927; Tango 1998 (the difference of two paired shares); Student 1908.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.05
"""Of every test; intervals cover 1 - LEVEL."""
TAIL = LEVEL / 2
"""What an interval leaves out at each end."""
Z = NormalDist().inv_cdf(1 - TAIL)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, of 95 % where nothing else is said, both ends in the metric's own units."""

    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Whether all of it lies strictly between -margin and +margin."""
        return -margin < self.low and self.high < margin


def wilson(successes: float, items: int) -> Interval:
    """Wilson's score interval of a share, on 0 to 1."""
    share = successes / items
    spread = Z * math.sqrt(share * (1 - share) / items + Z**2 / (4 * items**2))
    middle, stretch = share + Z**2 / (2 * items), 1 + Z**2 / items
    return Interval(max(0.0, (middle - spread) / stretch), min(1.0, (middle + spread) / stretch))


def tango(won: int, lost: int, items: int, tail: float = TAIL) -> Interval:
    """Tango's score interval of the difference of two paired shares: the differences that the score
    test does not refuse. Agrees with McNemar's test about 0, and holds without a single disagreement."""
    z = NormalDist().inv_cdf(1 - tail)

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
            inside, outside = (middle, outside) if abs(score(middle)) <= z else (inside, middle)
        return inside

    seen = (won - lost) / items
    return Interval(end(seen, -1.0), end(seen, 1.0))


def t_interval(middle: float, error: float, df: float, tail: float = TAIL) -> Interval:
    """Student's interval about `middle`; `error`: its standard error, `df`: degrees of freedom (infinity: the normal law)."""
    half = t_quantile(df, 1 - tail) * error
    return Interval(middle - half, middle + half)


def t_quantile(df: float, share: float) -> float:
    """The value below which `share` of Student's law lies."""
    if math.isinf(df):
        return NormalDist().inv_cdf(share)
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def percentiles(scores: np.ndarray, tail: float = TAIL) -> Interval:
    """The middle of resampled scores, without `tail` at each end."""
    low, high = np.quantile(scores, (tail, 1 - tail))
    return Interval(float(low), float(high))
