"""The run folder: its layout, its manifest, and which stages are done.

```
runs/<name>/
  recipe.yaml            as given              recipe.resolved.yaml   every default filled in
  manifest.json          versions, machine, inputs, licences, seeds
  data/{train,validation,test,dropped}.jsonl   Records after the split
  generated/<name>/{rows,refused}.jsonl        what models made, and what was refused by which rule
  curated/...            the same after rewrites and checks; steps.json: what each found; rewritten.jsonl
  asked/                 what strategies and checks that ask a model were told, kept for the next run of the same folder
  dropped.jsonl          every row that left, with its reason
  metrics.jsonl          a line a logged step  checkpoints/           while tuning
  model/                 the tuned model, for plain peft or transformers
  predictions/<task>.<arm>.jsonl               arms: start, tuned, majority, few_shot, constrained
  judged/<task>.json, <task>.verdicts.jsonl    where a model judges
  scorecard.json  report.html  report.md  results.json
  stages/<stage>.json    digest, seconds and files of a finished stage
  lock
```

A stage is done when its file says so for the same digest (its settings, inputs and version) and its
outputs are there. A stage done in a neighbouring run is taken over from it.
"""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude import journal
from etude.failures import DataError, RecipeError, nearest
from etude.models import answering
from etude.recipe import Recipe, build, parse, to_yaml
from etude.scoring import Task

STAGES = ("data", "generated", "curated", "encoded", "start", "baselines", "tune", "tuned", "judged")
"""The stages of a run, in order; the report is written from what they leave."""

OPTIONAL: dict[str, Callable[[Recipe], bool]] = {
    "generated": lambda recipe: bool(recipe.generate),
    "judged": lambda recipe: any(task.judge for task in recipe.tasks()),
}
"""Stages that not every recipe has -> whether this one does."""

REMADE = ("data", "generated", "curated", "encoded")
"""Stages that a changed recipe may do again in the same folder: seconds to minutes, and no answer or weight is lost."""

SCHEMA = 1
"""Version of the run folder's layout; a newer one is refused."""


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The stages that the recipe has, in order."""
    return tuple(stage for stage in STAGES if stage not in OPTIONAL or OPTIONAL[stage](recipe))


@dataclass(frozen=True, slots=True)
class Done:
    """A finished stage: what it took, what it wrote (path in the run folder -> bytes), what it noted."""

    stage: str
    digest: str
    seconds: float
    files: Mapping[str, int]
    facts: Mapping[str, Any]
    reused_from: str = ""


def claim(folder: Path, recipe: Recipe, text: str) -> None:
    """Make the folder this recipe's; raises RecipeError with the difference where another's has asked a model or trained there. How an
    LLM is reached and what it may cost (`models.OPERATION`) is no difference: a budget can be raised and a server added on the way."""
    resolved = folder / "recipe.resolved.yaml"
    wanted = to_yaml(recipe.dump())
    if resolved.exists():
        found = resolved.read_text(encoding="utf-8")
        if differs(found, recipe) and any(path.stem not in REMADE for path in (folder / "stages").glob("*")):
            lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), "this run", "this recipe", lineterm="", n=0)
            shown = "\n".join(line for line in lines if not line.startswith("@@"))
            raise RecipeError(
                f"{folder} holds a run of a different recipe:\n{shown}\n"
                f"give this one its own name with name={free_name(folder)} (stages they share are reused), or remove {folder}"
            )
        if found == wanted:
            return
    manifest = folder / "manifest.json"
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8")).get("schema", 0) > SCHEMA:
        raise RecipeError(f"{folder} was written by a newer etude; upgrade to work in it")
    journal.write_text(folder / "recipe.yaml", text or wanted)
    journal.write_text(resolved, wanted)


def differs(found: str, recipe: Recipe) -> bool:
    """Whether a resolved recipe says something else than `recipe` that could change a result."""
    before, now = parse(found, "recipe.resolved.yaml"), recipe.dump()
    for one in (before, now):
        one["llms"] = {name: answering(settings) for name, settings in (one.get("llms") or {}).items()}
    return before != parse(to_yaml(now), "recipe.resolved.yaml")


def free_name(folder: Path) -> str:
    """The first of name-2, name-3 ... that is not taken."""
    number = 2
    while (folder.parent / f"{folder.name}-{number}").exists():
        number += 1
    return f"{folder.name}-{number}"


def recipe_of(folder: Path) -> Recipe:
    """The resolved recipe of a run; raises RecipeError when the folder is not a run."""
    path = folder / "recipe.resolved.yaml"
    if not path.is_file():
        near = nearest(folder.name, [p.parent.name for p in folder.parent.glob("*/recipe.resolved.yaml")]) if folder.parent.is_dir() else ""
        raise RecipeError(f"{folder} is not a run folder (no {path.name}){near}")
    return build(parse(path.read_text(encoding="utf-8"), str(path)), str(path))


def all_runs(root: Path) -> list[Path]:
    """Every run folder directly below `root`, by name."""
    return sorted(path.parent for path in root.glob("*/recipe.resolved.yaml"))


def finished(folder: Path, stage: str, digest: str) -> Done | None:
    """The stage's record when it is done for this digest and its files have their sizes."""
    done = record(folder, stage)
    if done is None or done.digest != digest:
        return None
    for name, size in done.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return None
    return done


def record(folder: Path, stage: str) -> Done | None:
    """The stage's record as it stands, whatever its digest; None when there is none or it is torn."""
    try:
        raw = json.loads((folder / "stages" / f"{stage}.json").read_text(encoding="utf-8"))
        return Done(raw["stage"], raw["digest"], raw["seconds"], raw["files"], raw["facts"], raw.get("reused_from", ""))
    except (OSError, ValueError, KeyError):
        return None


def finish(
    folder: Path, stage: str, digest: str, seconds: float, outputs: Sequence[str], facts: Mapping[str, Any], origin: str = ""
) -> Done:
    """Record a stage as done; `outputs` are files or folders in the run folder."""
    files = {str(path.relative_to(folder)): path.stat().st_size for name in outputs for path in files_below(folder / name)}
    done = Done(stage, digest, round(seconds, 3), files, dict(facts), origin)
    raw = {"schema": SCHEMA, "stage": stage, "digest": digest, "seconds": done.seconds, "files": files, "facts": dict(facts)}
    journal.write_json(folder / "stages" / f"{stage}.json", {**raw, "reused_from": origin})
    return done


def begin(folder: Path, stage: str, digest: str, outputs: Sequence[str]) -> None:
    """Note that a stage has begun for this digest. What a stage begun for another digest (changed
    data, say) left half-done is removed first, so that nothing of it is taken for this one's."""
    path = folder / "stages" / f"{stage}.begun"
    before = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    if before != digest:
        for name in outputs:
            target = folder / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        journal.write_text(path, digest + "\n")


def files_below(path: Path) -> Iterator[Path]:
    """The file itself, or every file below the folder, in order."""
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file())


def borrow(folder: Path, stage: str, digest: str) -> Done | None:
    """Take a stage's outputs over from a neighbouring run that has done it; None when none has."""
    for other in all_runs(folder.parent):
        done = finished(other, stage, digest) if other != folder else None
        if done is None:
            continue
        for name in done.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # a copy, not a link: a journal that is appended to must not change the other run
            with journal.replacing(target) as temporary:
                shutil.copyfile(other / name, temporary)
        return finish(folder, stage, digest, done.seconds, list(done.files), done.facts, other.name)
    return None


def predictions_file(task: Task, arm: str) -> str:
    """Where an arm's answers to a task are."""
    return f"predictions/{task.task}.{arm}.jsonl" if task.split == "test" else f"predictions/{task.task}.{task.split}.{arm}.jsonl"


def results(folder: Path) -> dict[str, Any]:
    """results.json of a run; raises DataError when the run has none yet."""
    path = folder / "results.json"
    if not path.is_file():
        raise DataError(f"{folder} has no results yet; `etude run` finishes it")
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def states(folder: Path) -> dict[str, Any]:
    """A run at a glance: name, model, the stages done, and the newest step of a run in training."""
    recipe = recipe_of(folder)
    stages = [path.stem for path in sorted((folder / "stages").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)]
    return {"name": folder.name, "model": recipe.model, "stages": stages, "finished": (folder / "results.json").is_file()}
