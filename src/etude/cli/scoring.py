"""What `etude score` does with a recipe, a known task, another harness's task, or answers that exist."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.cli.app import pairs, print_json, print_notes

if TYPE_CHECKING:
    from etude.recipe import Recipe
    from etude.working import Student


def of_recipe(path: Path, overrides: Sequence[str], root: Path, json: bool) -> None:
    """The start model and baselines of a recipe, and its tuned model where there is one."""
    from etude import recipe as recipes

    chosen = recipes.load(path, overrides)
    scored(chosen, path.read_text(encoding="utf-8-sig"), None, root, json)


def of_task(
    task: str, model: str, overrides: Sequence[str], data: str | None, train: str | None, given: Mapping[str, Any], root: Path, json: bool
) -> None:
    """A model, or a run's tuned one, on a known task."""
    from etude import loading, runs, tasks
    from etude import recipe as recipes
    from etude.screen import watcher

    if task == "list":
        print(tasks.listed())
        return
    run = loading.run_folder(model, root)
    if run is None:
        raw = tasks.recipe_of(task, model, data, train, given)
    else:
        own = runs.recipe_of(run).dump()
        raw = {**tasks.recipe_of(task, own["model"], data, train, given), "format": own["format"]}
        raw["name"] = f"score-{task}-{tasks.slug(run.name)}"
    chosen = recipes.build(recipes.override(raw, overrides), f"--task {task}")
    scored(chosen, "", loading.student_for(chosen, run, watcher().say) if run else None, root, json)


def scored(recipe: Recipe, text: str, student: Student | None, root: Path, json: bool) -> None:
    """Ask, measure, print."""
    print_notes()
    from etude import closing, pipeline
    from etude.screen import printable, watcher

    found = pipeline.score(recipe, root / recipe.name, text, watcher(), student)
    print_notes()
    print_json(found) if json else print(printable(closing.scores_text(found, root / recipe.name)))


def of_harness(model: str, tasks: Sequence[str], root: Path, few_shot: int | None, limit: int | None, json: bool) -> None:
    """Tasks of lm-evaluation-harness."""
    from etude import harness
    from etude.screen import printable

    found = harness.evaluate(model, tasks, root, few_shot=few_shot, limit=limit, say=lambda text: print(printable(text), file=sys.stderr))
    print_json(found) if json else print(printable(harness.as_text(found)))


def of_predictions(path: Path, metric: str | None, settings: Sequence[str], items: bool, json: bool) -> None:
    """One metric over answers that exist."""
    from etude import closing, grading
    from etude.failures import RecipeError
    from etude.screen import printable

    if metric is None:
        raise RecipeError("--predictions needs --metric NAME")
    graded = grading.grade(path, metric, pairs("--set", settings))
    print_json(graded.as_json(items)) if json else print(printable(closing.graded_text(graded, metric)))
