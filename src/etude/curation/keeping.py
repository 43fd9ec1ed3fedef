"""Which row of a group of duplicates stays, and what of a row is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from etude.curation.material import material
from etude.curation.rows import Row, Verdicts
from etude.curation.texts import shown
from etude.failures import RecipeError, nearest
from etude.records import Fate

Keep = Annotated[
    Literal["first", "longest", "best"],
    Field(
        description="Which row of a group stays: the first in order; the one with the longest answer (characters); or the one with "
        "the highest `score`. Ties of `longest` and `best` go to the smallest id, so that the order of the rows does not matter."
    ),
]
Score = Annotated[str | None, Field(min_length=1, description="For `keep: best`: the field of a row that holds its score, a number.")]
Part = Literal["question", "answer", "all"]
"""A row's instruction and input (all of the user's turns), its answer, or both."""


def text_of(row: Row, part: Part) -> str:
    """What of a row is compared, as one text: its own words, not its template's (`material`), nor the system's."""
    own = material(row)
    return "\n".join({"question": own.questions, "answer": own.answers, "all": own.questions + own.answers}[part])


def ranking(rows: Sequence[Row], keep: Keep, score: str | None) -> list[int]:
    """The places of the rows, those that are to stay first first.

    Raises RecipeError where `best` has no `score`, or a row no number there.
    """
    if keep == "first":
        return list(range(len(rows)))
    if keep == "longest":
        return sorted(range(len(rows)), key=lambda i: (-len(rows[i].answer), rows[i].id))
    if score is None:
        raise RecipeError("keep: best needs score, the field of a row that holds its score")
    values = [number_in(row, score) for row in rows]
    return sorted(range(len(rows)), key=lambda i: (-values[i], rows[i].id))


def number_in(row: Row, field: str) -> float:
    """The number in a field of a row; raises RecipeError where there is none."""
    fields = row.record.fields
    if field not in fields:
        raise RecipeError(f"keep: best: {row.record.origin}: there is no field {field!r}{nearest(field, fields)}")
    try:
        value = float(fields[field])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise RecipeError(f"keep: best: {row.record.origin}: {field!r} is {fields[field]!r}, not a number")
    return value


def verdicts(rows: Sequence[Row], dropped: dict[int, int], reason: str, facts: dict[str, object] | None = None) -> Verdicts:
    """A Fate for every row, given place -> the place of the row that stands for it; and the counts."""
    fates = [
        Fate.drop(row.id, reason, of=rows[dropped[place]].id) if place in dropped else Fate.keep(row.id) for place, row in enumerate(rows)
    ]
    counted = {"rows": len(rows), "dropped": len(dropped), "groups": len(set(dropped.values())), "share": share(len(dropped), len(rows))}
    examples = [
        {"id": rows[place].id, "of": rows[other].id, "text": shown(rows[place].instruction), "of_text": shown(rows[other].instruction)}
        for place, other in sorted(dropped.items())[:5]
    ]
    return Verdicts(fates, {**counted, **(facts or {}), "examples": examples})


def grouped(groups: Sequence[Sequence[int]], order: Sequence[int]) -> dict[int, int]:
    """Place -> the place of the one that stays, of groups of places; `order` as `ranking` gives it."""
    standing = {place: rank for rank, place in enumerate(order)}
    dropped = {}
    for group in groups:
        kept = min(group, key=standing.__getitem__)
        dropped.update({place: kept for place in group if place != kept})
    return dropped


def share(part: int, whole: int) -> float:
    """A part of a whole, 0 to 1, rounded to a thousandth of a percent; 0 of nothing."""
    return round(part / whole, 5) if whole else 0.0
