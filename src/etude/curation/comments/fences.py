"""Fenced blocks of Markdown: where the code in a text is, and what its fence calls it (CommonMark 4.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

OPENING = re.compile(r"(?m)^([ \t]*(?:>[ \t]?)*(?:[-*+]|\d{1,9}[.)])?[ \t]*)(`{3,}|~{3,})([^\n`]*?)[ \t]*\r?$\n?")


@dataclass(frozen=True, slots=True)
class Block:
    """Characters [start, end) of a text are code: the lines between two fences, their last line break too.
    `tag`: the first word after the fence; `indent`: what each line begins with (a list's indentation)."""

    start: int
    end: int
    tag: str
    indent: str


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order; one that is never closed goes on to the end."""
    at = 0
    while opening := OPENING.search(text, at):
        lead, fence, info = opening.groups()
        closing = re.compile(rf"(?m)^[ \t>]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*\r?$").search(text, opening.end())
        end = closing.start() if closing else len(text)
        words = re.split(r"[\s,:]+", info.strip().strip("{}").lstrip("."), maxsplit=1)
        indent = lead if not lead.strip() else " " * len(lead)
        yield Block(opening.end(), end, words[0], indent)
        at = closing.end() if closing else len(text)


def outdented(code: str, indent: str) -> str | None:
    """The code without the fence's indentation, or None where some line has less."""
    lines = [line for line in re.split(r"(?<=\n)", code) if line]
    if not indent or not all(line.startswith(indent) or not line.strip() for line in lines):
        return None
    return "".join(line[len(indent) :] if line.startswith(indent) else line for line in lines)


def indented(code: str, indent: str) -> str:
    """The code with the fence's indentation again; blank lines stay without."""
    return "".join(indent + line if line.strip() else line for line in re.split(r"(?<=\n)", code) if line)
