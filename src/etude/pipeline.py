"""The stages of a run, in order; what is done is found by digest, here or in another run, and reused."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import encoded, formats, journal, manifest, preparing, previewing, reporting, runs, scoring, steps, templates, training
from etude.encoding import Encoder
from etude.failures import CheckFailed, DataError
from etude.models import Sampling, weights
from etude.models.local import Local
from etude.preparing import Data
from etude.recipe import Recipe
from etude.records import Conversation, Message
from etude.reporting.findings import Findings
from etude.reporting.gathering import gather
from etude.scoring import Task
from etude.screen import Silent, Watch
from etude.training import Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VERSION = {"data": 1, "encoded": 1, "start": 1, "tune": 2, "tuned": 1, "report": 1}
"""Raised for a stage when its code changes its output, so that older output is not reused."""


@dataclass
class Student:
    """The start model: tokenizer, format and weights, each loaded when first needed."""

    weights: weights.Weights
    recipe: Recipe

    @functools.cached_property
    def loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """Model and tokenizer from disk."""
        return weights.load(self.weights.folder)

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, which most work needs without the weights."""
        return vars(self)["loaded"][1] if "loaded" in vars(self) else weights.load_tokenizer(self.weights.folder)

    @functools.cached_property
    def form(self) -> formats.ChatFormat:
        """The recipe's format for this tokenizer."""
        return self.recipe.format.bind(self.tokenizer)

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Segments to ids for this tokenizer."""
        return Encoder.of(self.tokenizer)

    def answering(self, model: PreTrainedModel | None = None) -> Local:
        """The model (the start model by default) as an LLM."""
        return Local(model if model is not None else self.loaded[0], self.tokenizer, self.form)


@dataclass(frozen=True)
class Work:
    """What every stage is handed: the recipe, its folder, the start model, and who is told."""

    recipe: Recipe
    folder: Path
    student: Student
    watch: Watch

    def stage(self, name: str, digest: str, outputs: Sequence[str], do: Callable[[], Mapping[str, Any]]) -> runs.Done:
        """Do a stage unless it is done here or in a neighbouring run; say which."""
        done = runs.finished(self.folder, name, digest)
        if done:
            self.watch.say(f"{name}: done before ({done.seconds:.1f} s{f', in {done.reused_from}' if done.reused_from else ''}), reused")
            return done
        done = runs.borrow(self.folder, name, digest)
        if done:
            self.watch.say(f"{name}: taken over from {done.reused_from} ({done.seconds:.1f} s there)")
            return done
        self.watch.say(f"{name} ...")
        runs.begin(self.folder, name, digest, outputs)
        began = time.monotonic()
        facts = do()
        done = runs.finish(self.folder, name, digest, time.monotonic() - began, outputs, facts)
        self.watch.say(f"{name}: {done.seconds:.1f} s")
        return done


def run(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None) -> Findings:
    """Every stage of the recipe in `folder`; returns what was found. Raises a Failure that says why not."""
    watch = watch or Silent()
    recipe.tasks()  # a wrong task is said before any work
    for task in recipe.tasks():
        preparing.baselines_of(recipe, task)
    with journal.locked(folder):
        runs.claim(folder, recipe, text)
        began = manifest.now()
        found = weights.locate(recipe.model, watch.say)
        work = Work(recipe, folder, Student(found, recipe), watch)
        data_digest = digest("data", recipe, ("sources", "split", "max_bad_rows"), preparing.inputs(recipe))
        work.stage("data", data_digest, ["data", "dropped.jsonl"], lambda: read_data(work))
        data = preparing.stored(folder, recipe)
        manifest.write(folder, recipe, found, data.inputs, began)

        words = [found.digest, data_digest, templates_of(recipe), recipe.format.model_dump(mode="json")]  # type: ignore[attr-defined]
        limits = [recipe.tune.max_tokens, recipe.tune.truncation]
        encoded_digest = digest("encoded", recipe, ("seed", "wording", "train_on", "mixture"), [words, limits])
        work.stage("encoded", encoded_digest, ["encoded"], lambda: encode(work, data))
        start_digest = digest("start", recipe, ("probes", "seed", "wording"), [words, asking(recipe)])
        work.stage("start", start_digest, outputs_of(recipe, start=True), lambda: start(work, data))
        tune_digest = digest("tune", recipe, ("tune", "seed"), encoded_digest)
        tuned: list[PreTrainedModel] = []
        work.stage("tune", tune_digest, ["metrics.jsonl", "model"], lambda: tune(work, tuned))
        tuned_digest = digest("tuned", recipe, ("probes",), [tune_digest, asking(recipe)])
        work.stage("tuned", tuned_digest, outputs_of(recipe, start=False), lambda: answer_tuned(work, data, tuned))
        manifest.write(folder, recipe, found, data.inputs, began, manifest.now())
        return report(folder, locked=True)


def digest(stage: str, recipe: Recipe, sections: Sequence[str], inputs: object) -> str:
    """What a stage's output depends on: its version, its sections of the recipe, its inputs."""
    values = recipe.dump()
    return journal.digest([stage, VERSION[stage], {s: values[s] for s in sections}, inputs])


def asking(recipe: Recipe) -> list[Any]:
    """What the answers to the tasks depend on: all but the metrics."""
    return [
        [task.model_dump(mode="json", exclude={"metrics"}), preparing.sampling_of(recipe, task).model_dump(mode="json")]
        for task in recipe.tasks()
    ]


def templates_of(recipe: Recipe) -> list[Any]:
    """The templates in use, as data."""
    found = [preparing.template_of(recipe, name) for name in recipe.sources]
    return [template.model_dump(mode="json") for template in found if template]


def outputs_of(recipe: Recipe, start: bool) -> list[str]:
    """The prediction files of the start stage or of the tuned one."""
    names = []
    for task in recipe.tasks():
        arms = ["start", *preparing.baselines_of(recipe, task)] if start else ["tuned"]
        names += [runs.predictions_file(task, arm) for arm in arms]
    return [*names, f"predictions/probes.{'start' if start else 'tuned'}.jsonl"]


# ---- data ------------------------------------------------------------------------------------------


def read_data(work: Work) -> dict[str, Any]:
    """Read, split and store every row."""
    data = preparing.read(work.recipe)
    preparing.write(data, work.folder)
    for row in data.counts():
        work.watch.say(
            f"  {row['name']}: {row['read']:,} rows read, {row['train']:,} for training, {row['validation']:,} for validation, "
            f"{row['test']:,} for test, {row['bad']:,} bad, {sum(row['dropped'].values()):,} dropped (dropped.jsonl says why)"
        )
    return {"sources": data.counts()}


def encode(work: Work, data: Data) -> dict[str, Any]:
    """Write, encode and check the training and validation rows; raises CheckFailed for a broken mask or format."""
    mixed = preparing.drawn(work.recipe, data)
    train, validation = preparing.training(work.recipe, data, mixed, work.student.encoder.count), preparing.validating(work.recipe, data)
    examiner = examiner_of(work.student, data)
    tune = work.recipe.tune
    found, held = (encoded.encode(part, examiner, tune.max_tokens, tune.truncation) for part in (train, validation))
    if failures := examiner.found().failures:
        raise CheckFailed("; ".join(failures))
    if not found.rows:
        raise DataError(f"no training row is left: {', '.join(sorted({fate.reason for fate in found.fates}))}")
    encoded.save(found, work.folder / "encoded" / "train.npz")
    encoded.save(held, work.folder / "encoded" / "validation.npz")
    facts = encoded.facts(found)
    work.watch.say(f"  {facts['rows']:,} rows, {facts['tokens']:,} tokens an epoch, {facts['trained']:,} of them trained")
    return {"tokens": facts, "format": work.student.form.name, "mixture": mixed.report.plain()}


# ---- scoring ---------------------------------------------------------------------------------------


def start(work: Work, data: Data) -> dict[str, Any]:
    """The start model's answers, and the trivial baselines', on every task and probe."""
    model = work.student.answering()
    facts: dict[str, Any] = {"near_ties": 0}
    for task in work.recipe.tasks():
        records = preparing.held_out(data, task)
        asked = preparing.worded(work.recipe, task.task, records)
        facts["near_ties"] += ask(work, model, task, "start", asked)
        for baseline in preparing.baselines_of(work.recipe, task):
            answer_baseline(work, model, data, task, baseline, asked)
    probe(work, model, "start")
    return facts


def ask(work: Work, model: Local, task: Task, arm: str, asked: Sequence[Conversation]) -> int:
    """Journal one arm's answers to a task; returns its near ties."""
    with work.watch.bar(f"{task.task}: {arm}", len(asked), "rows") as told:
        done = [0]

        def progress(rows: int) -> None:
            done[0] += rows
            told(done[0], "")

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
    with work.watch.bar(f"{task.task}: {baseline}", len(asked), "rows") as told:
        done = [0]

        def progress(rows: int) -> None:
            done[0] += rows
            told(done[0], "")

        chosen = model.choose([c.question() for c in asked], choices, progress)
    rows = [scoring.answered(c, [choices[best]], ["stop"]) for c, (best, _) in zip(asked, chosen, strict=True)]
    journal.write_rows(path, rows)


def probe(work: Work, model: Local, arm: str) -> None:
    """Answers to the recipe's probes."""
    asked = [Conversation(journal.digest(["probe", i, text])[:16], (Message("user", text),)) for i, text in enumerate(work.recipe.probes)]
    with work.watch.bar(f"probes: {arm}", len(asked), "rows") as told:
        scoring.ask(model, asked, Sampling(max_new_tokens=160), work.folder / f"predictions/probes.{arm}.jsonl", lambda n: told(n, ""))


def answer_tuned(work: Work, data: Data, tuned: Sequence[PreTrainedModel]) -> dict[str, Any]:
    """The tuned model's answers to what the start model was asked."""
    model = tuned[0] if tuned else work.recipe.tune.method.load(work.student.loaded[0], work.folder / "model")
    local = work.student.answering(model)
    near_ties = 0
    for task in work.recipe.tasks():
        near_ties += ask(work, local, task, "tuned", preparing.worded(work.recipe, task.task, preparing.held_out(data, task)))
    probe(work, local, "tuned")
    return {"near_ties": near_ties}


# ---- tuning ----------------------------------------------------------------------------------------


def tune(work: Work, tuned: list[PreTrainedModel]) -> dict[str, Any]:
    """Train, and write `model/`; the tuned model is left in `tuned`."""
    recipe = work.recipe
    rows, validation = (encoded.load(work.folder / "encoded" / f"{part}.npz").rows for part in ("train", "validation"))
    all_tokens = sum(len(rows[i].ids) for step in steps.plan_steps(rows, recipe.tune, recipe.seed) for i in step)
    with work.watch.bar("tune", all_tokens, "tokens") as told:

        def progress(step: Step) -> None:
            told(step.tokens, f"step {step.step}/{step.steps}, loss {step.loss:.3f}")

        model, trained = training.train(
            work.student.loaded[0], rows, recipe.tune, work.folder, validation=validation, seed=recipe.seed, progress=progress
        )
    with journal.staged(work.folder / "model") as stage:
        recipe.tune.method.save(model, stage)
        work.student.tokenizer.save_pretrained(stage)
        if model.generation_config is not None:
            add_stops(model.generation_config, previewing.stop_ids(work.student.form, work.student.encoder))
            model.generation_config.save_pretrained(stage)
    tuned.append(model)
    return {"trained": asdict(trained)}


def add_stops(config: Any, stops: frozenset[int]) -> None:
    """Let a generation config stop at the format's ends of turn too, so that other programs do."""
    own = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    known = [i for i in own if i is not None]
    if not stops <= set(known):
        config.eos_token_id = [*known, *sorted(stops - set(known))]


# ---- report ----------------------------------------------------------------------------------------


def report(folder: Path, locked: bool = False) -> Findings:
    """Measure, compare and write scorecard.json, report.html, report.md and results.json of a run."""
    if not locked:
        runs.recipe_of(folder)
        with journal.locked(folder):
            return report(folder, locked=True)
    findings = gather(folder)
    reporting.write(findings, folder)
    return findings


def shown(recipe: Recipe, rows: int, watch: Watch | None = None) -> previewing.Preview:
    """What the model will see of the recipe's training and validation rows, with the checks of the mask; `rows` as samples."""
    student = Student(weights.locate(recipe.model, (watch or Silent()).say), recipe)
    data = preparing.read(recipe)
    train = preparing.training(recipe, data, preparing.drawn(recipe, data), student.encoder.count)
    validation = preparing.validating(recipe, data)
    examiner = examiner_of(student, data, previewing.spread(rows, len(train)))
    tune = recipe.tune
    for part in (train, validation):
        encoded.encode(part, examiner, tune.max_tokens, tune.truncation)
    return examiner.found()


def examiner_of(student: Student, data: Data, samples: Collection[int] = ()) -> previewing.Examiner:
    """The mask doctor for a student's rows, by the name of their source; keeps the training rows with these numbers as samples."""
    own = previewing.generation_ends(student.weights.folder) or frozenset()
    stops = previewing.stop_ids(student.form, student.encoder)
    lacking = student.tokenizer.convert_ids_to_tokens(sorted(stops - own))
    sources = {record.id: name for name, parts in data.parts.items() for record in parts.train}
    held = {record.id: f"{name}, validation" for name, parts in data.parts.items() for record in parts.validation}
    return previewing.Examiner(
        student.form,
        student.encoder,
        ends=own | stops,
        shown=samples,
        notes=[f"the start model's generation_config does not stop at {token!r}; the tuned model's will" for token in lacking],
        name=lambda c: sources.get(c.id) or held.get(c.id) or c.task or "data",
    )
