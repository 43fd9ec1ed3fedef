"""Start against tuned in one metric: scores, intervals, the paired test, over rows or over groups of rows that are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etude import comparison, journal
from etude.metrics import Metric, lower_is_better
from etude.recipe import Recipe
from etude.reporting.findings import Baseline, Measure
from etude.scoring import Measured, Task

Rows = list[dict[str, Any]]


class Groups(NamedTuple):
    """A field of the rows, and the value of each."""

    field: str
    values: list[str]


def groups_of(folder: Path, recipe: Recipe, task: Task, rows: Rows) -> Groups | None:
    """Each answer's value of the field by which the split kept rows together: such rows are alike. None where they have none."""
    field = recipe.split.group
    found = grouping(values_of(folder, task.split, field, [row["id"] for row in rows])) if field else None
    return Groups(field, found) if field and found else None


def grouping(values: Sequence[Any]) -> list[str] | None:
    """The values as groups; None where an item has no value."""
    return None if any(one is None for one in values) else [str(one) for one in values]


def values_of(folder: Path, split: str, field: str, ids: Sequence[str]) -> list[Any]:
    """Each item's value of a field of its row in a run folder; None for an item that has none."""
    path = folder / "curated" / f"{split}.jsonl"
    known = {row["id"]: row["fields"].get(field) for row in journal.read(path)} if path.is_file() else {}
    return [known.get(id) for id in ids]


def number(one: Measured, metric: Metric, seed: int, groups: Groups | None = None) -> dict[str, Any]:
    """One arm's score as plain data."""
    between = comparison.interval(one.stats, metric, seed, groups=groups and groups.values)
    return {"value": one.value, "interval": [between.low, between.high], "items": len(one.stats), "signature": one.signature}


def measure(name: str, metric: Metric, measured: Mapping[str, Mapping[str, Measured]], seed: int, groups: Groups | None = None) -> Measure:
    """Start against tuned in one metric, with the baselines beside it; rows of one group count as alike."""
    start, tuned, alike = measured["start"][name], measured["tuned"][name], groups and groups.values
    found = comparison.compare(start.stats, tuned.stats, metric, seed, groups=alike)

    def sure(one: Measured) -> tuple[float, float]:
        return ends(comparison.interval(one.stats, metric, seed, groups=alike))

    baselines: dict[str, Baseline] = {
        arm: {"value": values[name].value, "interval": sure(values[name])}
        for arm, values in measured.items()
        if arm not in ("start", "tuned") and name in values
    }
    return Measure(
        metric=name,
        base=start.value,
        base_interval=sure(start),
        tuned=tuned.value,
        tuned_interval=sure(tuned),
        difference=found.difference,
        interval=ends(found.interval),
        p=found.p,
        items=found.items,
        signature=tuned.signature,
        scale=metric.scale,
        verdict=found.verdict,
        label=found.label,
        baselines=baselines,
        lower=lower_is_better(metric),
        groups=found.groups,
        group=groups.field if groups and found.groups else "",
    )


def ends(interval: comparison.Interval) -> tuple[float, float]:
    """An interval as (low, high)."""
    return interval.low, interval.high
