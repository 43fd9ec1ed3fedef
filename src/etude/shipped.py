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
    described = folder / "recipe.schema.json"
    # the schema as it is shipped, for making it takes seconds; a test keeps it true
    text, schema = (files("etude").joinpath("recipes", one).read_text(encoding="utf-8") for one in (f"{origin}.yaml", described.name))
    journal.write_text(target, re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.M))
    journal.write_text(described, schema)
    return [target, described]
