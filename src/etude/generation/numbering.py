"""Numbered lists in replies, cut at line starts where the next number stands.

The originals end a list by stop texts ("16.", "20.") and split it at any number with a point, which cuts "2016." and "20.5" in
the middle of a task. Here a number counts only at the beginning of a line and only if it is the next one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = re.compile(r"^[ \t>*_#-]*(?:(?:task|example)[ \t]*)?(\d{1,4})[ \t]*[.):][*_]*(?=\s|$)[ \t]*", re.IGNORECASE | re.MULTILINE)
"""`9.`, `9)`, `**9.**`, `- 9:`, `Task 9:` at the beginning of a line."""
EXAMPLE = re.compile(r"^[ \t>*_#-]*example[ \t]*#?(\d{1,4})\b[*_ \t]*[.):]?[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
"""`Example 2`, `**Example 2:**`, `### Example 2` at the beginning of a line."""
BULLET = re.compile(r"^[ \t]*[-*\u2022][ \t]+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Item:
    """An item's number and its text, as it stands there."""

    number: int
    text: str


def items(text: str, first: int, mark: re.Pattern[str] = NUMBER) -> list[Item]:
    """The items of a list that was asked to begin with number `first`; nothing where there is no list.

    The first number found may be any; where it is `first` + 1, the text before it is item `first` (a model that goes on with
    the list at once). After it only the next number begins an item, so numbers within an item stay there.
    """
    starts: list[tuple[int, int, int]] = []
    for found in mark.finditer(text):
        number = int(found[1])
        if not starts or number == starts[-1][0] + 1:
            starts.append((number, found.start(), found.end()))
    if not starts:
        return []
    if starts[0][0] == first + 1 and text[: starts[0][1]].strip():
        starts.insert(0, (first, 0, 0))
    ends = [start for _, start, _ in starts[1:]] + [len(text)]
    return [Item(number, text[begin:end].strip()) for (number, _, begin), end in zip(starts, ends, strict=True)]


def lines(text: str, first: int) -> list[Item]:
    """The items of a list of short texts, each up to a blank line (what follows one is the model's closing remark), emphasis marks
    taken off; a list of bullets is numbered from `first`."""
    found = items(text, first)
    if not found and len(parts := BULLET.split(text)) > 1:
        found = [Item(first + place, part) for place, part in enumerate(parts[1:])]
    return [Item(one.number, paragraph(one.text)) for one in found]


def paragraph(text: str) -> str:
    """The text up to its first blank line, on one line, without emphasis or quotation marks around the whole of it."""
    text = " ".join(re.split(r"\n[ \t]*\n", text.strip(), maxsplit=1)[0].split())
    for mark in ("**", "__", '"', "*", "_"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark) and mark not in text[len(mark) : -len(mark)]:
            text = text[len(mark) : -len(mark)].strip()
    return text
