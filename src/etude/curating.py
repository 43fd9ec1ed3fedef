"""The curated stage: the recipe's rewrites, then its checks, over the training rows of all sources; what became of every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etude import journal, preparing
from etude.curation import Beside, Check, Row
from etude.curation.applying import Applied, Step, Tell, apply, rewritten, silent
from etude.models import LLM
from etude.preparing import Data
from etude.recipe import Recipe
from etude.records import Record
from etude.splitting import Parts

Count = Callable[[str], int]


@dataclass(frozen=True)
class Curated:
    """The rows that go on; the training rows that came to the checks and what stood beside them; what the checks did; the rewrites
    before them, and each rewritten row's fate."""

    data: Data
    rows: tuple[Row, ...]
    beside: Beside
    applied: Applied
    rewrites: tuple[Step, ...] = ()
    fates: tuple[Mapping[str, str], ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every rewrite, then every check."""
        return (*self.rewrites, *self.applied.steps)


def curate(
    recipe: Recipe,
    data: Data,
    *,
    count: Count | None = None,
    model: Callable[[str], LLM] | None = None,
    folder: Path | None = None,
    tell: Tell = silent,
    asking: bool = True,
) -> Curated:
    """The recipe's rewrites and checks over its rows.

    `count` gives the tokens of a text, `model` an LLM by name, `folder` is where checks that ask a model keep what it said. Without
    `asking`, the checks that ask a model are passed over (a preview asks nothing). Raises RecipeError where a check does not
    fit the rows, DataError where it leaves no training row.
    """
    parts, steps, fates = rewrite_parts(recipe, data, tell)
    where = [(name, record) for name, one in parts.items() for record in one.train]
    evaluation = {
        f"{name}.{part}": rows_of(recipe, name, getattr(one, part)) for name, one in parts.items() for part in preparing.PARTS[1:]
    }
    used = {name: preparing.template_of(recipe, name) for name in parts}
    beside = Beside(
        evaluation={name: rows for name, rows in evaluation.items() if rows},
        labels={template.task: template.labels for template in used.values() if template and template.labels},
        model=model,
        folder=folder,
        count=count,
    )
    rows = [row for name, one in parts.items() for row in rows_of(recipe, name, one.train)]
    found = apply(rows, [check for check in recipe.curate if asking or not asks(check)], beside, tell)
    kept = shared_out(parts, where, rows, found)
    return Curated(replace(data, parts=kept), tuple(rows), beside, found, steps, fates)


def rewrite_parts(recipe: Recipe, data: Data, tell: Tell) -> tuple[dict[str, Parts], tuple[Step, ...], tuple[Mapping[str, str], ...]]:
    """Every source's rows after the recipe's rewrites: the training rows, and the others where the recipe says so."""
    if not recipe.rewrite:
        return dict(data.parts), (), ()
    touched = preparing.PARTS if recipe.rewrite_evaluation else preparing.PARTS[:1]
    where = [(name, part, record) for name, one in data.parts.items() for part in touched for record in getattr(one, part)]
    done, steps, fates = rewritten([record for _, _, record in where], recipe.rewrite, tell)
    found: dict[str, dict[str, list[Record]]] = {name: {part: [] for part in touched} for name in data.parts}
    for (name, part, _), record in zip(where, done, strict=True):
        found[name][part].append(record)
    parts = {}
    for name, one in data.parts.items():
        train, validation, test = (tuple(found[name][part]) if part in touched else getattr(one, part) for part in preparing.PARTS)
        parts[name] = replace(one, train=train, validation=validation, test=test)
    return parts, tuple(steps), tuple(fates)


def rows_of(recipe: Recipe, name: str, records: Sequence[Record]) -> list[Row]:
    """Records with their words, in the phrasing that they are scored in."""
    return [Row(record, words) for record, words in zip(records, preparing.worded(recipe, name, records), strict=True)]


def shared_out(parts: Mapping[str, Parts], where: Sequence[tuple[str, Record]], rows: Sequence[Row], found: Applied) -> dict[str, Parts]:
    """What the checks left and dropped, back in its sources."""
    home = {id(row): name for (name, _), row in zip(where, rows, strict=True)}
    kept: dict[str, list[Record]] = {name: [] for name in parts}
    for row in found.kept:
        kept[home[id(row)]].append(row.record)
    left: dict[str, list[tuple[Record, Any]]] = {name: [] for name in parts}
    for row, fate, check in found.dropped:
        reason = check if fate.reason == check else f"{check}: {fate.reason}"
        left[home[id(row)]].append((row.record, replace(fate, reason=reason)))
    return {
        name: replace(
            one,
            train=tuple(kept[name]),
            dropped=(*one.dropped, *(record for record, _ in left[name])),
            fates=(*one.fates, *(fate for _, fate in left[name])),
        )
        for name, one in parts.items()
    }


def asks(check: Check) -> bool:
    """Whether a check asks a model of the recipe."""
    return bool(getattr(check, "asks_model", False))


def counts_tokens(check: Check) -> bool:
    """Whether a check counts tokens of the recipe's model."""
    return bool(getattr(check, "counts_tokens", False))


# ---- on disk ---------------------------------------------------------------------------------------


def write(found: Curated, folder: Path) -> None:
    """Write curated/{train,validation,test,dropped}.jsonl, curated/steps.json, curated/rewritten.jsonl, and dropped.jsonl."""
    place = folder / "curated"
    preparing.write(found.data, place)
    journal.write_json(place / "steps.json", [step.plain() for step in found.steps])
    journal.write_rows(place / "rewritten.jsonl", found.fates)
    journal.write_rows(folder / "dropped.jsonl", journal.read(place / "dropped.jsonl"))


def table(found: Curated) -> list[dict[str, Any]]:
    """A line a step without its facts: for stage facts and for the terminal."""
    return [
        {"name": s.name, "rows": s.rows, "dropped": s.dropped, "changed": s.changed, "seconds": round(s.seconds, 2)} for s in found.steps
    ]
