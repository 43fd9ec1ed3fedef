"""The stages that ask: the start model, the trivial baselines, and the tuned model, on every task and probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etude import journal, preparing, runs, scoring, templates
from etude.models import Sampling
from etude.models.local import Local
from etude.preparing import Data
from etude.recipe import Recipe
from etude.records import Conversation, Message
from etude.scoring import Task
from etude.screen import counting
from etude.working import Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def outputs_of(recipe: Recipe, arms: Sequence[str]) -> list[str]:
    """The files that hold the answers of these arms to every task and probe; `baselines` are each task's own."""
    named = [(task, arm) for task in recipe.tasks() for arm in arms if arm != "baselines"]
    named += [(task, arm) for task in recipe.tasks() for arm in preparing.baselines_of(recipe, task) if "baselines" in arms]
    probes = [f"predictions/probes.{arm}.jsonl" for arm in arms if arm != "baselines"]
    return [runs.predictions_file(task, arm) for task, arm in named] + probes


def start(work: Work, data: Data) -> dict[str, Any]:
    """The start model's answers to every task and probe."""
    return everything(work, data, work.student.answering(), "start")


def tuned(work: Work, data: Data, model: PreTrainedModel | None) -> dict[str, Any]:
    """The tuned model's answers to what the start model was asked. `model`: as training left it; None: loaded from `model/`."""
    found = model if model is not None else work.recipe.tune.method.load(work.student.loaded[0], work.folder / "model")
    return everything(work, data, work.student.answering(found), "tuned")


def everything(work: Work, data: Data, model: Local, arm: str) -> dict[str, Any]:
    """One model's answers to every task and probe."""
    near_ties = 0
    for task in work.recipe.tasks():
        near_ties += ask(work, model, task, arm, preparing.worded(work.recipe, task.task, preparing.held_out(data, task)))
    probe(work, model, arm)
    return {"near_ties": near_ties}


def baselines(work: Work, data: Data) -> dict[str, Any]:
    """The trivial baselines' answers to every task."""
    model = work.student.answering()
    for task in work.recipe.tasks():
        asked = preparing.worded(work.recipe, task.task, preparing.held_out(data, task))
        for baseline in preparing.baselines_of(work.recipe, task):
            answer_baseline(work, model, data, task, baseline, asked)
    return {}


def ask(work: Work, model: Local, task: Task, arm: str, asked: Sequence[Conversation]) -> int:
    """Journal one arm's answers to a task; returns its near ties."""
    with counting(work.watch, f"{task.task}: {arm}", len(asked)) as progress:
        rows = scoring.ask(model, asked, preparing.sampling_of(work.recipe, task), work.folder / runs.predictions_file(task, arm), progress)
    return sum(row["near_ties"] for row in rows)


def answer_baseline(work: Work, model: Local, data: Data, task: Task, baseline: str, asked: Sequence[Conversation]) -> None:
    """One trivial baseline's answers: majority class, few-shot start model, label-constrained start model."""
    path = work.folder / runs.predictions_file(task, baseline)
    train = data.parts[task.task].train
    template = preparing.template_of(work.recipe, task.task)
    if baseline == "few_shot":
        exemplars = templates.pick_exemplars(train, task.shots, work.recipe.seed, template)
        records = preparing.held_out(data, task)
        ask(work, model, task, baseline, preparing.worded(work.recipe, task.task, records, exemplars))
        return
    labels = [c.answer() for c in preparing.worded(work.recipe, task.task, train)]
    if baseline == "majority":
        journal.write_rows(path, scoring.majority(asked, labels))
        return
    choices = sorted(set(labels))
    with counting(work.watch, f"{task.task}: {baseline}", len(asked)) as progress:
        chosen = model.choose([c.question() for c in asked], choices, progress)
    rows = [scoring.answered(c, [choices[best]], ["stop"]) for c, (best, _) in zip(asked, chosen, strict=True)]
    journal.write_rows(path, rows)


def probe(work: Work, model: Local, arm: str) -> None:
    """Answers to the recipe's probes."""
    asked = [Conversation(journal.digest(["probe", i, text])[:16], (Message("user", text),)) for i, text in enumerate(work.recipe.probes)]
    with work.watch.bar(f"probes: {arm}", len(asked), "rows") as told:
        scoring.ask(model, asked, Sampling(max_new_tokens=160), work.folder / f"predictions/probes.{arm}.jsonl", lambda n: told(n, ""))
