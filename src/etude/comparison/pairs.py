"""Two arms on the same items, of one training seed or of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from etude.comparison import drawing
from etude.comparison.arms import Kind, coded, kind, score, stacked, summed, untestable
from etude.comparison.crossed import spread, values
from etude.comparison.found import ONE_SEED, Comparison, worded
from etude.comparison.intervals import LEVEL, TAIL, Interval, percentiles, t_interval, tango
from etude.comparison.power import reach
from etude.metrics import Metric, bounds, lower_is_better
from etude.seeds import stream


@dataclass(frozen=True, slots=True)
class Tested:
    """Intervals of the difference (95 %; and the one that two one-sided tests read), p, the smallest difference that would have been
    seen (NaN: not known), the method, and why there is no test ("" if there is)."""

    interval: Interval
    narrow: Interval
    p: float
    smallest: float
    method: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms, (seeds, items, k) each, as a test takes them; `codes`: the items' groups, `family`: comparisons made at once."""

    base: np.ndarray
    tuned: np.ndarray
    metric: Metric
    seed: int
    codes: np.ndarray | None
    family: int

    def untested(self, why: str = "", p: float = 1.0, method: str = "none") -> Tested:
        """What is known without an interval."""
        whole = Interval(-self.metric.scale, self.metric.scale)
        return Tested(whole, whole, p, math.inf, method, why)

    @property
    def tail(self) -> float:
        """What a one-sided test may err: the level, shared out among the family (Bonferroni)."""
        return LEVEL / self.family


def compare(
    base: np.ndarray,
    tuned: np.ndarray,
    metric: Metric,
    seed: int = 0,
    *,
    groups: Sequence[Hashable] | None = None,
    margin: float | None = None,
    family: int = 1,
) -> Comparison:
    """Tuned against base: statistics (items, k) of one seed, or (seeds, items, k); row i of all is the same item.

    `seed` draws the randomisation; `groups`: the group of each item (a passage, a problem), where items of one group are alike;
    `margin`, chosen before the scores were seen, asks for equivalence within +-margin; `family`: how many comparisons are made at once,
    for the smallest difference and equivalence (`etude.comparison.compare_arms` corrects p). Raises ValueError where shapes do not
    fit, or for a margin of 0 or less.
    """
    base, tuned = stacked(base), stacked(tuned)
    if base.shape[1:] != tuned.shape[1:]:
        raise ValueError(f"statistics of different shapes cannot be paired: {base.shape[1:]} and {tuned.shape[1:]}")
    if margin is not None and not 0 < margin < math.inf:
        raise ValueError(f"a margin is a difference above 0, not {margin}")
    items, seeds, of = base.shape[1], (len(base), len(tuned)), kind(base, tuned)
    codes = coded(groups, items)
    why = untestable(base, tuned, of, codes)
    label = ONE_SEED if max(seeds) == 1 else f"{seeds[0]} and {seeds[1]} seeds"
    whole = Interval(-metric.scale, metric.scale)
    count = 0 if codes is None else int(codes.max()) + 1
    if items == 0 or not (np.isfinite(base).all() and np.isfinite(tuned).all()):
        return worded(Comparison(math.nan, whole, 1.0, items, "none", label, "", seeds=seeds, family=family, groups=count, why=why))
    difference = score(tuned, metric) - score(base, metric)
    tested = test(Pair(base, tuned, metric, seed, codes, family), of, difference)
    why = why or tested.why
    won, lost = (0, 0) if of == "corpus" else counts(base, tuned, metric)
    found = Comparison(
        difference,
        tested.interval,
        tested.p,
        items,
        tested.method,
        label,
        "",
        smallest=visible(tested.smallest, metric),
        adjusted=tested.p,
        family=family,
        seeds=seeds,
        groups=count,
        won=won,
        lost=lost,
        margin=margin,
        equivalent=None if margin is None else not why and tested.narrow.within(margin),
        why=why,
        scale=metric.scale,
        lower=lower_is_better(metric),
    )
    return worded(found)


def test(pair: Pair, of: Kind, difference: float) -> Tested:
    """The test of the statistics' kind and of the number of seeds."""
    seeds, alone = (len(pair.base), len(pair.tuned)), pair.codes is not None and not pair.codes.any()
    if not math.isfinite(difference):
        return pair.untested("the metric has no finite value for these answers")
    if alone or min(seeds) == 1 < max(seeds) or (min(seeds) > 1 and pair.base.shape[1] == 1):
        return pair.untested()
    if min(seeds) > 1:
        return paired_seeds(pair, difference, of == "corpus")
    return (TESTS if pair.codes is None else GROUPED)[of](pair)


def visible(smallest: float, metric: Metric) -> float:
    """The smallest difference that would have been seen; infinity where no two scores of the metric are so far apart."""
    low, high = bounds(metric)
    return math.inf if smallest > high - low else smallest


def counts(base: np.ndarray, tuned: np.ndarray, metric: Metric) -> tuple[int, int]:
    """Items on which tuned is better and worse, seeds averaged."""
    gaps = tuned[..., 0].mean(axis=0) - base[..., 0].mean(axis=0)
    higher, lower = int((gaps > 1e-12).sum()), int((gaps < -1e-12).sum())
    return (lower, higher) if lower_is_better(metric) else (higher, lower)


# ---- one seed an arm ---------------------------------------------------------------------------------


def paired_binary(pair: Pair) -> Tested:
    """Right or wrong: McNemar's test on the items where the arms disagree."""
    base, tuned = pair.base[0, :, 0], pair.tuned[0, :, 0]
    won, lost, items = int((tuned > base).sum()), int((tuned < base).sum()), len(base)
    far = reach(family=pair.family)
    # A difference is at most the disagreement, so a tiny one seen here bounds nothing below reach^2 / items.
    smallest = max(far * math.sqrt((won + lost) / items), far**2 / math.sqrt(items)) / math.sqrt(items)
    method = f"McNemar mid-p ({won} won, {lost} lost), Tango score interval"
    return Tested(tango(won, lost, items), tango(won, lost, items, pair.tail), mid_p(won, lost), min(1.0, smallest), method)


def paired_mean(pair: Pair) -> Tested:
    """Any values: flip the signs of the items' differences, or of the groups' sums of them, at random."""
    differences = pair.tuned[0, :, 0] - pair.base[0, :, 0]
    p = sign_flip_of(pair, differences)
    if len(differences) < 2:
        return pair.untested(p=p, method="sign-flip randomisation")
    mean, items = float(differences.mean()), len(differences)
    rows = summed(differences - mean, pair.codes)
    groups = len(rows)
    error = math.sqrt(groups / (groups - 1) * float((rows**2).sum())) / items
    between, narrow = t_interval(mean, error, groups - 1), t_interval(mean, error, groups - 1, pair.tail)
    flips, what = ("sign-flip", "paired t interval") if pair.codes is None else ("group sign-flip", "clustered t interval")
    flat = error <= 1e-12 * pair.metric.scale  # all moved alike: nothing tells what else would have been seen
    smallest = math.nan if flat else reach(family=pair.family) * error
    return Tested(between, narrow, p, smallest, f"{flips} randomisation ({drawing.DRAWS} draws), {what}")


def sign_flip_of(pair: Pair, differences: np.ndarray) -> float:
    """The randomisation test on items, or on groups, which keep their signs together."""
    return drawing.sign_flip(summed(differences, pair.codes), stream(pair.seed, "comparison", "signs"))


def paired_corpus(pair: Pair) -> Tested:
    """Corpus scores: swap the arms' statistics item by item (group by group) at random."""
    base, tuned = summed(pair.base[0], pair.codes), summed(pair.tuned[0], pair.codes)
    p = drawing.swapped(base, tuned, pair.metric, stream(pair.seed, "comparison", "swaps"))
    if len(base) < 2:
        return pair.untested(p=p, method="approximate randomisation")
    scores = drawing.resampled(pair.metric, pair.seed, base, tuned)
    if not np.isfinite(scores).all():
        return pair.untested("the metric has no finite value for some draws of the items")
    gaps = scores[1] - scores[0]
    error = float(gaps.std(ddof=1))
    flat = error <= 1e-12 * pair.metric.scale
    if flat and p >= LEVEL:
        return pair.untested("nothing varies: no draw of the items moves the difference")
    of = "" if pair.codes is None else "group "
    method = f"{of}approximate randomisation ({drawing.DRAWS} draws), {of}paired bootstrap interval ({drawing.RESAMPLES} resamples)"
    smallest = math.nan if flat else reach(family=pair.family) * error
    return Tested(percentiles(gaps), percentiles(gaps, pair.tail), p, smallest, method)


TESTS: dict[Kind, Callable[[Pair], Tested]] = {"binary": paired_binary, "mean": paired_mean, "corpus": paired_corpus}
GROUPED: dict[Kind, Callable[[Pair], Tested]] = {"binary": paired_mean, "mean": paired_mean, "corpus": paired_corpus}
"""With groups: McNemar's test takes each item for itself."""


def mid_p(won: int, lost: int) -> float:
    """Two-sided mid-p of McNemar's test: the binomial tail with half of what was seen itself."""
    from scipy.special import bdtr

    if won == lost:
        return 1.0
    total, fewer = won + lost, min(won, lost)
    below = float(bdtr(fewer - 1, total, 0.5)) if fewer else 0.0
    return min(1.0, below + float(bdtr(fewer, total, 0.5)))


# ---- several seeds an arm ----------------------------------------------------------------------------


def paired_seeds(pair: Pair, difference: float, corpus: bool) -> Tested:
    """Items crossed with seeds: a t test.

    Of a corpus metric over jackknife values; there p is no smaller than that of approximate randomisation over the items, whose
    statistics are averaged over seeds: the one knows of seeds, the other needs no linear score.
    """
    arms = [values(arm, pair.metric, corpus) for arm in (pair.base, pair.tuned)]
    if not all(np.isfinite(arm).all() for arm in arms):
        return pair.untested("the metric has no value without some one item")
    found = spread(arms, pair.codes)
    if found.error <= 1e-12 * pair.metric.scale:
        return pair.untested("nothing varies: in every run every item moved by the same amount")
    from scipy.special import stdtr

    p = min(1.0, 2 * float(stdtr(found.df, -abs(difference) / found.error)))
    items = "items" if pair.codes is None else "groups of items"
    method = f"{items} x seeds standard error, Satterthwaite t ({found.df:.1f} degrees of freedom)"
    if corpus:
        base, tuned = (summed(arm.mean(axis=0), pair.codes) for arm in (pair.base, pair.tuned))
        p = max(p, drawing.swapped(base, tuned, pair.metric, stream(pair.seed, "comparison", "swaps")))
        method = f"{method} over jackknife values; p at least that of approximate randomisation ({drawing.DRAWS} draws)"
    between, narrow = (t_interval(difference, found.error, found.df, tail) for tail in (TAIL, pair.tail))
    return Tested(between, narrow, p, reach(found.df, pair.family) * found.error, method)
