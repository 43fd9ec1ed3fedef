"""The command line: one function a verb; each parses, calls, prints."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="etude",
    help="Instruction-tune a language model and know, with evidence, whether it worked.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)

RecipePath = Annotated[Path, typer.Argument(help="A recipe (YAML or JSON).", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides: dotted.key=value ...", show_default=False)]
Root = Annotated[Path, typer.Option("--runs", help="Folder that holds the run folders.", envvar="ETUDE_RUNS")]
RunPath = Annotated[Path, typer.Argument(help="A run folder, or its name below --runs.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


@app.command()
def run(recipe: RecipePath, overrides: Overrides = None, root: Root = Path("runs"), quiet: bool = False, json: AsJson = False) -> None:
    """Do everything: data, start scores, tuning, tuned scores, report. Again = resume."""
    from etude import recipe as recipes
    from etude.screen import watcher

    chosen = recipes.load(recipe, overrides or ())
    print_notes()
    from etude import pipeline
    from etude.reporting import sentence
    from etude.reporting.findings import results

    folder = root / chosen.name
    watch = watcher(quiet)
    findings = pipeline.run(chosen, folder, recipe.read_text(encoding="utf-8-sig"), watch)
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

    found = shown(chosen, rows, watcher())
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
    from etude import closing
    from etude.failures import CheckFailed, RecipeError
    from etude.screen import printable, watcher

    if (recipe is None) == (from_run is None):
        raise RecipeError("curate needs a recipe, a data set, or --from-run RUN")
    if from_run is not None:
        from etude import suspecting

        place = at(from_run, root)
        suspects = suspecting.listed(place, watch=watcher())
        print_json([suspecting.plain(*one) for one in suspects]) if json else print(printable(suspecting.as_text(suspects, place)))
        return
    if recipe and recipe.endswith((".yaml", ".yml")):
        from etude import pipeline
        from etude import recipe as recipes

        chosen = recipes.load(Path(recipe), overrides or ())
        print_notes()
        pipeline.curate(chosen, root / chosen.name, Path(recipe).read_text(encoding="utf-8-sig"), watcher())
        found = closing.curated(root / chosen.name)
        print_json(found) if json else print(printable(closing.curated_text(found)))
        return
    from etude import cleaning, converting

    if overrides:
        raise RecipeError(f"{overrides[0]!r}: overrides are of a recipe; a data set takes --check")
    if html is not None:
        writable("--html", html)
    checks = cleaning.checks_of([*(check or ["standard"]), *(["contamination"] if against else [])])
    done = cleaning.clean(
        str(recipe), checks, origin=converting.origin_of(origin), against=against or (), max_bad_rows=max_bad_rows, watch=watcher()
    )
    left = cleaning.save(done, out, force) if out else None
    if html is not None:
        from etude import journal

        journal.write_text(html, cleaning.page(done))
        print(f"page: {html}", file=sys.stderr)
    print_notes()
    print_json(done.as_json()) if json else print(printable(closing.cleaned_text(done.as_json(), out, left)))
    if done.applied.failures:
        raise CheckFailed("; ".join(done.applied.failures))


@app.command()
def plan(recipe: RecipePath, overrides: Overrides = None, root: Root = Path("runs"), json: AsJson = False) -> None:
    """Say what a run would take: stages, rows, tokens, time, memory, disk, smallest difference shown."""
    from etude import recipe as recipes
    from etude.screen import watcher

    chosen = recipes.load(recipe, overrides or ())
    from etude import planning

    found = planning.plan(chosen, root / chosen.name, watcher())
    print_notes()
    print_json(found) if json else print(planning.as_text(found))


@app.command()
def doctor(json: AsJson = False) -> None:
    """Examine this machine: versions, threads, memory, disk, precision, key presence (never a value)."""
    from etude import doctor as examination

    found = examination.examine()
    print_json(found) if json else print(examination.as_text(found))


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


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from etude.recipe import schema as recipe_schema

    print_json(recipe_schema())


def version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version as installed

        print(f"etude {installed('etude')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Instruction-tune a language model and know, with evidence, whether it worked."""


def at(folder: Path, root: Path) -> Path:
    """A run folder given as a path, or by its name below the root."""
    return folder if folder.exists() or folder.parent != Path() else root / folder


def writable(option: str, path: Path) -> None:
    """Refuse a path that cannot be written, before any work: a folder, or one in a folder that does not exist."""
    from etude.failures import RecipeError

    if path.is_dir():
        raise RecipeError(f"{option} {path} is a folder; name a file in it, such as {path / 'preview.html'}")
    if not path.parent.is_dir():
        raise RecipeError(f"{option} {path}: there is no folder {path.parent}")


def print_json(value: Any) -> None:
    """Print plain data as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_notes() -> None:
    """Print what the recipe's reading noted, once each, on standard error."""
    from etude.catalog import NOTES
    from etude.screen import printable

    for text in NOTES:
        print(f"note: {printable(text)}", file=sys.stderr)
    NOTES.clear()


def end(code: int, text: str) -> NoReturn:
    """Print why the command ends and end it."""
    from etude.screen import printable

    print_notes()
    print(f"etude: {printable(text)}", file=sys.stderr)
    sys.stderr.flush()
    raise SystemExit(code)


def main() -> None:
    """The `etude` command: every failure ends with one message and its exit code."""
    from etude.failures import Failure, NoSpace

    def interrupt(number: int, frame: Any) -> NoReturn:
        end(
            128 + number,
            f"interrupted by {signal.Signals(number).name}; what was finished is kept, and the same command goes on from there",
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' advice to programmers; python -W default shows it
    try:
        app()
    except Failure as failure:
        end(failure.exit_code, str(failure))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            end(NoSpace.exit_code, f"{error}; make room and run again")
        raise


if __name__ == "__main__":
    main()
