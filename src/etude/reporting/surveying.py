"""From what curation did to what its page shows: figures before and after, the checklist, coverage of the evaluation sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from etude.curation import Beside, Row
from etude.curation.applying import Applied, Step
from etude.curation.diversity import checklist, coverage, figures
from etude.curation.diversity.hardness import Hardness, hardness_of_facts
from etude.reporting.curated import Curated, checked, kept


def survey(
    name: str,
    rows: Sequence[Row],
    applied: Applied,
    *,
    rewrites: Sequence[Step] = (),
    evaluation: Mapping[str, Sequence[Row]] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    count: Callable[[str], int] | None = None,
    created: str = "",
) -> Curated:
    """The page's facts. `rows`: all that came to the checks, rewritten already; `evaluation`: sets whose coverage is shown."""
    steps = {step.name: step for step in applied.steps}
    stays = frozenset(row.id for row in applied.kept)
    hard = hardness(steps.get("difficulty"))
    before = figures(rows, kept=stays, count=count, hard=hard)
    after = figures(applied.kept, count=count, hard=hard, with_topics=False) if len(stays) < len(rows) and stays else None
    found = steps.get("contamination")
    return Curated(
        name,
        created=created,
        checks=checked(applied, rewrites),
        sources=kept(rows, applied.kept),
        before=before,
        after=after,
        contamination=found.facts if found and found.facts.get("evaluation") else None,
        coverage=tuple(coverage(applied.kept, other, of) for of, other in (evaluation or {}).items() if other and applied.kept),
        checklist=checklist(applied.kept, after or before, Beside(labels=labels or {})) if applied.kept else (),
        failures=applied.failures,
    )


def hardness(step: Step | None) -> Hardness | None:
    """The histogram of difficulty, where that was measured."""
    return hardness_of_facts(step.facts) if step else None
