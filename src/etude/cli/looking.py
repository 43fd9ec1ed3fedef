"""Commands that look at runs, and say what a recipe may name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, Root, RunPath, app, at, print_json, writable


@app.command("ls")
def list_runs(root: Root = Path("runs"), json: AsJson = False) -> None:
    """List the runs."""
    from etude import runs

    states = [runs.states(folder) for folder in runs.all_runs(root)]
    if json:
        print_json(states)
        return
    if not states:
        print(f"no runs in {root}; `etude run RECIPE` makes one", file=sys.stderr)
    for state in states:
        print(f"{state['name']:30} {state['model']:28} {'finished' if state['finished'] else 'done: ' + ', '.join(state['stages'])}")


@app.command()
def show(
    folder: RunPath,
    row: Annotated[str | None, typer.Option(help="Id (or its first digits) of one row to follow.")] = None,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Show a run's results, or one row's way through it."""
    from etude import showing

    found = showing.follow(at(folder, root), row) if row else showing.overview(at(folder, root))
    print_json(found) if json else print(showing.as_text(found))


@app.command()
def report(folder: RunPath, root: Root = Path("runs"), json: AsJson = False) -> None:
    """Write report.html, report.md and results.json of a run again."""
    from etude import pipeline
    from etude.reporting.findings import results

    place = at(folder, root)
    findings = pipeline.report(place)
    print_json(results(findings)) if json else print("\n".join(str(place / n) for n in ("report.html", "report.md", "results.json")))


@app.command()
def templates(
    name: Annotated[
        str | None, typer.Argument(help="A template's name, or the path of a .yaml file of your own.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """List the task templates, or show every phrasing of one, filled with its example."""
    from etude.screen import printable
    from etude.templates import listing

    found = listing.shown(name) if name else listing.listed()
    print_json(found) if json else print(printable(listing.as_text(found)))


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from etude.recipe import schema as recipe_schema

    print_json(recipe_schema())


@app.command()
def annotate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run folder, or its name below --runs.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write, .csv or .jsonl; its key is written beside it.", show_default=False)
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--read", help="Read a filled-in file back: wins, ties, a sign test.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="For --read: the key.", show_default="FILE.key.jsonl")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows, drawn at random.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(help="Draws the rows and which answer is A.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Do not hide whose answer is whose: A is the start model's.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace --out and its key.")] = False,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Write start and tuned answers side by side, in a hidden order, for people to judge; or read their choices back."""
    from etude import annotating
    from etude.failures import RecipeError
    from etude.screen import printable

    if read is not None:
        if out is not None:
            raise RecipeError("annotate either writes a file (-o) or reads one (--read)")
        found = annotating.read_back(read, key)
        print_json(found.as_json()) if json else print(printable(annotating.as_text(found)))
        return
    if folder is None or out is None:
        raise RecipeError("annotate needs a run and -o FILE to write, or --read FILE")
    writable("-o", out)
    rows = annotating.export(at(folder, root), out, blind=not open_, seed=seed, limit=limit, force=force)
    done = {"rows": rows, "out": str(out), "key": str(annotating.key_of(out))}
    print_json(done) if json else print(f"{rows:,} rows to judge: {out}   key, not for those who judge: {done['key']}")
