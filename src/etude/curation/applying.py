"""Rewrites and checks over rows, one after another: what each did, and what became of every row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from etude.curation import CHECKS, REWRITES
from etude.curation.rows import Beside, Check, Rewrite, Row
from etude.curation.texts import shown
from etude.failures import CheckFailed
from etude.records import Fate, Record

EXAMPLES = 5
"""Rows shown of what a rewrite changed, and of what it could not."""

Tell = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(name of the check or rewrite, rows it looks at) -> what is told the rows just done, while that goes on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One check or rewrite: its name and settings, the rows it saw, how many it dropped (a check) or changed (a rewrite), the
    seconds it took, and its own facts."""

    name: str
    settings: Mapping[str, Any]
    rows: int
    dropped: int = 0
    changed: int = 0
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        counts = {"rows": self.rows, "dropped": self.dropped, "changed": self.changed, "seconds": round(self.seconds, 3)}
        return {"name": self.name, **counts, "settings": dict(self.settings), "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class Applied:
    """The rows that stay, in their order; the others with their Fate and the name of the check that dropped them; every
    step; and the checks that say that this data must not be used (contamination above its limit)."""

    kept: tuple[Row, ...]
    dropped: tuple[tuple[Row, Fate, str], ...]
    steps: tuple[Step, ...]
    failures: tuple[str, ...] = ()


def silent(name: str, rows: int) -> AbstractContextManager[Callable[[int], None]]:
    """Tells nobody."""
    return nullcontext(lambda done: None)


def apply(rows: Iterable[Row], checks: Sequence[Check], beside: Beside, tell: Tell = silent) -> Applied:
    """Every check over the rows that those before it left, in the order given.

    A check that fails the data (CheckFailed) is kept as a failure, so that what was found is written before a run
    ends on it; other errors (RecipeError for settings that do not fit the rows) are raised.
    """
    left = list(rows)
    dropped: list[tuple[Row, Fate, str]] = []
    steps, failures = [], []
    for check in checks:
        name, began = CHECKS.name_of(check), time.monotonic()
        try:
            with tell(name, len(left)) as progress:
                found = check.judge(left, replace(beside, progress=progress))
            fates, facts = found.fates, dict(found.facts)
        except CheckFailed as error:
            failures.append(str(error))
            fates, facts = [Fate.keep(row.id) for row in left], {**error.facts, "failed": str(error)}
        out = [(row, fate, name) for row, fate in zip(left, fates, strict=True) if not fate.kept]
        steps.append(Step(name, plain(check), len(left), len(out), 0, time.monotonic() - began, facts))
        dropped += out
        left = [row for row, fate in zip(left, fates, strict=True) if fate.kept]
    return Applied(tuple(left), tuple(dropped), tuple(steps), tuple(failures))


def rewritten(
    records: Sequence[Record], rewrites: Sequence[Rewrite], tell: Tell = silent
) -> tuple[list[Record], list[Step], list[dict[str, str]]]:
    """Every rewrite over the records: the records as they are then (ids unchanged), a Step a rewrite, and each record that was
    changed or could not be (`id`, `rewrite`, `fate` "changed" or "kept", `reason`). A record that could not be rewritten
    keeps its text."""
    done, steps, fates = list(records), [], []
    for rewrite in rewrites:
        name, began = REWRITES.name_of(rewrite), time.monotonic()
        reasons: Counter[str] = Counter()
        changed = 0
        examples: list[dict[str, str]] = []
        with tell(name, len(done)) as progress:
            told = [(rewrite.rewrite(record), progress(1))[0] for record in done]
        for place, (record, new) in enumerate(zip(done, told, strict=True)):
            if isinstance(new, str):
                reasons[new.split(" (")[0]] += 1
                fates.append({"id": record.id, "rewrite": name, "fate": "kept", "reason": new})
            elif new is not record and new != record:
                changed += 1
                fates.append({"id": record.id, "rewrite": name, "fate": "changed", "reason": ""})
                if len(examples) < EXAMPLES:
                    examples.append(example(record, new))
                done[place] = new
        facts = {"not_rewritten": dict(reasons.most_common()), "examples": examples}
        steps.append(Step(name, plain(rewrite), len(done), 0, changed, time.monotonic() - began, facts))
    return done, steps, fates


def example(before: Record, after: Record) -> dict[str, str]:
    """A changed record for a report: the first field that differs, before and after."""
    name = next(name for name in (*after.fields, *before.fields) if after.fields.get(name) != before.fields.get(name))
    was, now = str(before.fields.get(name, "")), str(after.fields.get(name, ""))
    start = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    cut = max(0, start - 60)
    return {"id": before.id, "at": str(before.origin), "field": name, "before": shown(was[cut:]), "after": shown(now[cut:])}


def plain(settings: Any) -> dict[str, Any]:
    """The settings that are not the default, as plain data; all of them where the class is not pydantic's."""
    dump = getattr(settings, "model_dump", None)
    return dict(dump(mode="json", exclude_defaults=True)) if dump else {}
