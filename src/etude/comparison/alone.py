"""The interval of one arm's score."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from etude.comparison import drawing
from etude.comparison.arms import coded, kind, score, stacked, summed
from etude.comparison.crossed import spread, values
from etude.comparison.intervals import Interval, percentiles, t_interval, wilson
from etude.metrics import Metric, bounds


def interval(stats: np.ndarray, metric: Metric, seed: int = 0, *, groups: Sequence[Hashable] | None = None) -> Interval:
    """Of statistics (items, k), or (seeds, items, k) about the mean of the seeds; the metric's whole range where nothing can be said.

    One seed: Wilson's of shares, t of means, bootstrap of corpus metrics. Several: items x seeds (see `etude.comparison.crossed`).
    """
    arm, whole = stacked(stats), Interval(*bounds(metric))
    seeds, items = arm.shape[:2]
    if items == 0 or not np.isfinite(arm).all():
        return whole
    of, codes = kind(arm), coded(groups, items)
    if of == "binary" and seeds == 1 and codes is None:
        return wilson(float(arm[0, :, 0].sum()), items)
    if items == 1 or (codes is not None and not codes.any()):
        return whole
    if of == "corpus" and seeds == 1:
        scores = drawing.resampled(metric, seed, summed(arm[0], codes))[0]
        return percentiles(scores) if np.isfinite(scores).all() else whole
    own = values(arm, metric, of == "corpus")
    if not np.isfinite(own).all():
        return whole
    middle = score(arm, metric)
    if seeds == 1:
        own = np.concatenate([own, own])  # a second seed that is the same adds nothing
    found = spread([own], codes)
    if of == "binary" and found.error == 0:  # all right, or all wrong: not sure for that
        units = items if codes is None else int(codes.max()) + 1
        return wilson(middle * units, units)
    between = t_interval(middle, found.error, found.df)
    return Interval(max(whole.low, between.low), min(whole.high, between.high))
