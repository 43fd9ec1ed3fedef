"""`etude study`: arms x seeds, and a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, Overrides, Root, app, print_json, print_notes


@app.command()
def study(
    study: Annotated[Path, typer.Argument(help="A study (YAML or JSON): a recipe, arms, seeds.", show_default=False)],
    overrides: Overrides = None,
    engine: Annotated[str, typer.Option(help="Where runs go: here, processes, ray, or settings in YAML.")] = "here",
    root: Root = Path("runs"),
    quiet: bool = False,
    json: AsJson = False,
) -> None:
    """Run a controlled experiment: every arm with every seed on the same rows, and a verdict. Again = resume."""
    from etude import studies
    from etude.engines import ENGINES
    from etude.screen import printable, watcher

    chosen, where = studies.load(study, overrides or ())
    print_notes()
    from etude.reporting.studied import results
    from etude.studies import running, telling

    found = running.run(chosen, where, root / chosen.name, engine=ENGINES.chosen(engine, "--engine"), watch=watcher(quiet))
    print_notes()
    print_json(results(found)) if json else print(printable(telling.as_text(found, root / chosen.name)))
