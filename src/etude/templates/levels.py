"""One row's reasoning at several lengths: nothing but the length differs, and every length ends at the row's own answer.

A row holds them in the fields `rationale_simple`, `rationale_normal` and `rationale_complex`; `rationale` is the one that is written
(a template's `rationale` field reads it). The level `none` is the answer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, median_low
from typing import Any, Literal

from etude.records import Record
from etude.templates.reasoning import answer_of, bare, marked_answer, stated, worked

Level = Literal["none", "simple", "normal", "complex"]
Written = Literal["simple", "normal", "complex"]
LEVELS: tuple[Level, ...] = ("none", "simple", "normal", "complex")
WRITTEN: tuple[Written, ...] = ("simple", "normal", "complex")
"""The levels with reasoning, the shortest first."""
USUAL: Written = "normal"
"""The level of `rationale` where nothing else was chosen."""
ANSWERS = ("answer", "output", "response", "completion", "label", "target")
"""Fields that hold a row's answer; the first that a row has is taken."""


def level_field(level: str) -> str:
    """The field of a level's text."""
    return f"rationale_{level}"


def leveled(texts: Mapping[str, str]) -> dict[str, str]:
    """The fields of a row for its texts by level, `rationale` among them."""
    return {"rationale": texts[USUAL], **{level_field(level): texts[level] for level in WRITTEN}}


def words(text: str) -> int:
    """Words of a text, as white space parts them."""
    return len(text.split())


def broken(texts: Mapping[str, str], answer: str) -> str:
    """What is wrong with a row's levels, "" if nothing is: `LEVEL: empty`, `LEVEL: other answer` where the answer is not found again
    in what would be written, or `LEVEL: not longer` than the level below, in words."""
    below = 0
    for level in WRITTEN:
        text = texts[level]
        if not text.strip():
            return f"{level}: empty"
        if answer_of(stated(text, answer)) != bare(answer):
            return f"{level}: other answer"
        if words(text) <= below:
            return f"{level}: not longer"
        below = words(text)
    return ""


def answer_field(fields: Mapping[str, Any]) -> str | None:
    """The field that holds a row's answer; None where none of ANSWERS is a text."""
    return next((name for name in ANSWERS if isinstance(fields.get(name), str)), None)


def answer_in(fields: Mapping[str, Any], field: str) -> str:
    """A row's answer without the reasoning that its field may hold (GSM8K's form, or 'The answer is X.')."""
    text = str(fields[field])
    found = worked(text) if "####" in text else None
    return found[1] if found else marked_answer(text) or text.strip()


def at_level(fields: Mapping[str, Any], level: Level) -> dict[str, Any]:
    """The fields of a row written at a level. Raises KeyError with the name of the field where the row has no text of that level.

    An Alpaca row (`instruction`, `output`), which has no template to write the reasoning, has it in its output.
    """
    text = None if level == "none" else fields[level_field(level)]
    if level != "none" and not (isinstance(text, str) and text.strip()):
        raise KeyError(level_field(level))
    changed = {name: value for name, value in fields.items() if name != "rationale"}
    if text is not None:
        changed = {name: text if name == "rationale" else value for name, value in fields.items()} | {"rationale": text}
    field = answer_field(fields)
    if field and "instruction" in fields and field == "output":
        answer = answer_in(fields, field)
        changed[field] = stated(text, answer) if text is not None else answer
    elif field and worked(str(fields[field])):
        changed[field] = answer_in(fields, field)
    return changed


def lengths_by_level(records: Iterable[Record], count: Callable[[str], int]) -> dict[str, dict[str, float]]:
    """How long answers are at each level, `count` of what would be written: `{level: {"rows", "mean", "median", "longest"}}`.

    Only rows that have every level count, so that all levels are of the same rows; {} where there is none.
    """
    lengths: dict[str, list[int]] = {level: [] for level in LEVELS}
    for record in records:
        field = answer_field(record.fields)
        if field is None or not all(isinstance(record.fields.get(level_field(level)), str) for level in WRITTEN):
            continue
        answer = answer_in(record.fields, field)
        lengths["none"].append(count(answer))
        for level in WRITTEN:
            lengths[level].append(count(stated(str(record.fields[level_field(level)]), answer)))
    return {
        level: {"rows": len(some), "mean": round(fmean(some), 1), "median": median_low(some), "longest": max(some)}
        for level, some in lengths.items()
        if some
    }
