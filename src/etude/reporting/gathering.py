"""A run folder -> Findings: every number is measured again from the stored answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etude import curating, journal, judging, preparing, runs, scoring
from etude.curation.diversity import Figures, figures
from etude.failures import DataError
from etude.metrics import METRICS, Metric, lower_is_better, needs
from etude.recipe import Recipe
from etude.records import Prediction
from etude.reporting.findings import (
    Clean,
    Contamination,
    Example,
    Findings,
    Measure,
    Mixed,
    Point,
    Probe,
    Source,
    Tokens,
    Touched,
    Tuning,
)
from etude.reporting.generated_gathering import gather_generated
from etude.reporting.measuring import Rows, groups_of, measure, number
from etude.scoring import Measured, Task


def gather(folder: Path) -> Findings:
    """Measure and compare what the run folder holds; writes scorecard.json.

    Raises DataError naming the stage that has not been done yet.
    """
    recipe = runs.recipe_of(folder)
    done = finished(folder, recipe)
    facts = {stage: record.facts for stage, record in done.items()}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    tasks: dict[str, tuple[Measure, ...]] = {}
    primary: dict[str, str] = {}
    examples: dict[str, tuple[Example, ...]] = {}
    scorecard: dict[str, Any] = {}
    looked = looked_for(folder)
    clean: dict[str, tuple[Clean, ...]] = {}
    beside: tuple[str, ...] = ()
    for task in recipe.tasks():
        name = task.task if task.split == "test" else f"{task.task} ({task.split})"
        arms = {arm: answers(folder, task, arm) for arm in ("start", "tuned", *preparing.baselines_of(recipe, task))}
        metrics = preparing.metrics_of(recipe, task)
        measured = measured_by(arms, metrics, task.task)
        called = scoring.names(metrics)
        alike = groups_of(folder, recipe, task, arms["start"])
        tasks[name] = tuple(measure(key, one, measured, recipe.seed, alike) for key, one in zip(called, metrics, strict=True))
        primary[name] = called[0] if called else ""
        if task.judge:
            found, said = judged(folder, task, recipe.seed)
            beside += said
            tasks[name] += found
            primary[name] = primary[name] or "".join(one.metric for one in found)
        examples[name] = side_by_side(arms, metrics[0] if metrics else None, measured, called[0] if called else "")
        scorecard[name] = card(arms["start"], measured)
        held_out = f"{task.task}.{task.split}"
        if touched := looked.get("evaluation", {}).get(held_out, {}).get("touched"):
            clean[held_out] = untouched(arms["start"], metrics, measured, frozenset(touched))
    journal.write_json(folder / "scorecard.json", {"schema": 1, "tasks": scorecard})
    return Findings(
        name=recipe.name,
        model=f"{manifest['model']['name']} ({manifest['model']['description']})",
        created=manifest.get("ended") or manifest["began"],
        tasks=tasks,
        primary=primary,
        examples=examples,
        probes=probes(folder),
        forgetting=forgotten(folder, recipe.seed),
        curve=curve(folder),
        sources=tuple(Source(**row, licence=manifest["licences"].get(row["name"], "")) for row in facts["curated"]["sources"]),
        tokens=tokens(facts["encoded"]["tokens"]),
        contamination=contamination(looked, clean) if looked else None,
        figures=figured(folder, recipe),
        generated=gather_generated(folder, recipe, facts.get("generated", {})),
        levels={name: one for name, one in facts["encoded"].get("levels", {}).items() if name not in recipe.generate},
        mixture=mixture(facts["encoded"]["mixture"]["realised"]),
        tuning=tuning(recipe, facts["tune"]["trained"]),
        seconds={stage: record.seconds for stage, record in done.items()},
        reused=tuple(stage for stage, record in done.items() if record.reused_from),
        recipe=(folder / "recipe.resolved.yaml").read_text(encoding="utf-8"),
        manifest=manifest,
        notes=(*notes(recipe, facts), *beside),
    )


def looked_for(folder: Path) -> dict[str, Any]:
    """What the contamination check found; nothing where there was none."""
    steps = json.loads((folder / "curated" / "steps.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = next((step["facts"] for step in steps if step["name"] == "contamination"), {})
    return found


def finished(folder: Path, recipe: Recipe) -> dict[str, runs.Done]:
    """The record of every stage of the recipe; raises DataError naming the first that has not been done."""
    done = {}
    for stage in runs.stages_of(recipe):
        record = runs.record(folder, stage)
        if record is None:
            raise DataError(f"{folder}: stage {stage!r} has not been done; `etude run` goes on from there")
        done[stage] = record
    return done


def judged(folder: Path, task: Task, seed: int) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """The measure of a judge's verdicts, where there is one, and what is to be said of them."""
    verdict, said = judging.beside(folder / "judged", task)
    if not verdict:
        return (), said
    key, metric, both = verdict
    return (measure(key, metric, both, seed),), said


def measured_by(arms: Mapping[str, Rows], metrics: Sequence[Metric], task: str) -> dict[str, dict[str, Measured]]:
    """What each arm reaches in each metric; metrics of log-probabilities are left out for trivial baselines, which have none."""
    return {
        arm: scoring.measure(rows, [m for m in metrics if arm in ("start", "tuned", "few_shot") or not needs(m)], task)
        for arm, rows in arms.items()
    }


def scores(folder: Path, recipe: Recipe, arms: Sequence[str]) -> dict[str, Any]:
    """What the arms reach, without a comparison: task -> arm -> `answers` (how many) and `metrics`: name -> `value`, `interval`, `items`,
    `signature`. Metrics of log-probabilities, which a trivial baseline has none of, are left out there."""
    found: dict[str, Any] = {}
    for task in recipe.tasks():
        metrics = preparing.metrics_of(recipe, task)
        name = task.task if task.split == "test" else f"{task.task} ({task.split})"
        found[name] = {}
        for arm in (*arms, *preparing.baselines_of(recipe, task)):
            rows = answers(folder, task, arm)
            known = [metric for metric in metrics if arm in (*arms, "few_shot") or not needs(metric)]
            measured = scoring.measure(rows, known, task.task)
            groups = groups_of(folder, recipe, task, rows)
            numbers = {key: number(one, metric, recipe.seed, groups) for (key, one), metric in zip(measured.items(), known, strict=True)}
            found[name][arm] = {"answers": len(rows), "metrics": numbers}
    return found


def answers(folder: Path, task: Task, arm: str) -> Rows:
    """One arm's answers to a task, in the order of the test rows."""
    return sorted(journal.read(folder / runs.predictions_file(task, arm)), key=lambda row: str(row["id"]))


def forgotten(folder: Path, seed: int) -> tuple[Measure, ...]:
    """What tuning cost on the fixed probe: bits a token on prose and code, and the share of the small tasks that come right."""
    if not (folder / "forgetting" / "tuned.jsonl").is_file():
        return ()
    arms = {arm: list(journal.read(folder / "forgetting" / f"{arm}.jsonl")) for arm in ("start", "tuned")}
    found = []
    for kind, name in FORGETTING.items():
        rows = {arm: [row for row in lines if row["kind"] == kind] for arm, lines in arms.items()}
        if not rows["start"] or [row["id"] for row in rows["start"]] != [row["id"] for row in rows["tuned"]]:
            continue  # the packages were changed between the two readings: other texts
        metric = METRICS["accuracy" if kind == "tasks" else "bits_per_token"]()
        stats = {
            arm: np.array([[row["right"], 1.0] for row in lines]) if kind == "tasks" else bits(metric, lines) for arm, lines in rows.items()
        }
        signature = f"{name}|texts:{len(rows['start'])}"
        measured = {arm: {name: Measured(metric.score(values.sum(axis=0)), signature, values)} for arm, values in stats.items()}
        found.append(measure(name, metric, measured, seed))
    return tuple(found)


FORGETTING = {"prose": "bits a token, prose", "code": "bits a token, code", "tasks": "small tasks"}
"""Kind of probe -> how it is called."""


def bits(metric: Metric, rows: Rows) -> np.ndarray:
    """Statistics of bits a token for rows with log-probabilities."""
    return metric.stats([Prediction(row["id"], ("",), ("",), fields={"token_logprobs": row["token_logprobs"]}) for row in rows])


def untouched(
    rows: Rows, metrics: Sequence[Metric], measured: Mapping[str, Mapping[str, Measured]], touched: frozenset[str]
) -> tuple[Clean, ...]:
    """Both models on the rows that no training row touches."""
    places = [i for i, row in enumerate(rows) if row["id"] not in touched]
    found = []
    for name, metric in zip(scoring.names(metrics), metrics, strict=True) if places else ():
        base, tuned = (float(metric.score(measured[arm][name].stats[places].sum(axis=0))) for arm in ("start", "tuned"))
        found.append(Clean(name, base, tuned, metric.scale))
    return tuple(found)


def contamination(looked: Mapping[str, Any], clean: Mapping[str, tuple[Clean, ...]]) -> Contamination:
    """What the contamination check found, with the scores on the clean subsets."""
    sets = looked["evaluation"].items()
    touched = tuple(Touched(name, one["rows"], len(one["touched"]), clean.get(name, ())) for name, one in sets)
    return Contamination(looked["rows"], looked["contaminated"], looked["dropped"], touched)


def figured(folder: Path, recipe: Recipe) -> Figures | None:
    """Lengths and verbs of the training rows (of at most 5,000); None where nothing is trained."""
    data = preparing.stored(folder / "curated", recipe)
    rows = [(name, record) for name, parts in data.parts.items() for record in parts.train]
    stride = max(1, len(rows) // FIGURED)
    some = [row for name, record in rows[::stride] for row in curating.rows_of(recipe, name, [record])]
    return figures(some, looked=0, with_topics=False) if some else None


FIGURED = 5000
"""Training rows whose lengths and verbs the report shows, spread over all of them."""


def mixture(rows: Sequence[Mapping[str, Any]]) -> tuple[Mixed, ...]:
    """The realised mixture; nothing for a single source drawn as it is."""
    keys = ("source", "rows", "asked", "drawn", "distinct", "repeats", "tokens", "trained_tokens", "trained_tokens_share")
    return tuple(Mixed(*(row[key] for key in keys)) for row in rows)


def side_by_side(
    arms: Mapping[str, Rows], metric: Metric | None, measured: Mapping[str, Mapping[str, Measured]], name: str
) -> tuple[Example, ...]:
    """Every scored row, answered by both models, with its own score in the primary metric (None without one)."""
    nothing: list[float | None] = [None] * len(arms["start"])
    scores = {arm: each(metric, measured[arm][name].stats) if metric else nothing for arm in ("start", "tuned")}
    return tuple(
        Example(
            id=start["id"],
            question=start["question"],
            reference="\n".join(start["references"]),
            base="\n".join(start["outputs"]),
            tuned="\n".join(tuned["outputs"]),
            base_score=scores["start"][i],
            tuned_score=scores["tuned"][i],
            lower=metric is not None and lower_is_better(metric),
            base_cut="length" in start.get("finish", ()),
            tuned_cut="length" in tuned.get("finish", ()),
        )
        for i, (start, tuned) in enumerate(zip(arms["start"], arms["tuned"], strict=True))
    )


def each(metric: Metric, stats: np.ndarray) -> list[float | None]:
    """Each item's own score."""
    return [float(metric.score(row)) for row in stats]


def card(rows: Rows, measured: Mapping[str, Mapping[str, Measured]]) -> dict[str, Any]:
    """Per-item statistics, numbers and signatures of every arm."""
    return {
        "ids": [row["id"] for row in rows],
        "arms": {
            arm: {name: {"value": m.value, "signature": m.signature, "stats": m.stats.tolist()} for name, m in values.items()}
            for arm, values in measured.items()
        },
    }


def probes(folder: Path) -> tuple[Probe, ...]:
    """Questions without references, answered by both models."""
    paths = [folder / "predictions" / f"probes.{arm}.jsonl" for arm in ("start", "tuned")]
    if not all(path.is_file() for path in paths):
        return ()
    start, tuned = ({row["id"]: row for row in journal.read(path)} for path in paths)
    return tuple(Probe(row["question"], row["outputs"][0], tuned[id]["outputs"][0]) for id, row in start.items() if id in tuned)


def curve(folder: Path) -> tuple[Point, ...]:
    """The training log, validation losses joined to their steps."""
    points: dict[int, dict[str, Any]] = {}
    for row in journal.read(folder / "metrics.jsonl"):
        points.setdefault(row["step"], {}).update({k: v for k, v in row.items() if k != "seconds" or "loss" in row})
    return tuple(
        Point(
            step=step,
            epoch=row.get("epoch", 0.0),
            tokens=row.get("tokens", 0),
            seconds=row.get("seconds", 0.0),
            loss=row.get("loss"),
            validation_loss=row.get("validation_loss"),
            learning_rate=row.get("learning_rate"),
        )
        for step, row in sorted(points.items())
    )


def tokens(facts: Mapping[str, Any]) -> Tokens:
    """The training rows as tokens."""
    lengths = tuple((low, high, count) for low, high, count in facts["lengths"])
    return Tokens(facts["rows"], facts["tokens"], facts["trained"], facts["truncated"], lengths)


def tuning(recipe: Recipe, trained: Mapping[str, Any]) -> Tuning:
    """How the weights were tuned, in numbers."""
    method = recipe.dump()["tune"]["method"]
    usual = type(recipe.tune.method)().model_dump(mode="json")  # type: ignore[attr-defined]
    said = {
        key: value for key, value in method.items() if key in ("r", "alpha", "target_modules", "tokens") or value != usual.get(key, value)
    }
    rate = recipe.tune.learning_rate or recipe.tune.method.default_learning_rate
    return Tuning(
        method=", ".join(
            [method["type"], *(f"{k} {v if not isinstance(v, list) else ' '.join(v)}" for k, v in said.items() if k != "type")]
        ),
        trainable=trained["trainable"],
        total=trained["parameters"],
        steps=trained["steps"],
        best_step=trained["best_step"],
        seconds=trained["seconds"],
        tokens_per_second=trained["tokens"] / trained["seconds"] if trained["seconds"] else None,
        details={
            **ranks(trained),
            "learning rate": rate,
            "epochs": recipe.tune.epochs,
            "tokens seen": trained["tokens"],
            "packed": str(trained["packed"]),
        },
    )


def ranks(trained: Mapping[str, Any]) -> dict[str, str]:
    """Final ranks of an adapter that allots them, the commonest first."""
    found = Counter((trained.get("method") or {}).get("ranks", {}).values())
    return {"ranks": ", ".join(f"{count} x {rank}" for rank, count in found.most_common())} if found else {}


def notes(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What limits the claims."""
    found = ["One training seed: the verdicts speak of these two checkpoints, not of the method."]
    if any(type(source).__name__ == "Stdlib" for source in recipe.sources.values()):
        found.append("Python's standard library was probably in the start model's pretraining data, so both scores may flatter.")
    near = facts["start"].get("near_ties", 0) + facts["tuned"].get("near_ties", 0)
    if near:
        found.append(
            f"{near} greedy choices were near ties (two logits within 1e-4), where another batch size might choose the other token."
        )
    dropped = facts["encoded"]["tokens"].get("dropped", 0)
    if dropped:
        found.append(f"{dropped} training rows did not fit in {recipe.tune.max_tokens} tokens and were left out.")
    return tuple(found)


def best(examples: Sequence[Example], count: int) -> tuple[Example, ...]:
    """A few rows to show, spread over the test set, not picked by score."""
    stride = max(1, len(examples) // max(1, count))
    return tuple(examples[::stride][:count])
