"""A comparison as lines for people, and as plain data."""

from __future__ import annotations

import math
from typing import Any

from etude.comparing import SCHEMA, Compared, Measured, Reached
from etude.comparison import Comparison, Interval


def as_text(found: list[Compared]) -> str:
    """All tasks, one under the other."""
    return "\n\n".join("\n".join(lines(one)) for one in found)


def lines(one: Compared) -> list[str]:
    """One task: the verdict on the primary metric, the numbers it stands on, and what else was looked at."""
    primary, *others = one.metrics
    said = [f"NOT COMPARABLE, forced: {reason}" for reason in one.forced]
    groups = next(iter(primary.against.values())).groups
    items = f"{one.items:,} items" + (f" in {groups:,} groups by {one.group}" if one.group else "")
    better = "less is better" if primary.lower else "more is better"
    said.append(f"{one.task + ': ' if one.task else ''}{items}; {primary.name}, {better}; against {one.baseline}")
    for arm, result in primary.against.items():
        said.append(f"  {arm}: {verdict(one, result)}")
    said += ["", *table(one, primary), ""]
    methods = {arm: result.method for arm, result in primary.against.items()}
    if len(set(methods.values())) == 1:
        methods = {"": next(iter(methods.values()))}
    said += [f"  {arm + ' ' if arm else ''}tested by {method}" for arm, method in methods.items()]
    if len(primary.against) > 1:
        said.append(f"  adjusted p: Holm over {len(primary.against)} arms; intervals are not adjusted")
    said.append(f"  {primary.signature}")
    if others:
        count = sum(len(metric.against) for metric in others)
        said += ["", f"  exploratory: {count} further comparisons, q by Benjamini and Hochberg, judged at 10 %"]
        for metric in others:
            values = ", ".join(f"{arm} {number(reached.value, metric.scale)}" for arm, reached in metric.arms.items())
            said += [f"  {metric.name}: {values}", *(f"    {arm}: {result.verdict}" for arm, result in metric.against.items())]
    return said + [f"note: {text}" for text in one.notes]


def verdict(one: Compared, result: Comparison) -> str:
    """The verdict with what it speaks for, and what speaks against it."""
    forced = "; NOT COMPARABLE" if one.forced else ""
    return f"{result.verdict} ({result.label}{forced})"


def table(one: Compared, metric: Measured) -> list[str]:
    """The arms' scores and their differences, in columns."""
    rows = [
        (
            "arm",
            "runs",
            f"{metric.name} [95 %]",
            "difference [95 %]",
            "p",
            *(("adjusted p",) if len(metric.against) > 1 else ()),
            "won/lost",
        )
    ]
    for arm, reached in metric.arms.items():
        own = (arm, str(len(reached.runs)), f"{number(reached.value, metric.scale)} {between(reached.interval, metric.scale)}")
        result = metric.against.get(arm)
        if result is None:
            rows.append((*own, *([""] * (len(rows[0]) - 3))))
            continue
        adjusted = (small(result.adjusted),) if len(metric.against) > 1 else ()
        gap = f"{number(result.difference, metric.scale, sign=True)} {between(result.interval, metric.scale, sign=True)}"
        counts = f"{result.won}/{result.lost}" if result.won or result.lost else "-"
        rows.append((*own, gap, small(result.p), *adjusted, counts))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def number(value: float, scale: float, sign: bool = False) -> str:
    """A score as people read it."""
    if math.isnan(value):
        return "-"
    digits = 4 if scale <= 1 else 2
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def between(interval: Interval, scale: float, sign: bool = False) -> str:
    """An interval in brackets."""
    return f"[{number(interval.low, scale, sign)}, {number(interval.high, scale, sign)}]"


def small(p: float) -> str:
    """A p in a column."""
    return "< .001" if p < 0.001 else f"{p:.3f}"


# ---- for other programs ------------------------------------------------------------------------------


def as_json(found: list[Compared]) -> dict[str, Any]:
    """`{"schema", "tasks": [{"task", "baseline", "arms", "items", "group", "comparable", "forced", "notes", "metrics": [...]}]}`; a metric
    has `name`, `signature`, `lower_is_better`, `planned`, `arms` (value, interval, runs) and `against` (a comparison an arm); None is
    what is not a number."""
    return {"schema": SCHEMA, "tasks": [task_json(one) for one in found]}


def task_json(one: Compared) -> dict[str, Any]:
    """One task as plain data."""
    return {
        "task": one.task,
        "baseline": one.baseline,
        "arms": {arm: list(places) for arm, places in one.places.items()},
        "items": one.items,
        "group": one.group or None,
        "comparable": not one.forced,
        "forced": list(one.forced),
        "notes": list(one.notes),
        "metrics": [metric_json(one, metric) for metric in one.metrics],
    }


def metric_json(one: Compared, metric: Measured) -> dict[str, Any]:
    """One metric as plain data."""
    return {
        "name": metric.name,
        "signature": metric.signature,
        "lower_is_better": metric.lower,
        "planned": metric.planned,
        "arms": {arm: reached_json(reached) for arm, reached in metric.arms.items()},
        "against": {arm: comparison_json(result) | {"verdict": verdict(one, result)} for arm, result in metric.against.items()},
    }


def reached_json(reached: Reached) -> dict[str, Any]:
    """An arm's score as plain data."""
    return {"value": finite(reached.value), "interval": ends(reached.interval), "runs": [finite(value) for value in reached.runs]}


def comparison_json(result: Comparison) -> dict[str, Any]:
    """A comparison as plain data, without its verdict."""
    return {
        "difference": finite(result.difference),
        "interval": ends(result.interval),
        "p": result.p,
        "adjusted_p": result.adjusted,
        "comparisons": result.family,
        "smallest_visible": finite(result.smallest),
        "won": result.won,
        "lost": result.lost,
        "seeds": list(result.seeds),
        "groups": result.groups or None,
        "margin": result.margin,
        "equivalent": result.equivalent,
        "exploratory": result.exploratory,
        "cannot_test": result.why or None,
        "method": result.method,
        "label": result.label,
    }


def finite(value: float) -> float | None:
    """The number as JSON can hold it."""
    return value if math.isfinite(value) else None


def ends(interval: Interval) -> list[float | None]:
    """Both ends as JSON can hold them."""
    return [finite(interval.low), finite(interval.high)]
