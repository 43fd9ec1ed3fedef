"""A Study: one recipe, several arms, several seeds, and what each arm may try first. Everything is written down before the first step.

`arms` are changes to the recipe, any key of it; `trials` are tried on validation rows only, the same number for every arm; then each
arm is tuned with each seed and asked the test rows once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from etude import recipe as recipes
from etude import shipped
from etude.catalog import Settings
from etude.failures import RecipeError, nearest
from etude.recipe import NAME, Recipe

ArmName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Changes = Mapping[str, Any]
"""Dotted key of a recipe -> its value."""


Values = Annotated[tuple[Any, ...], Field(min_length=1)]
"""What is tried for a key."""


class Trials(Settings):
    """What every arm tries on validation rows before its final runs, with the study's first seed."""

    keys: Mapping[str, Values] = Field(default={})
    """Dotted key of `tune` -> the values to try, such as `tune.learning_rate: [1e-4, 3e-4, 1e-3]`; several keys are combined."""
    search: Literal["grid", "random", "halving"] = "grid"
    """All combinations; or `count` of them at random; or those, the better third of which goes on with three times the training."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How many combinations every arm tries; a grid tries all."""
    factor: Annotated[int, Field(ge=2)] = 3
    """Of `halving`: one in so many goes on to so many times the training."""
    seed: int = 0
    """Seed of what is drawn at random."""


class Study(Settings):
    """A controlled experiment."""

    name: Annotated[str, Field(pattern=NAME)]
    """Name of the study; its folder is runs/<name>."""
    recipe: str | dict[str, Any]
    """What all arms have in common: a recipe file (beside the study), a shipped recipe's name, or a recipe itself."""
    changes: dict[str, Any] = Field(default={})
    """Changes to the recipe for all arms: dotted key -> value."""
    arms: Annotated[dict[ArmName, dict[str, Any]], Field(min_length=2)]
    """Named arms: what each changes in the recipe."""
    baseline: str | None = None
    """The arm that the others are compared with; by default the first."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Training seeds of every arm (`tune.seed`); with one the verdict speaks of these checkpoints only."""
    primary: str | None = None
    """The metric that decides: `<task>.<metric>`; by default the first of the first task. All others are exploratory."""
    trials: Trials = Trials()
    """What every arm tries on validation rows first."""
    own_trials: dict[str, dict[str, Values]] = Field(default={})
    """Arm -> keys and values of its own to try in the place of `trials.keys`, as many combinations as the others have."""
    same: Literal["rows", "steps", "tokens"] | None = "rows"
    """What all arms get equally much of: rows drawn, optimizer steps or tokens read. null: what each recipe says."""
    match: bool = False
    """Train every arm on the rows that all arms have (by id), where some lost rows that others kept."""
    group: str | None = None
    """A field that groups the test rows (questions on one passage): errors are then clustered by it."""
    slices: str | None = None
    """A field of the test rows (a kind of question, a language): arms are also compared on each of its values, exploratory."""
    margin: Annotated[float, Field(gt=0)] | None = None
    """Differences below this do not matter: arms that are surely closer are called equivalent. In the metric's unit, given beforehand."""
    seed_sd: Annotated[float, Field(ge=0)] | None = None
    """How far training seeds are thought to move a score, in the metric's unit, for the plan's smallest visible difference; by default
    .016 (1.6 of BLEU, chrF and TER)."""
    item_sd: Annotated[float, Field(gt=0)] | None = None
    """How far two arms' numbers for one row are thought to differ (standard deviation), for the same; by default what is usual for the
    metric, and of right and wrong answers a fifth that differ."""

    @field_validator("seeds")
    @classmethod
    def different(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        """Each seed once."""
        if len(set(given)) < len(given):
            raise ValueError("a seed is given twice: one run, counted twice")
        return given

    @model_validator(mode="after")
    def known(self) -> Study:
        """Baselines and own trials of arms that there are, and equally many trials."""
        for where, name in [("baseline", self.baseline), *(("own_trials", name) for name in self.own_trials)]:
            if name is not None and name not in self.arms:
                raise ValueError(f"{where}: no arm named {name!r}{nearest(name, self.arms)}")
        if self.trials.search != "grid" and self.trials.count is None:
            raise ValueError(f"trials.count: {self.trials.search} needs the number of combinations that every arm tries")
        return self

    def first(self) -> str:
        """The baseline's name."""
        return self.baseline or next(iter(self.arms))


def load(path: Path, overrides: Sequence[str] = ()) -> tuple[Study, Path]:
    """The study of a file with overrides, and the folder that its recipe's path starts from; raises RecipeError naming key and line."""
    if not path.is_file():
        raise RecipeError(f"{path}: no such study")
    text = path.read_text(encoding="utf-8-sig")
    raw = recipes.override(recipes.parse(text, str(path)), overrides)
    try:
        return Study.model_validate(raw), path.parent
    except ValidationError as error:
        raise RecipeError("\n".join(recipes.explain(item, str(path), text) for item in error.errors(include_url=False))) from error


def is_study(path: Path) -> bool:
    """Whether a file has arms, and so is a study and no recipe."""
    try:
        return "arms" in recipes.parse(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, RecipeError, UnicodeDecodeError):
        return False


def common(study: Study, folder: Path) -> dict[str, Any]:
    """The recipe that all arms share, as plain data. Raises RecipeError where there is none."""
    if isinstance(study.recipe, dict):
        raw: dict[str, Any] = dict(study.recipe)
    else:
        path = folder / study.recipe
        if not path.is_file() and study.recipe in shipped.names():
            path = shipped.recipe_path(study.recipe)
        if not path.is_file():
            near = nearest(study.recipe, shipped.names())
            raise RecipeError(f"recipe: {path} is no file, and no shipped recipe is called {study.recipe!r}{near}")
        raw = recipes.parse(path.read_text(encoding="utf-8-sig"), str(path))
    return changed(raw, study.changes, "changes")


def changed(raw: Mapping[str, Any], changes: Changes, where: str) -> dict[str, Any]:
    """A copy of a recipe's plain data with changes; raises RecipeError for a key that cannot be there."""
    found = dict(raw)
    for key, value in changes.items():
        found = recipes.assign(found, key.split("."), value, f"{where}: {key}")
    return found


def recipe_of(study: Study, folder: Path, arm: str, label: str, more: Changes) -> Recipe:
    """An arm's recipe with more changes, named `<arm>.<label>`; every fault names the arm."""
    raw = changed(changed(common(study, folder), study.arms[arm], f"arms.{arm}"), more, f"arms.{arm}")
    return recipes.build({**raw, "name": f"{arm}.{label}"}, f"{study.name}, arm {arm}")
