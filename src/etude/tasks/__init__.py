"""Tasks people know, by name: how their files are read, what is asked, and what is measured.

A task is data, a YAML file here. It holds no row: `etude score --model X --task NAME` reads the user's own copy
(`--data FILE`), or the hub's where that can be reached. Each becomes an ordinary recipe, so that a
task's number and a run's come from the same code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from etude.failures import RecipeError, nearest

KEYS = ("about", "data", "hub", "source", "train", "score")


def names() -> list[str]:
    """The built-in tasks."""
    return sorted(path.name.removesuffix(".yaml") for path in files("etude.tasks").iterdir() if path.name.endswith(".yaml"))


def load(name: str) -> dict[str, Any]:
    """A task's definition; raises RecipeError with the nearest name."""
    import yaml

    if name not in names():
        raise RecipeError(f"--task: no task named {name!r}{nearest(name, names())}")
    return dict(yaml.safe_load(files("etude.tasks").joinpath(f"{name}.yaml").read_text(encoding="utf-8")))


def listed() -> str:
    """Every task with what it is and which file it reads."""
    return "\n".join(f"{name:16} {one['about']}\n{'':16} reads {one['data']}" for name in names() for one in [load(name)])


def recipe_of(
    name: str, model: str, data: str | None = None, train: str | None = None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The recipe (plain data) that scores `model` on a task. `data`: the file to score; `train`: rows for worked examples; `given`: keys of
    the task's `score` section to replace (None is left out).

    Raises RecipeError for an unknown task, one whose file must be named, or worked examples without rows to take them from.
    """
    task = load(name)
    hub = task.get("hub", {})
    path = data or hub.get("path")
    if path is None:
        raise RecipeError(f"--task {name}: give the file to score with --data: {task['data']}")
    score = {"task": name, "limit": None, **task["score"], **{key: value for key, value in (given or {}).items() if value is not None}}
    shown = train or (hub.get("train") if not data else None)
    source = {**task["source"], "path": path}
    split: dict[str, Any] = {"test": "all", "validation": 0}
    if shown:
        source = {**source, **task.get("train", {}), "path": shown}
        own = {key: value for key, value in task["source"].items() if key != "type"} if "train" in task else {}
        split = {"test": {"path": path, **({"settings": own} if own else {})}, "validation": 0}
    elif score.get("few_shot"):
        if (given or {}).get("few_shot"):
            raise RecipeError(f"--task {name}: worked examples come from training rows only; give them with --train FILE")
        score["few_shot"] = 0
    score.setdefault("baselines", [])
    return {
        "name": f"score-{name}-{slug(model)}",
        "model": model,
        "sources": {name: source},
        "split": split,
        "max_bad_rows": 0,
        "score": score,
        "forgetting": False,
    }


def slug(model: str) -> str:
    """A model's name as a part of a run's: small letters, digits, dots and dashes."""
    last = Path(model.split("@")[0]).name or model
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-.")[:40] or "model"
