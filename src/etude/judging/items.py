"""What is judged: rows of predictions (`scoring.answered`, or any file with the same keys) as requests with the arms' answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.failures import DataError
from etude.judging.prompts import shortened
from etude.scoring import Judge

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One item: the user's messages, for each of them a reference ("" where the judge sees none), and each arm's answers to them.

    `category` is the row's own; `shortened` counts the texts whose middle the judge is not shown; `lengths` are the characters of all an
    arm's answers, uncut."""

    id: str
    requests: tuple[str, ...]
    references: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    category: str = ""
    shortened: int = 0
    lengths: tuple[int, ...] = ()


def items_of(arms: Mapping[str, Sequence[Row]], settings: Judge) -> list[Item]:
    """The items that all arms answered, in the order of the first arm, at most `settings.limit` (the smallest ids).

    Of several outputs of an item the first is judged. Raises DataError where an arm lacks an item or was asked another question, where
    a row has no `question`, or has answers of several turns (`turns`) without the questions between them (`then`).
    """
    (first, rows), *others = arms.items()
    if not rows:
        raise DataError(f"{first}: there are no answers to judge")
    tables = {name: {str(row["id"]): row for row in given} for name, given in others}
    for name, table in tables.items():
        own = {str(row["id"]) for row in rows}
        for here, there, missing in ((first, name, own - table.keys()), (name, first, table.keys() - own)):
            if missing:
                raise DataError(f"{there}: no answer to {min(missing)!r}, which {here} has; both must answer the same items")
    found = []
    kept = set(sorted(str(row["id"]) for row in rows)[: settings.limit])
    for row in rows:
        if str(row["id"]) in kept:
            both = {first: row, **{name: table[str(row["id"])] for name, table in tables.items()}}
            found.append(item(both, settings))
    return found


def item(rows: Mapping[str, Row], settings: Judge) -> Item:
    """One item out of each arm's row."""
    names = list(rows)
    asked = {name: requests(row, name) for name, row in rows.items()}
    first = asked[names[0]]
    for name in names[1:]:
        if asked[name] != first:
            raise DataError(f"{name}: the item {rows[name]['id']!r} has another question than in {names[0]}; both must be asked the same")
    row = rows[names[0]]
    texts = {name: said(row, len(first), name) for name, row in rows.items()}
    references = right(row, len(first)) if sees_reference(row, settings) else ("",) * len(first)
    every = [*first, *references, *(text for answers in texts.values() for text in answers)]
    most = settings.most_characters
    return Item(
        id=str(row["id"]),
        requests=cut(first, most),
        references=cut(references, most),
        answers=tuple(cut(answers, most) for answers in texts.values()),
        category=str(row.get("category") or ""),
        shortened=sum(len(text) > most for text in every),
        lengths=tuple(sum(map(len, answers)) for answers in texts.values()),
    )


def requests(row: Row, arm: str) -> tuple[str, ...]:
    """The user's messages of a row; what came before the first (a system message, earlier turns) stands above it."""
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{arm}: the item {row['id']!r} has no 'question'; a judge must know what was asked")
    then = row.get("then") or []
    if row.get("turns") and not then:
        raise DataError(
            f"{arm}: the item {row['id']!r} has answers of several turns ('turns') without the questions between them ('then'); "
            "score it again, or add them"
        )
    before = "".join(f"{role}: {words}\n\n" for role, words in row.get("before") or [])
    return (f"{before}user: {question}" if before else question, *map(str, then))


def said(row: Row, turns: int, arm: str) -> tuple[str, ...]:
    """An arm's answers: `turns` where there are several, else its first output ("" for none)."""
    if turns == 1:
        return (next(iter(row["outputs"]), ""),)
    found = row.get("turns") or []
    if len(found) != turns:
        raise DataError(f"{arm}: the item {row['id']!r} has {turns} questions and {len(found)} answers in 'turns'")
    return tuple(map(str, found))


def sees_reference(row: Row, settings: Judge) -> bool:
    """Whether the judge is shown a row's reference."""
    if settings.references == "category":
        return str(row.get("category") or "").lower() in {name.lower() for name in settings.reference_categories}
    return settings.references == "always"


def right(row: Row, turns: int) -> tuple[str, ...]:
    """A reference for each turn: `turn_references`, else the first reference for the first turn."""
    given = list(row.get("turn_references") or list(row.get("references") or [])[:1])
    return tuple((*map(str, given), *[""] * turns)[:turns])


def cut(texts: Sequence[str], most: int) -> tuple[str, ...]:
    """Texts as the judge is shown them."""
    return tuple(shortened(text, most) for text in texts)
