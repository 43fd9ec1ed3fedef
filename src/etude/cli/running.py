"""Commands that run a recipe, or a stage of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli import scoring
from etude.cli.app import AsJson, Overrides, RecipePath, Root, app, is_override, print_json, print_notes, writable

if TYPE_CHECKING:
    from etude.sharding import Launch

Count = Annotated[int, typer.Option("--processes", min=1, help="Processes that tune together, on this machine.")]

Divided = Annotated[
    str | None,
    typer.Option("--sharding", help="Divide the model among them: fsdp, deepspeed, or settings in YAML.", show_default=False),
]


def launch_of(processes: int, divided: str | None) -> Launch:
    """How the options, torchrun and accelerate say that the tune stage is done."""
    from etude import distributed, sharding

    configured = sharding.from_environment()
    return sharding.Launch(processes, distributed.join(), sharding.SHARDINGS.chosen(divided, "--sharding") if divided else configured)


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    root: Root = Path("runs"),
    quiet: bool = False,
    json: AsJson = False,
    processes: Count = 1,
    divided: Divided = None,
) -> None:
    """Do everything: data, start scores, tuning, tuned scores, report. Again = resume."""
    from etude import recipe as recipes
    from etude.screen import watcher

    chosen = recipes.load(recipe, overrides or ())
    print_notes()
    from etude import pipeline, tuning
    from etude.reporting import sentence
    from etude.reporting.findings import results

    folder, launch = root / chosen.name, launch_of(processes, divided)
    if not launch.group.first:
        tuning.follow(chosen, folder, launch)
        return
    watch = watcher(quiet)
    findings = pipeline.run(chosen, folder, recipe.read_text(encoding="utf-8-sig"), watch, launch)
    print_notes()
    if json:
        print_json(results(findings))
        return
    from etude.closing import summary

    print(summary(findings, folder, sentence(findings)))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the experiment; NAME.yaml is written here.")],
    origin: Annotated[str, typer.Option("--from", help="Shipped recipe to start from.")] = "quickstart",
) -> None:
    """Write a commented recipe to start from."""
    from etude.shipped import start

    for path in start(name, origin, Path.cwd()):
        print(path)
    print(f"next: etude preview {name}.yaml, then etude run {name}.yaml", file=sys.stderr)


@app.command()
def preview(
    recipe: RecipePath,
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option("-n", min=0, help="Rows shown.")] = 3,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a page, too.", show_default=False)] = None,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Show what the model will see: text, tokens, which are trained. Exit 4 on a broken mask."""
    from etude import recipe as recipes
    from etude.failures import CheckFailed
    from etude.screen import watcher

    chosen = recipes.load(recipe, overrides or ())
    from etude import previewing

    if html is not None:
        writable("--html", html)
    from etude.pipeline import shown

    found = shown(chosen, rows, watcher(), root / chosen.name)
    print_notes()
    if html is not None:
        from etude import journal
        from etude.reporting.preview_page import page

        journal.write_text(html, page(found, chosen.name, str(chosen.model)))
        print(f"page: {html}", file=sys.stderr)
    if json:
        print_json(previewing.as_json(found))
    else:
        print(previewing.as_text(found, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    if found.failures:
        raise CheckFailed("; ".join(found.failures))


@app.command()
def tune(
    recipe: RecipePath,
    overrides: Overrides = None,
    find_learning_rate: Annotated[
        bool,
        typer.Option("--find-learning-rate", help="Try rising rates on a copy of the model, show the losses, suggest one; trains nothing."),
    ] = False,
    root: Root = Path("runs"),
    json: AsJson = False,
    processes: Count = 1,
    divided: Divided = None,
) -> None:
    """Tune alone: rows, encodings, training. `etude run` goes on from there with scores and report."""
    from etude import recipe as recipes
    from etude.screen import watcher

    chosen = recipes.load(recipe, overrides or ())
    print_notes()
    from etude import closing, pipeline, tuning

    text, folder = recipe.read_text(encoding="utf-8-sig"), root / chosen.name
    if find_learning_rate:
        curve = pipeline.find_rate(chosen, folder, text, watcher())
        print_json(closing.plain_curve(curve)) if json else print(closing.curve_text(curve))
        return
    launch = launch_of(processes, divided)
    if not launch.group.first:
        tuning.follow(chosen, folder, launch)
        return
    done = pipeline.tune_only(chosen, folder, text, watcher(), launch)
    print_json(dict(done.facts["trained"])) if json else print(closing.tuned_text(done.facts["trained"], folder))


@app.command()
def score(
    recipe: Annotated[str | None, typer.Argument(help="A recipe (YAML or JSON).", show_default=False)] = None,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="A run or a model to score, without a recipe.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="A built-in task for --model; `list` names them.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="The task's file, where the hub cannot be reached.", show_default=False)] = None,
    lm_eval: Annotated[
        list[str] | None, typer.Option("--lm-eval", help="A task of lm-evaluation-harness, or a task file (again for more).")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Rows for worked examples.", show_default=False)] = None,
    few_shot: Annotated[int | None, typer.Option(min=0, help="Worked examples before each question.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most rows asked.", show_default=False)] = None,
    predictions: Annotated[Path | None, typer.Option(help="Score answers that exist: JSON Lines.", show_default=False)] = None,
    metric: Annotated[str | None, typer.Option(help="The metric for --predictions.", show_default=False)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the metric: key=value (again for more).")] = None,
    items: Annotated[bool, typer.Option("--items", help="With --predictions and --json: every item's own number, too.")] = False,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Score: a recipe's models, any model on a known task, or a file of predictions. Nothing is trained."""
    from etude.failures import RecipeError

    if recipe is not None and task and is_override(recipe):
        overrides, recipe = [recipe, *(overrides or ())], None
    if sum(bool(one) for one in (recipe, task, predictions, lm_eval)) != 1:
        raise RecipeError("score needs one of: a recipe; --model X --task NAME; --model X --lm-eval TASK; --predictions FILE --metric NAME")
    if ((task and task != "list") or lm_eval) and model is None:
        raise RecipeError(f"{'--task' if task else '--lm-eval'} needs --model: a run, an alias, a folder, a GGUF file or hf://owner/name")
    if predictions is not None:
        scoring.of_predictions(predictions, metric, settings or (), items, json)
    elif lm_eval:
        scoring.of_harness(str(model), lm_eval, root, few_shot, limit, json)
    elif task:
        scoring.of_task(task, str(model), overrides or (), data, train, {"few_shot": few_shot, "limit": limit}, root, json)
    else:
        scoring.of_recipe(Path(recipe or ""), overrides or (), root, json)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    device: Annotated[list[str] | None, typer.Option(help="A GPU to reckon with, such as a100-80gb; `all` (again for more).")] = None,
    hourly: Annotated[float | None, typer.Option(min=0, help="What an hour of those GPUs costs, in any money.", show_default=False)] = None,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Say what a run or a study would take: stages, rows, tokens, time, memory, disk, smallest difference shown."""
    from etude import recipe as recipes
    from etude import studies
    from etude.failures import RecipeError
    from etude.screen import watcher

    if studies.is_study(recipe):
        from etude.studies import costing, telling

        if device or hourly is not None:
            raise RecipeError("--device and --hourly are for recipes: plan that of an arm")
        chosen_study, where = studies.load(recipe, overrides or ())
        whole = costing.plan(chosen_study, where, root / chosen_study.name, watcher())
        print_notes()
        print_json(whole) if json else print(telling.plan_text(whole))
        return
    chosen = recipes.load(recipe, overrides or ())
    from etude import planning

    found = planning.plan(chosen, root / chosen.name, watcher(), device or (), hourly)
    print_notes()
    print_json(found) if json else print(planning.as_text(found))


@app.command()
def doctor(json: AsJson = False) -> None:
    """Examine this machine: versions, threads, memory, disk, precision, key presence (never a value)."""
    from etude import doctor as examination

    found = examination.examine()
    print_json(found) if json else print(examination.as_text(found))
