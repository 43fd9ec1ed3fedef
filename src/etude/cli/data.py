"""Commands that read and write data sets and configurations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, app, print_json, print_notes


@app.command()
def convert(
    data: Annotated[str, typer.Argument(metavar="IN", help="A file, folder, glob or hf://owner/name to read.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".jsonl, .json, .csv (each also .gz) or .parquet.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="alpaca, sharegpt, messages or prompt-completion.", show_default=False)],
    origin: Annotated[
        str | None, typer.Option("--from", help="Format of IN, or a source's settings in YAML; sniffed by default.", show_default=False)
    ] = None,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Rows that may be rejected.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False,
    json: AsJson = False,
) -> None:
    """Write a data set in another format. Exit 3 with the rows and reasons when some cannot be."""
    from etude import converting

    done = converting.convert(data, out, to, origin=converting.origin_of(origin), max_bad_rows=max_bad_rows, force=force)
    print_notes()
    if json:
        print_json(done.as_json())
    else:
        print(converting.summary(done), file=sys.stderr)


@app.command()
def rewrite(
    data: Annotated[str, typer.Argument(metavar="IN", help="A data set (as for convert), a code file, a folder.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file like IN's, or a new folder.", show_default=False)],
    remove: Annotated[str | None, typer.Option(help="comments, docstrings or both.", show_default=False)] = None,
    strip: Annotated[str | None, typer.Option(help="trailing-space.", show_default=False)] = None,
    fields: Annotated[
        list[str] | None, typer.Option(help="A field that is code (again for more); by default answers and inputs, and fences.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of code without a fence tag; told by default.", show_default=False)] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Leave code whose language is less sure.")] = 0.5,
    keep: Annotated[str, typer.Option(help="Comments that stay: pragmas, types, licences, or none.")] = "pragmas,types",
    doc_comments: Annotated[str, typer.Option(help="What /** */ and /// count as: docstrings or comments.")] = "docstrings",
    kind: Annotated[str | None, typer.Option("--as", help="data or code, where a folder holds both.", show_default=False)] = None,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Rows that may be unreadable.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False,
    json: AsJson = False,
) -> None:
    """Take comments, docstrings or trailing space out of code; each program is proved to be the same."""
    from etude import rewriting

    how = rewriting.settings(
        remove, strip, fields=fields or (), language=language, confidence=confidence, keep=keep, doc_comments=doc_comments
    )
    done = rewriting.rewrite(data, out, how, kind_of_input=rewriting.known_kind(kind), max_bad_rows=max_bad_rows, force=force)
    print_notes()
    if json:
        print_json(done.as_json(out))
    else:
        print(rewriting.summary(done, out), file=sys.stderr)


@app.command("import-config")
def import_config(
    config: Annotated[Path, typer.Argument(metavar="FILE", help="Another tool's YAML or JSON.", show_default=False)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Recipe to write; by default it is printed.", show_default=False)] = None,
    tool: Annotated[
        str | None, typer.Option(help="llama-factory, axolotl, trl or naturalcc; told by the keys by default.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the recipe.")] = False,
    json: AsJson = False,
) -> None:
    """Make a commented recipe of a LLaMA-Factory, axolotl, TRL or NaturalCC configuration."""
    from etude import importing

    done = importing.import_config(config, tool)
    if out:
        importing.save(done, out, force)
    print_notes()
    if json:
        print_json(done.as_json())
    elif not out:
        print(done.text, end="")
    if not json:
        print(importing.summary(done, out), file=sys.stderr)
