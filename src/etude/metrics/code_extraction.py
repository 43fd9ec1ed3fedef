r"""The program in a model's answer, by a rule that can be read, for the answer decides nothing else of the score.

1. What stands before the last `</think>` is thought, not said. `[BEGIN] ... [DONE]`, MBPP's own marks, are a fence.
2. **Fences.** Where the answer has fenced blocks (``` or ~~~; one that never ends reaches to the end), the program is the first block
   in the task's language, or in none that is named, that defines the entry point; else the first of those. What its fence is indented by
   (in a list) is taken off every line.
3. **Prose.** Without a fence, where a line of the answer defines the entry point (and its first line is not indented), the program
   begins at the first line that can begin one (an import, a decorator, a definition, a comment right above) and ends, in Python,
   with the longest stretch of lines that compiles, so that an explanation after it is cut off. Text that compiles nowhere, or is
   longer than 100,000 characters, is left whole.
4. **Continuation.** Otherwise the answer continues the prompt (where there is one). It ends before the first line that begins in the
   first column with one of Codex's stop words (`class`, `def`, `#`, `if`, `print`; Chen et al. 2021, section 2), unless that line
   defines something the lines above use, and then as in 3. A body with another indentation than the prompt's last line is moved
   to that (all of it, or a first line that alone lost its own), where more lines compile so. In JavaScript it ends with the
   first `}` that stands alone in the first column.

What a program is put together of: a definition of the entry point gets what stands in the prompt before it (imports, helper functions)
written above; a continuation gets the whole prompt. `extract: none` takes the answer as it is, behind the prompt, as the
reference program of HumanEval does.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterable
from typing import Literal

Language = Literal["python", "javascript"]

TAGS: dict[Language, tuple[str, ...]] = {
    "python": ("", "python", "py", "python3", "py3", "python-repl"),
    "javascript": ("", "javascript", "js", "node", "nodejs", "jsx", "mjs"),
}
"""How fences name a language, in lower case; "" is a fence without a name."""

FENCE = re.compile(r"^(?P<indent>[ \t>]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<tag>[\w.+#-]*)[^\n]*$", re.MULTILINE)
MARKS = re.compile(r"\[BEGIN\]\s*\n?(.*?)(?:\[DONE\]|\Z)", re.DOTALL)
OPENING: dict[Language, re.Pattern[str]] = {
    "python": re.compile(r"(?:from\s+[\w.]+\s+import\b|import\s+\w|@\w|(?:async\s+)?def\s+\w+\s*[(\[]|class\s+\w+\s*[:(\[])"),
    "javascript": re.compile(
        r"(?:(?:async\s+)?function\b|class\s+\w+\s*\{|(?:const|let|var)\s+[\w{\[]|import\s+[\w{*\"']|export\s|module\.|['\"]use strict)"
    ),
}
"""How a line in the first column begins a program."""
STOPS = ("class ", "def ", "#", "if ", "print")
LONGEST, TRIES = 100_000, 100
"""Characters beyond which no end is looked for, and how often one is: a hostile answer must not cost more than an honest one."""


def defines(text: str, names: Iterable[str], language: Language) -> int | None:
    """Where, in characters, a line in the first column defines one of the names; None where none does."""
    found = [name for name in names if name]
    if not found:
        return None
    word = "|".join(map(re.escape, found))
    if language == "python":
        pattern = rf"^(?:(?:async[ \t]+)?def|class)[ \t]+(?:{word})\b|^(?:{word})[ \t]*(?::[^=\n]*)?=(?!=)"
    else:
        made = rf"(?:async[ \t]+)?function[ \t*]+(?:{word})\b|(?:(?:const|let|var)[ \t]+)?(?:{word})[ \t]*=(?!=)"
        pattern = rf"^(?:export[ \t]+(?:default[ \t]+)?)?(?:{made})"
    match = re.search(pattern, text, re.MULTILINE)
    return match.start() if match else None


def blocks(text: str) -> list[tuple[str, str]]:
    """(tag in lower case, content) of every fenced block; the last may lack its end."""
    found = []
    place = 0
    while opening := FENCE.search(text, place):
        start = min(opening.end() + 1, len(text))
        closing = re.compile(rf"^[ \t>]*{re.escape(opening['mark'][0])}{{{len(opening['mark'])},}}[ \t]*$", re.MULTILINE).search(
            text, start
        )
        end = closing.start() if closing else len(text)
        margin = re.compile(rf"^[ \t>]{{1,{len(opening['indent'])}}}", re.MULTILINE) if opening["indent"] else None
        content = text[start:end]
        found.append((opening["tag"].lower(), margin.sub("", content) if margin else content))
        place = closing.end() if closing else len(text)
    return found or [("", match[1]) for match in MARKS.finditer(text) if match[1].strip()]


def extract(output: str, names: Iterable[str] = (), prompt: str = "", language: Language = "python") -> str:
    """The program in an answer, put together with its prompt. `names`: what the checks call, any of which marks the right block."""
    names = tuple(names)
    text = output.rpartition("</think>")[2].replace("\r\n", "\n")
    fenced = blocks(text)
    ours = [content for tag, content in fenced if tag in TAGS[language]] or [content for _, content in fenced]
    if ours:
        flush = [textwrap.dedent(content) for content in ours]
        code = next((content for content in flush if defines(content, names, language) is not None), ours[0] if prompt else flush[0])
        if not prompt or defines(code, names, language) is not None:
            return above(prompt, names, language) + code
        return continued(prompt, code, names, language)
    place = defines(text, names, language)
    inside = re.match(r"\s*\n[ \t]+\S|[ \t]+\S", text) is not None  # it begins with a body, whatever it defines later
    if not prompt or (place is not None and not inside):
        return above(prompt, names, language) + longest(beginning(text, place, language), language)
    return continued(prompt, text, names, language)


def above(prompt: str, names: Iterable[str], language: Language) -> str:
    """What stands in a prompt before the definition it leaves open: imports and helper functions."""
    places = [place for name in names if (place := last_definition(prompt, name, language)) is not None]
    return prompt[: min(places)] if places else ""


def last_definition(prompt: str, name: str, language: Language) -> int | None:
    """Where the last definition of a name in a prompt begins, the decorators above it included."""
    place, start = None, 0
    while (found := defines(prompt[start:], [name], language)) is not None:
        place = start + found
        start = place + 1
    if place is None:
        return None
    before = prompt[:place].splitlines(keepends=True)
    while before and before[-1].startswith("@"):
        place -= len(before.pop())
    return place


def beginning(text: str, place: int | None, language: Language) -> str:
    """The answer from its first line that can begin a program on; `place`: where the entry point is defined, at the latest there."""
    start = 0
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if start == place or OPENING[language].match(line):
            while number and lines[number - 1].startswith(("#", "//")):
                number -= 1
                start -= len(lines[number])
            return text[start:]
        start += len(line)
    return text


def continued(prompt: str, text: str, names: tuple[str, ...], language: Language) -> str:
    """The prompt and what of an answer continues it."""
    lines = text.splitlines(keepends=True)
    if language == "javascript":
        end = next((number + 1 for number, line in enumerate(lines) if re.match(r"\};?\s*$", line)), len(lines))
        return prompt + "".join(lines[:end])
    started = next((number for number, line in enumerate(lines) if line.strip()), 0)
    end = next((n for n, line in enumerate(lines) if n > started and line.startswith(STOPS) and not wanted(lines, n, names)), len(lines))
    body = "".join(lines[:end]).rstrip() + "\n"
    glue = "" if prompt.endswith("\n") or body.startswith("\n") else "\n" if body[:1] in " \t" else ""
    first = body.lstrip("\n")
    margin = next((line[: len(line) - len(line.lstrip())] for line in reversed(prompt.splitlines()) if line.strip()), "") or "    "
    moved = textwrap.indent(textwrap.dedent(first), margin)
    tries = [body, moved] if first[:1] in (" ", "\t") else [moved, margin + first, body]
    found = max((compiled(prompt + glue, attempt) for attempt in tries), key=lambda code: code.count("\n"))
    return prompt + glue + (found or body)


def wanted(lines: list[str], number: int, names: tuple[str, ...]) -> bool:
    """Whether a line defines something, other than the entry point again, that the lines above it use."""
    made = re.match(r"(?:def|class)\s+(\w+)", lines[number])
    if made is None or made[1] in names:
        return False
    return re.search(rf"\b{made[1]}\b", "".join(lines[:number])) is not None


def longest(text: str, language: Language) -> str:
    """The longest beginning of Python code, in whole lines, that compiles; the whole where none does."""
    return compiled("", text) or text if language == "python" else text


def compiled(prompt: str, text: str) -> str:
    """The longest beginning of the text, in whole lines and with more than space, that compiles behind the prompt; "" for none."""
    lines = text.splitlines(keepends=True) if len(prompt) + len(text) <= LONGEST else []
    for _ in range(TRIES):
        code = "".join(lines)
        if not code.strip():
            return ""
        wrong = fault(prompt + code)
        if wrong is None:
            return code
        # lines behind the first fault only add to it, but a fault may be noticed late: at the end, or at an opening far above
        keep = wrong - prompt.count("\n") - 1
        lines = lines[: keep if 0 < keep < len(lines) else len(lines) - 1]
    return ""


def fault(code: str) -> int | None:
    """The line of the first error of syntax, None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, RecursionError, MemoryError, OverflowError):  # NUL bytes, lone surrogates, nesting beyond the parser
        return 0
    return None


BUILT_IN = frozenset(dir(builtins))


def called(tests: Iterable[str], setup: str = "") -> tuple[str, ...]:
    """The names that every test calls and neither Python nor the setup defines, as MBPP's tests name their function; () where the tests
    cannot be read."""
    shared: list[str] | None = None
    try:
        bound = {name for node in ast.walk(ast.parse(setup)) for name in bindings(node)}
        for test in tests:
            tree = ast.parse(test)
            local = {name for node in ast.walk(tree) for name in bindings(node)}
            names = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
            own = [name for name in dict.fromkeys(names) if name not in BUILT_IN | bound | local]
            shared = own if shared is None else [name for name in shared if name in own]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(shared or ())


def bindings(node: ast.AST) -> list[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []
