"""A study's design, worked out before the first step: every arm's recipe, rows, budget and trials, and what it can show."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude import comparison, encoded, journal, pipeline, preparing, scoring, steps
from etude.failures import DataError, RecipeError, nearest
from etude.recipe import Recipe
from etude.records import Record
from etude.screen import Watch
from etude.studies import Changes, Study, recipe_of, searching

SEED_SD = 0.016
"""How far training seeds usually move a score of 0 to 1 (1 to 3 points of accuracy for small models)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What an arm would train: ids of its rows (in order), and rows drawn, steps and tokens by its recipe."""

    ids: tuple[str, ...]
    drawn: int
    steps: int
    tokens: int


@dataclass(frozen=True)
class Design:
    """A study made ready. `more`: the changes that give every arm the same budget and rows; `rows`: what each arm trains with the first
    seed; `items`: test rows of the primary task, in `groups` (0: each for itself); `smallest`: what the plan can show, None where nothing
    is known of the metric's rows; `assumed`: for that, or why not; `seed_sd`: of that."""

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
    groups: int = 0
    seed_sd: float = 0.0

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
    trials, tried = searching.equal_budget(study), searching.moved(study, folder)
    ready = {arm: prepared(recipe, root, watch) for arm, recipe in recipes.items()}
    asked = {arm: tested(recipe, root, task) for arm, recipe in recipes.items()}
    tests = {arm: [record.id for record in records] for arm, records in asked.items()}
    check_fields(study, asked[study.first()])
    for arm, ids in tests.items():
        if ids != tests[study.first()]:
            raise RecipeError(f"arms.{arm}: it is asked other test rows than {study.first()!r}; give both the same split")
    shared, kept = set.intersection(*map(set, ready.values())), ""
    more: dict[str, dict[str, Any]] = {arm: {} for arm in study.arms}
    if study.match and any(set(ids) != shared for ids in ready.values()):
        if not shared:
            raise DataError("match: no row is left in every arm")
        kept = str(root / f"matched-{journal.digest(sorted(shared))[:8]}.jsonl")
        journal.write_rows(Path(kept), ({"id": id} for id in sorted(shared)))
        for arm, recipe in recipes.items():
            more[arm]["curate"] = [*recipe.dump()["curate"], {"type": "listed", "path": kept}]
            ready[arm] = prepared(recipe_of(study, folder, arm, "rows", more[arm]), root, watch)
    plans = {arm: planned(recipe_of(study, folder, arm, "rows", more[arm]), root, study.seeds) for arm in study.arms}
    for arm, changes in equal(study, plans, tried).items():
        more[arm].update(changes)
    rows = {arm: planned(recipe_of(study, folder, arm, "rows", more[arm]), root, study.seeds[:1])[0] for arm in study.arms}
    first = study.first()
    primary = next(m for m, n in zip(*named(recipes[first], task), strict=True) if n == metric)
    groups = preparing.grouped(asked[first], study.group or recipes[first].split.group)
    seed_sd = SEED_SD * primary.scale if study.seed_sd is None else study.seed_sd
    smallest, assumed = comparison.planned_difference(
        primary, len(tests[first]), own_sd=study.item_sd, seeds=len(study.seeds), seed_sd=seed_sd, groups=groups or None,
        family=len(study.arms) - 1,
    )  # fmt: skip
    return Design(study, folder, task, metric, more, rows, len(tests[first]), trials, smallest, kept, len(shared), assumed, groups, seed_sd)


def named(recipe: Recipe, task: str) -> tuple[Any, Any]:
    """A task's metrics and what they are called."""
    measured = preparing.metrics_of(recipe, task_of(recipe, task))
    return measured, scoring.names(measured)


def task_of(recipe: Recipe, task: str) -> scoring.Task:
    """The task of a name that is asked test rows: it may be asked validation rows too."""
    return next(one for one in recipe.tasks() if one.task == task and one.split == "test")


def prepared(recipe: Recipe, root: Path, watch: Watch) -> tuple[str, ...]:
    """The ids of an arm's rows, read, curated and encoded in its own folder; taken over from another arm's where they are the same."""
    pipeline.prepare(recipe, root / recipe.name, "", watch)
    return tuple(row.id for row in encoded.load(root / recipe.name / "encoded" / "train.npz").rows)


def planned(recipe: Recipe, root: Path, seeds: Sequence[int]) -> tuple[Rows, ...]:
    """What an arm whose rows are encoded would train with each seed."""
    rows = encoded.load(root / recipe.name / "encoded" / "train.npz").rows
    ids = tuple(row.id for row in rows)
    found = []
    for seed in seeds:
        plan = steps.plan_steps(rows, recipe.tune, seed)
        drawn = [row for step in plan for row in step]
        found.append(Rows(ids, len(drawn), len(plan), sum(len(rows[i].ids) for i in drawn)))
    return tuple(found)


def tested(recipe: Recipe, root: Path, task: str) -> list[Record]:
    """The rows that a task asks."""
    data = preparing.stored(root / recipe.name / "curated", recipe)
    return preparing.held_out(data, task_of(recipe, task))


def check_fields(study: Study, records: Sequence[Record]) -> None:
    """Raise RecipeError where a test row lacks the field that the study slices or groups by: hours later it would be too late."""
    for key, field in (("slices", study.slices), ("group", study.group)):
        lacking = next((record for record in records if field is not None and field not in record.fields), None)
        if lacking is not None:
            raise RecipeError(f"{key}: test row {lacking.id} has no field {field!r}{nearest(str(field), lacking.fields)}")


def equal(study: Study, plans: Mapping[str, Sequence[Rows]], tried: Collection[str]) -> dict[str, dict[str, Any]]:
    """The changes that give every arm with every seed as much as the least of them has: rows drawn, steps, or tokens (and a row at most);
    none where with each seed all arms have as much. `plans`: an arm's rows with each seed; `tried`: the keys of tune that are tried."""
    if study.same is None:
        return {}
    amounts = [[{"rows": one.drawn, "steps": one.steps, "tokens": one.tokens}[study.same] for one in own] for own in plans.values()]
    if all(own == amounts[0] for own in amounts) and not set(tried) & set(searching.BATCH):
        return {}
    least = min(map(min, amounts))
    # bounds of another kind would cut an arm of longer rows, or of smaller steps, short again
    if study.same == "rows":
        return {arm: drawing(least, own[0]) for arm, own in plans.items()}
    bound = {"tune.max_steps": least} if study.same == "steps" else {"tune.token_budget": least, "tune.max_steps": None}
    return {arm: dict(bound) for arm in plans}


def drawing(rows: int, ready: Rows) -> dict[str, Any]:
    """The changes that draw so many rows, and end for no other reason."""
    # half a row less: the number drawn is rounded up
    return {"tune.epochs": (rows - 0.5) / len(ready.ids), "tune.max_steps": None, "tune.token_budget": None}
