"""From what a check finds in a row to a Fate for every row and the facts that the report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import shown
from etude.records import Fate

EXAMPLES = 5
"""Rows shown of each reason."""


class Found(NamedTuple):
    """Why a row leaves. `reason` is the same text for all rows it holds for, so that it can be counted; `seen` is what
    was seen in this row, for the report."""

    reason: str
    seen: str = ""


def decide(rows: Sequence[Row], beside: Beside, find: Callable[[Row], Found | None], **more: Any) -> Verdicts:
    """Drop the rows in which `find` finds something."""

    def each(row: Row) -> Found | None:
        found = find(row)
        beside.progress(1)
        return found

    return settle(rows, [each(row) for row in rows], **more)


def settle(rows: Sequence[Row], found: Sequence[Found | None], of: Sequence[str] | None = None, **more: Any) -> Verdicts:
    """Fates and facts from a finding (or None) a row. `of`: for each row the id it was dropped for, "" for none.

    Facts: `rows`, `dropped`, `reasons` (reason -> count, most frequent first), `examples` (at most 5 of each reason:
    id, place, reason, what was seen), and `more`.
    """
    fates, examples = [], []
    counts: Counter[str] = Counter()
    for place, (row, finding) in enumerate(zip(rows, found, strict=True)):
        if finding is None:
            fates.append(Fate(row.record.id, True))
            continue
        fates.append(Fate.drop(row.record.id, finding.reason, of[place] if of else ""))
        if counts[finding.reason] < EXAMPLES:
            seen = shown(finding.seen or row.answer)
            examples.append({"id": row.record.id, "at": str(row.record.origin), "reason": finding.reason, "seen": seen})
        counts[finding.reason] += 1
    facts = {"rows": len(rows), "dropped": counts.total(), "reasons": dict(counts.most_common()), "examples": examples, **more}
    return Verdicts(fates, facts)
