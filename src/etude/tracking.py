"""Trackers: the lines of metrics.jsonl, sent also to TensorBoard, trackio, W&B or MLflow, by accelerate's own trackers.

Nothing is sent unless a recipe names a tracker. metrics.jsonl stays the truth: a tracker that fails is left out with a
note, and training goes on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from etude import journal
from etude.catalog import note
from etude.failures import RecipeError

Log = Callable[[Mapping[str, Any], int], None]

MODULES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",), "mlflow": ("mlflow",)}
"""Tracker -> the packages it can do with."""

PROJECT = "etude"
"""The project (trackio, W&B) or experiment (MLflow) that runs are gathered under, unless the settings name one."""


def check(trackers: Mapping[Any, Mapping[str, Any]]) -> None:
    """Raise RecipeError for a tracker whose package is not installed."""
    for name in trackers:
        if not any(importlib.util.find_spec(module) for module in MODULES[name]):
            raise RecipeError(f"tune.trackers: {name} is not installed: pip install 'etude[{name}]'")


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys with numbers and texts, which is what trackers store."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{before}{key}."))
        else:
            found[f"{before}{key}"] = value if isinstance(value, str | int | float) else str(value)
    return found


def made(name: str, settings: Mapping[str, Any], folder: Path) -> Any:
    """An accelerate tracker, started. A run folder is one run there, also when it is resumed (but in MLflow, which has a
    new run then)."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's trackers ask it whether this is the main process
    given = dict(settings)
    project = given.pop("project", given.pop("experiment_name", PROJECT))
    own: dict[str, Any] = {}
    if name == "tensorboard":
        project, own = folder.name, {"logging_dir": str(folder / "trackers" / "tensorboard")}
    elif name == "wandb":
        own = {"name": folder.name, "dir": str(folder), "id": journal.digest(str(folder.resolve()))[:16], "resume": "allow"}
    elif name == "trackio":
        own = {"name": folder.name, "resume": "allow"}
    elif name == "mlflow":
        own = {"run_name": folder.name}
    tracker = LOGGER_TYPE_TO_CLASS[name](project, **{**own, **given})
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


@contextlib.contextmanager
def opened(trackers: Mapping[Any, Mapping[str, Any]], folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """A function (values, step) that logs to every tracker; `settings` are stored with the run. Numbers that are not finite
    are left out. Raises RecipeError for a tracker that is not installed or does not start."""
    check(trackers)
    running: dict[str, Any] = {}
    for name, chosen in trackers.items():
        try:
            running[name] = made(name, chosen, folder)
            running[name].store_init_configuration(flat(settings))
        except Exception as error:  # whatever a service's client raises
            raise RecipeError(f"tune.trackers.{name}: it does not start: {type(error).__name__}: {error}") from error

    def log(values: Mapping[str, Any], step: int) -> None:
        numbers = {k: v for k, v in flat(values).items() if isinstance(v, int | float) and math.isfinite(v) and k != "step"}
        for name in list(running):
            attempt(name, running, lambda tracker: tracker.log(numbers, step=step))

    try:
        yield log
    finally:
        for name in list(running):
            attempt(name, running, lambda tracker: tracker.finish())


def attempt(name: str, running: dict[str, Any], do: Callable[[Any], None]) -> None:
    """Do something with a tracker; one that fails is left out from then on."""
    try:
        do(running[name])
    except Exception as error:  # a service that is away must not end a training run
        running.pop(name)
        note(f"the tracker {name} failed and is left out from here on ({type(error).__name__}: {error}); metrics.jsonl has every number")
