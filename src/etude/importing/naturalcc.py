"""NaturalCC's tutorials on code models: one flat JSON (`model`, `train_data`, `batch_size`, `lr`), a YAML with
`hyperparameters:`, and a YAML with one section a tuning method (naturalcc's ncc/configs/training)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from etude.failures import nearest
from etude.importing.rules import Given, Left, Outcome, Put, Rule, Tool, batch, left, model, run_name, same, to
from etude.tunings import TUNINGS

SECTIONS = ("hyperparameters",)
"""Sections whose keys count as if they stood at the top."""

METHODS = {
    "lora": ("lora",),
    "adalora": ("adalora",),
    "prefix": ("prefix", "prefix_tuning"),
    "p_tuning": ("p_tuning", "ptuning"),
    "prompt": ("prompt", "prompt_tuning"),
}
"""A section of theirs -> names of the tuning method here."""


def method(given: Given, key: str) -> Sequence[Outcome]:
    """A section for one tuning method; the first one is the recipe's, each of the others a recipe of its own."""
    settings = given.keys[key]
    if not isinstance(settings, Mapping):
        raise given.wrong(key, f"the settings of a tuning method were expected, not {settings!r}")
    name = next((name for name in METHODS[key] if name in TUNINGS), "")
    if key != next(other for other in given.keys if other in METHODS):
        return [Left(f"another tuning method: a second recipe, with tune.method: {{type: {name or key}, ...}}")]
    if not name:
        raise given.wrong(key, f"no tuning method of that name{nearest(key, TUNINGS)}")
    kind = TUNINGS[name]
    known = {setting: kind.spellings.get(setting, setting) for setting in settings}
    fields = kind.model_fields
    puts: list[Outcome] = [Put("tune.method.type", name)]
    puts += [Put(f"tune.method.{new}", settings[old]) for old, new in known.items() if new in fields]
    return [*puts, *(Left(f"{name} has no setting {old!r}") for old, new in known.items() if new not in fields)]


def data(given: Given, key: str) -> Sequence[Outcome]:
    """One file of (instruction, input, output) rows."""
    return [Put("sources.train", {"type": "alpaca", "path": str(given.keys[key])})]


def refuse(given: Given) -> None:
    """These tutorials do supervised tuning only."""


def defaults(given: Given) -> Iterable[Put]:
    """What the tutorials leave to the command line: a model and data."""
    if given.get("lora_r"):
        yield Put("tune.method.type", "lora")
    if not any(given.get(key) for key in METHODS) and not given.get("lora_r"):
        yield Put("tune.method.type", "full", "no tuning method is named: all weights learn")
    yield Put("model", "smollm2-135m-instruct", "the file names no model")
    yield Put("sources.train", {"type": "alpaca", "path": "train.jsonl"}, "the file names no data: instruction, input, output")


STEP = batch("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", (1, 1, 1024), lambda given: False)

KEYS: dict[str, Rule] = {
    "model": model(""),
    "model_path": model(""),
    "train_data": data,
    "batch_size": to("tune.rows_per_step", int),
    "per_device_train_batch_size": STEP,
    "gradient_accumulation_steps": STEP,
    "lr": to("tune.learning_rate", float),
    "learning_rate": to("tune.learning_rate", float),
    "max_length": to("tune.max_tokens", int),
    "epochs": to("tune.epochs", float),
    "train_epochs": to("tune.epochs", float),
    "warm_up": to("tune.warmup", float),
    "lora_r": to("tune.method.r", int),
    "output_dir": run_name,
    "checkpoint": same("checkpoints are in the run folder"),
    "lora": method,
    "adalora": method,
    "prefix": method,
    "p_tuning": method,
    "prompt": method,
    "inference_mode": left("a tuned model is for inference"),
}
"""Every key known."""

TOOL = Tool(
    name="NaturalCC",
    keys=KEYS,
    signs=frozenset(
        {"model", "train_data", "lr", "model_path", "train_epochs", "warm_up", "adalora", "prefix", "p_tuning", "prompt", "lora"}
    ),
    refuse=refuse,
    defaults=defaults,
)
