"""Documents divided into pieces that can each answer a request: sections and paragraphs of text, functions and classes of code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from etude.generation.back_translation.blocks import code_blocks
from etude.generation.back_translation.documents import PROSE, Document

FENCE = re.compile(r"^ {0,3}(?P<mark>`{3,}|~{3,})", re.MULTILINE)
ATX = re.compile(r"(?P<level>#{1,6})\s+(?P<title>.+?)(?:\s+#+)?\s*")
UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}\s*")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document: its text as it stands there (code of a class without the indentation it has as a part of it), the 1-based
    lines it begins and ends at, and the headings, or the class, that it stands under."""

    text: str
    line: int
    end: int
    heading: str = ""


def divide(document: Document, least: int, most: int) -> list[Piece]:
    """The pieces of a document in its order, each with at least `least` and at most `most` characters.

    Text is cut at headings, then filled up with whole paragraphs, and a paragraph that is too long (but no fenced block) with whole
    sentences; a heading is no part of a piece. Code gives functions and classes; of a class that is too long its methods. What fits no
    bounds is left out.
    Raises blocks.Undivided for code that cannot be taken apart.
    """
    if document.kind in PROSE:
        found = prose(document, most)
    else:
        found = (Piece(*block) for block in code_blocks(document.text, document.kind, most))
    return [piece for piece in found if least <= len(piece.text) <= most]


def prose(document: Document, most: int) -> Iterator[Piece]:
    """Pieces of a text."""
    for heading, paragraphs in sections(document):
        filled: list[tuple[int, str]] = []
        for line, text in paragraphs:
            parts = [(line, text)] if len(text) <= most or FENCE.search(text) else list(sentences(line, text, most))
            for part in parts:
                if filled and (len(parts) > 1 or len(joined([*filled, part])) > most):
                    yield piece(filled, heading)
                    filled = []
                filled.append(part)
        if filled:
            yield piece(filled, heading)


def piece(paragraphs: list[tuple[int, str]], heading: str) -> Piece:
    """Paragraphs, each with its first line's number, as one piece."""
    last, text = paragraphs[-1]
    return Piece(joined(paragraphs), paragraphs[0][0], last + text.count("\n"), heading)


def joined(paragraphs: list[tuple[int, str]]) -> str:
    """Paragraphs with one empty line between them."""
    return "\n\n".join(text for _, text in paragraphs)


def sentences(line: int, text: str, most: int) -> Iterator[tuple[int, str]]:
    """A long paragraph as runs of whole sentences of at most `most` characters, each with the number of its first line; a sentence
    that is longer by itself comes alone."""
    ends = [*(found.end() for found in SENTENCE_END.finditer(text)), len(text)]
    begin = 0
    for before, after in itertools.pairwise(ends):
        if len(text[begin:after].rstrip()) > most:
            yield line + text.count("\n", 0, begin), text[begin:before].rstrip()
            begin = before
    yield line + text.count("\n", 0, begin), text[begin:].rstrip()


def sections(document: Document) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """(headings above it, joined by " > "; paragraphs with the number of their first line) of every section."""
    trail: list[tuple[int, str]] = []
    levels: dict[str, int] = {}  # of reStructuredText: marks of underlines in the order met
    paragraphs: list[tuple[int, str]] = []
    open_lines: list[str] = []
    first = fence = 0
    mark = ""
    lines = document.text.split("\n")
    number = front_matter(lines) if document.kind == "markdown" else 0

    def close() -> None:
        if open_lines:
            paragraphs.append((first, "\n".join(open_lines)))
            open_lines.clear()

    while number < len(lines):
        line = lines[number].rstrip()
        number += 1
        if document.kind == "markdown" and (found := FENCE.match(line)) and (not fence or found["mark"].startswith(mark)):
            fence, mark = (0, "") if fence else (number, found["mark"])
        elif not fence and (title := heading(document.kind, line, lines[number].rstrip() if number < len(lines) else "", levels)):
            close()
            if paragraphs:
                yield " > ".join(name for _, name in trail), paragraphs
                paragraphs = []
            level, name, used = title
            trail = [*((depth, above) for depth, above in trail if depth < level), (level, name)]
            number += used - 1
            continue
        elif not line and not fence:
            close()
            continue
        elif not open_lines and rule(line):
            continue  # a line of marks alone: a rule, or what stands above a title
        if not open_lines:
            first = number
        open_lines.append(line)
    close()
    if paragraphs:
        yield " > ".join(name for _, name in trail), paragraphs


def heading(kind: str, line: str, after: str, levels: dict[str, int]) -> tuple[int, str, int] | None:
    """(level, title, lines it takes) where a heading stands, else None."""
    if kind == "markdown" and (found := ATX.fullmatch(line)):
        return len(found["level"]), found["title"], 1
    if kind == "text" or not line or line[0].isspace() or rule(line) or not UNDERLINE.fullmatch(after):
        return None
    if kind == "markdown":
        return ({"=": 1, "-": 2}[after[0]], line, 2) if after[0] in "=-" and not line.startswith(("|", ">", "- ")) else None
    return (levels.setdefault(after[0], len(levels) + 1), line, 2) if len(after) >= len(line) else None


def rule(line: str) -> bool:
    """Whether a line is nothing but one mark over and over."""
    return UNDERLINE.fullmatch(line) is not None


def front_matter(lines: list[str]) -> int:
    """The lines that the settings at the head of a Markdown page take (between two lines of three hyphens)."""
    if lines[0].rstrip() != "---":
        return 0
    return next((number + 1 for number, line in enumerate(lines[1:60], 1) if line.rstrip() == "---"), 0)
