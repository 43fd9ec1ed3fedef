"""A study from its design to its verdict: trials on validation rows, then every arm with every seed, then the comparison.

Everything is resumable: a job is a run in a folder of its own, and what is finished is found there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etude import journal, manifest, runs
from etude.engines import Engine
from etude.engines.here import Here
from etude.failures import CheckFailed, RecipeError
from etude.recipe import to_yaml
from etude.reporting import study_page
from etude.reporting.studied import Studied, Trial
from etude.screen import Silent, Watch
from etude.steps import LOSS
from etude.studies import Changes, Study, searching
from etude.studies.designing import Design, Rows, design, planned
from etude.studies.gathering import gather
from etude.studies.working import WORK

SCHEMA = 1
"""Version of study.json."""
ASSUMED = ("seed_sd", "item_sd")
"""What is assumed for the plan alone, and changes no result."""
HELD = ("primary", "baseline", "test rows", "trials an arm", "trials", "budget", "training rows in every arm")
"""What stays as it was announced, beside the recipes."""

Tried = Mapping[str, tuple[Trial, ...]]
Failed = Mapping[str, Mapping[int, str]]


def run(study: Study, where: Path, folder: Path, *, engine: Engine | None = None, watch: Watch | None = None) -> Studied:
    """Design, trials, runs and report of a study in `folder`; `where`: the folder its recipe's path starts from.

    An arm that fails costs no other arm. Raises RecipeError for a study that cannot be, another one in the same folder, CheckFailed where
    nothing is left to compare, and Stopped and NoSpace from the runs.
    """
    watch, engine = watch or Silent(), engine or Here()
    with journal.locked(folder):
        refuse_another(folder, study)
        ready = design(study, where, folder, watch)
        announce(ready, folder)  # or hold to what was announced
        watch.say(said(ready))
        tried = trials(ready, folder, engine, watch)
        chosen = {arm: next((trial.changes for trial in own if trial.chosen), {}) for arm, own in tried.items()}
        failed = finals(ready, folder, chosen, tried, engine, watch)
        found = gather(replace(ready, rows=trained(ready, folder, chosen)), folder, tried, failed, chosen)
        study_page.write(found, folder)
        return found


def trained(ready: Design, folder: Path, chosen: Mapping[str, Changes]) -> dict[str, Rows]:
    """What every arm trains with what it chose, by the first seed: a batch that was tried has steps of its own."""
    return {arm: planned(ready.recipe(arm, "rows", own), folder, ready.study.seeds[:1])[0] for arm, own in chosen.items()}


def refuse_another(folder: Path, study: Study) -> None:
    """Raise RecipeError where the folder holds another study: what was announced is not changed afterwards."""
    path = folder / "study.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))["study"]
    now = json.loads(json.dumps(study.model_dump(mode="json")))
    if keys := ", ".join(key for key in now if before.get(key) != now[key] and key not in ASSUMED):
        raise RecipeError(f"{folder} holds a study that announced other {keys}; give this one another name, or remove the folder")


def announce(ready: Design, folder: Path) -> None:
    """Write down, before the first step, what is compared with what, in which metric, with which seeds, trials and budgets.

    Raises RecipeError where that stands already and is something else: a recipe or its data changed under a study that goes on.
    """
    path = folder / "study.json"
    now = announcement(ready)
    if not path.is_file():
        journal.write_json(path, now)
        return
    before, plain = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(now, default=str))
    other = [key for key in HELD if before.get(key) != plain[key]]
    recipes = {arm: ready.recipe(arm, "s0") for arm in ready.study.arms}
    other += [f"recipe of {arm}" for arm, one in recipes.items() if runs.differs(to_yaml(before["recipes"][arm]), one)]
    if other:
        raise RecipeError(
            f"{folder} holds a study that announced another {', '.join(other)}: its recipe or its data changed since; "
            "give this one another name, or remove the folder"
        )


def announcement(ready: Design) -> dict[str, Any]:
    """What a study is, as plain data."""
    study = ready.study
    return {
        "schema": SCHEMA,
        "announced": manifest.now(),
        "study": study.model_dump(mode="json"),
        "primary": f"{ready.task}.{ready.metric}",
        "baseline": study.first(),
        "seeds": list(study.seeds),
        "test rows": ready.items,
        "smallest visible difference": ready.smallest,
        "assumed": ready.assumed,
        "seed sd": ready.seed_sd,
        "groups of test rows": ready.groups,
        "trials an arm": ready.trials,
        "trials": {arm: searching.candidates(study, arm) for arm in study.arms},
        "budget": {arm: {"rows": len(r.ids), "drawn": r.drawn, "steps": r.steps, "tokens": r.tokens} for arm, r in ready.rows.items()},
        "training rows in every arm": ready.shared,
        "recipes": {arm: ready.recipe(arm, "s0").dump() for arm in study.arms},
        "versions": manifest.versions(),
        "machine": manifest.machine(),
    }


def said(ready: Design) -> str:
    """The design in a line."""
    study = ready.study
    reach = f"; can show a difference of {ready.smallest:.3f} or more" if ready.smallest is not None else ""
    total = len(study.arms) * len(study.seeds)
    tries = len(study.arms) * ready.trials if ready.trials > 1 else 0
    return (
        f"{study.name}: {len(study.arms)} arms x {len(study.seeds)} seeds = {total} runs{f' after {tries} trials' if tries else ''}, "
        f"{ready.task}.{ready.metric} on {ready.items} test rows, against {study.first()!r}{reach}"
    )


# ---- trials ----------------------------------------------------------------------------------------


def trials(ready: Design, folder: Path, engine: Engine, watch: Watch) -> dict[str, tuple[Trial, ...]]:
    """What each arm tries and what it is worth on validation rows, with the first seed; the best one is `chosen`."""
    study = ready.study
    candidates = {arm: searching.candidates(study, arm) for arm in study.arms}
    if ready.trials == 1:
        return {arm: (Trial(own[0], 1.0, None, chosen=True),) for arm, own in candidates.items()}
    check_validation(ready)
    rounds = searching.rungs(ready.trials, study.trials.factor) if study.trials.search == "halving" else [(ready.trials, 1.0)]
    left = {arm: list(range(len(own))) for arm, own in candidates.items()}
    found: dict[str, list[Trial]] = {arm: [] for arm in study.arms}
    for number, (count, share) in enumerate(rounds):
        left = {arm: places[:count] for arm, places in left.items()}
        jobs = [(arm, place) for arm, places in left.items() for place in places]
        recipes = [
            ready.recipe(
                arm, f"t{place}" + (f"r{number}" if share < 1 else ""), candidates[arm][place], {"tune.seed": study.seeds[0]},
                searching.shortened(ready.recipe(arm, "t", candidates[arm][place]).dump()["tune"], share),
            )
            for arm, place in jobs
        ]  # fmt: skip
        watch.say(f"trials: {len(jobs)} on validation rows{f', {share:.0%} of the training' if share < 1 else ''}")
        results = done(engine, [{"recipe": one.dump(), "folder": str(folder / one.name), "until": "tune"} for one in recipes], watch)
        for (arm, place), recipe, result in zip(jobs, recipes, results, strict=True):
            value = None if "failed" in result else result["tuned"]["best_value" if recipe.tune.best_by != LOSS else "best_validation"]
            found[arm].append(Trial(candidates[arm][place], share, value, why=result.get("failed", "")))
        for arm, places in left.items():
            if not places:  # all of them failed in the round before
                continue
            values = [trial.value for trial in found[arm][-len(places) :]]
            tune = next(recipe.tune for (own, _), recipe in zip(jobs, recipes, strict=True) if own == arm)
            higher = tune.higher() if tune.best_by != LOSS else False
            ranked: list[int] = []
            while (best := searching.best([None if i in ranked else v for i, v in enumerate(values)], higher)) is not None:
                ranked.append(best)
            left[arm] = [places[i] for i in ranked]
    return {arm: settled(own, left[arm], candidates[arm]) for arm, own in found.items()}


def settled(tried: Sequence[Trial], ranked: Sequence[int], candidates: Sequence[Changes]) -> tuple[Trial, ...]:
    """The trials with the best of the last round chosen; none where all of them failed."""
    if not ranked:
        return tuple(tried)
    wanted = candidates[ranked[0]]
    last = max(place for place, trial in enumerate(tried) if trial.changes == wanted)
    return tuple(Trial(trial.changes, trial.share, trial.value, place == last, trial.why) for place, trial in enumerate(tried))


def check_validation(ready: Design) -> None:
    """Raise RecipeError where an arm has no validation row to choose by."""
    for arm in ready.study.arms:
        recipe = ready.recipe(arm, "t")
        if not recipe.split.validation or recipe.tune.evaluate_every == "never":
            raise RecipeError(f"arms.{arm}: trials need validation rows; set split.validation, and tune.evaluate_every to a measurement")


# ---- final runs ------------------------------------------------------------------------------------


def finals(
    ready: Design, folder: Path, chosen: Mapping[str, Changes], tried: Tried, engine: Engine, watch: Watch
) -> dict[str, dict[int, str]]:
    """Every arm with every seed, tuned and asked the test rows; returns arm -> seed -> why it failed."""
    study = ready.study
    failed: dict[str, dict[int, str]] = {arm: {} for arm in study.arms}
    lost = [arm for arm, own in tried.items() if not any(trial.chosen for trial in own)]
    for arm in lost:
        why = next((trial.why for trial in tried[arm] if trial.why), "no trial has a validation value")
        failed[arm] = dict.fromkeys(study.seeds, f"every trial failed: {why}")
    jobs = [(arm, seed) for seed in study.seeds for arm in study.arms if arm not in lost]
    recipes = [ready.recipe(arm, f"s{seed}", chosen[arm], {"tune.seed": seed}) for arm, seed in jobs]
    # the start model and the baselines are asked before runs go their own ways, which take over what they share; what fails
    # here fails again in its run, and is told there
    asked = [{"recipe": one.dump(), "folder": str(folder / one.name), "until": "answers"} for one in recipes[: len(study.arms) - len(lost)]]
    done(Here(), asked, watch)
    watch.say(f"runs: {len(jobs)}")
    results = done(engine, [{"recipe": one.dump(), "folder": str(folder / one.name), "until": "report"} for one in recipes], watch)
    for (arm, seed), result in zip(jobs, results, strict=True):
        if "failed" in result:
            failed[arm][seed] = result["failed"]
            watch.say(f"{arm}, seed {seed}: failed: {result['failed']}")
    if all(len(failed[arm]) == len(study.seeds) for arm in study.arms):
        raise CheckFailed(f"every run failed, the first with: {next(iter(failed[study.first()].values()))}")
    return failed


def done(engine: Engine, jobs: Sequence[Mapping[str, Any]], watch: Watch) -> list[Mapping[str, Any]]:
    """The results of all jobs, in their order."""
    results: list[Mapping[str, Any]] = [{} for _ in jobs]
    with watch.bar("study", len(jobs), "runs") as told:
        for count, (index, result) in enumerate(engine.map(WORK, jobs), 1):
            results[index] = result
            told(count, Path(jobs[index]["folder"]).name)
    return results
