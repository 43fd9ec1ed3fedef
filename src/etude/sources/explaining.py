"""What a trace says, in words, at three levels: exact, since every value in it was seen.

simple: the decisive values; normal: every executed line with what it changed; complex: every executed line with its reason (the
expression with the values in place of the names) and all variables after it, but arguments that are still what the call began with.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from etude.sources.tracing import Call, Step, Variables
from etude.templates.levels import Written

LONGEST = 90
"""Characters of an expression with values in it; a longer one is left out, its value stays."""
BINDING = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr)
"""Expressions with names of their own: no value is put in place of a name there."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is asked about a program: its code, the function, and each line's statement."""

    code: str
    entry: str
    statements: dict[int, ast.stmt] = field(default_factory=dict)

    @staticmethod
    def of(code: str, entry: str) -> Told:
        """The statements of a program's functions by line; a statement a line, as ast.unparse writes them."""
        nodes = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.stmt))
        return Told(code, entry, {node.lineno: node for node in nodes if not isinstance(node, ast.FunctionDef)})

    def knows(self, call: Call) -> bool:
        """Whether every line that ran is the first of a statement."""
        return all(step.line in self.statements and all(map(self.knows, step.calls)) for step in call.steps)

    def prefix(self, function: str, line: int) -> str:
        """`Line 4`, or `step, line 2` in another function."""
        return f"Line {line}" if function == self.entry else f"{function}, line {line}"


def explain(told: Told, call: Call, steps: Sequence[Step], level: Written) -> str:
    """The steps of a call at a level, a line each; `steps` are all of the call's, or those up to where a question is asked."""
    if level == "simple":
        return "\n".join(decisive(told, call, steps))
    lines = []
    if level == "complex" and call.arguments:
        lines.append(f"The call begins with {listed(call.arguments)}.")
    return "\n".join([*lines, *walk(told, call, steps, level)])


def walk(told: Told, call: Call, steps: Iterable[Step], level: Written) -> Iterable[str]:
    """A line a step, those of the calls inside before it."""
    for step in steps:
        place = told.prefix(call.function, step.line)
        for inner in step.calls:
            given = f" with {listed(inner.arguments)}" if inner.arguments else ""
            yield f"{place} calls {inner.function}{given}."
            yield from walk(told, inner, inner.steps, level)
        yield f"{place}: {effect(told.statements[step.line], step, call.arguments, call.value, level == 'complex')}"


def effect(node: ast.stmt, step: Step, given: Variables, value: str, why: bool) -> str:
    """What one executed line did, in a call that was `given` arguments and returns `value`."""
    match node:
        case ast.If(test=test) | ast.While(test=test):
            return condition(test, step, is_true(node, step), why)
        case ast.For():
            return round_of(node, step, given, why)
        case ast.Return():
            said = worked_out(node.value, step.before) if why and node.value else ""
            return f"{said}it returns {value}." if said else f"returns {value}."
        case ast.Break():
            return f"the loop ends{following(step, why)}."
        case ast.Continue():
            return f"on to the next round{following(step, why)}."
        case ast.Pass():
            return "nothing happens."
    names = changed(node, step)
    if not names:
        return "no local variable changes."
    values = listed({name: step.after[name] for name in names})
    return f"{reason(node, step) if why else ''}{values}{after_all(step, given, names, why)}."


def condition(test: ast.expr, step: Step, holds: bool, why: bool) -> str:
    """A condition and whether it holds."""
    if not why:
        return f"{text_of(test)} is {holds}."
    said = with_values(test, step.before)
    because = f"{text_of(test)} is {said}, which is {holds}" if said else f"{text_of(test)} is {holds}"
    return f"{because}{following(step, True, ', so ')}."


def round_of(node: ast.For, step: Step, given: Variables, why: bool) -> str:
    """The next round of a loop, or its end."""
    if not is_true(node, step):
        return f"no value is left in {text_of(node.iter)}, so the loop ends{following(step, why)}." if why else "the loop ends."
    names = [name for name in names_in(node.target) if name in step.after]
    values = listed({name: step.after[name] for name in names}) or "the next round begins"
    return f"the next of {text_of(node.iter)} gives {values}{after_all(step, given, names, why)}." if why else f"{values}."


def following(step: Step, why: bool, word: str = ", ") -> str:
    """Which line is next."""
    return f"{word}line {step.next} is next" if why and step.next else ""


def after_all(step: Step, given: Variables, told: Sequence[str], why: bool) -> str:
    """All variables after a step, where some were not told with it; arguments that are as they were given are left out."""
    now = {name: value for name, value in step.after.items() if given.get(name) != value or name in told}
    return f"; now {listed(now)}" if why and set(now) - set(told) else ""


def is_true(node: ast.If | ast.While | ast.For, step: Step) -> bool:
    """Whether a condition held (or a loop had a next value): then its first line ran next."""
    return step.next == node.body[0].lineno


def changed(node: ast.stmt, step: Step) -> list[str]:
    """The names that a statement set, and those whose values are others afterwards."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []
    names = [name for target in targets for name in names_in(target)]
    names += [name for name, value in step.after.items() if step.before.get(name) != value]
    return [name for name in dict.fromkeys(names) if name in step.after]


def names_in(target: ast.expr) -> list[str]:
    """The variables that an assignment to a target sets or changes."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in names_in(part)]
        case ast.Subscript(value=inner) | ast.Attribute(value=inner) | ast.Starred(value=inner):
            return names_in(inner)
    return []


def reason(node: ast.stmt, step: Step) -> str:
    """The expression behind a change with values for its names, `total + x is 0 + 4, so `; "" where there is nothing to say."""
    match node:
        case ast.AugAssign():
            return worked_out(sum_of(node), step.before)
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return worked_out(value, step.before)
        case ast.Expr(value=ast.Call(func=method, args=args)) if args:
            said = [with_values(one, step.before) or text_of(one) for one in args]
            return f"{text_of(method)}({', '.join(said)}) runs, so "
    return ""


def worked_out(value: ast.expr, before: Variables) -> str:
    """`total + x is 0 + 4, so `; "" where there is no value to put in."""
    said = with_values(value, before)
    return f"{text_of(value)} is {said}, so " if said else ""


def with_values(expression: ast.expr, values: Variables) -> str:
    """An expression with its names' values; "" where none has one, names of its own stand in it, or it gets long."""
    pieces, names = pieces_of(expression)
    if not any(name in values for name in names):
        return ""
    filled = [values.get(name, name) for name in names]
    if any("**" in piece for piece in pieces):  # what binds more tightly than a minus
        filled = [f"({value})" if value.startswith("-") else value for value in filled]
    text = "".join(part for pair in zip(pieces, [*filled, ""], strict=True) for part in pair)
    return text if len(text) <= LONGEST else ""


@functools.lru_cache(maxsize=4096)
def pieces_of(expression: ast.expr) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The text of an expression around the names that it reads, and those names; no names where it has some of its own."""
    text = text_of(expression).encode()
    again = ast.parse(text.decode(), mode="eval").body
    if any(isinstance(part, BINDING) for part in ast.walk(again)):
        return (text.decode(),), ()
    names = sorted((part.col_offset, part.id) for part in ast.walk(again) if isinstance(part, ast.Name))
    ends = [0, *(start + len(name.encode()) for start, name in names)]
    starts = [*(start for start, _ in names), len(text)]
    return tuple(text[end:start].decode() for end, start in zip(ends, starts, strict=True)), tuple(name for _, name in names)


@functools.lru_cache(maxsize=4096)
def text_of(node: ast.AST) -> str:
    """An expression or statement as text."""
    return ast.unparse(node)


@functools.lru_cache(maxsize=1024)
def sum_of(node: ast.AugAssign) -> ast.expr:
    """What `total += x` computes."""
    return ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value) if isinstance(node.target, ast.Name) else node.value


def read_by(node: ast.AST, values: Variables) -> list[str]:
    """The variables that an expression or statement reads, in their order."""
    return [name for name in names_of(node) if name in values]


@functools.lru_cache(maxsize=4096)
def names_of(node: ast.AST) -> tuple[str, ...]:
    """Every name in an expression or statement, once."""
    return tuple(dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name)))


def listed(values: Variables) -> str:
    """`a = 1, b = 2`"""
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def decisive(told: Told, call: Call, steps: Sequence[Step]) -> list[str]:
    """The last condition before the last step, and the last step with what it reads."""
    last = steps[-1]
    lines: list[str] = []
    node = test = told.statements[last.line]
    for step in reversed(steps[:-1]):
        test = told.statements[step.line]
        if isinstance(test, ast.If) and step.line != last.line:
            lines.append(f"{told.prefix(call.function, step.line)}: {condition(test.test, step, is_true(test, step), False)}")
            break
    match node:
        case ast.If(test=test_of):
            said = with_values(test_of, last.before)
            chain = lines if node in ast.walk(test) else []
            return [*chain, f"{told.prefix(call.function, last.line)}: {text_of(test_of)} is {said or is_true(node, last)}."]
        case ast.For(target=target, iter=values):
            about: ast.AST = values
            what = f"{text_of(target)} takes the next of {text_of(values)}"
        case _:
            about, what = node, text_of(node)
    reads = {name: last.before[name] for name in read_by(about, last.before)}
    given = f" with {listed(reads)}" if reads else ""
    return [*lines, f"{told.prefix(call.function, last.line)}: {what}{given}."]
