"""The answers of one run of an arm to one task, and all that must be the same in every arm."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from etude import grading, journal, preparing, runs, scoring
from etude.comparing.naming import TUNED, Place
from etude.failures import DataError, RecipeError, nearest
from etude.metrics import Metric, needs, reads_outputs, reads_references
from etude.metrics.items import RowError
from etude.recipe import Recipe
from etude.records import Prediction
from etude.scoring import Task

ASKED = ("question", "prompt", "before", "messages")
"""The fields of a prediction that hold what was asked."""


@dataclass(frozen=True)
class Given:
    """Scores that stand in the files, under the key `score`: their mean. A Metric over rows (value, 1)."""

    lower_is_better: bool = False
    scale: float = 1.0
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the score and 1. Raises RowError for a row without a number."""
        table = np.ones((len(predictions), 2))
        for row, prediction in zip(table, predictions, strict=True):
            value = prediction.fields.get("score")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise RowError(prediction.id, f"'score' must be a number, not {value!r:.60}")
            if isinstance(value, int) and abs(value) > sys.float_info.max:
                raise RowError(prediction.id, f"'score' is a number of {len(str(value))} digits")
            row[0] = value
        return table

    def score(self, totals: np.ndarray) -> float:
        """The mean."""
        return float(totals[0] / totals[1]) if totals[1] else math.nan

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """`score|given`: nobody but its maker knows how."""
        return "score|given"


@dataclass(frozen=True)
class Sheet:
    """One run's answers to one task. `rows`: by id, in their order. `how`: what decides answers besides the model, named in words
    (decoding, worked examples, ...). `metrics`: the run's own, by name; `stored`: their statistics, as the report wrote them."""

    place: Place
    task: str
    path: Path
    rows: Mapping[str, Prediction]
    lines: Mapping[str, int]
    how: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    stored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    part: Path | None = None
    group: str | None = None

    def measured(self, name: str, metric: Metric, ids: Sequence[str], signature: str | None = None) -> tuple[np.ndarray, str]:
        """The statistics of these items, in their order, and the signature: the stored ones, where they are of all these items and have
        the signature asked for (None: any), else made anew."""
        kept = self.stored.get(name)
        if kept and len(ids) == len(kept["ids"]) and signature in (None, kept["signature"]):
            places = {id: place for place, id in enumerate(kept["ids"])}
            if all(id in places for id in ids):
                return np.array(kept["stats"], dtype=np.float64)[[places[id] for id in ids]], kept["signature"]
        rows = [self.rows[id] for id in ids]
        try:
            return metric.stats(rows), metric.signature(rows)
        except RowError as error:
            raise DataError(f"{self.path}:{self.lines.get(error.id, 0)}: {error.what} (metric {name}, row {error.id})") from error
        except DataError as error:
            raise DataError(f"{self.path}: {error} (metric {name})") from error

    def questions(self) -> dict[str, dict[str, Any]]:
        """What each item asks, and what is said before, where the rows say so."""
        found = {id: {key: row.fields[key] for key in ASKED if row.fields.get(key)} for id, row in self.rows.items()}
        known: dict[str, Any] = {"before": []} if self.how else {}  # of a run that asked, nothing said before is known to be nothing
        return {id: {**known, **asked} for id, asked in found.items() if asked}

    def groups(self, key: str) -> dict[str, str]:
        """Each item's value of a field: of its line, or of the run's row. Raises RecipeError where an item has none."""
        found = {id: row.fields for id, row in self.rows.items()}
        if any(key not in fields for fields in found.values()) and self.part and self.part.is_file():
            found = {row["id"]: row["fields"] for row in journal.read(self.part) if row["id"] in self.rows}
        lacking = next((id for id in self.rows if found.get(id, {}).get(key) is None), None)
        if lacking is not None:
            known = {name for name, value in found.get(lacking, {}).items() if isinstance(value, str | int)}
            raise RecipeError(f"--group {key}: row {lacking} of {self.place.text} has no such field{nearest(key, known)}")
        return {id: str(found[id][key]) for id in self.rows}


def of_file(place: Place, metric: Metric | None) -> Sheet:
    """A file of predictions; what every row must hold depends on the metric. Raises DataError as `grading.read` does."""
    rows, lines = grading.read(place.path, metric is not None and reads_outputs(metric), metric is not None and reads_references(metric))
    return Sheet(place, "", place.path, {row.id: row for row in rows}, lines)


class Run:
    """A run folder, read as far as it is asked for."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe; raises RecipeError where it cannot be read."""
        return runs.recipe_of(self.place.path)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The scored tasks by the name that reports give them."""
        tasks = self.recipe.tasks()
        return {task.task if task.split == "test" else f"{task.task} ({task.split})": task for task in tasks}

    @cached_property
    def scorecard(self) -> dict[str, Any]:
        """What the report measured, by task; nothing where there is no report yet."""
        path = self.place.path / "scorecard.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["tasks"] if path.is_file() else {}
        return found

    def sheet(self, name: str) -> Sheet:
        """The answers to a task. Raises DataError where the run has none yet, RecipeError for an arm it does not have."""
        task, folder, whose = self.tasks[name], self.place.path, self.place.whose
        path = folder / runs.predictions_file(task, whose)
        known = ["start", TUNED, *preparing.baselines_of(self.recipe, task)]
        if whose not in known:
            raise RecipeError(f"{self.place.text}: the run has no answers of {whose!r} to {name}{nearest(whose, known)}")
        stage = whose if whose in ("start", TUNED) else "baselines"
        if not path.is_file() or runs.record(folder, stage) is None:
            other = f"; its start model's are {folder}:start" if stage == TUNED and runs.record(folder, "start") else ""
            raise DataError(f"{folder} has no finished {whose} answers to {name} yet; `etude run` goes on from there{other}")
        rows, lines = grading.read(path, outputs=False, references=False)
        metrics = preparing.metrics_of(self.recipe, task)
        template = preparing.template_of(self.recipe, task.task)
        card = self.scorecard.get(name, {})
        kept = {key: {**one, "ids": card["ids"]} for key, one in card.get("arms", {}).get(whose, {}).items()}
        return Sheet(
            place=self.place,
            task=name,
            path=path,
            rows={row.id: row for row in rows},
            lines=lines,
            how=self.how(task),
            metrics={
                key: metric
                for key, metric in zip(scoring.names(metrics), metrics, strict=True)
                if whose in ("start", TUNED, "few_shot") or not needs(metric)
            },
            stored=kept,
            labels=tuple(template.labels) if template else (),
            part=folder / "curated" / f"{task.split}.jsonl",
            group=self.recipe.split.group,
        )

    def how(self, task: Task) -> dict[str, str]:
        """What decides a task's answers besides the model, in words."""
        if self.place.whose in ("majority", "tfidf", "copy", "lead"):
            return {}  # nothing was asked
        sampling = preparing.sampling_of(self.recipe, task).model_dump(mode="json", exclude={"seed"})
        shots = task.shots if self.place.whose == "few_shot" else task.few_shot
        return {
            "decoding": ", ".join(f"{key} {value}" for key, value in sampling.items()),
            **self.form(),
            "worked examples in the prompt": str(shots),
            "reasoning asked for": {None: "as worded", True: "yes", False: "no"}[task.cot],
        }

    def form(self) -> dict[str, str]:
        """The format that prompts were written in, `auto` by what it came to; nothing where the run did not get so far."""
        encoded, settings = runs.record(self.place.path, "encoded"), self.recipe.dump()["format"]
        if encoded is None or "format" not in encoded.facts:
            return {}
        said = [f"{key} {value}" for key, value in settings.items() if key != "type" and value not in (None, "", [], {})]
        return {"format of the prompt": ", ".join([str(encoded.facts["format"]), *said])}


def seed_differences(first: Run, other: Run) -> list[str]:
    """The keys in which two recipes differ, but for their names, seeds and trackers: none in runs of one arm."""
    left, right = (flat({**run.recipe.dump(), "name": "", "seed": 0}) for run in (first, other))
    free = ("tune.trackers", "tune.seed")
    return sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key) and not key.startswith(free))


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    if isinstance(value, Mapping) and value:
        return {key: one for name, inner in value.items() for key, one in flat(inner, f"{path}.{name}" if path else str(name)).items()}
    return {path: value}
