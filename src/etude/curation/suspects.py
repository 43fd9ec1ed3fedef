"""Rows whose label may be wrong: the tuned model still does not believe them.

A model learns rows that agree with each other first and wrong labels last (Arpit et al. 2017, arXiv 1706.05394), so
a row whose loss stays high after tuning is worth a look. What counts as high differs between labels, so a row
is held against the rows of its own label (as in confident learning, Northcutt et al. 2021, arXiv 1911.00068). It is a
list for a person to read, never a reason to drop a row: hard rows are on it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from etude.curation.rows import Row

FEWEST = 20
"""Rows below which a label has no quantiles of its own and is held against all rows of its task."""
SPREADS = 3.0
"""A loss that many robust standard deviations above the median is an outlier (Hampel's rule)."""
NORMAL = 1.4826
"""Standard deviations in a median absolute deviation, for normal values."""
DISBELIEF = math.log(2)
"""Nats a token: above it the model gives the answer's tokens less than half of the probability."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row to look at: its loss (mean nats a trained token), that of the median row of its group, how many robust standard
    deviations lie between, and why in words."""

    id: str
    group: str
    loss: float
    median: float
    spreads: float
    reason: str


def suspects(
    losses: Mapping[str, float],
    rows: Sequence[Row],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    before: Mapping[str, float] | None = None,
    quantile: float = 0.95,
    most: int | None = None,
) -> list[Suspect]:
    """Rows whose loss stays high after tuning, the worst first; at most `most`.

    `losses`: row id -> mean loss (nats a trained token) of the tuned model; `before`: the same of the start model, for
    the reason. `labels`: task -> closed label set (as in `Beside`): rows are then held against rows with the same
    label; others against all of their task. A row is listed when its loss is above its group's `quantile`, above the
    group's median by more than 3 robust standard deviations, and above ln 2. Rows without a loss are
    passed over. Raises ValueError for a quantile that is not between 0 and 1 or a loss that is not a number.
    """
    if not 0 <= quantile < 1:
        raise ValueError(f"quantile is at least 0 and below 1, not {quantile}")
    if any(math.isnan(loss) for loss in losses.values()):
        raise ValueError("a loss is not a number")
    found = []
    for name, members, beside in groups_of([row for row in rows if row.id in losses], labels or {}):
        values = sorted(losses[row.id] for row in beside)
        middle = median(values)
        spread = NORMAL * median(abs(value - middle) for value in values)
        limit = max(at_quantile(values, quantile), middle + SPREADS * spread, DISBELIEF)
        found += [
            suspect(row, name, losses[row.id], middle, spread, (before or {}).get(row.id)) for row in members if losses[row.id] > limit
        ]
    found.sort(key=lambda one: (-one.spreads, -one.loss, one.id))
    return found[:most]


def groups_of(rows: Sequence[Row], labels: Mapping[str, Sequence[str]]) -> list[tuple[str, list[Row], list[Row]]]:
    """(name, rows, rows they are held against): by task and label; a label of fewer than 20 rows is held against all rows
    of its task, as open answers are. A row that was trained twice is one row."""
    tasks: dict[str, dict[str, list[Row]]] = {}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        task, answer = row.record.task, row.answer.strip()
        if (task, row.id) not in seen:
            seen.add((task, row.id))
            tasks.setdefault(task, {}).setdefault(answer if answer in labels.get(task, ()) else "", []).append(row)
    groups = []
    for task, by_label in tasks.items():
        whole = [row for members in by_label.values() for row in members]
        for label, members in by_label.items():
            own = bool(label) and len(members) >= FEWEST
            groups.append((f"{task}: {label}" if own else task, members, members if own else whole))
    return groups


def at_quantile(values: Sequence[float], quantile: float) -> float:
    """The quantile of sorted values, between two of them in proportion."""
    place = quantile * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def suspect(row: Row, group: str, loss: float, middle: float, spread: float, before: float | None) -> Suspect:
    """One row with its reason."""
    # where all rows of a group have the same loss, a hundredth of a nat is the yardstick
    spreads = (loss - middle) / max(spread, 0.01)
    was = f", {before:.2f} before" if before is not None else ""
    stays = "; tuning did not lower it" if before is not None and loss >= before else ""
    reason = (
        f"loss {loss:.2f} nats a token after tuning{was}, where the median of {group!r} is {middle:.2f}: the tuned model gives this "
        f"answer's tokens a probability of {math.exp(-loss):.2f} on average{stays}"
    )
    return Suspect(row.id, group, loss, middle, spreads, reason)
