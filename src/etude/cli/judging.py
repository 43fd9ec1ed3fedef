"""`etude judge`: answers that exist before a model that judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, app, pairs, print_json, print_notes


@app.command()
def judge(
    first: Annotated[Path, typer.Argument(metavar="A.jsonl", help="Answers to judge, each line with its question.", show_default=False)],
    llm: Annotated[
        str,
        typer.Option(
            help="The judge: a model on this machine, or a YAML file with its settings or a recipe's llms (FILE#NAME).", show_default=False
        ),
    ],
    second: Annotated[
        Path | None, typer.Argument(metavar="[B.jsonl]", help="Answers to the same questions to compare with.", show_default=False)
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the judge: key=value (again for more).")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for verdicts and replies; by default A.judged.", show_default=False)
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(help="People's choices, lines of id and vote (A, B or tie), to agree with.", show_default=False)
    ] = None,
    quiet: bool = False,
    json: AsJson = False,
) -> None:
    """Judge answers with a model: pairs in both orders, or grades. Exit 4 for a judge that fails its trials. Again = resume."""
    from etude import judged_files
    from etude.failures import CheckFailed
    from etude.screen import printable, watcher

    try:
        found = judged_files.referee(first, second, llm, pairs("--set", settings or ()), folder=out, votes=votes, watch=watcher(quiet))
    except CheckFailed as failed:
        print_notes()
        if json:
            print_json(failed.facts)
        raise
    print_notes()
    print_json(found) if json else print(printable(judged_files.as_text(found)))
