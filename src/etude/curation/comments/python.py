"""Python: comments by the standard library's tokenizer, docstrings by its parser, and a proof by the tree.

The edited text must parse to the tree of the given one (docstrings left out of both where they were to go), or
the text stays as it was. An indented stretch of a body is read below an `if`; Python 2, sessions with `>>>` and
notebooks with magics do not parse and stay.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from etude.curation.comments.cutting import Cut, cut, line_start, trailing
from etude.curation.comments.edits import Edit, Wish, judged
from etude.curation.comments.marks import SCRIPT, stays

WRAP = "if 1:\n"
"""Stands before an indented fragment, so that it parses."""
NOT_READ = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError, IndentationError)
BREAKS = re.compile(r"\r\n|\r|\n")
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Lines:
    """Where the lines of a text start, to turn (line, column) into a position."""

    text: str
    starts: tuple[int, ...]

    @staticmethod
    def of(text: str) -> Lines:
        """The lines that Python sees."""
        return Lines(text, (0, *(match.end() for match in BREAKS.finditer(text))))

    def at(self, row: int, column: int) -> int:
        """The position of a tokenizer's (1-based line, column in characters)."""
        return self.starts[row - 1] + column

    def of_bytes(self, row: int, column: int) -> int:
        """The position of a tree's (1-based line, column in UTF-8 bytes)."""
        start = self.starts[row - 1]
        piece = self.text[start : start + column]
        return start + (column if piece.isascii() else len(self.text[start:].encode()[:column].decode()))


def edit(text: str, wish: Wish) -> Edit:
    """The text without what the wish takes out, proved to be the same program, or as it was with the reason."""
    prefix = WRAP if re.match(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]+[^\s#]", text) else ""
    try:
        tree = parse(prefix + text)
    except NOT_READ as error:
        return Edit(text, "does_not_parse", say(error))
    lines = Lines.of(prefix + text)
    cuts: list[Cut] = []
    try:
        if wish.comments and "#" in text:
            cuts += comments(lines, wish, len(prefix))
        if wish.docstrings:
            cuts += docstrings(tree, lines)
        done = cut(prefix + text, sorted(cuts, key=lambda one: one.start))
        if wish.strips:
            done = stripped(done)
    except NOT_READ as error:
        return Edit(text, "does_not_parse", say(error))
    if not done.startswith(prefix):
        return Edit(text, "unproved", "the first line could not be told apart")
    after = done[len(prefix) :]
    if after == text:
        return Edit(text, "unchanged")
    try:
        again = parse(done if after.strip() else "")
        wanted = undocumented(tree) if wish.docstrings else tree
        if prefix and not after.strip():
            wanted.body = []
        if not same(wanted, again):
            return Edit(text, "unproved", "the tree would change")
    except NOT_READ as error:
        return Edit(text, "unproved", f"the text would not parse: {say(error)}")
    return judged(text, after, wish)


def parse(text: str) -> ast.Module:
    """The tree of a text; Python's advice about escapes in strings is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def say(error: BaseException) -> str:
    """Why Python does not read a text, in a line."""
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(str(words).split())[:120] or type(error).__name__


def comments(lines: Lines, wish: Wish, offset: int) -> Iterator[Cut]:
    """Every comment that goes. `offset`: characters before the text itself."""
    text = lines.text
    scripts = [match.span() for match in SCRIPT.finditer(text)]
    extra = 1 if offset else 0
    for token in tokens(text):
        if token.type != tokenize.COMMENT:
            continue
        start = lines.at(*token.start)
        if any(begin <= start < end for begin, end in scripts):
            continue
        line = token.start[0] - 1 - extra
        alone = not text[line_start(text, start) : start].strip()
        if not stays(token.string, "python", wish.keep, first=start == offset, line=line if alone else 2):
            yield Cut(start, lines.at(*token.end))


def tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens, with line ends as they are."""
    return tokenize.generate_tokens(io.StringIO(text, newline="").readline)


def stripped(text: str) -> str:
    """The text without white space at the ends of lines, but for those inside a string."""
    held = []
    lines = Lines.of(text)
    fstring = getattr(tokenize, "FSTRING_MIDDLE", None)
    for token in tokens(text):
        if token.type in (tokenize.STRING, fstring) and token.start[0] != token.end[0]:
            held.append((lines.at(*token.start), lines.at(*token.end)))
    cuts, index = [], 0
    for start, end in trailing(text):
        while index < len(held) and held[index][1] <= start:
            index += 1
        if index == len(held) or start < held[index][0]:
            cuts.append((start, end))
    at, out = 0, []
    for start, end in cuts:
        out.append(text[at:start])
        at = end
    return "".join((*out, text[at:]))


def scopes(tree: ast.AST) -> Iterator[Scope]:
    """Everything that can have a docstring, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Scope):
            yield node
        if not isinstance(node, ast.expr):
            waiting.extend(ast.iter_child_nodes(node))


def leading(scope: Scope) -> list[ast.stmt]:
    """The string statements a scope begins with: its docstring, and what would become one after it."""
    found: list[ast.stmt] = []
    for statement in scope.body:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)):
            break
        found.append(statement)
    return found


def docstrings(tree: ast.Module, lines: Lines) -> Iterator[Cut]:
    """Every docstring; one that is a whole body becomes `pass`."""
    text = lines.text
    for scope in scopes(tree):
        found = leading(scope)
        for number, statement in enumerate(found):
            start = lines.of_bytes(statement.lineno, statement.col_offset)
            end = lines.of_bytes(statement.end_lineno or 0, statement.end_col_offset or 0)
            if number == 0 and len(found) == len(scope.body) and not isinstance(scope, ast.Module):
                yield Cut(start, end, "pass")
                continue
            semicolon = re.compile(r"[ \t]*;[ \t]*").match(text, end)
            yield Cut(start, semicolon.end() if semicolon else end, swallow=True)


def undocumented(tree: ast.Module) -> ast.Module:
    """The tree (changed in place) without its docstrings."""
    for scope in list(scopes(tree)):
        found = leading(scope)
        if found:
            rest = scope.body[len(found) :]
            scope.body = rest if rest or isinstance(scope, ast.Module) else [ast.Pass()]
    return tree


def same(one: ast.AST, other: ast.AST) -> bool:
    """Whether two trees are equal but for positions, as `ast.dump` would say, without recursion."""
    waiting: list[tuple[object, object]] = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, ast.AST):
            waiting.extend((getattr(left, name, None), getattr(right, name, None)) for name in left._fields)
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            waiting.extend(zip(left, right, strict=True))
        elif repr(left) != repr(right):  # 0.0 and -0.0 are equal and are not the same; NaN the other way round
            return False
    return True
