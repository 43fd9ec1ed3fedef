"""`etude curate`: a recipe's training rows, any data set's, or the rows a tuned model does not believe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, Overrides, Root, app, at, print_json, print_notes, writable

LARGEST_RECIPE = 1_000_000
"""Bytes above which a .json file is a data set, unread."""


@app.command()
def curate(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE|DATA", help="A recipe, or a data set (as for convert).", show_default=False)
    ] = None,
    overrides: Overrides = None,
    check: Annotated[
        list[str] | None,
        typer.Option(help="For DATA: a check, standard, thorough, or settings in YAML (again for more).", show_default="standard"),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="For DATA: write the rows that stay.", show_default=False)] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="For DATA: an evaluation set; rows that hold its questions leave (again for more).")
    ] = None,
    origin: Annotated[str | None, typer.Option("--from", help="For DATA: its format, as for convert.", show_default=False)] = None,
    from_run: Annotated[
        Path | None, typer.Option("--from-run", help="List a run's training rows whose loss stays high.", show_default=False)
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="For DATA: write a page, too.", show_default=False)] = None,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="For DATA: rows that may be unreadable.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="For DATA: replace --out.")] = False,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Check training rows: a recipe's (in its run folder), or a data set's. Every row that leaves is kept with its reason."""
    from etude.failures import RecipeError

    if (recipe is None) == (from_run is None):
        raise RecipeError("curate needs a recipe, a data set, or --from-run RUN")
    if from_run is not None:
        suspects(at(from_run, root), json)
    elif recipe and (recipe.endswith((".yaml", ".yml")) or is_recipe(Path(recipe))):
        of_recipe(Path(recipe), overrides or (), root, json)
    elif overrides:
        raise RecipeError(f"{overrides[0]!r}: overrides are of a recipe; a data set takes --check")
    else:
        of_data(str(recipe), check or ["standard"], out, against or (), origin, html, max_bad_rows, force, json)


def is_recipe(path: Path) -> bool:
    """Whether a .json file is a recipe and no data set: it names a model."""
    import json

    if path.suffix != ".json" or not path.is_file() or path.stat().st_size > LARGEST_RECIPE:
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "model" in found


def suspects(folder: Path, json: bool) -> None:
    """The training rows of a run whose loss stays high."""
    from etude import suspecting
    from etude.screen import printable, watcher

    found = suspecting.listed(folder, watch=watcher())
    print_json([suspecting.plain(*one) for one in found]) if json else print(printable(suspecting.as_text(found, folder)))


def of_recipe(path: Path, overrides: Sequence[str], root: Path, json: bool) -> None:
    """The stages of a recipe's run up to its curated rows."""
    from etude import recipe as recipes
    from etude.screen import printable, watcher

    chosen = recipes.load(path, overrides)
    print_notes()
    from etude import closing, pipeline

    pipeline.curate(chosen, root / chosen.name, path.read_text(encoding="utf-8-sig"), watcher())
    found = closing.curated(root / chosen.name)
    print_json(found) if json else print(printable(closing.curated_text(found)))


def of_data(
    data: str,
    check: Sequence[str],
    out: Path | None,
    against: Sequence[str],
    origin: str | None,
    html: Path | None,
    max_bad_rows: int,
    force: bool,
    json: bool,
) -> None:
    """Checks over a data set; exit 4 where one says that it must not be used."""
    from etude import cleaning, closing, converting, journal
    from etude.failures import CheckFailed
    from etude.screen import printable, watcher

    if html is not None:
        writable("--html", html)
    checks = cleaning.checks_of([*check, *(["contamination"] if against else [])])
    source = converting.origin_of(origin)
    done = cleaning.clean(data, checks, origin=source, against=against, max_bad_rows=max_bad_rows, watch=watcher())
    left = cleaning.save(done, out, force) if out else None
    if html is not None:
        journal.write_text(html, cleaning.page(done))
        print(f"page: {html}", file=sys.stderr)
    print_notes()
    print_json(done.as_json()) if json else print(printable(closing.cleaned_text(done.as_json(), out, left)))
    if done.applied.failures:
        raise CheckFailed("; ".join(done.applied.failures))
