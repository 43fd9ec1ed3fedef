"""Options: the answers there are, as a list under the question, and which of them is right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.templates.filling import shown

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class ListStyle:
    """How options are listed: a head, a mark before each (`{}` is its letter or number), what stands between two."""

    head: str
    mark: str
    between: str = "\n"
    numbered: bool = False
    """The marks count 1, 2, 3 and not A, B, C."""

    @property
    def marked(self) -> bool:
        """Whether an option can be named by its letter or number."""
        return "{}" in self.mark

    def letter(self, position: int) -> str:
        """The letter (or number) of an option, counted from 0."""
        return str(position + 1) if self.numbered else LETTERS[position]

    def write(self, options: Sequence[str], by_letter: bool = False) -> str:
        """The list as text; `by_letter`: the head asks for the letter (or number) alone."""
        head = self.head
        if by_letter:
            head = f"{head.rstrip(': ')} (answer with the {'number' if self.numbered else 'letter'}):"
        marks = [self.mark.replace("{}", self.letter(i)) if self.marked else self.mark for i in range(len(options))]
        lines = [mark + option for mark, option in zip(marks, options, strict=True)]
        return head + ("\n" if "\n" in self.between else " ") + self.between.join(lines)


STYLES = (
    ListStyle("Options:", "- "),
    ListStyle("Options:", "({}) "),
    ListStyle("Choices:", "{}. "),
    ListStyle("Pick one of these:", "{}) "),
    ListStyle("Possible answers:", "* "),
    ListStyle("The answer is among these:", "{}. ", numbered=True),
    ListStyle("Choose from:", "", between="; "),
    ListStyle("Options:", "({}) ", between=" "),
    ListStyle("Answers to choose from:", "[{}] "),
    ListStyle("Select one:", "{}: ", numbered=True),
)
"""The ways a list is written; the first is the one used where only one is."""
MARKED = tuple(i for i, style in enumerate(STYLES) if style.marked)


def texts(given: Any) -> tuple[str, ...]:
    """The options of a row as texts.

    A list; `{"text": [...], "label": [...]}` as ARC and CommonsenseQA have it; or one text that is a JSON
    list, or has one option a line, or options between `|`. Raises ValueError for anything else, for fewer
    than two options and for more than 26.
    """
    if isinstance(given, Mapping):
        given = given.get("text")
    if isinstance(given, str):
        if given.lstrip().startswith("["):
            given = json.loads(given)
        else:
            given = [part.strip() for part in given.strip().split("\n" if "\n" in given.strip() else "|")]
    if not isinstance(given, list | tuple):
        raise ValueError("options are a list of texts")
    found = tuple(str(shown(option)) for option in given)
    if not 2 <= len(found) <= len(LETTERS):
        raise ValueError(f"there are {len(found)} options; 2 to {len(LETTERS)} can be listed")
    return found


def position(answer: Any, options: Sequence[str], given: Any = None) -> int:
    """Which option an answer means, counted from 0: an option's own text, its letter (or the label that
    the row gives it), or its position from 0 as a whole number. Raises ValueError for none of them."""
    text = str(shown(answer)).strip()
    stripped = [option.strip() for option in options]
    if text in stripped:
        return stripped.index(text)
    labels = [str(shown(label)) for label in given.get("label") or ()] if isinstance(given, Mapping) else []
    if text in labels:
        return labels.index(text)
    letter = text.strip("().:").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    if text.isdecimal() and int(text) < len(options) and not labels:
        return int(text)
    raise ValueError(f"the answer {text!r} is none of the options {', '.join(map(repr, options))}")
