"""A study's findings, from the run folders its jobs left."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from etude import comparing, manifest, preparing, runs
from etude.comparing import Compared, Wanted
from etude.comparing.naming import TUNED, Place
from etude.comparing.naming import Arm as NamedArm
from etude.comparison import compare_slices, interval
from etude.failures import CheckFailed, DataError, RecipeError
from etude.reporting.gathering import curve
from etude.reporting.measuring import grouping, values_of
from etude.reporting.studied import Arm, Cost, Point, Reached, Slice, Studied, Trial
from etude.studies import Changes, Study
from etude.studies.designing import Design, named

CURVE = 200
"""Points of a learning curve kept at most."""
AMOUNT = re.compile(r"mixture\.total|sources\.[^.]+\.(limit|count)")
"""The keys of a recipe that say how many rows there are, and nothing else."""


def gather(
    ready: Design,
    folder: Path,
    tried: Mapping[str, Sequence[Trial]],
    failed: Mapping[str, Mapping[int, str]],
    chosen: Mapping[str, Changes],
) -> Studied:
    """Compare what the arms reached; arms and seeds that failed are marked, and cost no other arm its verdict."""
    study = ready.study
    done = {arm: [seed for seed in study.seeds if seed not in failed[arm]] for arm in study.arms}
    compared, why = verdicts(ready, folder, done)
    recipe = ready.recipe(study.first(), "s0")
    announced = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    arms = tuple(arm_of(ready, folder, name, done[name], compared, tried[name], failed[name]) for name in study.arms)
    primary = compared.metrics[0] if compared else None
    return Studied(
        name=study.name,
        created=manifest.now(),
        model=recipe.model,
        task=ready.task,
        metric=ready.metric,
        scale=primary.scale if primary else 1.0,
        lower=primary.lower if primary else False,
        items=compared.items if compared else ready.items,
        group=compared.group if compared else "",
        baseline=study.first(),
        seeds=study.seeds,
        arms=arms,
        same=same(ready, amounts_of(folder, done)),
        smallest=ready.smallest,
        margin=study.margin,
        start=start_value(folder, ready, done),
        slices=sliced(ready, folder, done) if compared else (),
        forced=compared.forced if compared else (),
        notes=(*(compared.notes if compared else ()), *missing(study, failed), *([why] if why else [])),
        sizes=sizes(ready, chosen),
        manifest=announced,
        study=json.dumps(study.model_dump(mode="json"), indent=1),
    )


def verdicts(ready: Design, folder: Path, done: Mapping[str, Sequence[int]]) -> tuple[Compared | None, str]:
    """Every arm that has a run against the baseline on the primary task; None, with the reason, where that cannot be."""
    study, first = ready.study, ready.study.first()
    if not done[first]:
        return None, f"cannot test: every run of the baseline {first!r} failed"
    arms = [NamedArm(arm, tuple(place(folder, arm, seed) for seed in own)) for arm, own in done.items() if own]
    if len(arms) < 2:
        return None, "cannot test: only one arm has a finished run"
    wanted = Wanted(baseline=first, task=ready.task, primary=ready.metric, group=study.group, margin=study.margin, force=True)
    try:
        primary = comparing.compare_places(arms, wanted)[0]
    except (RecipeError, DataError, CheckFailed) as failure:
        return None, f"cannot test: {failure}"
    further, notes = further_tasks(ready, arms)
    return explored(replace(primary, notes=(*primary.notes, *notes)), further), ""


def place(folder: Path, arm: str, seed: int) -> Place:
    """Where a run's tuned answers are."""
    run = folder / f"{arm}.s{seed}"
    return Place(run.name, run, TUNED)


def further_tasks(ready: Design, arms: Sequence[NamedArm]) -> tuple[list[Compared], list[str]]:
    """Comparisons on the other tasks that every arm scores on test rows, and why there is none of some: that costs no other its own."""
    study, found, notes = ready.study, list[Compared](), list[str]()
    scored = [
        [task.task for task in recipe.tasks() if task.split == "test" and preparing.metrics_of(recipe, task)]
        for recipe in (ready.recipe(arm.name, "s0") for arm in arms)
    ]
    for task in scored[0]:
        if task == ready.task or not all(task in names for names in scored):
            continue
        for group in dict.fromkeys((study.group, None)):  # the other task's rows may have no such field
            try:
                found += comparing.compare_places(arms, Wanted(baseline=study.first(), task=task, group=group, force=True))
            except (RecipeError, DataError, CheckFailed) as failure:
                why = f"{task}: not compared: {failure}"
            else:
                why = f"{task}: its rows have no field {study.group!r}, and are not grouped by it" if group != study.group else ""
                break
        notes += [why] if why else []
    return found, notes


def explored(primary: Compared, further: Sequence[Compared]) -> Compared:
    """The primary task's comparison with the metrics of other tasks behind its own, `<task>.<metric>`, all but the first exploratory
    and one family."""
    first, *others = primary.metrics
    others += [replace(metric, name=f"{one.task}.{metric.name}", planned=False) for one in further for metric in one.metrics]
    return replace(primary, metrics=tuple(comparing.explored([first, *others])))


def arm_of(
    ready: Design,
    folder: Path,
    name: str,
    done: Sequence[int],
    compared: Compared | None,
    tried: Sequence[Trial],
    failed: Mapping[int, str],
) -> Arm:
    """One arm: its scores by seed, its comparison with the baseline, what it took."""
    reached: dict[str, Reached] = {}
    against = {}
    for metric in compared.metrics if compared else ():
        if name in metric.arms:
            own = metric.arms[name]
            reached[metric.name] = Reached(own.value, own.interval, dict(zip(done, own.runs, strict=True)))
        if name in metric.against:
            against[metric.name] = metric.against[name]
    if compared is None and done:  # nothing to compare with, but the arm has its scores
        reached = alone(ready, folder, name, done)
    rows = ready.rows[name]
    return Arm(
        name,
        ready.study.arms[name],
        len(rows.ids),
        rows.drawn,
        tuple(tried),
        reached,
        against,
        cost([folder / f"{name}.s{seed}" for seed in done]),
        points(folder / f"{name}.s{done[0]}") if done else (),
        dict(failed),
    )


def alone(ready: Design, folder: Path, arm: str, done: Sequence[int]) -> dict[str, Reached]:
    """What an arm reached that is compared with nothing, the primary metric first."""
    metrics, names = named(ready.recipe(arm, "s0"), ready.task)
    found = {}
    for name, metric in sorted(zip(names, metrics, strict=True), key=lambda pair: pair[0] != ready.metric):
        stats, ids = statistics(ready, folder, arm, done, name)
        each = [float(metric.score(one.sum(axis=0))) for one in stats]
        groups = groups_of(ready, folder, arm, done, ids)
        found[name] = Reached(fmean(each), interval(stats, metric, groups=groups), dict(zip(done, each, strict=True)))
    return found


def sliced(ready: Design, folder: Path, done: Mapping[str, Sequence[int]]) -> tuple[Slice, ...]:
    """Every arm against the baseline on each value of the study's field, in the primary metric."""
    study = ready.study
    if study.slices is None:
        return ()
    recipe = ready.recipe(study.first(), "s0")
    metric = next(m for m, name in zip(*named(recipe, ready.task), strict=True) if name == ready.metric)
    stats, ids = statistics(ready, folder, study.first(), done[study.first()], ready.metric)
    first = study.first()
    names = [str(one) for one in values_of(folder / f"{first}.s{done[first][0]}", "test", study.slices, ids)]
    others = {arm: statistics(ready, folder, arm, own, ready.metric) for arm, own in done.items() if arm != study.first() and own}
    same_items = {arm: own for arm, (own, asked) in others.items() if asked == ids}
    found = compare_slices(stats, same_items, metric, names, groups=groups_of(ready, folder, first, done[first], ids))
    return tuple(Slice(arm, name, one.items, one) for (arm, name), one in found.items())


def groups_of(ready: Design, folder: Path, arm: str, done: Sequence[int], ids: Sequence[str]) -> list[str] | None:
    """Each item's group, as the primary comparison groups them; None where each stands for itself."""
    field = ready.study.group or ready.recipe(arm, "s0").split.group
    return grouping(values_of(folder / f"{arm}.s{done[0]}", "test", field, ids)) if ready.groups and field else None


def statistics(ready: Design, folder: Path, arm: str, done: Sequence[int], metric: str) -> tuple[np.ndarray, list[str]]:
    """An arm's statistics in a metric, (seeds, items, k), and the items' ids."""
    cards = [json.loads((folder / f"{arm}.s{seed}" / "scorecard.json").read_text(encoding="utf-8"))["tasks"][ready.task] for seed in done]
    return np.array([card["arms"]["tuned"][metric]["stats"] for card in cards]), cards[0]["ids"]


def cost(folders: Sequence[Path]) -> Cost:
    """What the runs of an arm took, means over its seeds."""
    trained = [dict(done.facts["trained"]) for one in folders if (done := runs.record(one, "tune"))]
    if not trained:
        return Cost()
    seconds = [one["seconds"] for one in trained]
    memory = [one["memory_gb"] for one in trained if one.get("memory_gb") is not None]
    lost: dict[str, list[float]] = {}
    for folder in folders:
        for name, row in (runs.results(folder).get("forgetting") or {}).items():
            if row["difference"] is not None:
                lost.setdefault(name, []).append(row["difference"])
    return Cost(
        trainable=trained[0]["trainable"],
        parameters=trained[0]["parameters"],
        seconds=fmean(seconds),
        tokens_per_second=sum(one["tokens"] for one in trained) / sum(seconds) if sum(seconds) else None,
        memory_gb=fmean(memory) if memory else None,
        steps=round(fmean([one["steps"] for one in trained])),
        tokens=round(fmean([one["tokens"] for one in trained])),
        forgetting={name: fmean(values) for name, values in lost.items()},
    )


def points(folder: Path) -> tuple[Point, ...]:
    """A run's training log, thinned."""
    rows = curve(folder)
    stride = max(1, -(-len(rows) // CURVE))
    return tuple(
        Point(row.step, row.tokens, row.loss, row.validation_loss)
        for place, row in enumerate(rows)
        if place % stride == 0 or row.validation_loss is not None or place == len(rows) - 1
    )


def start_value(folder: Path, ready: Design, done: Mapping[str, Sequence[int]]) -> float | None:
    """The start model's own score in the primary metric, where all arms start from one model and are asked the same."""
    found = set()
    for arm, own in done.items():
        for seed in own[:1]:
            task = runs.results(folder / f"{arm}.s{seed}")["tasks"].get(ready.task, {})
            found.add(task.get(ready.metric, {}).get("base"))
    return found.pop() if len(found) == 1 else None


def same(ready: Design, took: Mapping[tuple[str, int], Mapping[str, int]]) -> tuple[str, ...]:
    """What was the same in all arms, in words: the settings nobody changed, rows, order, budget, decoding, test rows; `took`: the steps
    and tokens of each (arm, seed)."""
    study = ready.study
    recipes = {arm: ready.recipe(arm, "s0") for arm in study.arms}
    first = recipes[study.first()].dump()
    sections = [key for key in first if key != "name" and all(one.dump()[key] == first[key] for one in recipes.values())]
    found = [f"{ready.items} test rows, asked once by every run", f"sections of the recipe: {', '.join(sections)}"]
    rows = {tuple(sorted(one.ids)) for one in ready.rows.values()}
    found.append("training rows, by their ids" if len(rows) == 1 else f"{ready.shared:,} training rows are in every arm")
    if len(drawn := {one.drawn for one in ready.rows.values()}) == 1:
        found.append(f"{drawn.pop():,} rows drawn")
    for name in ("steps", "tokens"):
        by_seed = [{amounts[name] for (_, seed), amounts in took.items() if seed == own} for own in study.seeds]
        if all(len(own) == 1 for own in by_seed if own) and (values := sorted(set().union(*by_seed))):
            found.append(f"{values[0]:,} {name}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,} {name}, by the seed")
    found.append(f"training seeds {', '.join(map(str, study.seeds))}: the order of rows and the draws of dropout depend on them alone")
    if ready.trials > 1:
        found.append(f"{ready.trials} combinations tried by every arm on validation rows, with seed {study.seeds[0]}")
    return tuple(found)


def amounts_of(folder: Path, done: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], dict[str, int]]:
    """(arm, seed) -> the steps and tokens that its run was trained for."""
    found = {}
    for arm, own in done.items():
        for seed in own:
            if record := runs.record(folder / f"{arm}.s{seed}", "tune"):
                found[arm, seed] = {name: int(record.facts["trained"][name]) for name in ("steps", "tokens")}
    return found


def sizes(ready: Design, chosen: Mapping[str, Changes]) -> dict[str, int]:
    """Arm -> training rows, where the arms differ in nothing but how many rows of one set they have, and chose the same trial."""
    counts = {arm: len(set(one.ids)) for arm, one in ready.rows.items()}
    nested = sorted((set(one.ids) for one in ready.rows.values()), key=len)
    grows = all(small <= large for small, large in itertools.pairwise(nested))
    alike = all(AMOUNT.fullmatch(key) for changes in ready.study.arms.values() for key in changes)
    alone = alike and all(dict(own) == dict(chosen[ready.study.first()]) for own in chosen.values())
    return counts if grows and alone and len(set(counts.values())) == len(counts) >= 3 else {}


def missing(study: Study, failed: Mapping[str, Mapping[int, str]]) -> list[str]:
    """A note an arm that lacks runs."""
    return [
        f"{arm}: {len(own)} of {len(study.seeds)} runs failed (seed {', '.join(map(str, own))}): {next(iter(own.values())).splitlines()[0]}"
        for arm, own in failed.items()
        if own
    ]
