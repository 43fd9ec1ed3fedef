"""Whether arms may be compared: the same items, references, questions, decoding, and seeds that are seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    """Why the answers to one task are not comparable: each sheet against the first that says something of the matter."""
    every = [sheet for own in sheets.values() for sheet in own]
    reasons = list[str]()
    for other in every[1:]:
        reasons += other_items(every[0], other)
    reasons += other_texts("references", every, references)
    reasons += other_texts("questions", every, Sheet.questions)
    for what in dict.fromkeys(what for sheet in every for what in sheet.how):
        first, *others = [sheet for sheet in every if what in sheet.how]
        for other in others:
            if first.how[what] != other.how[what]:
                one, two = apart(first.how[what], other.how[what])
                reasons.append(f"other {what}: {first.place.text} has {one}, {other.place.text} has {two}")
    first, *others = [sheet for sheet in every if drawn(sheet)] or [every[0]]
    for other in others:
        if drawn(first) != drawn(other):
            reasons.append(f"other numbers of answers an item: {drawn(first)} in {first.place.text}, {drawn(other)} in {other.place.text}")
    return list(dict.fromkeys(reasons))


def apart(left: str, right: str) -> tuple[str, str]:
    """Two settings in words, without what they share."""
    one, two = left.split(", "), right.split(", ")
    mine, theirs = [part for part in one if part not in two], [part for part in two if part not in one]
    return ", ".join(mine) or "nothing of the kind", ", ".join(theirs) or "nothing of the kind"


def drawn(sheet: Sheet) -> int:
    """Answers an item; 0 where the rows hold none."""
    return max((len(row.outputs) for row in sheet.rows.values()), default=0)


def other_items(first: Sheet, other: Sheet) -> list[str]:
    """Items that are not in both sheets."""
    reasons = []
    for here, there in ((first, other), (other, first)):
        if missing := [id for id in here.rows if id not in there.rows]:
            reasons.append(
                f"other items: {len(missing)} of the {len(here.rows)} of {here.place.text} are not in {there.place.text} ({few(missing)})"
            )
    return reasons


def other_texts(what: str, every: Sequence[Sheet], texts_of: Callable[[Sheet], Mapping[str, Any]]) -> list[str]:
    """Items of which two sheets both say something, and not the same; of mappings the keys that both have count."""
    found: dict[tuple[int, str], list[str]] = {}
    told = [(sheet, own) for sheet in every if (own := texts_of(sheet))]
    for sheet, own in told[1:]:
        if unlike := unlike_in(told[0][1], own):
            found.setdefault((len(unlike), few(unlike)), []).append(sheet.place.text)
    return [
        f"other {what}: of {count} items in {few(places)} and {told[0][0].place.text} ({items})" for (count, items), places in found.items()
    ]


def unlike_in(known: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The items of which both say something, and not the same."""
    return [id for id in known if id in own and differ(known[id], own[id])]


def references(sheet: Sheet) -> dict[str, tuple[str, ...]]:
    """Each item's references, where it has some."""
    return {id: row.references for id, row in sheet.rows.items() if row.references}


def other_references(sheets: Sheets) -> set[str]:
    """The arms whose references are not those of the first arm."""
    own = {arm: references(sheets[arm][0]) for arm in sheets}
    first = next(iter(own.values()))
    return {arm for arm, known in own.items() if unlike_in(first, known)}


def differ(one: Any, two: Any) -> bool:
    """Whether two values differ; mappings by the keys that both have."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return any(one[key] != two[key] for key in one if key in two)
    return bool(one != two)


def few(names: Sequence[str]) -> str:
    """The first three of them."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
