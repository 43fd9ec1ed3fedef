"""The command that compares runs, or answers of any tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, Root, app, pairs, print_json

ARM = "A run folder (RUN, or RUN:start for its start model), a JSON Lines file, or NAME=RUN,RUN,... for the seeds of one arm."


@app.command()
def compare(
    arms: Annotated[list[str], typer.Argument(metavar="ARM ARM [ARM ...]", help=ARM, show_default=False)],
    baseline: Annotated[str | None, typer.Option(help="The arm that the others are compared with.", show_default="the first")] = None,
    task: Annotated[str | None, typer.Option(help="One task of runs that score several.", show_default=False)] = None,
    metric: Annotated[str | None, typer.Option(help="Measure by this metric; needed for files without scores.", show_default=False)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the metric: key=value (again for more).")] = None,
    group: Annotated[
        str | None,
        typer.Option(help="A field whose equal values make items one group (a passage).", show_default="split.group of the runs"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="The largest difference that does not matter, chosen before: asks for equivalence.", show_default=False),
    ] = None,
    lower: Annotated[bool, typer.Option("--lower", help="A smaller `score` in the files is the better one.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Compare what is not comparable; the verdict says so.")] = False,
    root: Root = Path("runs"),
    json: AsJson = False,
) -> None:
    """Compare runs or files of answers on the same items: differences, intervals, a verdict in words. Exit 4: not comparable.

    Files are JSON Lines with `id` and `output` (or `outputs`), and `references`; or with `id` and a number `score`. Several seeds an arm
    let the verdict speak of the methods, one seed of these checkpoints only. Nothing is written.
    """
    from etude.comparing import Wanted, wording
    from etude.comparing import compare as compared
    from etude.screen import printable

    given = pairs("--set", settings or ())
    wanted = Wanted(baseline=baseline, task=task, metric=metric, settings=given, group=group, margin=margin, lower=lower, force=force)
    found = compared(arms, wanted, root)
    print_json(wording.as_json(found)) if json else print(printable(wording.as_text(found)))
