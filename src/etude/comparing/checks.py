"""Whether arms may be compared: the same items, references, questions, decoding, and seeds that are seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from etude.comparing.naming import Arm, Place
from etude.comparing.sheets import Run, Sheet, seed_differences

Sheets = Mapping[str, Sequence[Sheet]]
"""Arm -> the sheet of each of its runs."""


def not_seeds(arms: Sequence[Arm], opened: Mapping[Place, Run]) -> list[str]:
    """Why the runs of an arm are not one thing trained with several seeds."""
    reasons = []
    for arm in arms:
        own = [
            opened[place]
            for place in arm.places
            if place.is_run and place.whose not in ("majority", "constrained", "copy", "lead", "tfidf")
        ]
        for run in own[1:]:
            if keys := seed_differences(own[0], run):
                reasons.append(
                    f"runs of one arm may differ in their seed alone, and {texts(own[0], run)} of {arm.name!r} differ in {few(keys)}"
                )
        if any(run.place.whose != "tuned" for run in own):
            continue  # the start model has no training seed
        for first, second in itertools.combinations(own, 2):
            if first.recipe.training_seed() == second.recipe.training_seed() and not seed_differences(first, second):
                reasons.append(
                    f"{texts(first, second)} of {arm.name!r} have the same seed {first.recipe.training_seed()}: one run, counted twice"
                )
    return reasons


def texts(first: Run, second: Run) -> str:
    """Two runs by name."""
    return f"{first.place.text} and {second.place.text}"


def hints(arms: Sequence[Arm], opened: Mapping[Place, Run]) -> list[str]:
    """Arms that are one arm with several seeds, by their recipes."""
    lone = [(arm, opened[arm.places[0]]) for arm in arms if len(arm.places) == 1 and arm.places[0].whose == "tuned"]
    return [
        f"{a.name} and {b.name} differ in their seed alone; as seeds of one arm they are NAME={a.places[0].text},{b.places[0].text}"
        for (a, first), (b, second) in itertools.combinations(lone, 2)
        if first.recipe.training_seed() != second.recipe.training_seed() and not seed_differences(first, second)
    ]


def differences(sheets: Sheets) -> list[str]:
    """Why the answers to one task are not comparable: each sheet against the first."""
    every = [sheet for own in sheets.values() for sheet in own]
    first, reasons = every[0], list[str]()
    for other in every[1:]:
        reasons += other_items(first, other)
        for what in first.how.keys() & other.how.keys():
            if first.how[what] != other.how[what]:
                reasons.append(f"other {what}: {first.place.text} has {apart(first.how[what], other.how[what])}")
        if drawn(first) != drawn(other) and drawn(first) and drawn(other):
            reasons.append(f"other numbers of answers an item: {drawn(first)} in {first.place.text}, {drawn(other)} in {other.place.text}")
    return list(dict.fromkeys(reasons))


def apart(left: str, right: str) -> str:
    """Two settings in words, without what they share."""
    one, two = left.split(", "), right.split(", ")
    return f"{', '.join(part for part in one if part not in two)}, the other {', '.join(part for part in two if part not in one)}"


def drawn(sheet: Sheet) -> int:
    """Answers an item; 0 where the rows hold none."""
    return max((len(row.outputs) for row in sheet.rows.values()), default=0)


def other_items(first: Sheet, other: Sheet) -> list[str]:
    """Items, references or questions that are not the same in two sheets."""
    reasons = []
    for here, there in ((first, other), (other, first)):
        if missing := [id for id in here.rows if id not in there.rows]:
            reasons.append(
                f"other items: {len(missing)} of the {len(here.rows)} of {here.place.text} are not in {there.place.text} ({few(missing)})"
            )
    shared = [id for id in first.rows if id in other.rows]
    both = (first.rows, other.rows)
    wrong = [id for id in shared if all(rows[id].references for rows in both) and both[0][id].references != both[1][id].references]
    if wrong:
        reasons.append(f"other references: of {len(wrong)} items in {other.place.text} and {first.place.text} ({few(wrong)})")
    asked, told = first.questions(), other.questions()
    if unlike := [id for id in shared if id in asked and id in told and asked[id] != told[id]]:
        reasons.append(f"other questions: of {len(unlike)} items in {other.place.text} and {first.place.text} ({few(unlike)})")
    return reasons


def few(names: Sequence[str]) -> str:
    """The first three of them."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
