"""Programs to trace out of tasks of HumanEval's or MBPP's form: the solution's functions, and the calls that its tests make."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from etude.sources.written_programs import Traceable

STATEMENTS = (
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.If, ast.For, ast.While, ast.Return, ast.Expr, ast.Pass, ast.Break, ast.Continue,
    ast.FunctionDef, ast.Import, ast.ImportFrom,
)  # fmt: skip
"""Statements that steps can be written of; imports and functions stand outside functions only."""
UNTOLD = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)


class Untraceable(Exception):
    """A task that no steps can be written of; the text is why."""


def traceable(fields: Mapping[str, Any], number: int, most: int) -> Traceable:
    """The program of one task (as the source `code_tasks` reads it), with at most so many of its tests' calls.

    Its comments and docstrings are left out and every statement stands on a line of its own. Raises Untraceable.
    """
    try:
        tree = ast.parse(str(fields["output"]))
        tests = tests_of(fields)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Untraceable("cannot be parsed as Python") from error
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = [call for call in tests if call.func.id in functions and is_literal(call)]  # type: ignore[attr-defined]
    if not calls:
        raise Untraceable("no test calls a function of it with values alone")
    for node in tree.body:
        check(node, outside=True)
    entry = calls[0].func.id  # type: ignore[attr-defined]
    texts = dict.fromkeys(ast.unparse(call) for call in calls if call.func.id == entry)  # type: ignore[attr-defined]
    tree.body = [node for node in tree.body if not is_text(node)]
    for part in ast.walk(tree):
        if isinstance(part, ast.FunctionDef | ast.If | ast.For | ast.While):
            part.body = [node for node in part.body if not is_text(node)] or [ast.Pass()]
    id = re.sub(r"\s+", "", str(fields.get("task_id", number)))
    return Traceable(f"task-{id}", ast.unparse(ast.fix_missing_locations(tree)), entry, tuple(texts)[:most])


def tests_of(fields: Mapping[str, Any]) -> list[ast.Call]:
    """The calls of a name that the task's tests compare with something."""
    if "test_list" in fields:
        trees, candidate = [ast.parse(test) for test in fields["test_list"]], ""
    else:
        trees, candidate = [ast.parse(str(fields.get("test", "")))], str(fields.get("entry_point", "")).strip()
    found = []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Call) and isinstance(node.left.func, ast.Name):
                if candidate and node.left.func.id == "candidate":
                    node.left.func.id = candidate
                found.append(node.left)
    return found


def is_literal(call: ast.Call) -> bool:
    """Whether all arguments are values written out."""
    try:
        for part in [*call.args, *(keyword.value for keyword in call.keywords)]:
            ast.literal_eval(part)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return all(keyword.arg for keyword in call.keywords)


def check(node: ast.stmt, outside: bool = False) -> None:
    """Raise Untraceable for a statement, or one inside it, that steps cannot be written of."""
    if not isinstance(node, STATEMENTS) or (not outside and isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)):
        raise Untraceable(f"has a statement that steps are not written of ({type(node).__name__})")
    if outside and isinstance(node, ast.If | ast.For | ast.While):
        raise Untraceable("has branches or loops outside functions")
    if isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Constant):
        raise Untraceable("has a condition that is a constant")
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        raise Untraceable("has a decorated function")
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.stmt):
            check(part)
        elif any(isinstance(one, UNTOLD) for one in ast.walk(part)):
            raise Untraceable("has yield, await or :=")


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a text and nothing else: a docstring or a comment."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
