"""Small on purpose: files of at most 400 lines, functions of at most 60; exceptions are named, with a reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "etude"

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {"training.py:train": "the loop, one function, top to bottom"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_sizes(path):
    name = str(path.relative_to(SOURCE))
    text = path.read_text(encoding="utf-8")
    if name not in LONG_FILES:
        assert len(text.splitlines()) <= 400, f"{name} has {len(text.splitlines())} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and f"{name}:{node.name}" not in LONG_FUNCTIONS:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{name}:{node.name} has {length} lines"
