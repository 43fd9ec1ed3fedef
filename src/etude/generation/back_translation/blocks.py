"""Code divided into its functions, classes and statements.

Python is read by its own grammar. Languages with braces are divided where the braces say so, strings and comments left out of the
count; a file whose braces do not come out even (a dialect, a macro, a regular expression full of quotes) is passed over rather than
cut in the wrong places. SQL is divided at semicolons.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etude.sources.functions import dedented, parsed


class Undivided(Exception):
    """Code that cannot be taken apart: it does not parse, or its braces do not come out even."""


Block = tuple[str, int, int, str]
"""Text, first and last line (1-based), and what it is a part of."""

TEXTS = r'"""(?s:.*?)(?:"""|\Z)|"(?:\\.|[^"\\\n])*"?'
SLASHES = r"//[^\n]*|/\*(?s:.*?)(?:\*/|\Z)"
REGEX = r"(?<=[=(,:!&|?])[ \t]*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/"
"""A regular expression of JavaScript, where an operator before it says that it is no division."""
SCANS = {  # what is open to the end of the file is one match, so that a scan takes linear time
    "javascript": rf"{SLASHES}|{REGEX}|`(?s:\\.|[^`\\])*`?|{TEXTS}|'(?:\\.|[^'\\\n])*'?",
    "go": rf"{SLASHES}|`[^`]*`?|{TEXTS}|'(?:\\.|[^'\\\n])*'",
    "rust": rf'{SLASHES}|r#"(?s:.*?)(?:"#|\Z)|"(?s:\\.|[^"\\])*"?|\'(?:\\[^\n\']+|[^\'\\\n])\'',
    "php": rf"{SLASHES}|#(?!\[)[^\n]*|\"(?s:\\.|[^\"\\])*\"?|'(?s:\\.|[^'\\])*'?",
    "shell": r"(?m:(?<=\s)#[^\n]*|^#[^\n]*)|\\.|\"(?s:\\.|[^\"\\])*\"?|'[^']*'?",
    "sql": r"--[^\n]*|/\*(?s:.*?)(?:\*/|\Z)|'(?:''|[^'])*'?|\"[^\"]*\"?|\$\$(?s:.*?)(?:\$\$|\Z)",
}
SCANS["typescript"] = SCANS["javascript"]
CLIKE = rf"{SLASHES}|{TEXTS}|'(?:\\.|[^'\\\n])*'"
"""Java, C, C++ and the like."""
HEADS = re.compile(r"\s*(?:import|package|using|use|#\s*include|require|export\s*(?:\{|\*)|from)\b|\s*export\s*[{*]")
"""Lines that begin what is no function or class, for all its braces."""


def code_blocks(text: str, language: str, most: int) -> Iterator[Block]:
    """Functions and classes of a file in its order; of one with more than `most` characters the parts. A script without any comes whole,
    and so does a shell script that is short enough. Raises Undivided where it cannot be done."""
    if language == "python":
        yield from python_blocks(text, most)
    elif language == "sql":
        yield from statements(text)
    elif language == "shell" and len(text.strip()) <= most:
        yield whole(text)
    else:
        yield from braced(text, language, most)


def whole(text: str) -> Block:
    """A file as one block."""
    lines = text.split("\n")
    start = next(number for number, line in enumerate(lines) if line.strip())
    kept = text.strip("\n").rstrip()
    return kept, start + 1, start + 1 + kept.count("\n"), ""


def python_blocks(text: str, most: int) -> Iterator[Block]:
    """Functions and classes of a Python file."""
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Undivided from error
    found = list(definitions(tree.body, text.split("\n"), most, ""))
    yield from found or [whole(text)]


def definitions(body: Sequence[ast.stmt], lines: list[str], most: int, inside: str) -> Iterator[Block]:
    """Functions and classes among statements, with decorators and the comments right above them."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip())]
        while first > 1 and lines[first - 2].startswith(f"{indent}#"):
            first -= 1
        last = node.end_lineno or node.lineno
        code = dedented(lines[first - 1 : last])
        if isinstance(node, ast.ClassDef) and len(code) > most:
            yield from definitions(node.body, lines, most, f"{inside}.{node.name}" if inside else node.name)
        else:
            yield code, first, last, inside


@dataclass(frozen=True, slots=True)
class Depths:
    """The lines of a file, and how many braces are open before and after each."""

    lines: list[str]
    before: list[int]
    after: list[int]


def depths(text: str, language: str) -> Depths | None:
    """The braces of a file; None where they do not come out even."""
    change = [0] * (text.count("\n") + 1)
    line = place = depth = 0
    for found in re.finditer(rf"{SCANS.get(language, CLIKE)}|(?P<brace>[{{}}])", text):
        if not found["brace"]:
            continue
        line += text.count("\n", place, found.start())
        place = found.start()
        step = 1 if found["brace"] == "{" else -1
        change[line] += step
        depth += step
        if depth < 0:
            return None
    if depth:
        return None
    before: list[int] = []
    after: list[int] = []
    for step in change:
        before.append(depth)
        depth += step
        after.append(depth)
    return Depths(text.split("\n"), before, after)


def braced(text: str, language: str, most: int) -> Iterator[Block]:
    """Functions, classes and the like of a language with braces."""
    read = depths(text, language)
    if read is None:
        raise Undivided
    yield from within(read, 0, len(read.lines), 0, most, "")


def within(read: Depths, start: int, stop: int, level: int, most: int, inside: str) -> Iterator[Block]:
    """Blocks that begin and end with `level` braces open, from line `start` (0-based) up to `stop`."""
    lines = read.lines
    number = start
    while number < stop:
        if not lines[number].strip() or read.before[number] != level:
            number += 1
            continue
        first = number
        while number + 1 < stop and not ends(read, number, level, first):
            number += 1
        last, number = number, number + 1
        if max(read.after[first : last + 1]) <= level or HEADS.match(lines[first]):
            continue  # no body over several lines: a constant, an import
        code = dedented(lines[first : last + 1])
        opening = next(line for line in range(first, last + 1) if read.after[line] > level)
        if len(code) > most and last - opening > 1:
            name = " ".join(lines[opening if lines[opening].strip() != "{" else max(first, opening - 1)].split()).rstrip("{ ")
            yield from within(read, opening + 1, last, read.after[opening], most, f"{inside} > {name}" if inside else name)
        else:
            yield code, first + 1, last + 1, inside


def ends(read: Depths, number: int, level: int, first: int) -> bool:
    """Whether a block that began at line `first` ends with this line: its braces are closed, and what follows does not belong to it."""
    if read.after[number] != level:
        return False
    after = read.lines[number + 1]
    if not after.strip():
        return True
    closed = read.before[number] > level or "}" in read.lines[number]
    opened = max(read.after[first : number + 1]) > level
    return closed and opened and not re.match(r"\s*[.)\]};?:,]|\s*(?:else|catch|finally|while)\b", after)


def statements(text: str) -> Iterator[Block]:
    """Statements of SQL, with the comments right above them."""
    begin = 0
    for found in re.finditer(rf"{SCANS['sql']}|(?P<end>;)", text):
        if found["end"]:
            yield from statement(text, begin, found.end())
            begin = found.end()
    yield from statement(text, begin, len(text))


def statement(text: str, begin: int, end: int) -> Iterator[Block]:
    """One statement without the empty lines around it; nothing where only comments are left."""
    part = text[begin:end]
    if re.sub(r"--[^\n]*|/\*(?s:.*?)(?:\*/|\Z)", "", part).strip(" \t\n;"):
        start = begin + len(part) - len(part.lstrip())
        kept = part.strip()
        line = text.count("\n", 0, start) + 1
        yield kept, line, line + kept.count("\n"), ""
