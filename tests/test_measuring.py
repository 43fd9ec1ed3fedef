"""Start against tuned in a report: rows that the split kept together count as alike, as `etude compare` counts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from etude import comparison, journal, recipe, scoring
from etude.closing import summary
from etude.metrics.classification import Accuracy
from etude.reporting import words
from etude.reporting.findings import Findings, results
from etude.reporting.measuring import Groups, groups_of, measure, number

ROWS = 60


def stats(seed: int, each: int) -> scoring.Measured:
    right = np.repeat(np.random.default_rng(seed).integers(0, 2, ROWS // each), each).astype(float)
    table = np.stack([right, np.ones(ROWS)], axis=1)
    return scoring.Measured(float(right.mean()), "accuracy", table)


def made(group: str | None, folder: Path, fields: dict[str, Any] | None = None) -> tuple[recipe.Recipe, list[dict[str, Any]]]:
    rows = [{"id": f"{n:02}", "fields": fields if fields is not None else {"page": n // 5}} for n in range(ROWS)]
    journal.write_rows(folder / "curated" / "test.jsonl", rows[::-1])
    raw = {
        "name": "r",
        "model": "m",
        "sources": {"rows": {"type": "alpaca", "path": "rows.jsonl"}},
        "split": {"group": group},
        "score": [{"task": "rows", "metrics": ["accuracy"]}],
    }
    return recipe.build(raw, "r"), [{"id": row["id"]} for row in rows]


def test_groups_are_those_of_the_split(tmp_path: Path) -> None:
    chosen, rows = made("page", tmp_path)
    (task,) = chosen.tasks()
    assert groups_of(tmp_path, chosen, task, rows) == Groups("page", [str(n // 5) for n in range(ROWS)])
    assert groups_of(tmp_path / "none", chosen, task, rows) is None
    lone, rows = made(None, tmp_path)
    assert groups_of(tmp_path, lone, task, rows) is None
    chosen, rows = made("page", tmp_path, {})
    assert groups_of(tmp_path, chosen, task, rows) is None


def test_rows_of_one_group_are_less_sure(tmp_path: Path) -> None:
    measured = {"start": {"accuracy": stats(1, 5)}, "tuned": {"accuracy": stats(2, 5)}, "majority": {"accuracy": stats(3, 5)}}
    groups = Groups("page", [str(n // 5) for n in range(ROWS)])
    alone, together = (measure("accuracy", Accuracy(), measured, 0, own) for own in (None, groups))
    assert (alone.groups, together.groups, together.group) == (0, 12, "page")
    expected = comparison.compare(*(measured[arm]["accuracy"].stats for arm in ("start", "tuned")), Accuracy(), groups=groups.values)
    assert (together.p, together.interval) == (expected.p, (expected.interval.low, expected.interval.high))
    for one, other in (
        (alone.interval, together.interval),
        (alone.base_interval, together.base_interval),
        (alone.tuned_interval, together.tuned_interval),
        (alone.baselines["majority"]["interval"], together.baselines["majority"]["interval"]),
        (
            number(measured["start"]["accuracy"], Accuracy(), 0)["interval"],
            number(measured["start"]["accuracy"], Accuracy(), 0, groups)["interval"],
        ),
    ):
        assert one is not None
        assert other is not None
        assert other[1] - other[0] > one[1] - one[0]
    assert "on 60 held-out rows in 12 groups by page" in words.judged("rows", together)
    findings = Findings(name="r", model="m", created="", tasks={"rows": (together,)}, primary={"rows": "accuracy"})
    assert results(findings)["tasks"]["rows"]["accuracy"]["groups"] == 12
    assert "60 held-out rows in 12 groups by page" in summary(findings, tmp_path, "")
