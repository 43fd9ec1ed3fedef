"""Imports only go down: read from the code itself, also those hidden in functions."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "etude"

RANKS = [
    "failures devices",
    "records journal seeds catalog screen memory",
    "engines distributed similarity encoding packing sandbox pairs ragged flexible virtual_tokens formats templates",
    "attention fusing noise",
    "models",
    "sources metrics tunings checkpoints",
    "steps tracking baselines",
    "losses optimizing",
    "sharding",
    "range_test",
    "splitting generation curation mixing previewing training scoring",
    "comparison forgetting",
    "judging",
    "recipe",
    "runs preparing manifest shipped tasks",
    "curating working generating",
    "reporting",
    "encoded answering digests launching",
    "judged_runs tuning",
    "pipeline tuning_worker",
    "loading",
    "planning doctor showing closing converting importing rewriting grading cleaning suspecting harness serving chatting annotating"
    " judged_files comparing",
    "studies",
    "cli",
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names.split()}

STAGES = {"splitting", "generation", "curation", "mixing", "previewing", "training", "scoring"}
"""These never import each other: what one needs of another comes in as an argument."""

SAME_RANK_ALLOWED = {
    ("encoding", "formats"),  # rows are encoded from renderings
    ("catalog", "journal"),
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """The top-level module or folder a file belongs to."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


@functools.cache
def imported(path: Path) -> set[str]:
    """The rooms of etude that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] == "etude":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{path}: relative import; say `from etude...`")
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("etude.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_only_go_down(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in RANK, f"{here} has no rank: add it to RANKS"
    for other in imported(path) - {here}:
        if (here, other) in SAME_RANK_ALLOWED:
            continue
        assert other in RANK, f"{path.name} imports etude.{other}, which has no rank"
        if here == "comparison" or RANK[here] != RANK[other]:
            assert RANK[other] < RANK[here], f"{path.relative_to(SOURCE)} imports upward: etude.{other}"
        else:
            assert not (here in STAGES and other in STAGES), f"stage {here} imports its sibling {other}"
            assert order(here, other), f"{path.relative_to(SOURCE)} imports sideways: etude.{other}"


ALLOWED_SIDEWAYS = {
    ("journal", "records"),
    ("runs", "manifest"),
    ("manifest", "runs"),
    ("planning", "doctor"),
    ("showing", "closing"),
    ("closing", "grading"),  # what it prints of one
    ("comparing", "grading"),  # files of predictions
    ("judged_files", "grading"),  # its reading of predictions
    ("harness", "loading"),  # a run by its name
    ("cleaning", "converting"),  # its reading of any format, and its writers
    ("rewriting", "converting"),  # its writers of JSON Lines, JSON and CSV
}


def order(here: str, other: str) -> bool:
    """Whether a sideways import is one of the named ones."""
    return (here, other) in ALLOWED_SIDEWAYS


def test_no_import_cycle():
    graph = {room(path): set() for path in modules()}
    for path in modules():
        graph[room(path)] |= imported(path) - {room(path)}
    seen: dict[str, int] = {}

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, " -> ".join((*trail, node))
        if seen.get(node):
            return
        for other in sorted(graph.get(node, ())):
            visit(other, (*trail, node))
        seen[node] = 1

    for node in sorted(graph):
        if node != "__init__":
            visit(node, ())


def test_the_house_has_no_drawers():
    for path in modules():
        assert path.stem not in {"utils", "common", "base", "manager", "helpers", "misc"}, path


def test_catalogs_name_their_own_rooms():
    """An entry written as text is an import too: it must not reach out of its vocabulary."""
    from etude.formats import FORMATS
    from etude.metrics import METRICS
    from etude.sources import SOURCES

    for catalog, package in ((FORMATS, "formats"), (METRICS, "metrics"), (SOURCES, "sources")):
        for name, kind in catalog.items():
            assert kind.__module__.startswith(f"etude.{package}."), name
