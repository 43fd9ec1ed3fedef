"""The tune stage: in this process, in several that it starts, or in those it was itself started among."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import answering, encoded, journal, launching, memory, preparing, previewing, sharding, steps, training
from etude.distributed import Group
from etude.failures import Failure
from etude.models import weights
from etude.preparing import Data
from etude.recipe import Recipe
from etude.screen import Silent
from etude.sharding import Launch
from etude.training import Step
from etude.working import Student, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def tune(work: Work, data: Data, tuned: list[PreTrainedModel]) -> dict[str, Any]:
    """Train, and write `model/`; a model that was tuned in this process is left in `tuned`."""
    work.launch.group.told(1)  # to those that follow
    if work.launch.processes == 1:
        model, facts = trained(work, data)
        if not work.launch.sharding:  # a divided one answers nothing; it is read again, whole
            tuned.append(model)
        return facts
    vars(work.student).pop("loaded", None)  # the processes load it themselves
    with work.watch.bar("tune", planned(work), "tokens") as told:
        return launching.tuned(work.folder, work.launch, told)


def planned(work: Work) -> int:
    """Tokens of all training steps."""
    rows, tune = encoded.load(work.folder / "encoded" / "train.npz").rows, work.recipe.tune
    return sum(len(rows[i].ids) for step in steps.plan_steps(rows, tune, work.recipe.training_seed()) for i in step)


def trained(work: Work, data: Data) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train in this process (each of the launch's group does its part); the tuned model and what there is to say of it. The first process
    writes `model/`."""
    recipe, launch = work.recipe, work.launch
    if launch.sharding:  # it goes to the device layer by layer, and only a part of each stays there
        vars(work.student).pop("loaded", None)
        start = weights.load(work.student.weights.folder, device="cpu")[0]
    else:
        start = work.student.loaded[0]
    rows, validation = (encoded.load(work.folder / "encoded" / f"{part}.npz").rows for part in ("train", "validation"))
    with work.watch.bar("tune", planned(work), "tokens") as told, memory.peak() as highest:

        def progress(step: Step) -> None:
            told(step.tokens, f"step {step.step}/{step.steps}, loss {step.loss:.3f}")

        model, outcome = training.train(
            start,
            rows,
            recipe.tune,
            work.folder,
            validation=validation,
            seed=recipe.training_seed(),
            progress=progress,
            evaluate=answering.evaluator(work, data),
            group=launch.group,
            sharding=launch.sharding,
        )
        took = round(highest(), 2)
    shared = {"processes": launch.group.size} if launch.group.size > 1 else {}
    how = {"sharding": sharding.SHARDINGS.name_of(launch.sharding)} if launch.sharding else {}
    facts = {"trained": {**asdict(outcome), "memory_gb": took, **shared, **how}}
    if not launch.group.first:
        return model, facts
    with journal.staged(work.folder / "model") as stage:
        recipe.tune.method.save(model, stage)
        work.student.tokenizer.save_pretrained(stage)
        if model.generation_config is not None:
            add_stops(model.generation_config, previewing.stop_ids(work.student.form, work.student.encoder))
            model.generation_config.save_pretrained(stage)
    return model, facts


def add_stops(config: Any, stops: frozenset[int]) -> None:
    """Let a generation config stop at the format's ends of turn too, so that other programs do."""
    own = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    known = [i for i in own if i is not None]
    if not stops <= set(known):
        config.eos_token_id = [*known, *sorted(stops - set(known))]


def follow(recipe: Recipe, folder: Path, launch: Launch) -> None:
    """The part of any but the first process that torchrun has started on a command: to train where the first one does. Raises Failure
    when the first one has ended without a word."""
    while wanted(launch.group):
        student = Student(weights.locate(recipe.model), recipe)
        trained(Work(recipe, folder, student, Silent(), launch), preparing.stored(folder / "curated", recipe))


def wanted(group: Group) -> bool:
    """Wait until the first process trains (True) or has nothing more to train (False)."""
    try:
        return bool(group.told())
    except RuntimeError as error:  # the connection is gone
        raise Failure(f"process {group.rank + 1} of {group.size}: the first one has ended; its message says why") from error
