"""`etude show`: a run's results at a glance, or one row's way through it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude import journal, preparing, runs
from etude.failures import RecipeError
from etude.screen import printable


def overview(folder: Path) -> dict[str, Any]:
    """State, results and timings of a run."""
    state = runs.states(folder)
    return {**state, **(runs.results(folder) if state["finished"] else {})}


def follow(folder: Path, row: str) -> dict[str, Any]:
    """One row's way: the Record, its side of the split or why it left, its words, its answers.

    `row` is an id or its first digits; raises RecipeError when no row or several have it.
    """
    recipe = runs.recipe_of(folder)
    data = preparing.stored(folder / "curated", recipe)
    found: list[dict[str, Any]] = []
    for name, parts in data.parts.items():
        for part in ("train", "validation", "test"):
            for record in getattr(parts, part):
                if record.id.startswith(row):
                    words = preparing.worded(recipe, name, [record])[0]
                    said = [{"role": m.role, "content": m.words()} for m in words.messages]
                    found.append({**preparing.as_row(record), "part": part, "conversation": said})
        for record, fate in zip(parts.dropped, parts.fates, strict=True):
            if record.id.startswith(row):
                found.append({**preparing.as_row(record), "dropped": fate.reason, "of": fate.of})
    ids = {one["id"] for one in found}
    if len(ids) != 1:
        raise RecipeError(f"{folder}: {'no row has' if not ids else f'{len(ids)} rows have'} an id beginning with {row!r}")
    answers = {}
    for path in sorted((folder / "predictions").glob("*.jsonl")):
        for line in journal.read(path):
            if line["id"] in ids:
                answers[path.stem] = line["outputs"]
    return {**found[0], "answers": answers}


def as_text(found: Mapping[str, Any], indent: str = "") -> str:
    """Nested data as indented lines, control characters shown."""
    lines = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{key}")
            lines.append(as_text(value, indent + "  "))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for one in value:
                lines.append(f"{indent}{key}")
                lines.append(as_text(one, indent + "  "))
        else:
            text = f"{value:.4g}" if isinstance(value, float) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            text = printable(text).replace("\n", f"\n{indent}{' ' * 18}")
            lines.append(f"{indent}{key:<16}  {text}")
    return "\n".join(line for line in lines if line)
