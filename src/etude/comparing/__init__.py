"""`etude compare`: runs or files of predictions on the same items, and a verdict on each arm against the first.

Runs keep what they were asked and how, so that what is not comparable is refused; of files of other tools the items, references,
questions and numbers of answers are checked. Nothing is written.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from etude import comparison, grading, preparing
from etude.comparing import checks
from etude.comparing.naming import Arm, Place, arms_of
from etude.comparing.sheets import Given, Run, Sheet, of_file
from etude.comparison import Comparison, Interval
from etude.failures import CheckFailed, DataError, RecipeError, nearest
from etude.metrics import Metric, lower_is_better, needs

SCHEMA = 1
"""Version of what `--json` prints."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An arm's score: the mean of its runs', its interval, and each run's own."""

    value: float
    interval: Interval
    runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric: what the arms reach, and each arm against the baseline. Only the primary one is `planned`, the others explore."""

    name: str
    signature: str
    lower: bool
    scale: float
    planned: bool
    arms: Mapping[str, Reached]
    against: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Compared:
    """All arms on one task. `group`: the field that groups the items, "" for none; `forced`: why they are not comparable, where the user
    had them compared all the same; `notes`: what else a reader should know."""

    task: str
    baseline: str
    places: Mapping[str, tuple[str, ...]]
    items: int
    group: str
    metrics: tuple[Measured, ...]
    forced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to compare, and how; the options of the command."""

    baseline: str | None = None
    task: str | None = None
    primary: str | None = None
    """Of the runs' own metrics the one that was announced; by default the first."""
    metric: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    margin: float | None = None
    lower: bool = False
    force: bool = False


def compare(words: Sequence[str], wanted: Wanted | None = None, root: Path = Path("runs")) -> list[Compared]:
    """Compare the arms that `words` name (see `etude.comparing.naming`), one result a task that all have.

    Raises RecipeError for words and options that name nothing, DataError for answers that cannot be read, and CheckFailed, with all
    reasons, for arms that are not comparable, unless `force` is set.
    """
    return compare_places(arms_of(words, root), wanted)


def compare_places(arms: Sequence[Arm], wanted: Wanted | None = None) -> list[Compared]:
    """The same of arms whose places are known."""
    wanted = wanted or Wanted()
    if wanted.margin is not None and not 0 < wanted.margin < math.inf:
        raise RecipeError(f"--margin {wanted.margin:g}: the largest difference that does not matter is above 0")
    arms = leading(arms, wanted.baseline)
    opened = {place: Run(place) for arm in arms for place in arm.places if place.is_run}
    given = metric_of(wanted, opened)
    tasks = tasks_of(opened, wanted.task)
    reasons, hints = checks.not_seeds(arms, opened), checks.hints(arms, opened)
    files = {place: of_file(place, given) for arm in arms for place in arm.places if not place.is_run}
    sheets = {
        task: {arm.name: tuple(files[p] if p in files else opened[p].sheet(task) for p in arm.places) for arm in arms} for task in tasks
    }
    found = [on_task(task, own, wanted, given, reasons) for task, own in sheets.items()]
    return [replace(one, notes=(*hints, *one.notes)) for one in found]


def leading(arms: Sequence[Arm], baseline: str | None) -> Sequence[Arm]:
    """The arms with the baseline first."""
    if baseline is None:
        return arms
    names = [arm.name for arm in arms]
    if baseline not in names:
        raise RecipeError(f"--baseline {baseline}: there is no such arm{nearest(baseline, names)}")
    return tuple(sorted(arms, key=lambda arm: arm.name != baseline))


def metric_of(wanted: Wanted, opened: Mapping[Place, Run]) -> Metric | None:
    """The metric asked for; None for the runs' own, or for scores that stand in files."""
    if wanted.metric is not None:
        if wanted.lower:
            raise RecipeError("--lower is for scores that stand in files; a metric knows which of its numbers are better")
        return grading.metric_of(wanted.metric, wanted.settings)
    if wanted.settings:
        raise RecipeError("--set needs --metric NAME")
    if wanted.lower and opened:
        raise RecipeError("--lower is for scores that stand in files, not for runs")
    return None


def tasks_of(opened: Mapping[Place, Run], wanted: str | None) -> list[str]:
    """The tasks that all runs have, in the order of the first; [""] where only files are compared."""
    if not opened:
        if wanted is not None:
            raise RecipeError("--task is for runs; files hold one task each")
        return [""]
    first, *others = opened.values()
    shared = [name for name in first.tasks if all(name in run.tasks for run in others)]
    if wanted is not None:
        if wanted not in shared:
            raise RecipeError(f"--task {wanted}: not every run scores it{nearest(wanted, shared)}")
        return [wanted]
    if not shared:
        raise RecipeError(
            "no task is scored by every run: "
            + "; ".join(f"{run.place.text} has {', '.join(run.tasks) or 'none'}" for run in opened.values())
        )
    return shared


def on_task(task: str, sheets: checks.Sheets, wanted: Wanted, given: Metric | None, reasons: Sequence[str]) -> Compared:
    """The arms on one task. Raises CheckFailed where they are not comparable, DataError where they share no item."""
    every = [sheet for own in sheets.values() for sheet in own]
    metrics, unlike = metrics_of(every, given, wanted)
    if wanted.primary in metrics:
        metrics = {wanted.primary: metrics[wanted.primary], **metrics}
    ids = sorted(set.intersection(*(set(sheet.rows) for sheet in every)))
    key = wanted.group if wanted.group is not None else automatic_group(every)
    groups, ungrouped = groups_of(every, ids, key) if key and ids else (None, [])
    reasons = [*reasons, *checks.differences(sheets), *unlike, *ungrouped]
    refuse(task, reasons, wanted.force)
    if not ids:
        raise DataError(f"the arms have no item in common{f' in {task}' if task else ''}: nothing can be paired")
    first = next(iter(sheets))
    measured, others_of = list[Measured](), checks.other_references(sheets)
    for place, (name, metric) in enumerate(metrics.items()):
        # a metric that was asked for is measured as asked, whatever a run's own report says under its name
        signature = every[0].measured(name, metric, ids, "")[1] if given is not None else None
        stats, signature, others = statistics(sheets, name, metric, ids, signature)
        reasons += others
        found = measure(name, metric, signature, stats, groups, wanted.margin if place == 0 else None, planned=place == 0)
        measured.append(untested(found, others_of) if "token_logprobs" in needs(metric) else found)
    refuse(task, reasons, wanted.force)
    return Compared(
        task=task,
        baseline=first,
        places={arm: tuple(sheet.place.text for sheet in own) for arm, own in sheets.items()},
        items=len(ids),
        group=key if groups is not None and len(set(groups)) < len(ids) else "",
        metrics=tuple(explored(measured)),
        forced=tuple(reasons),
        notes=tuple(notes(sheets)),
    )


def refuse(task: str, reasons: Sequence[str], force: bool) -> None:
    """Raise CheckFailed where there are reasons, unless it is forced."""
    if reasons and not force:
        listed = "\n".join(f"  {reason}" for reason in reasons)
        raise CheckFailed(
            f"the arms are not comparable{f' on {task}' if task else ''}:\n{listed}\n--force compares them, and the verdict says so",
            {"reasons": list(reasons)},
        )


def metrics_of(every: Sequence[Sheet], given: Metric | None, wanted: Wanted) -> tuple[dict[str, Metric], list[str]]:
    """The metrics to compare in, the primary one first, and what speaks against them: settings or versions that differ."""
    first = every[0]
    if given is not None:
        labels = next((sheet.labels for sheet in every if sheet.labels), ())
        return {str(wanted.metric): preparing.with_labels(given, labels)}, []
    if any(not sheet.place.is_run for sheet in every):
        if all("score" in row.fields for sheet in every for row in sheet.rows.values()):
            numbers = [row.fields["score"] for sheet in every for row in sheet.rows.values() if is_number(row.fields["score"])]
            most = max((abs(float(one)) for one in numbers), default=1.0)
            scores: Any = Given(wanted.lower, scale=1.0 if most <= 1 else 100.0)
            return {"score": scores}, []
        raise RecipeError("files of predictions need --metric NAME (or a number under 'score' in every line)")
    reasons, found = [], {}
    for name, metric in first.metrics.items():
        if all(name in sheet.metrics for sheet in every):
            found[name] = metric
            signatures = {sheet.place.text: sheet.stored[name]["signature"] for sheet in every if name in sheet.stored}
            if any(sheet.metrics[name] != metric for sheet in every) or len(set(signatures.values())) > 1:
                shown = "; ".join(f"{place} has {text}" for place, text in signatures.items()) or "other settings"
                reasons.append(f"other ways to measure {name}: {shown}")
    if not found:
        raise RecipeError(f"{first.task}: the arms share no metric; choose one with --metric NAME")
    return found, reasons


def is_number(value: Any) -> bool:
    """Whether a cell is a finite number; the metric refuses others, with their line."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def statistics(
    sheets: checks.Sheets, name: str, metric: Metric, ids: Sequence[str], signature: str | None
) -> tuple[dict[str, np.ndarray], str, list[str]]:
    """Arm -> (seeds, items, k), all made in one way (None: the first sheet's), its signature, and why it is another way after all."""
    found, others = {}, []
    for arm, own in sheets.items():
        tables = []
        for sheet in own:
            table, made = sheet.measured(name, metric, ids, signature)
            signature = signature or made
            if made != signature:
                others.append(f"other ways to measure {name}: {signature}, and of {sheet.place.text} {made}")
            tables.append(table)
        found[arm] = np.stack(tables) if len({table.shape for table in tables}) == 1 else None
    widths = {stats.shape[1:] for stats in found.values() if stats is not None}
    if len(widths) != 1 or any(stats is None for stats in found.values()):
        raise DataError(f"{name}: the arms' statistics have different columns (other labels, say), and cannot be paired")
    return {arm: stats for arm, stats in found.items() if stats is not None}, signature or "", others


def measure(
    name: str,
    metric: Metric,
    signature: str,
    stats: Mapping[str, np.ndarray],
    groups: Sequence[str] | None,
    margin: float | None,
    *,
    planned: bool,
) -> Measured:
    """One metric over all arms: each one's score, and each against the first."""
    base, *others = stats
    reached = {}
    for arm, own in stats.items():
        each = tuple(float(metric.score(one.sum(axis=0))) for one in own)
        reached[arm] = Reached(float(np.mean(each)), comparison.interval(own, metric, groups=groups), each)
    rest = {arm: stats[arm] for arm in others}
    against = comparison.compare_arms(stats[base], rest, metric, groups=groups, margin=margin)
    return Measured(name, signature, lower_is_better(metric), metric.scale, planned, reached, against)


def untested(measured: Measured, arms: Collection[str]) -> Measured:
    """Numbers of log-probabilities of the references, which say nothing of arms with other references: shorter texts, or easier ones."""
    why = "it is measured on the references, and these are other texts"
    against = {
        arm: replace(one, why=why, p=1.0, adjusted=1.0, equivalent=None, verdict=f"cannot test: {why}") if arm in arms else one
        for arm, one in measured.against.items()
    }
    return replace(measured, against=against)


def explored(measured: Sequence[Measured]) -> list[Measured]:
    """The metrics behind the first one marked exploratory, their q over all of them and all arms."""
    found = comparison.exploratory({(one.name, arm): result for one in measured[1:] for arm, result in one.against.items()})
    return [*measured[:1], *(replace(one, against={arm: found[one.name, arm] for arm in one.against}) for one in measured[1:])]


def automatic_group(every: Sequence[Sheet]) -> str:
    """The field by which all runs kept rows together when they were split; "" for none."""
    fields = {sheet.group for sheet in every}
    return fields.pop() or "" if len(fields) == 1 else ""


def groups_of(every: Sequence[Sheet], ids: Sequence[str], key: str) -> tuple[list[str], list[str]]:
    """Each item's group by the first sheet that has the field, and which other sheets say otherwise."""
    failure: RecipeError | None = None
    groups: list[str] = []
    others = []
    for sheet in every:
        try:
            found = sheet.groups(key)
        except RecipeError as error:
            failure = failure or error
            continue
        own = [found[id] for id in ids]
        if groups and own != groups:
            others.append(f"other groups: {key} is not the same in {sheet.place.text}")
        groups = groups or own
    if not groups:
        raise failure or RecipeError(f"--group {key}: there is no such field")
    return groups, others


def notes(sheets: checks.Sheets) -> list[str]:
    """What else a reader should know."""
    found = []
    for arm, own in sheets.items():
        answers = [{id: (row.outputs, row.fields.get("score")) for id, row in sheet.rows.items()} for sheet in own]
        if any(sheet.place.whose not in ("", "tuned") for sheet in own):
            continue  # a start model's answers are the same in every run
        if (
            len(own) > 1
            and any(outputs or score is not None for outputs, score in answers[0].values())
            and all(one == answers[0] for one in answers[1:])
        ):
            found.append(f"the {len(own)} runs of {arm} give the same answers: their seeds made no difference, or they are copies")
    if any(not sheet.how for own in sheets.values() for sheet in own if not sheet.place.is_run):
        found.append("how the answers in files were decoded and asked for is not known here")
    return found
