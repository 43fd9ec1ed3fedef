"""Functions of a Python file as data: the docstring taken out of the code, the code cut at a TODO mark.

Everything taken apart is checked by putting it together again: the code without its docstring must
have the syntax tree of the function without it, and a completion in place of the TODO mark must give
the code, character for character. What does not is left out.
"""

from __future__ import annotations

import ast
import copy
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from etude import seeds

DOCSTRING_CHARACTERS = (15, 160)
CODE_CHARACTERS = (60, 900)
TODO = "# TODO: finish this function"
CUT_SHARE = (0.25, 0.75)
"""A completion is at least and at most this share of the function's body."""
SHORTEST_COMPLETION = 20
"""Characters below which a completion is no task."""

BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")
"""Where statements hold statements, in the order of the source."""

Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Function:
    """A function without its docstring: qualified name, 1-based line of its `def`, dedented code with
    decorators, and the docstring's first paragraph on one line."""

    name: str
    line: int
    code: str
    docstring: str


def functions(source: bytes) -> list[Function]:
    """Every function and method of a file with a docstring and code of the right lengths, in file order.

    Raises SyntaxError or ValueError for source that cannot be decoded or parsed.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    text = source.decode(encoding).replace("\r\n", "\n")
    tree = parsed(text)
    lines = text.split("\n")
    found = []
    for name, node in sorted(definitions(tree, ""), key=lambda pair: pair[1].lineno):
        docstring = first_paragraph(node)
        if not fits(docstring, DOCSTRING_CHARACTERS):
            continue
        code = without_docstring(lines, node)
        if fits(code, CODE_CHARACTERS):
            found.append(Function(name, node.lineno, code, docstring))
    return found


def fits(text: str, limits: tuple[int, int]) -> bool:
    """Whether a text has the right number of characters."""
    return limits[0] <= len(text) <= limits[1]


def parsed(text: str) -> ast.Module:
    """The syntax tree; warnings about old spellings in the library are not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Def]]:
    """Every function below a node with its qualified name."""
    for block in BLOCKS:
        for child in getattr(node, block, ()):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield name, child
                yield from definitions(child, f"{name}.")
            else:
                yield from definitions(child, prefix)


def first_paragraph(node: Def) -> str:
    """The first paragraph of a function's docstring on one line, or ""; a doctest is none."""
    docstring = (ast.get_docstring(node) or "").strip()
    paragraph = " ".join(re.split(r"\n\s*\n", docstring)[0].split())
    return "" if paragraph.startswith(">>>") else paragraph


def without_docstring(lines: list[str], node: Def) -> str:
    """The function's dedented source without its docstring statement, or "" where that cannot be done exactly."""
    statement = node.body[0]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last, end = node.end_lineno or 0, statement.end_lineno or 0
    if len(node.body) < 2 or last - first > CODE_CHARACTERS[1]:
        return ""
    before = lines[statement.lineno - 1].encode()[: statement.col_offset]
    after = lines[end - 1].encode()[statement.end_col_offset or 0 :]
    if before.strip() or after.strip():
        return ""
    while end < last and not lines[end].strip():
        end += 1
    kept = [*lines[first - 1 : statement.lineno - 1], *lines[end:last]]
    if sum(map(len, kept)) > 3 * CODE_CHARACTERS[1]:
        return ""
    code = dedented(kept)
    if not any(tricky(line, kept[0]) for line in kept):
        return code  # whole lines lost the same indentation: nothing else can have changed
    bare = copy.copy(node)
    bare.body = node.body[1:]
    try:
        same = ast.dump(parsed(code).body[0]) == ast.dump(bare)
    except (SyntaxError, ValueError, IndexError):
        same = False
    return code if same else ""


def tricky(line: str, first: str) -> bool:
    """Whether taking away a line's indentation could change more than that."""
    indent = first[: len(first) - len(first.lstrip())]
    return '"""' in line or "'''" in line or line.endswith("\\") or bool(line.strip() and not line.startswith(indent))


def dedented(lines: list[str]) -> str:
    """The lines without the indentation of the first; the inside of a text over several lines is left alone.

    Unlike textwrap.dedent, which changes such texts, or stops at them.
    """
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    inside = inside_texts(lines) if any('"""' in line or "'''" in line or line.endswith("\\") for line in lines) else frozenset()
    out = []
    for number, line in enumerate(lines, 1):
        if number in inside:
            out.append(line)
        elif line.startswith(indent):
            out.append(line[len(indent) :] if line.strip() else "")
        else:
            out.append(line.strip())  # a blank line, or a comment further left
    return "\n".join(out).rstrip()


def inside_texts(lines: list[str]) -> frozenset[int]:
    """The 1-based numbers of lines that begin inside a text (a string token over several lines)."""
    inside: set[int] = set()
    kinds = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    source = io.StringIO("\n".join(["if True:", *lines, ""]))
    try:
        for token in tokenize.generate_tokens(source.readline):
            if token.type in kinds:
                inside.update(range(token.start[0], token.end[0]))
    except (tokenize.TokenError, SyntaxError):
        pass  # whatever was missed, the comparison of syntax trees refuses
    return frozenset(inside)


def finish(code: str, key: str) -> tuple[str, str] | None:
    """(code up to a TODO mark, what stands in its place), or None where no cut leaves both sides enough.

    The cut is before a statement from which the function runs to its end at no lesser indentation, so
    the completion is dedented whole: its first line continues at the mark's indentation. Which of the
    possible cuts is a pure function of `key` and the code.
    """
    function = parsed(code).body[0]
    if not isinstance(function, Def):
        return None
    lines = code.split("\n")
    body = len("\n".join(lines[function.body[0].lineno - 1 :]))
    cuts = []
    for statement in tails(function.body):
        parts = cut_before(lines, statement)
        if parts and CUT_SHARE[0] * body <= len(parts[1]) <= CUT_SHARE[1] * body and len(parts[1]) >= SHORTEST_COMPLETION:
            cuts.append(parts)
    return cuts[seeds.number(0, "complete", key, code) % len(cuts)] if cuts else None


def tails(block: list[ast.stmt], inner: bool = False) -> Iterator[ast.stmt]:
    """Statements after which everything up to the function's end stands in the same or an inner block."""
    yield from block if inner else block[1:]
    last = block[-1]
    blocks = [getattr(last, name, []) for name in BLOCKS]
    deepest = next((part for part in reversed(blocks) if part), None)
    if deepest and not isinstance(deepest[-1], ast.stmt):
        deepest = deepest[-1].body
    if deepest and not isinstance(last, ast.ClassDef):
        yield from tails(deepest, inner=True)


def cut_before(lines: list[str], statement: ast.stmt) -> tuple[str, str] | None:
    """The code cut before a statement and the comments above it; None where no line begins there."""
    first = min([statement.lineno, *(decorator.lineno for decorator in getattr(statement, "decorator_list", []))])
    line = lines[first - 1]
    indent = line[: len(line) - len(line.lstrip())]
    if len(indent.encode()) != statement.col_offset or re.match(r"\s*elif\b", line):
        return None
    while lines[first - 2].startswith(f"{indent}#"):
        first -= 1
    rest = lines[first - 1 :]
    kept = lines[: first - 1]
    while kept and not kept[-1].strip():
        kept.pop()
    if any(line.strip() and not line.startswith(indent) for line in rest):
        return None
    completion = "\n".join(line[len(indent) :] for line in rest)
    if "\n".join(indent + line if line else "" for line in completion.split("\n")) != "\n".join(rest):
        return None
    if inside_texts(rest):
        return None
    return "\n".join([*kept, f"{indent}{TODO}"]), completion
