"""A run folder, or any model that a recipe could name, as something to talk to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etude import journal, runs
from etude.failures import DataError, RecipeError, nearest
from etude.formats import FORMATS, FormatSettings
from etude.models import weights
from etude.models.local import Local
from etude.recipe import Recipe
from etude.working import Student

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that answers: its `name`, what it is in words, and a digest over everything that decides its answers."""

    name: str
    local: Local
    about: str
    digest: str


def run_folder(spec: str, root: Path) -> Path | None:
    """The run that `spec` names, as a path or by its name below `root`; None where it names none."""
    for folder in (Path(spec).expanduser(), root / spec):
        if (folder / "recipe.resolved.yaml").is_file():
            return folder
    return None


def load(spec: str, root: Path, say: Say, form: str | None = None) -> Loaded:
    """The tuned model of a run, in the run's own format; or a model by alias, folder, GGUF file, hf:// or pypi:, in the
    format of its tokenizer or the one named. Raises RecipeError where there is none, DataError where its files are unusable."""
    if folder := run_folder(spec, root):
        if form:
            raise RecipeError(f"{folder} is a run, which is asked in the format it was tuned in; leave --format out")
        return tuned(folder, say)
    settings = named_format(form or "auto")
    if "/" not in spec and spec not in weights.ALIASES and not Path(spec).exists() and not spec.startswith(("hf:", "pypi:")):
        names = [path.name for path in runs.all_runs(root)]
        hint = nearest(spec, [*names, *weights.ALIASES])
        raise RecipeError(f"{spec!r} is no run in {root} and no model{hint} (or a folder, a .gguf file, hf://owner/name@revision)")
    found = weights.locate(spec, say)
    model, tokenizer = weights.load(found.folder)
    bound = settings.bind(tokenizer)
    name = Path(spec).name.removesuffix(".gguf") if Path(spec).exists() else spec
    return Loaded(name, Local(model, tokenizer, bound), found.description, journal.digest([found.digest, bound.name]))


def tuned(folder: Path, say: Say) -> Loaded:
    """A run's tuned model. Raises RecipeError where it is not tuned yet, DataError where the start model has changed since."""
    student, done = student_of(folder, say), runs.record(folder, "tune")
    if done is None or not (folder / "model").is_dir():
        raise RecipeError(f"{folder} has no tuned model yet; `etude run` with its recipe finishes it")
    model = student.recipe.tune.method.load(student.loaded[0], folder / "model")
    about = f"{student.recipe.model} tuned in {folder}"
    return Loaded(folder.name, student.answering(model.eval()), about, journal.digest([student.weights.digest, done.digest]))


def start_of(folder: Path, say: Say) -> Loaded:
    """The model that a run started from, in the run's format."""
    student = student_of(folder, say)
    return Loaded(f"{folder.name}-start", student.answering(), f"{student.recipe.model}, before tuning", student.weights.digest)


def student_of(folder: Path, say: Say) -> Student:
    """A run's start model, whose digest must be the one in the run's manifest."""
    recipe = runs.recipe_of(folder)
    student = Student(weights.locate(recipe.model, say), recipe)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        known = json.loads(manifest.read_text(encoding="utf-8")).get("model", {}).get("digest", student.weights.digest)
        if known != student.weights.digest:
            raise DataError(
                f"{folder} was tuned from {recipe.model} with digest {known[:12]}, but that name now leads to "
                f"{student.weights.digest[:12]} ({student.weights.folder}); put the old files back, or run the recipe again"
            )
    return student


def student_for(recipe: Recipe, folder: Path, say: Say) -> Student:
    """The tuned model of a run as the start model of another recipe (one that only scores). Raises as `tuned` does."""
    student, done = student_of(folder, say), runs.record(folder, "tune")
    if done is None or not (folder / "model").is_dir():
        raise RecipeError(f"{folder} has no tuned model yet; `etude run` with its recipe finishes it")
    digest = journal.digest([student.weights.digest, done.digest])
    own = replace(student.weights, name=folder.name, digest=digest, description=f"{student.recipe.model} tuned in {folder}")
    return Student(own, recipe, (student.recipe.tune.method, folder / "model"))


def named_format(name: str) -> FormatSettings:
    """A chat format by its catalog name, with its defaults."""
    if name not in FORMATS:
        raise RecipeError(f"format {name!r}: there is none of that name{nearest(name, FORMATS)}")
    kind: Any = FORMATS[name]
    made: FormatSettings = kind()
    return made
