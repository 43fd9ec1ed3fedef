"""How small a difference a design can show: before it is run, and beside a verdict."""

from __future__ import annotations

import math
from statistics import NormalDist

from etude.comparison.intervals import LEVEL, t_quantile
from etude.metrics import Metric, item_sd, right_or_wrong

POWER = 0.8
REACH = NormalDist().inv_cdf(1 - LEVEL / 2) + NormalDist().inv_cdf(POWER)
"""Standard errors that a difference must span to be found with 80 % power at the level (2.80)."""


def reach(df: float = math.inf, family: int = 1) -> float:
    """The same at `df` degrees of freedom (3.7 at 4: few seeds), for one of `family` comparisons (Bonferroni's level)."""
    return t_quantile(df, 1 - LEVEL / (2 * family)) + t_quantile(df, POWER)


def smallest_difference(
    items: int,
    disagreement: float = 0.2,
    *,
    seeds: int = 1,
    seed_sd: float = 0.0,
    item_sd: float | None = None,
    groups: int | None = None,
    family: int = 1,
) -> float:
    """The smallest difference of two arms that `items` paired items show with 80 % power, in the metric's unit.

    `disagreement`: of two accuracies, the share of items on which the arms differ (one right, the other wrong); of other metrics give
    `item_sd`, the standard deviation of the items' differences. `seeds` an arm, `seed_sd`: how far training seeds move an arm's score
    (1 to 3 points of accuracy are usual for small models). The parts add in quadrature:

        reach * sqrt(disagreement / items + 2 seed_sd^2 / seeds)

    with a reach of 2.80, more for few seeds (Student's law at Satterthwaite's degrees of freedom) and for a `family` of comparisons. The
    items' part takes no credit for averaging over seeds, so several seeds show rather less than this. `groups`: of the items (passages,
    say), counted as if the items of one told the same. Raises ValueError for no items or seeds, a share outside 0 to 1, or a negative sd.
    """
    if items < 1 or (item_sd is None and not 0 < disagreement <= 1):
        raise ValueError(f"need at least one item and a disagreement in (0, 1], not {items} and {disagreement}")
    if seeds < 1 or family < 1 or seed_sd < 0 or (item_sd or 0) < 0 or (groups is not None and not 1 <= groups <= items):
        raise ValueError("need at least one seed and comparison, standard deviations of 0 or more, and 1 to `items` groups")
    units = items if groups is None else groups
    of_items = (disagreement if item_sd is None else item_sd**2) / units
    of_seeds = seed_sd**2 / seeds
    total = of_items + 2 * of_seeds
    below = of_items**2 / max(1, units - 1) + (2 * of_seeds**2 / (seeds - 1) if seeds > 1 else 0.0)
    df = total**2 / below if seeds > 1 and of_seeds > 0 else math.inf
    found = reach(df, family) * math.sqrt(total)
    return min(1.0, found) if item_sd is None else found


def planned_difference(
    metric: Metric,
    items: int,
    *,
    own_sd: float | None = None,
    seeds: int = 1,
    seed_sd: float = 0.0,
    groups: int | None = None,
    family: int = 1,
) -> tuple[float | None, str]:
    """`smallest_difference` of a metric, in its unit, and what it takes for granted; None, and why, where nothing is known of its rows.

    `own_sd`: how far two models' numbers for a row are thought to differ; by default what is usual for the metric, and of right and wrong
    answers a fifth that differ. Other arguments and errors as there.
    """
    sd = own_sd if own_sd is not None else item_sd(metric)
    if sd is None and not right_or_wrong(metric):
        return None, "it is not known how far two models' numbers for a row of this metric differ"
    return smallest_difference(items, seeds=seeds, seed_sd=seed_sd, item_sd=sd, groups=groups, family=family), assumed(sd)


def assumed(item_sd: float | None) -> str:
    """What a plan takes for granted of items, in words."""
    if item_sd is None:
        return "80 % power, a fifth of the rows disagreeing"
    return f"80 % power, two models' numbers for a row differing by {item_sd:g} (standard deviation)"
