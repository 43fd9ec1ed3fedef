"""`etude plan STUDY`: what a study would take and what it could show, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude import planning, runs
from etude.curating import asks
from etude.failures import RecipeError
from etude.recipe import Recipe
from etude.screen import Silent, Watch
from etude.studies import Study, recipe_of, searching
from etude.studies.designing import design


def unasked(study: Study, where: Path, folder: Path) -> tuple[Study, list[str]]:
    """The study without checks that ask a model, and what of it is said. Raises RecipeError where rows are still to be made by one."""
    arms, notes = {}, []
    for arm, changes in study.arms.items():
        recipe = recipe_of(study, where, arm, "rows", {})
        settled = done(folder / recipe.name, recipe)
        if recipe.generate and "generated" not in settled:
            raise RecipeError(f"arms.{arm}: its rows are still to be made by a model ({', '.join(recipe.generate)}), and a plan asks none")
        asking = [] if "curated" in settled else [check for check in recipe.curate if asks(check)]
        arms[arm] = changes
        if asking:
            kept = [one for check, one in zip(recipe.curate, recipe.dump()["curate"], strict=True) if check not in asking]
            arms[arm] = {**{key: value for key, value in changes.items() if key.partition(".")[0] != "curate"}, "curate": kept}
            notes.append(f"{arm}: {len(asking)} checks ask a model and are passed over here, so its rows are at most so many")
    return study.model_copy(update={"arms": arms}), notes


def done(folder: Path, recipe: Recipe) -> list[str]:
    """The stages of this very recipe that are done in a folder: a plan before may have left those of one without its checks."""
    path = folder / "recipe.resolved.yaml"
    if not path.is_file() or runs.differs(path.read_text(encoding="utf-8"), recipe):
        return []
    return [stage for stage in ("generated", "curated") if runs.record(folder, stage) is not None]


def plan(study: Study, where: Path, folder: Path, watch: Watch | None = None) -> dict[str, Any]:
    """Rows, steps, tokens and seconds of every arm, the runs and trials, disk, and the smallest difference that can be shown.

    The rows are read, checked and encoded for it, in the study's folder; the study takes them over from there. No model is asked: checks
    that would ask one are passed over, and said. Raises RecipeError where rows are still to be made by a model.
    """
    study, notes = unasked(study, where, folder)
    ready = design(study, where, folder, watch or Silent())
    arms: dict[str, Any] = {}
    plans: dict[str, Mapping[str, Any]] = {}
    tries = ready.trials if ready.trials > 1 else 0
    rounds = searching.rungs(ready.trials, study.trials.factor) if study.trials.search == "halving" else [(tries, 1.0)]
    tried = sum(count * share for count, share in rounds) if tries else 0.0
    seconds = disk = 0.0
    for arm in study.arms:
        recipe = ready.recipe(arm, "rows")
        own = plans[arm] = planning.plan(recipe, folder / recipe.name)
        rows = ready.rows[arm]
        arms[arm] = {
            "rows": len(rows.ids), "drawn": rows.drawn, "steps": rows.steps, "tokens": rows.tokens, "seconds": own["seconds"],
            "training seconds": own["tuning"]["seconds"], "memory_gb": own["memory_gb"],
        }  # fmt: skip
        # the trial that wins is the first seed's run, and the start model is asked once for all
        again = max(0.0, tried - 1.0) if tries else 0.0
        asked = len(study.seeds) + 1 / len(study.arms)
        seconds += (len(study.seeds) + again) * own["tuning"]["seconds"] + asked * own["scoring"]["seconds"] / 2
        disk += (len(study.seeds) + tries) * own["disk"]["needed_gb"]
    return {
        "name": study.name,
        "primary": f"{ready.task}.{ready.metric}",
        "baseline": study.first(),
        "seeds": list(study.seeds),
        "runs": len(study.arms) * len(study.seeds),
        "trials": len(study.arms) * tries,
        "test rows": ready.items,
        "training rows in every arm": ready.shared,
        "smallest visible difference": ready.smallest,
        "assumed": ready.assumed,
        "seed sd": ready.seed_sd,
        "groups of test rows": ready.groups,
        "notes": notes,
        "money": "; ".join(dict.fromkeys(own["money"] for own in plans.values())),
        "arms": arms,
        "seconds": round(seconds),
        "disk gb": round(disk, 2),
    }
