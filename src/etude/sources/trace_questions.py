"""Questions about a call that was traced, with their answers and the steps that lead there."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from etude.sources.explaining import Told, changed, is_true, read_by
from etude.sources.tracing import Call, Step

Kind = Literal["returns", "branch", "value"]
KINDS: tuple[Kind, ...] = ("returns", "branch", "value")
TIMES = {1: "first", 2: "second", 3: "third"}
FEWEST = 3
"""Steps before there is something to reason about."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its answer, and the steps up to it."""

    kind: Kind
    question: str
    answer: str
    steps: tuple[Step, ...]


def questions(told: Told, text: str, call: Call, kind: Kind) -> list[Asked]:
    """Every question of a kind about a call, whose own text is `text`; [] where it gives none."""
    if call.function != told.entry or len(call.steps) < FEWEST or not told.knows(call):
        return []
    if kind == "returns":
        returned = isinstance(told.statements[call.steps[-1].line], ast.Return)
        return [Asked(kind, f"What does {text} return?", call.value, call.steps)] if returned else []
    make = branches if kind == "branch" else values
    return [one for one in make(told, text, call.steps) if len(one.steps) >= FEWEST]


def branches(told: Told, text: str, steps: Sequence[Step]) -> Iterator[Asked]:
    """Which branch of an `if` is taken, each of the first three times it is reached."""
    tails = {id(other) for node in told.statements.values() if isinstance(node, ast.If) and (other := elif_of(node))}
    met: Counter[int] = Counter()
    for place, step in enumerate(steps):
        node = told.statements[step.line]
        if not isinstance(node, ast.If) or id(node) in tails:
            continue
        met[step.line] += 1
        other = elif_of(node)
        last = other.orelse if other else node.orelse
        if met[step.line] not in TIMES or (other and elif_of(other)):
            continue  # of two elifs the word does not say which
        words = ["if", *(["elif"] if other else []), *(["else"] if last else ["none"])]
        end = place
        taken = "if" if is_true(node, step) else words[-1]
        if other and taken != "if":
            end += 1
            taken = "elif" if is_true(other, steps[end]) else words[-1]
        choices = f"{', '.join(words[:-1])} or {words[-1]}"
        time = "" if count(steps, step.line) == 1 else f" the {TIMES[met[step.line]]} time it is reached"
        yield Asked(
            "branch",
            f"In the call {text}, which branch of the condition in line {step.line} is taken{time}: {choices}?",
            taken,
            tuple(steps[: end + 1]),
        )


def elif_of(node: ast.If) -> ast.If | None:
    """The `elif` of an `if`: written by ast.unparse for an `if` that is alone in an `else`."""
    return node.orelse[0] if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If) else None


def values(told: Told, text: str, steps: Sequence[Step]) -> Iterator[Asked]:
    """What a variable is after a line that computed it, each of the first three times."""
    met: Counter[int] = Counter()
    for place, step in enumerate(steps):
        node = told.statements[step.line]
        met[step.line] += 1
        if not isinstance(node, ast.Assign | ast.AugAssign | ast.Expr) or met[step.line] not in TIMES:
            continue
        names = changed(node, step)
        if len(names) != 1 or not read_by(node, step.before):
            continue
        time = "" if count(steps, step.line) == 1 else f" for the {TIMES[met[step.line]]} time"
        question = f"In the call {text}, what is {names[0]} right after line {step.line} has run{time}?"
        yield Asked("value", question, step.after[names[0]], tuple(steps[: place + 1]))


def count(steps: Sequence[Step], line: int) -> int:
    """How often a line runs."""
    return sum(step.line == line for step in steps)
