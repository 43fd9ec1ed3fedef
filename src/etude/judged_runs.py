"""The judged stage: the recipe's judges over the tuned model's answers and the start model's, once both are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import digests, journal, judging, preparing, runs
from etude.failures import CheckFailed, DataError, RecipeError, nearest
from etude.models import LLM, weights
from etude.models.opening import LocalModel, Opened
from etude.recipe import Recipe
from etude.scoring import Judge, Task
from etude.screen import counting
from etude.working import Work

ARMS = ("tuned", "start")
"""Whose answers are judged: the first's win rate against the second's is told."""
START = "start"
"""The judge's name that means the recipe's own start model."""


def judges(recipe: Recipe) -> list[tuple[Task, Judge]]:
    """The tasks that a model judges."""
    return [(task, task.judge) for task in recipe.tasks() if task.judge is not None]


def check(recipe: Recipe) -> None:
    """Raise RecipeError, before any work, for a judge that is no LLM of the recipe, or cannot be asked as the recipe says."""
    for task, judge in judges(recipe):
        if judge.llm not in recipe.llms and judge.llm != START:
            known = [*recipe.llms, START]
            raise RecipeError(f"score: {task.task!r}: judge.llm: the recipe has no LLM named {judge.llm!r}{nearest(judge.llm, known)}")


def stage(work: Work, tuned: str) -> None:
    """The judged stage, where a task wants it. `tuned`: the digest of the tuned model's answers."""
    if judges(work.recipe):
        key = digests.judged(work.recipe, work.student.weights, tuned)
        work.stage("judged", key, ["judged"], lambda: judged(work))


def refuse(recipe: Recipe, folder: Path) -> None:
    """Raise CheckFailed where a disqualified judge was all that a task is measured by: the run has no verdict on it."""
    for task, _ in judges(recipe):
        number, said = judging.beside(folder / "judged", task)
        if number is None and not preparing.metrics_of(recipe, task):
            raise CheckFailed(said[0])


def judged(work: Work) -> dict[str, Any]:
    """Judge every task that wants it: judged/<task>.json and judged/<task>.verdicts.jsonl, replies in asked/. Returns whether each judge
    stands. A disqualified one is told and gives no score; where nothing else is measured, the report has no verdict to give."""
    told: dict[str, Any] = {}
    with Opened(work.recipe.llms, work.folder / "llms") as llms:
        for task, settings in judges(work.recipe):
            own = settings.llm not in work.recipe.llms
            model: LLM = work.student.answering() if own else llms(settings.llm)
            found = one(work, task, settings, model)
            judging.save(found, work.folder / "judged", judging.stem(task))
            if found.disqualified:
                work.watch.say(f"  {task.task}: the judge {settings.llm!r} is disqualified: {'; '.join(found.disqualified)}")
            for text in found.warnings:
                work.watch.say(f"  {task.task}: {text}")
            told[judging.stem(task)] = {"disqualified": list(found.disqualified), "warnings": list(found.warnings), **found.facts}
        return {"judges": told, "llms": llms.facts()}


def one(work: Work, task: Task, settings: Judge, model: LLM) -> judging.Judgement:
    """One task's answers before its judge."""
    arms = {arm: answers(work.folder, task, arm) for arm in ARMS}
    items = judging.items_of(arms, settings)
    identity = digests.answering_as(work.recipe, settings.llm, work.student.weights)
    known = (work.recipe.model, work.student.weights.digest)
    judge = known_as(work.recipe.llms[settings.llm]) if settings.llm in work.recipe.llms else known
    warnings = judging.own_taste(judge, dict.fromkeys(ARMS, known))
    with (
        counting(work.watch, f"{task.task}: judge {settings.llm}", judging.questions(items, settings), "questions") as progress,
        judging.Asking(
            model,
            identity,
            work.folder / "asked" / f"judge.{judging.stem(task)}.jsonl",
            how=settings.reply,
            attempts=settings.attempts,
            sampling=settings.sampling,
            told=progress,
        ) as ask,
    ):
        return judging.judge(items, settings, ask, ARMS, warnings)


def answers(folder: Path, task: Task, arm: str) -> Sequence[Mapping[str, Any]]:
    """One arm's answers, in the order of their ids."""
    path = folder / runs.predictions_file(task, arm)
    if not path.is_file():
        raise DataError(f"{folder}: there are no {arm} answers to {task.task!r} to judge; `etude run` makes them")
    return sorted(journal.read(path), key=lambda row: str(row["id"]))


def known_as(settings: object) -> tuple[str, ...]:
    """What a judge's model is known by: its name, the name without an owner, and the digest of weights on this machine."""
    name = str(getattr(settings, "model", ""))
    if not isinstance(settings, LocalModel):  # a server's model has no weights here
        return (name,)
    return (name, weights.locate(name).digest)
