"""The stages of a run, in order; what is done is found by digest, here or in another run, and reused."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import (
    answering,
    curating,
    digests,
    encoded,
    generating,
    journal,
    judged_runs,
    launching,
    manifest,
    preparing,
    previewing,
    range_test,
    reporting,
    runs,
    tuning,
)
from etude.failures import CheckFailed, DataError, RecipeError
from etude.mixing import realised
from etude.models import LLM, weights
from etude.models.opening import Opened
from etude.preparing import Data
from etude.recipe import START, Recipe
from etude.reporting import curation_page, generation_page
from etude.reporting.findings import Findings
from etude.reporting.gathering import gather, scores
from etude.reporting.generated_gathering import gather_generated, levels
from etude.reporting.surveying import survey
from etude.screen import Silent, Watch, counting
from etude.sharding import HERE, Launch
from etude.working import Student, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOUND_STEPS = 60
"""Learning rates tried by `find_rate`."""


@contextlib.contextmanager
def entered(
    recipe: Recipe,
    folder: Path,
    text: str,
    watch: Watch | None,
    student: Student | None = None,
    launch: Launch = HERE,
) -> Iterator[Work]:
    """The run folder, locked and claimed for this recipe, with its start model (or another `student`). The other processes of a
    `launch` follow (`tuning`)."""
    watch = watch or Silent()
    launching.check(launch)
    with journal.locked(folder):
        runs.claim(folder, recipe, text)
        yield Work(recipe, folder, student or Student(weights.locate(recipe.model, watch.say), recipe), watch, launch)
    launch.group.told(0)  # the others need not wait any more; after a failure they notice that this process has ended


def run(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None, launch: Launch = HERE) -> Findings:
    """Every stage of the recipe in `folder`; returns what was found. Raises a Failure that says why not. The tune stage is done as
    `launch` says."""
    for task in recipe.tasks():  # a wrong task is said before any work
        preparing.baselines_of(recipe, task)
    judged_runs.check(recipe)
    with entered(recipe, folder, text, watch, None, launch) as work:
        began, found = manifest.now(), work.student.weights
        data, data_digest, curated_digest = rows(work)
        manifest.write(folder, recipe, found, data.inputs, began)

        encoding = encode_stage(work, data, curated_digest)
        asked = answer(work, data, data_digest, curated_digest)
        tuned: list[PreTrainedModel] = []
        tune_digest = tune_stage(work, data, encoding, tuned).digest
        files = answering.outputs_of(recipe, ["tuned"])
        done = work.stage(
            "tuned", digests.tuned(recipe, asked, tune_digest), files, lambda: answering.tuned(work, data, tuned[0] if tuned else None)
        )
        judged_runs.stage(work, done.digest)
        manifest.write(folder, recipe, found, data.inputs, began, manifest.now())
        findings = report(folder, locked=True)
        judged_runs.refuse(recipe, folder)
        return findings


def curate(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None) -> Path:
    """The stages before the model: rows read, split, rewritten and checked. `run` goes on from there. Returns the folder."""
    with entered(recipe, folder, text, watch) as work:
        rows(work)
    return folder


def prepare(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None) -> None:
    """The stages before training and asking: rows made, checked and encoded. Nothing is trained; no model of this machine is asked."""
    with entered(recipe, folder, text, watch) as work:
        data, _, curated_digest = rows(work)
        encode_stage(work, data, curated_digest)


def generate(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None) -> runs.Done:
    """The rows of the sources and what models make of them; nothing is checked or trained. `run` goes on from there."""
    if not recipe.generate:
        raise RecipeError(f"{recipe.name}: nothing to generate; the recipe has no `generate` section")
    with entered(recipe, folder, text, watch) as work:
        data_digest = read_stage(work)
        return generate_stage(work, data_digest)


def read_stage(work: Work) -> str:
    """The data stage; its digest."""
    digest = digests.data(work.recipe)
    work.stage("data", digest, ["data"], lambda: read_data(work))
    return digest


def generate_stage(work: Work, data_digest: str) -> runs.Done:
    """The generated stage of a recipe that has one."""
    digest = digests.generated(work.recipe, work.student.weights, data_digest)
    return work.stage("generated", digest, ["generated", "generation.html", "generation.md"], lambda: generated(work))


def rows(work: Work) -> tuple[Data, str, str]:
    """The data, generated and curated stages: the rows as they are trained, and the digests of the first and last."""
    recipe, folder = work.recipe, work.folder
    data_digest = read_stage(work)
    made_digest = generate_stage(work, data_digest).digest if recipe.generate else data_digest
    curated_digest = digests.curated(recipe, work.student.weights, made_digest)
    files = ["curated", "dropped.jsonl", "curation.html", "curation.md"]
    work.stage("curated", curated_digest, files, lambda: curated(work))
    return preparing.stored(folder / "curated", recipe), data_digest, curated_digest


def encode_stage(work: Work, data: Data, curated_digest: str) -> runs.Done:
    """The encoded stage."""
    return work.stage(
        "encoded", digests.encoded(work.recipe, work.student.weights, curated_digest), ["encoded"], lambda: encode(work, data)
    )


def tune_stage(work: Work, data: Data, encoding: runs.Done, tuned: list[PreTrainedModel]) -> runs.Done:
    """The tune stage; a model that was tuned just now is left in `tuned`."""
    key = digests.tune(work.recipe, encoding.digest)
    return work.stage("tune", key, ["metrics.jsonl", "model"], lambda: tuning.tune(work, data, tuned))


# ---- data ------------------------------------------------------------------------------------------


def read_data(work: Work) -> dict[str, Any]:
    """Read, split and store every row."""
    data = preparing.read(work.recipe)
    preparing.write(data, work.folder / "data")
    for row in data.counts():
        work.watch.say(
            f"  {row['name']}: {row['read']:,} rows read, {row['train']:,} for training, {row['validation']:,} for validation, "
            f"{row['test']:,} for test, {row['bad']:,} bad, {sum(row['dropped'].values()):,} dropped"
        )
    return {"sources": data.counts()}


def generated(work: Work) -> dict[str, Any]:
    """Let the recipe's strategies make rows."""
    recipe, folder = work.recipe, work.folder
    data = preparing.stored(folder / "data", recipe)
    with Opened(recipe.llms, folder / "llms") as llms:
        found = generating.generated(
            recipe,
            data,
            folder,
            lambda name: asked_by(work, llms, name),
            lambda name: digests.answering_as(recipe, name, work.student.weights),
            work.watch,
            llms.facts,
        )
        made = generating.with_made(data, recipe, folder).parts
        by_level = levels({name: made[name].train for name in recipe.generate}, work.student.count)
        facts = {**found, "levels": by_level, "llms": llms.facts()}
    if shown := gather_generated(folder, recipe, facts):
        generation_page.write(shown, folder)
    return facts


def asked_by(work: Work, llms: Opened, name: str) -> LLM:
    """The LLM that a strategy or check names: one of the recipe's, or its start model."""
    return work.student.answering() if name == START and name not in work.recipe.llms else llms(name)


def curated(work: Work) -> dict[str, Any]:
    """Rewrite and check the training rows; what was found is written before a check that failed ends the run."""
    count = work.student.count if any(curating.counts_tokens(check) for check in work.recipe.curate) else None
    with Opened(work.recipe.llms, work.folder / "llms") as llms:
        found = curating.curate(
            work.recipe,
            generating.with_made(preparing.stored(work.folder / "data", work.recipe), work.recipe, work.folder),
            count=count,
            model=lambda name: asked_by(work, llms, name),
            folder=work.folder / "asked",
            tell=lambda name, total: counting(work.watch, f"curate: {name}", total),
        )
        told = llms.facts()
    curating.write(found, work.folder)
    beside = found.beside
    shown = survey(
        work.recipe.name,
        found.rows,
        found.applied,
        rewrites=found.rewrites,
        evaluation=beside.evaluation,
        labels=beside.labels,
        count=count,
    )
    curation_page.write(shown, work.folder)
    for step in found.steps:
        if step.dropped or step.changed:
            done = f"{step.dropped:,} rows dropped" if step.dropped else f"{step.changed:,} rows changed"
            where = "dropped.jsonl says why" if step.dropped else "curated/rewritten.jsonl has them"
            work.watch.say(f"  {step.name}: {done} of {step.rows:,} ({where})")
    if found.applied.failures:
        raise CheckFailed("; ".join(found.applied.failures))
    if found.rows and not found.applied.kept:
        raise DataError(
            "curation leaves no training row: " + ", ".join(f"{s.name} dropped {s.dropped:,}" for s in found.steps if s.dropped)
        )
    return {"sources": found.data.counts(), "steps": curating.table(found), "llms": told}


def encode(work: Work, data: Data) -> dict[str, Any]:
    """Write, encode and check the training and validation rows; raises CheckFailed for a broken mask or format."""
    mixed = preparing.drawn(work.recipe, data)
    train, validation = preparing.training(work.recipe, data, mixed, work.student.encoder.count), preparing.validating(work.recipe, data)
    examiner = examiner_of(work.student)
    tune = work.recipe.tune
    most = examiner.encoder.limit(tune.max_tokens, tune.max_target_tokens)
    found, held = (encoded.encode(part, examiner, most, tune.truncation) for part in (train, validation))
    if failures := examiner.found().failures:
        raise CheckFailed("; ".join(failures))
    if not found.rows:
        raise DataError(f"no training row is left: {', '.join(sorted({fate.reason for fate in found.fates}))}")
    encoded.save(found, work.folder / "encoded" / "train.npz")
    encoded.save(held, work.folder / "encoded" / "validation.npz")
    facts = encoded.facts(found)
    work.watch.say(f"  {facts['rows']:,} rows, {facts['tokens']:,} tokens an epoch, {facts['trained']:,} of them trained")
    return {
        "tokens": facts,
        "format": work.student.form.name,
        "levels": levels({name: parts.train for name, parts in data.parts.items()}, work.student.count),
        "mixture": {**mixed.report.plain(), "realised": realised(mixed.report, found.sized())},
    }


# ---- tuning and asking -----------------------------------------------------------------------------


def score(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None, student: Student | None = None) -> dict[str, Any]:
    """The rows, the start model's answers and the baselines'; and the tuned model's, where it has been tuned for this recipe. Nothing is
    trained. `student`: a model to ask in the place of the recipe's (another run's tuned one). Returns what `gathering.scores` makes of
    them, and writes it to scores.json."""
    with entered(recipe, folder, text, watch, student) as work:
        began, found = manifest.now(), work.student.weights
        data, data_digest, curated_digest = rows(work)
        manifest.write(folder, recipe, found, data.inputs, began)
        asked = answer(work, data, data_digest, curated_digest)
        arms = ["start"]
        tune_digest = digests.tune(recipe, digests.encoded(recipe, found, curated_digest))
        if runs.finished(folder, "tune", tune_digest):
            files = answering.outputs_of(recipe, ["tuned"])
            work.stage("tuned", digests.tuned(recipe, asked, tune_digest), files, lambda: answering.tuned(work, data, None))
            arms.append("tuned")
        manifest.write(folder, recipe, found, data.inputs, began, manifest.now())
        scored = scores(folder, recipe, arms)
        journal.write_json(folder / "scores.json", scored)
        return scored


def answer(work: Work, data: Data, data_digest: str, curated_digest: str) -> list[Any]:
    """The start and baselines stages; returns what every arm is asked, for the tuned model's digest."""
    recipe = work.recipe
    asked = digests.asked(recipe, work.student.weights, data_digest)
    work.stage("start", digests.start(recipe, asked), answering.outputs_of(recipe, ["start"]), lambda: answering.start(work, data))
    files, key = answering.outputs_of(recipe, ["baselines"]), digests.baselines(recipe, asked, curated_digest)
    work.stage("baselines", key, files, lambda: answering.baselines(work, data))
    return asked


def tune_only(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None, launch: Launch = HERE) -> runs.Done:
    """The stages that training needs, and training; nothing is asked. `run` goes on from there. `launch`: see `run`."""
    with entered(recipe, folder, text, watch, None, launch) as work:
        data, _, curated_digest = rows(work)
        return tune_stage(work, data, encode_stage(work, data, curated_digest), [])


def find_rate(recipe: Recipe, folder: Path, text: str = "", watch: Watch | None = None) -> range_test.Curve:
    """Losses of a copy of the start model at rising learning rates, over the recipe's training rows; nothing is trained or kept."""
    with entered(recipe, folder, text, watch) as work:
        data, _, curated_digest = rows(work)
        encode_stage(work, data, curated_digest)
        trained = encoded.load(folder / "encoded" / "train.npz").rows
        with work.watch.bar("learning rates", FOUND_STEPS, "steps") as told:
            return range_test.find_learning_rate(
                work.student.loaded[0], trained, recipe.tune, seed=recipe.training_seed(), steps=FOUND_STEPS, progress=told
            )


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


def shown(recipe: Recipe, rows: int, watch: Watch | None = None, folder: Path = Path()) -> previewing.Preview:
    """What the model will see of the recipe's training and validation rows, with the checks of the mask; `rows` as samples. `folder`: the
    run's, where made rows are."""
    student = Student(weights.locate(recipe.model, (watch or Silent()).say), recipe)
    data = generating.with_made(preparing.read(recipe), recipe, folder)
    data = curating.curate(recipe, data, count=student.count, asking=False).data
    train = preparing.training(recipe, data, preparing.drawn(recipe, data), student.encoder.count)
    validation = preparing.validating(recipe, data)
    examiner = examiner_of(student, previewing.spread(rows, len(train)))
    tune = recipe.tune
    for part in (train, validation):
        encoded.encode(part, examiner, examiner.encoder.limit(tune.max_tokens, tune.max_target_tokens), tune.truncation)
    return examiner.found()


def examiner_of(student: Student, samples: Collection[int] = ()) -> previewing.Examiner:
    """The mask doctor for a student's rows, by the name of their source; keeps the training rows with these numbers as samples."""
    own = previewing.generation_ends(student.weights.folder) or frozenset()
    stops = previewing.stop_ids(student.form, student.encoder)
    lacking = student.tokenizer.convert_ids_to_tokens(sorted(stops - own))
    return previewing.Examiner(
        student.form,
        student.encoder,
        ends=own | stops,
        shown=samples,
        notes=[f"the start model's generation_config does not stop at {token!r}; the tuned model's will" for token in lacking],
        name=lambda c: str(c.notes.get("source") or c.task or "data"),
    )
