"""`etude score --lm-eval TASK`: the tasks of lm-evaluation-harness (Gao et al. 2024) with a model of ours, as an extra.

The harness reads its own data (from the hub, or as a task's YAML file says), words its own prompts and computes its own numbers;
this only hands it the model. So its numbers compare with published ones, and are no part of a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etude import runs
from etude.failures import DataError, RecipeError
from etude.loading import run_folder
from etude.models import weights


def evaluate(
    model: str,
    tasks: Sequence[str],
    root: Path,
    *,
    few_shot: int | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The harness's results: task -> its metrics, as it names them.

    `model`: a run (its adapter over its start model, or its full model) or whatever a recipe can name; `tasks`: the harness's names,
    or paths of task files (.yaml). Raises RecipeError without the extra or for an unknown task, DataError where its data cannot be had.
    """
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise RecipeError("--lm-eval needs lm-evaluation-harness: pip install 'etude[harness]'") from error
    files = [Path(task) for task in tasks if task.endswith((".yaml", ".yml"))]
    for path in files:
        if not path.is_file():
            raise RecipeError(f"--lm-eval {path}: no such task file")
    manager = TaskManager(include_path=[str(path.parent.resolve()) for path in files] or None)
    named = [name_in(Path(task)) if task.endswith((".yaml", ".yml")) else task for task in tasks]
    if unknown := [name for name in named if name not in manager.all_tasks]:
        raise RecipeError(f"--lm-eval: lm-evaluation-harness has no task named {unknown[0]!r}")
    try:
        found = lm_eval.simple_evaluate(
            model="hf", model_args=arguments(model, root, say), tasks=list(named), num_fewshot=few_shot, limit=limit,
            task_manager=manager, batch_size=1, log_samples=False,
        )  # fmt: skip
    except (ConnectionError, OSError) as error:
        raise DataError(f"--lm-eval {', '.join(named)}: its data cannot be had: {str(error).splitlines()[0]}") from error
    return plain(found["results"])


def arguments(model: str, root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What the harness needs to load a model with plain transformers and peft."""
    folder = run_folder(model, root)
    if folder is None:
        return {"pretrained": str(weights.locate(model, say).folder), "dtype": "float32"}
    tuned = folder / "model"
    if not tuned.is_dir():
        raise RecipeError(f"{folder} has no tuned model yet; `etude run` with its recipe finishes it")
    if not (tuned / "adapter_config.json").is_file():
        return {"pretrained": str(tuned), "dtype": "float32"}
    start = weights.locate(runs.recipe_of(folder).model, say).folder
    return {"pretrained": str(start), "peft": str(tuned), "dtype": "float32"}


def name_in(path: Path) -> str:
    """The task that a task file defines; raises RecipeError for one without a name."""
    import yaml

    class Loose(yaml.SafeLoader):
        """Task files may point at functions (`!function`)."""

    Loose.add_constructor("!function", lambda loader, node: None)
    given = yaml.load(path.read_text(encoding="utf-8"), Loose)
    name = given.get("task") if isinstance(given, dict) else None
    if not isinstance(name, str):
        raise RecipeError(f"--lm-eval {path}: the file names no `task`")
    return name


def plain(results: Any) -> dict[str, Any]:
    """The harness's numbers as JSON has them."""
    return dict(json.loads(json.dumps(results, default=str)))


def as_text(found: dict[str, Any]) -> str:
    """A line a number."""
    lines = []
    for task, numbers in found.items():
        lines.append(f"{task} (lm-evaluation-harness)")
        lines += [f"  {name:32} {value:.4f}" for name, value in numbers.items() if isinstance(value, float)]
    return "\n".join(lines)
