"""A study's design, worked out before the first step: every arm's recipe, rows, budget and trials, and what it can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude import comparison, encoded, journal, metrics, pipeline, preparing, scoring, steps
from etude.failures import DataError, RecipeError, nearest
from etude.recipe import Recipe
from etude.records import Record
from etude.screen import Watch
from etude.studies import Changes, Study, recipe_of, searching


@dataclass(frozen=True, slots=True)
class Rows:
    """What an arm would train: ids of its rows (in order), and rows drawn, steps and tokens by its recipe."""

    ids: tuple[str, ...]
    drawn: int
    steps: int
    tokens: int


@dataclass(frozen=True)
class Design:
    """A study made ready. `more`: the changes that give every arm the same budget and rows; `rows`: what each arm trains;
    `items`: test rows of the primary task; `smallest`: what the plan can show, None for metrics not of 0 to 1; `assumed`: for that."""

    study: Study
    folder: Path
    task: str
    metric: str
    more: Mapping[str, Changes]
    rows: Mapping[str, Rows]
    items: int
    trials: int
    smallest: float | None
    kept: str = ""
    shared: int = 0
    assumed: str = ""

    def recipe(self, arm: str, label: str, *more: Changes) -> Recipe:
        """An arm's recipe with the study's budget and more changes."""
        changes = dict(self.more.get(arm, {}))
        for one in more:
            changes.update(one)
        return recipe_of(self.study, self.folder, arm, label, changes)


def primary_of(study: Study, recipe: Recipe) -> tuple[str, str]:
    """(task, metric) that decide. Raises RecipeError for one that the recipe does not score."""
    named = {task.task: scoring.names(preparing.metrics_of(recipe, task)) for task in recipe.tasks() if task.split == "test"}
    named = {task: measured for task, measured in named.items() if measured}
    if not named:
        raise RecipeError("a study needs a task with a metric that is asked test rows; see `score`")
    if study.primary is None:
        task = next(iter(named))
        return task, named[task][0]
    known = [f"{task}.{metric}" for task, measured in named.items() for metric in measured]
    if study.primary not in known:
        raise RecipeError(f"primary: {study.primary!r} is not scored{nearest(study.primary, known)}; there are {', '.join(known)}")
    task = next(task for task in named if study.primary.startswith(f"{task}."))
    return task, study.primary.removeprefix(f"{task}.")


def design(study: Study, folder: Path, root: Path, watch: Watch) -> Design:
    """Read, check and encode every arm's rows (shared stages once), make budgets and rows equal as the study says.

    `folder`: where the recipe's path starts; `root`: the study's own folder. Raises RecipeError for a wrong arm, naming it, and for
    arms that are asked different test rows: they could never be compared.
    """
    recipes = {arm: recipe_of(study, folder, arm, "rows", {}) for arm in study.arms}
    task, metric = primary_of(study, recipes[study.first()])
    for arm, recipe in recipes.items():
        if (task, metric) != primary_of(study, recipe):
            raise RecipeError(f"arms.{arm}: it is not scored on {task}.{metric} first; name `primary`, and score it in every arm")
    trials = searching.equal_budget(study)
    ready = {arm: prepared(recipe, root, watch) for arm, recipe in recipes.items()}
    asked = {arm: tested(recipe, root, task) for arm, recipe in recipes.items()}
    tests = {arm: [record.id for record in records] for arm, records in asked.items()}
    check_fields(study, asked[study.first()])
    for arm, ids in tests.items():
        if ids != tests[study.first()]:
            raise RecipeError(f"arms.{arm}: it is asked other test rows than {study.first()!r}; give both the same split")
    shared, kept = set.intersection(*(set(one.ids) for one in ready.values())), ""
    more: dict[str, dict[str, Any]] = {arm: {} for arm in study.arms}
    if study.match and any(set(one.ids) != shared for one in ready.values()):
        if not shared:
            raise DataError("match: no row is left in every arm")
        kept = str(root / f"matched-{journal.digest(sorted(shared))[:8]}.jsonl")
        journal.write_rows(Path(kept), ({"id": id} for id in sorted(shared)))
        for arm, recipe in recipes.items():
            more[arm]["curate"] = [*recipe.dump()["curate"], {"type": "listed", "path": kept}]
            ready[arm] = prepared(recipe_of(study, folder, arm, "rows", more[arm]), root, watch)
    for arm, changes in equal(study, recipes, ready).items():
        more[arm].update(changes)
        ready[arm] = planned(recipe_of(study, folder, arm, "rows", more[arm]), root)
    items = len(tests[study.first()])
    primary = next(m for m, n in zip(*named(recipes[study.first()], task), strict=True) if n == metric)
    item_sd = study.item_sd or metrics.item_sd(primary)
    against, seeds = len(study.arms) - 1, len(study.seeds)
    smallest = comparison.smallest_difference(items, seeds=seeds, seed_sd=study.seed_sd, item_sd=item_sd, family=against)
    return Design(
        study, folder, task, metric, more, ready, items, trials,
        smallest if primary.scale <= 1 else None,
        kept, len(shared), comparison.assumed(item_sd),
    )  # fmt: skip


def named(recipe: Recipe, task: str) -> tuple[Any, Any]:
    """A task's metrics and what they are called."""
    measured = preparing.metrics_of(recipe, next(one for one in recipe.tasks() if one.task == task))
    return measured, scoring.names(measured)


def prepared(recipe: Recipe, root: Path, watch: Watch) -> Rows:
    """An arm's rows, read, curated and encoded in its own folder; taken over from another arm's where they are the same."""
    pipeline.prepare(recipe, root / recipe.name, "", watch)
    return planned(recipe, root)


def planned(recipe: Recipe, root: Path) -> Rows:
    """What an arm whose rows are encoded would train."""
    rows = encoded.load(root / recipe.name / "encoded" / "train.npz").rows
    plan = steps.plan_steps(rows, recipe.tune, recipe.training_seed())
    drawn = [row for step in plan for row in step]
    return Rows(tuple(row.id for row in rows), len(drawn), len(plan), sum(len(rows[i].ids) for i in drawn))


def tested(recipe: Recipe, root: Path, task: str) -> list[Record]:
    """The rows that a task asks."""
    data = preparing.stored(root / recipe.name / "curated", recipe)
    return preparing.held_out(data, next(one for one in recipe.tasks() if one.task == task))


def check_fields(study: Study, records: Sequence[Record]) -> None:
    """Raise RecipeError where a test row lacks the field that the study slices or groups by: hours later it would be too late."""
    for key, field in (("slices", study.slices), ("group", study.group)):
        lacking = next((record for record in records if field is not None and field not in record.fields), None)
        if lacking is not None:
            raise RecipeError(f"{key}: test row {lacking.id} has no field {field!r}{nearest(str(field), lacking.fields)}")


def equal(study: Study, recipes: Mapping[str, Recipe], ready: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """The changes that give every arm as much as the arm with the least: rows drawn, steps, or tokens; none where all have it."""
    if study.same is None:
        return {}
    amounts = {arm: {"rows": one.drawn, "steps": one.steps, "tokens": one.tokens}[study.same] for arm, one in ready.items()}
    least = min(amounts.values())
    found: dict[str, dict[str, Any]] = {}
    for arm, amount in amounts.items():
        if amount == least:
            continue
        if study.same == "rows":
            found[arm] = drawing(least, ready[arm])
        else:
            found[arm] = {"tune.max_steps": least} if study.same == "steps" else {"tune.token_budget": least}
    if study.same == "rows" and found:  # a bound in steps would cut an arm of longer rows short again
        return {arm: drawing(least, ready[arm]) for arm in recipes}
    return found


def drawing(rows: int, ready: Rows) -> dict[str, Any]:
    """The changes that draw so many rows, and end for no other reason."""
    # half a row less: the number drawn is rounded up
    return {"tune.epochs": (rows - 0.5) / len(ready.ids), "tune.max_steps": None, "tune.token_budget": None}
