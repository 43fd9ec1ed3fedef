"""The `etude` command's application, and what its commands share: arguments, paths, printing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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


def is_override(word: str) -> bool:
    """Whether the first word of a command that needs no recipe is `key=value`. A path would not keep it: it makes one slash of two."""
    return "=" in word and not os.path.isfile(word)


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


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """`key=value` texts of an option; raises RecipeError for one without a sign, or twice the same key."""
    from etude.failures import RecipeError

    found: dict[str, str] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key or key in found:
            raise RecipeError(f"{option} {text!r}: {'given twice' if key in found else 'key=value is needed'}")
        found[key] = value
    return found


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
