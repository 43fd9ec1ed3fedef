"""A study's findings, from the run folders its jobs left."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from etude import comparing, journal, manifest, runs
from etude.comparing import Compared, Wanted
from etude.comparison import compare_slices, interval
from etude.failures import CheckFailed, DataError, RecipeError
from etude.reporting.gathering import curve
from etude.reporting.studied import Arm, Cost, Point, Reached, Slice, Studied, Trial
from etude.studies import Study
from etude.studies.designing import Design, named

CURVE = 200
"""Points of a learning curve kept at most."""


def gather(ready: Design, folder: Path, tried: Mapping[str, Sequence[Trial]], failed: Mapping[str, Mapping[int, str]]) -> Studied:
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
        same=same(ready),
        smallest=ready.smallest,
        margin=study.margin,
        start=start_value(folder, ready, done),
        slices=sliced(ready, folder, done) if compared else (),
        forced=compared.forced if compared else (),
        notes=(*(compared.notes if compared else ()), *missing(study, failed), *([why] if why else [])),
        sizes=sizes(ready),
        manifest=announced,
        study=json.dumps(study.model_dump(mode="json"), indent=1),
    )


def verdicts(ready: Design, folder: Path, done: Mapping[str, Sequence[int]]) -> tuple[Compared | None, str]:
    """Every arm that has a run against the baseline on the primary task; None, with the reason, where that cannot be."""
    study, first = ready.study, ready.study.first()
    words = [f"{arm}={','.join(str(folder / f'{arm}.s{seed}') for seed in own)}" for arm, own in done.items() if own]
    if not done[first]:
        return None, f"cannot test: every run of the baseline {first!r} failed"
    if len(words) < 2:
        return None, "cannot test: only one arm has a finished run"
    wanted = Wanted(baseline=first, task=ready.task, primary=ready.metric, group=study.group, margin=study.margin, force=True)
    try:
        return comparing.compare(words, wanted, folder)[0], ""
    except (RecipeError, DataError, CheckFailed) as failure:
        return None, f"cannot test: {failure}"


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
        stats, _ = statistics(ready, folder, arm, done, name)
        each = [float(metric.score(one.sum(axis=0))) for one in stats]
        found[name] = Reached(fmean(each), interval(stats, metric), dict(zip(done, each, strict=True)))
    return found


def sliced(ready: Design, folder: Path, done: Mapping[str, Sequence[int]]) -> tuple[Slice, ...]:
    """Every arm against the baseline on each value of the study's field, in the primary metric."""
    study = ready.study
    if study.slices is None:
        return ()
    recipe = ready.recipe(study.first(), "s0")
    metric = next(m for m, name in zip(*named(recipe, ready.task), strict=True) if name == ready.metric)
    stats, ids = statistics(ready, folder, study.first(), done[study.first()], ready.metric)
    place = folder / f"{study.first()}.s{done[study.first()][0]}"
    rows = {row["id"]: row["fields"] for row in journal.read(place / "curated" / "test.jsonl")}
    names = [str(rows[id][study.slices]) for id in ids]
    found = []
    for arm, own in done.items():
        if arm == study.first() or not own:
            continue
        other, same_ids = statistics(ready, folder, arm, own, ready.metric)
        if same_ids != ids:
            continue
        for name, one in compare_slices(stats, other, metric, names).items():
            found.append(Slice(arm, name, one.items, one))
    return tuple(found)


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


def same(ready: Design) -> tuple[str, ...]:
    """What was the same in all arms, in words: the settings nobody changed, rows, order, budget, decoding, test rows."""
    study = ready.study
    recipes = {arm: ready.recipe(arm, "s0") for arm in study.arms}
    first = recipes[study.first()].dump()
    sections = [key for key in first if key != "name" and all(one.dump()[key] == first[key] for one in recipes.values())]
    found = [f"{ready.items} test rows, asked once by every run", f"sections of the recipe: {', '.join(sections)}"]
    rows = {tuple(sorted(one.ids)) for one in ready.rows.values()}
    found.append("training rows, by their ids" if len(rows) == 1 else f"{ready.shared:,} training rows are in every arm")
    plans = ready.rows.values()
    amounts = {"rows drawn": {r.drawn for r in plans}, "steps": {r.steps for r in plans}, "tokens": {r.tokens for r in plans}}
    # with whole rows in steps of so many tokens each order of rows has its own sum
    exact = f" with seed {study.seeds[0]}, as many as its order of rows gives with another" if len(study.seeds) > 1 else ""
    found += [
        f"{next(iter(values)):,} {name}{exact if name == 'tokens' and study.same != 'tokens' else ''}"
        for name, values in amounts.items()
        if len(values) == 1
    ]
    found.append(f"training seeds {', '.join(map(str, study.seeds))}: the order of rows and the draws of dropout depend on them alone")
    if ready.trials > 1:
        found.append(f"{ready.trials} combinations tried by every arm on validation rows, with seed {study.seeds[0]}")
    return tuple(found)


def sizes(ready: Design) -> dict[str, int]:
    """Arm -> training rows, where the arms differ in nothing but how many rows of one set they have."""
    counts = {arm: len(set(one.ids)) for arm, one in ready.rows.items()}
    nested = sorted((set(one.ids) for one in ready.rows.values()), key=len)
    grows = all(small <= large for small, large in itertools.pairwise(nested))
    return counts if grows and len(set(counts.values())) == len(counts) >= 3 else {}


def missing(study: Study, failed: Mapping[str, Mapping[int, str]]) -> list[str]:
    """A note an arm that lacks runs."""
    return [
        f"{arm}: {len(own)} of {len(study.seeds)} runs failed (seed {', '.join(map(str, own))}): {next(iter(own.values())).splitlines()[0]}"
        for arm, own in failed.items()
        if own
    ]
