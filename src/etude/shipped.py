"""The recipes that come with etude, as starting points."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from etude import journal
from etude.failures import RecipeError, nearest
from etude.recipe import NAME


def names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.name.removesuffix(".yaml") for path in files("etude").joinpath("recipes").iterdir() if path.name.endswith(".yaml"))


def recipe_path(name: str) -> Path:
    """A shipped recipe's own file."""
    return Path(str(files("etude").joinpath("recipes", f"{name}.yaml")))


def start(name: str, origin: str, folder: Path) -> list[Path]:
    """Write `name`.yaml from a shipped recipe, and the schema that editors complete it by.

    Raises RecipeError for a bad name, an unknown recipe, or a file that is there already.
    """
    if not re.match(NAME, name):
        raise RecipeError(f"{name!r}: a name has small letters, digits, '.', '_' and '-', and at most 64 of them")
    if origin not in names():
        raise RecipeError(f"no recipe named {origin!r}{nearest(origin, names())}")
    target = folder / f"{name}.yaml"
    if target.exists():
        raise RecipeError(f"{target} is there already")
    text = files("etude").joinpath("recipes", f"{origin}.yaml").read_text(encoding="utf-8")
    journal.write_text(target, re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.M))
    described = folder / "recipe.schema.json"
    # as it is shipped, for making it takes seconds; a test keeps it true
    journal.write_text(described, files("etude").joinpath("recipes", described.name).read_text(encoding="utf-8"))
    return [target, described]
