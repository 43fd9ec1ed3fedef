"""What an arm tries before its final runs: combinations of values, all of them or some, and which of them was best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import seeds
from etude.failures import RecipeError
from etude.studies import Changes, Study, recipe_of


def candidates(study: Study, arm: str) -> list[dict[str, Any]]:
    """The combinations that an arm tries, the same number for every arm; one empty one where nothing is tried.

    A random search draws without repeats, by the study's seed and the arm's own values. Raises RecipeError where there are too few.
    """
    grid = combined(study.own_trials.get(arm, study.trials.keys))
    if study.trials.search == "grid":
        return grid
    count = study.trials.count or len(grid)
    if count > len(grid):
        raise RecipeError(f"trials.count: {count} combinations are asked for, and arm {arm!r} has {len(grid)}")
    chosen = seeds.stream(study.trials.seed, "trials", arm).permutation(len(grid))[:count]
    return [grid[int(place)] for place in sorted(chosen)]


def combined(keys: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the keys' values."""
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]


ROWS = ("seed", "epochs", "max_steps", "token_budget", "max_tokens", "max_target_tokens", "truncation")
"""Keys of `tune` that decide which rows are trained and how often."""
BATCH = ("rows_per_step", "tokens_per_step")
"""Keys of `tune` that decide how many rows a step has."""


def moved(study: Study, where: Path) -> set[str]:
    """The keys of `tune` that some arm tries, by what their recipes come to: however they are spelled, alone or as a section.

    Raises RecipeError for a trial of what was announced: which rows are trained, and how much of what `same` names.
    """
    fixed = ("seed",) if study.same is None else (*ROWS, *BATCH) if study.same == "steps" else ROWS
    found: set[str] = set()
    for arm in study.arms:
        plain = recipe_of(study, where, arm, "t", {}).dump()
        for changes in candidates(study, arm):
            tried = recipe_of(study, where, arm, "t", changes).dump()
            said = f"arms.{arm}: trials of {', '.join(changes)}"
            if others := [key for key in plain if key != "tune" and tried[key] != plain[key]]:
                raise RecipeError(f"{said}: {', '.join(others)} cannot be tried; what changes rows, questions or the model is an arm")
            keys = {key for key in plain["tune"] if tried["tune"][key] != plain["tune"][key]}
            if wrong := sorted(keys & set(fixed)):
                why = "seeds are the study's" if wrong == ["seed"] else f"every arm gets the same {study.same} (`same: null` frees it)"
                raise RecipeError(f"{said}: tune.{wrong[0]} cannot be tried: {why}")
            found |= keys
    return found


def equal_budget(study: Study) -> int:
    """How many combinations every arm tries; raises RecipeError where arms would try unequally many."""
    counts = {arm: len(candidates(study, arm)) for arm in study.arms}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        raise RecipeError(f"own_trials: every arm must try equally many combinations, or the study measures the search: {told}")
    return next(iter(counts.values()))


def rungs(count: int, factor: int) -> list[tuple[int, float]]:
    """Successive halving (Jamieson and Talwalkar 2016): (candidates, share of the whole training) of each round, the last with share 1."""
    rounds = 0
    while count >= factor ** (rounds + 1):
        rounds += 1
    return [(max(1, math.floor(count / factor**step)), factor ** (step - rounds)) for step in range(rounds + 1)]


def shortened(tune: Mapping[str, Any], share: float) -> Changes:
    """Changes to a tune section that make it this share of itself: epochs, and the bounds that are set."""
    if share >= 1:
        return {}
    found: dict[str, Any] = {"tune.epochs": tune["epochs"] * share}
    for key in ("max_steps", "token_budget"):
        if tune.get(key):
            found[f"tune.{key}"] = max(1, round(tune[key] * share))
    return found


def best(values: Sequence[float | None], higher: bool) -> int | None:
    """The place of the best value, the earliest of equals; None where there is none."""
    known = [(value, place) for place, value in enumerate(values) if value is not None and math.isfinite(value)]
    if not known:
        return None
    return min(known, key=lambda pair: (-pair[0] if higher else pair[0], pair[1]))[1]
