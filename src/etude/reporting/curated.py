"""What curation did, as its page takes it: frozen, complete, and filled by whoever ran the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude.curation.diversity import Answered, Coverage, Figures
from etude.curation.diversity.figures import jsonable
from etude.curation.texts import question
from etude.reporting.findings import finite

if TYPE_CHECKING:
    from etude.curation.applying import Applied, Step
    from etude.curation.rows import Row
    from etude.curation.suspects import Suspect

EXAMPLES = 5
"""Rows shown of each check."""
LISTED = 40
"""Contaminated rows and suspects that the page lists."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """One row that a check dropped: where it came from, why, what was seen, and of which row (`of`, with the
    question `beside`) it is a duplicate."""

    id: str
    origin: str
    reason: str
    question: str
    answer: str
    seen: str = ""
    of: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """One check or rewrite. `rows`: it looked at; `dropped` or `changed` of them; `reasons` -> rows; `sources`: source -> rows it
    dropped there; `examples`: at most five dropped rows; `changes`: (origin, before, after) of rows a rewrite changed."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    dropped: int = 0
    changed: int = 0
    seconds: float | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Dropped, ...] = ()
    changes: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of one source before curation and after it."""

    source: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class CleanScore:
    """A score over a whole evaluation set and over the rows of it that no training row touches."""

    task: str
    metric: str
    whole: float | None
    clean: float | None
    items: int
    clean_items: int
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Suspected:
    """A row whose loss stays high after tuning, to be read by a person."""

    id: str
    origin: str
    group: str
    loss: float
    median: float
    reason: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Curated:
    """All that the page shows; what is empty or None is left out.

    `before`, `after`: figures of the rows that came and of those that stay. `mixture`: rows as `mixing.realised` gives them (with a
    last row "all"), or `Report.plain()["sources"]` before anything is encoded; `mixture_notes`: its notes. `contamination`: facts of that
    check. `failures`: why this data must not be used. `notes`: limits, one sentence each; `created`: when, as text to show.
    """

    name: str
    created: str = ""
    checks: tuple[Checked, ...] = ()
    sources: tuple[Kept, ...] = ()
    before: Figures | None = None
    after: Figures | None = None
    mixture: tuple[Mapping[str, Any], ...] = ()
    mixture_notes: tuple[str, ...] = ()
    contamination: Mapping[str, Any] | None = None
    clean_scores: tuple[CleanScore, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    suspects: tuple[Suspected, ...] = ()
    suspects_total: int | None = None
    checklist: tuple[Answered, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[int, int]:
        """Rows before and after."""
        return sum(one.before for one in self.sources), sum(one.after for one in self.sources)


def results(curated: Curated) -> dict[str, Any]:
    """The numbers for other programs (results.json's `curation`): no text of a row in it.

    `{"rows": {"before", "after"}, "sources", "checks", "before", "after", "mixture", "contamination", "clean_scores", "coverage",
    "suspects", "checklist", "failures"}`; null is "not measured".
    """
    before, after = curated.rows
    known = curated.contamination
    checks = [
        {
            "name": one.name,
            "settings": dict(one.settings),
            "rows": one.rows,
            "dropped": one.dropped,
            "changed": one.changed,
            "seconds": finite(one.seconds),
            "reasons": dict(one.reasons),
            "sources": dict(one.sources),
        }
        for one in curated.checks
    ]
    figure = ("of", "rows", "looked", "pool", "covered", "mean", "tenths", "runs")
    score = ("task", "metric", "whole", "clean", "items", "clean_items", "scale")
    plain = {
        "rows": {"before": before, "after": after},
        "sources": {one.source: {"before": one.before, "after": one.after} for one in curated.sources},
        "checks": checks,
        "before": curated.before.plain() if curated.before else None,
        "after": curated.after.plain() if curated.after else None,
        "mixture": [dict(row) for row in curated.mixture],
        "contamination": None if known is None else {key: value for key, value in known.items() if key != "found"},
        "clean_scores": [{key: getattr(one, key) for key in score} for one in curated.clean_scores],
        "coverage": [{key: getattr(one, key) for key in figure} for one in curated.coverage],
        "suspects": curated.suspects_total if curated.suspects_total is not None else len(curated.suspects),
        "checklist": [one.plain() for one in curated.checklist],
        "failures": list(curated.failures),
    }
    return dict(jsonable(plain))


def checked(applied: Applied, rewrites: Sequence[Step] = ()) -> tuple[Checked, ...]:
    """The lines of the table from what `curation.applying` gives: the rewrites, then the checks in their order."""
    lines, at = [rewritten(step) for step in rewrites], 0
    wanted = {fate.of for _, fate, _ in applied.dropped if fate.of}
    others = {row.id: row for row in (*applied.kept, *(row for row, _, _ in applied.dropped)) if row.id in wanted}
    for step in applied.steps:
        out = applied.dropped[at : at + step.dropped]
        at += step.dropped
        seen = {one.get("id"): str(one.get("seen", "")) for one in step.facts.get("examples", ()) if isinstance(one, Mapping)}
        shown: list[Dropped] = []
        counts: Counter[str] = Counter()
        for row, fate, _ in out:
            counts[fate.reason] += 1
            shown.append(dropped(row, fate.reason, seen.get(row.id, ""), fate.of, others.get(fate.of)))
        # one of each reason first, so that a rare one is seen too
        first = {one.reason: one for one in reversed(shown)}
        order = [first[reason] for reason, _ in counts.most_common()]
        examples = (order + [one for one in shown if first[one.reason] is not one])[:EXAMPLES]
        lines.append(
            Checked(
                step.name,
                step.settings,
                step.rows,
                step.dropped,
                step.changed,
                step.seconds,
                dict(counts.most_common()),
                dict(Counter(row.record.source for row, _, _ in out).most_common()),
                tuple(examples),
            )
        )
    return tuple(lines)


def rewritten(step: Step) -> Checked:
    """The line of a rewrite: what it changed, and why it left rows as they were."""
    changes = tuple((str(one["at"]), str(one["before"]), str(one["after"])) for one in step.facts.get("examples", ()))
    why = {f"not rewritten: {reason}": int(rows) for reason, rows in step.facts.get("not_rewritten", {}).items()}
    return Checked(step.name, step.settings, step.rows, step.dropped, step.changed, step.seconds, why, changes=changes)


def dropped(row: Row, reason: str, seen: str = "", of: str = "", other: Row | None = None) -> Dropped:
    """A row as an example; `other`: the row that stands for it."""
    beside = question(other) if other is not None else ""
    whole = " ".join(f"{question(row)} {row.answer}".split())
    seen = "" if " ".join(seen.rstrip("…").split()) in whole else seen  # it stands below anyway
    return Dropped(row.id, str(row.record.origin), reason, question(row), row.answer, seen, of, beside)


def kept(before: Sequence[Row], after: Sequence[Row]) -> tuple[Kept, ...]:
    """Rows by source, in the order in which the sources come."""
    was, now = Counter(row.record.source for row in before), Counter(row.record.source for row in after)
    return tuple(Kept(source, was[source], now[source]) for source in was)


def suspected(found: Sequence[Suspect], rows: Sequence[Row]) -> tuple[Suspected, ...]:
    """Suspects with their words, in the order given; those whose row is not among `rows` are left out."""
    by_id = {row.id: row for row in rows}
    there = [(one, by_id[one.id]) for one in found if one.id in by_id]
    return tuple(
        Suspected(one.id, str(row.record.origin), one.group, one.loss, one.median, one.reason, question(row), row.answer)
        for one, row in there
    )
