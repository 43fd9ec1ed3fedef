"""The stages that ask: the start model, the trivial baselines, and the tuned model, on every task and probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude import forgetting, journal, preparing, runs, scoring, steps
from etude.baselines import TRIVIAL
from etude.failures import RecipeError, nearest
from etude.formats.documents import with_documents
from etude.metrics import Metric, needs
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
    probes += [f"forgetting/{arm}.jsonl" for arm in arms if arm != "baselines" and recipe.forgetting]
    return [runs.predictions_file(task, arm) for task, arm in named] + probes


def start(work: Work, data: Data) -> dict[str, Any]:
    """The start model's answers to every task and probe."""
    return everything(work, data, work.student.answering(), "start")


def tuned(work: Work, data: Data, model: PreTrainedModel | None) -> dict[str, Any]:
    """The tuned model's answers to what the start model was asked. `model`: as training left it; None: loaded from `model/`."""
    found = model if model is not None else work.recipe.tune.method.load(work.student.loaded[0], work.folder / "model")
    return everything(work, data, work.student.answering(found), "tuned")


def everything(work: Work, data: Data, model: Local, arm: str) -> dict[str, Any]:
    """One model's answers to every task and probe. Raises NoSandbox before anything is asked where a metric would run programs and
    this machine has no jail for them."""
    for task in work.recipe.tasks():
        for metric in preparing.metrics_of(work.recipe, task):
            if hasattr(metric, "rung"):
                metric.rung()
    near_ties = 0
    for task in work.recipe.tasks():
        near_ties += ask(work, model, data, task, arm, preparing.asked(work.recipe, data, task))
    probe(work, model, arm)
    if work.recipe.forgetting:
        forget(work, model, arm)
    return {"near_ties": near_ties}


def forget(work: Work, model: Local, arm: str) -> None:
    """One model's bits a token on prose and code, and its answers to the small tasks, in forgetting/<arm>.jsonl. A model of source
    and target reads no plain text, and only answers."""
    texts = {} if model.paired else {kind: short_enough(work, model, read()) for kind, read in forgetting.KINDS.items()}
    total = sum(map(len, texts.values())) + len(forgetting.tasks())
    with counting(work.watch, f"forgetting: {arm}", total, "texts") as progress:
        reader = Local(model.model, model.tokenizer, with_documents(model.form, model.tokenizer)) if texts else model
        rows = [{"kind": kind, **row} for kind, given in texts.items() for row in forgetting.read(reader, given, progress)]
        rows += [{"kind": "tasks", **row} for row in forgetting.answer(model, progress)]
    journal.write_rows(work.folder / "forgetting" / f"{arm}.jsonl", rows)


def baselines(work: Work, data: Data) -> dict[str, Any]:
    """The trivial baselines' answers to every task."""
    model = work.student.answering()
    for task in work.recipe.tasks():
        asked = preparing.asked(work.recipe, data, task)
        for baseline in preparing.baselines_of(work.recipe, task):
            answer_baseline(work, model, data, task, baseline, asked)
    return {}


def short_enough(work: Work, model: Local, texts: Sequence[str]) -> list[str]:
    """The texts that fit the model's context, with two tokens to spare for its beginning and end."""
    most = model.context()
    return [text for text in texts if most is None or work.student.count(text) + 2 <= most]


def evaluator(work: Work, data: Data) -> Callable[[PreTrainedModel], Mapping[str, float]] | None:
    """What training asks every so often: the metrics of each task on the first validation rows, as `task.metric`; None where the
    recipe wants none. Raises RecipeError where no source of a task has validation rows."""
    tune = work.recipe.tune
    if tune.metrics_every == "never" and tune.best_by == steps.LOSS:
        return None
    held = [replaced for task in work.recipe.tasks() if data.parts[(replaced := on_validation(task, tune.metrics_rows)).task].validation]
    if not held:
        raise RecipeError("tune: metrics are measured on validation rows, and there are none; set split.validation")
    known = [f"{task.task}.{name}" for task in held for name in scoring.names(of_answers(work, task))]
    if tune.best_by not in (steps.LOSS, *known):
        raise RecipeError(f"tune.best_by: {tune.best_by!r} is not measured{nearest(tune.best_by, [steps.LOSS, *known])}")
    asked = [(task, preparing.asked(work.recipe, data, task)) for task in held]

    def evaluate(model: PreTrainedModel) -> Mapping[str, float]:
        local = work.student.answering(model)
        found: dict[str, float] = {}
        for task, questions in asked:
            sampling = preparing.sampling_of(work.recipe, task)
            answers = local.complete([question.question() for question in questions], sampling)
            rows = [scoring.answered(q, [a.text for a in drawn]) for q, drawn in zip(questions, answers, strict=True)]
            metrics = of_answers(work, task)
            found |= {f"{task.task}.{name}": one.value for name, one in scoring.measure(rows, metrics, task.task).items()}
        return found

    return evaluate


def of_answers(work: Work, task: Task) -> list[Metric]:
    """The task's metrics that need answers and nothing else: no log-probabilities are asked while a model trains."""
    return [metric for metric in preparing.metrics_of(work.recipe, task) if not needs(metric)]


def on_validation(task: Task, rows: int) -> Task:
    """The same task on some validation rows."""
    return task.model_copy(update={"split": "validation", "limit": min(rows, task.limit or rows)})


def ask(work: Work, model: Local, data: Data, task: Task, arm: str, asked: Sequence[Conversation]) -> int:
    """Journal one arm's answers to a task; returns its near ties."""
    labels = preparing.labels_of(work.recipe, data, task) if "label_logprobs" in preparing.needed(work.recipe, task) else ()
    with counting(work.watch, f"{task.task}: {arm}", len(asked)) as progress:
        path, sampling = work.folder / runs.predictions_file(task, arm), preparing.sampling_of(work.recipe, task)
        needed = preparing.needed(work.recipe, task)
        rows = scoring.ask(model, asked, sampling, path, progress, needed=needed, labels=labels)
    return sum(row["near_ties"] for row in rows)


def answer_baseline(work: Work, model: Local, data: Data, task: Task, baseline: str, asked: Sequence[Conversation]) -> None:
    """One baseline's answers: a trivial one, the few-shot start model, the label-constrained start model."""
    path = work.folder / runs.predictions_file(task, baseline)
    if baseline == "few_shot":
        ask(work, model, data, task, baseline, preparing.asked(work.recipe, data, task, max(task.shots, task.few_shot)))
        return
    trained = preparing.worded(work.recipe, task.task, data.parts[task.task].train)
    if baseline in TRIVIAL:
        answers = TRIVIAL[baseline](asked, trained)
    else:
        choices = sorted({c.answer() for c in trained})
        with counting(work.watch, f"{task.task}: {baseline}", len(asked)) as progress:
            answers = [choices[best] for best, _ in model.choose([c.question() for c in asked], choices, progress)]
    journal.write_rows(path, [scoring.answered(c, [answer], ["stop"]) for c, answer in zip(asked, answers, strict=True)])


def probe(work: Work, model: Local, arm: str) -> None:
    """Answers to the recipe's probes."""
    asked = [Conversation(journal.digest(["probe", i, text])[:16], (Message("user", text),)) for i, text in enumerate(work.recipe.probes)]
    with work.watch.bar(f"probes: {arm}", len(asked), "rows") as told:
        scoring.ask(model, asked, Sampling(max_new_tokens=160), work.folder / f"predictions/probes.{arm}.jsonl", lambda n: told(n, ""))
