"""What becomes of one key of another tool's configuration: a place in the recipe, or a reason why not.

A tool is a dict, one line a key: `to("tune.epochs")`, `left("why")`. A rule is a function of the whole
configuration and the key, so that keys which only mean something together can look at each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.failures import RecipeError, nearest
from etude.recipe import line_of


@dataclass(frozen=True, slots=True)
class Given:
    """A configuration as it was read: its keys, the file, and its text (for line numbers)."""

    keys: Mapping[str, Any]
    path: Path
    text: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; the default where it is missing or null."""
        value = self.keys.get(key)
        return default if value is None else value

    def wrong(self, key: str, message: str) -> RecipeError:
        """The error that names file, line and key."""
        line = line_of(self.text, ["hyperparameters", key])
        return RecipeError(f"{self.path}{f':{line}' if line else ''}: {key}: {message}")


@dataclass(frozen=True, slots=True)
class Put:
    """A value for a dotted place of the recipe, and a word about its origin where it is not obvious."""

    place: str
    value: Any
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """A key that is not carried over, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Same:
    """A key that asks for what etude does anyway, or that another key's line already says."""

    why: str = ""


Outcome = Put | Left | Same
Rule = Callable[[Given, str], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Tool:
    """Another tool: how it is recognised, and what its keys mean here."""

    name: str
    """As its makers write it."""
    keys: Mapping[str, Rule]
    signs: frozenset[str]
    """Keys that only this tool has; the most hits decide."""
    refuse: Callable[[Given], None]
    """Raises RecipeError for a configuration of something else than supervised tuning."""
    defaults: Callable[[Given], Iterable[Put]]
    """What the tool does where the file is silent and etude would do otherwise."""


# ---- rules -----------------------------------------------------------------------------------------


def to(place: str, kind: type = object, comment: str = "") -> Rule:
    """Copy the value; numbers may stand as text (`1e-4` is text in YAML 1.1)."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        return [Put(place, cast(given, key, kind), comment)]

    return rule


def cast(given: Given, key: str, kind: type) -> Any:
    """The value as int, float, str or as it is; raises RecipeError naming the line."""
    value = given.keys[key]
    if kind in (int, float):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(value, bool) or number != number or (kind is int and not number.is_integer()):
            raise given.wrong(key, f"a {'whole ' if kind is int else ''}number was expected, not {value!r}")
        return int(number) if kind is int else (int(number) if isinstance(value, int) else number)
    if kind is str and not isinstance(value, str):
        raise given.wrong(key, f"text was expected, not {value!r}")
    return value


def left(why: str) -> Rule:
    """Not carried over, whatever the value."""
    return lambda given, key: [Left(why)]


def off(why: str) -> Rule:
    """Nothing to carry where the value switches the thing off; else not carried over."""
    return lambda given, key: [Same("off")] if given.keys[key] in (False, 0, "", "no", "none", "None", "false", [], {}) else [Left(why)]


def same(why: str) -> Rule:
    """What etude does anyway, or what another line of the recipe says."""
    return lambda given, key: [Same(why)]


def choice(place: str, values: Mapping[Any, Any], comment: str = "") -> Rule:
    """A value by name; an `Outcome` in the table stands for itself. Unknown names are refused with the nearest."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        value = given.keys[key]
        if not isinstance(value, str | bool | int) or value not in values:
            raise given.wrong(key, f"no value is called {value!r}{nearest(str(value), map(str, values))}")
        found = values[value]
        return [found if isinstance(found, Left | Same | Put) else Put(place, found, comment)]

    return rule


def unless_off(place: str, kind: type = float) -> Rule:
    """Copy a value; nothing, 0 and false are the default here."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        return to(place, kind)(given, key) if given.keys[key] else [Same("off, as by default")]

    return rule


def first_of(*keys: str) -> Callable[[Given], str]:
    """The first of these keys that is given, or ""."""
    return lambda given: next((key for key in keys if given.get(key) is not None), "")


# ---- what several tools share ----------------------------------------------------------------------

SCHEDULES: dict[Any, Any] = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "inverse_sqrt": "inverse_sqrt",
    "warmup_stable_decay": "wsd",
    **{
        name: Left("etude has cosine, linear, constant, wsd and inverse_sqrt; the recipe's default, cosine, is used")
        for name in (
            "cosine_with_restarts", "polynomial", "reduce_lr_on_plateau", "cosine_with_min_lr",
            "cosine_warmup_with_min_lr", "one_cycle", "rex", "greedy",
        )
    },
}  # fmt: skip
"""transformers' SchedulerType (and axolotl's two of its own) -> `tune.schedule`."""

ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_torch_xla", "adamw_torch_npu_fused", "adamw", "adamw_apex_fused")


def optimizer(given: Given, key: str) -> Sequence[Outcome]:
    """AdamW, its 8-bit form and Adafactor; any other is not carried over."""
    name = str(given.keys[key])
    if name in ADAMW:
        return [Same("AdamW is etude's optimizer")]
    if name in ("adamw_8bit", "adamw_bnb_8bit", "adamw8bit", "adafactor"):
        return [Put("tune.optimizer", "adafactor" if name == "adafactor" else "adamw_8bit")]
    small = "; its 8-bit or paged states save memory and change the arithmetic a little" if "adamw" in name else ""
    return [Left(f"the optimizers here are adamw, adamw_8bit and adafactor{small}")]


def betas(name: str, other: str) -> Rule:
    """AdamW's two decay rates, which are two keys there and one here."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        if key == other and given.get(name) is not None:
            return [Same(f"with {name}")]
        rates = [cast(given, beta, float) if given.get(beta) is not None else usual for beta, usual in ((name, 0.9), (other, 0.999))]
        return [Put("tune.betas", rates)]

    return rule


def batch(rows: str, passes: str, length: str, default: tuple[int, int, int], packed: Callable[[Given], bool], gpus: str = "") -> Rule:
    """Rows of a step: rows a pass times passes; where the tool packs, a "row" is a full pack, so tokens are what counts."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        if key == passes and given.get(rows) is not None:
            return [Same(f"with {rows}")]
        numbers = [whole(given, name, value) for name, value in zip((rows, passes, length), default, strict=True)]
        return [step(numbers, rows, passes, packed(given), length)]

    return rule


def step(numbers: Sequence[int], rows: str, passes: str, packed: bool, length: str) -> Put:
    """The size of a step, as rows or as tokens."""
    size = numbers[0] * numbers[1]
    if packed:
        return Put("tune.tokens_per_step", size * numbers[2], f"{rows} x {passes} packs of {length} tokens; times the GPUs used there")
    return Put("tune.rows_per_step", size, f"{rows} x {passes}; times the GPUs used there")


def whole(given: Given, key: str, default: int) -> int:
    """A whole number of at least 1."""
    if given.get(key) is None:
        return default
    value = cast(given, key, int)
    if value < 1:
        raise given.wrong(key, f"at least 1 was expected, not {value}")
    return int(value)


def warmup(other: str) -> Rule:
    """Steps or a share; where both are given the steps count, as in transformers (`other` is the share)."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        if key == other and given.get("warmup_steps", 0):
            return [Same("warmup_steps counts")]
        value = cast(given, key, float)
        if not value and key == "warmup_steps" and given.get(other):
            return [Same(f"{other} counts")]
        return [Put("tune.warmup", value)]

    return rule


def evaluation(given: Given, key: str) -> Sequence[Outcome]:
    """When the validation loss is measured: a strategy and a number of steps there, one value here."""
    name = first_of("eval_strategy", "evaluation_strategy")(given)
    strategy = given.get(name) if name else "steps"
    if key == "eval_steps" and name:
        return [Same(f"with {name}")]
    steps = given.get("eval_steps", given.get("logging_steps", 500))
    if strategy == "steps" and not isinstance(steps, int):
        return [Left("a share of all steps; etude measures the validation loss after each epoch")]
    values = {"no": "never", False: "never", "epoch": "epoch", "steps": steps}
    if not isinstance(strategy, str | bool) or strategy not in values:
        raise given.wrong(name, f"no value is called {strategy!r}{nearest(str(strategy), ['no', 'epoch', 'steps'])}")
    return [Put("tune.evaluate_every", values[strategy])]


def saving(given: Given, key: str) -> Sequence[Outcome]:
    """Checkpoints besides those at evaluations."""
    if given.get("save_strategy") in ("no", False, "epoch"):
        return [Same("a checkpoint is written at every evaluation")]
    steps = given.get("save_steps", 500)
    if key == "save_strategy" and given.get("save_steps") is not None:
        return [Same("with save_steps")]
    if not isinstance(steps, int) or steps < 1:
        return [Left("a share of all steps; a checkpoint is written at every evaluation")]
    return [Put("tune.save_every", steps)]


def share(given: Given, key: str) -> Sequence[Outcome]:
    """Rows for validation: a share below 1, else a count."""
    value = cast(given, key, float)
    if value < 0 or (value > 1 and value != int(value)):
        raise given.wrong(key, f"a share (0.1) or a count (200) was expected, not {value!r}")
    return [Put("split.validation", int(value) if value >= 1 or value == 0 else value)]


def precision(given: Given, key: str) -> Sequence[Outcome]:
    """bf16 and fp16 of the other tools. `auto` means bf16 where the GPU has it."""
    value = given.keys[key]
    name = {"bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16", "float16": "float16"}[key]
    if value is True or value == "true":
        return [Put("tune.precision", name, "slower than float32 on most CPUs: etude doctor measures it")]
    if value in ("auto", "full"):
        return [Left("etude computes in float32 unless tune.precision says otherwise; etude doctor measures which is faster")]
    return [Same("off")]


def modules(place: str, every: Sequence[str] = ("all", "all-linear")) -> Rule:
    """Layers that get an adapter: a list, or text with commas."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        value = given.keys[key]
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise given.wrong(key, f"names of layers were expected, not {value!r}")
        return [Put(place, "all-linear" if len(names) == 1 and names[0] in every else names)]

    return rule


def model(revision: str) -> Rule:
    """A model: a folder or file as it stands, else `owner/name` on the hub at a revision."""

    def rule(given: Given, key: str) -> Sequence[Outcome]:
        return [Put("model", *place_of_model(str(given.keys[key]), str(given.get(revision, ""))))]

    return rule


def place_of_model(name: str, revision: str = "") -> tuple[str, str]:
    """How a recipe names a model that another tool names `name`, and a remark."""
    if name.startswith((".", "/", "~", "hf://", "pypi:")) or name.endswith(".gguf") or Path(name).exists():
        return name, ""
    if name.count("/") == 1:
        return f"hf://{name}{f'@{revision}' if revision and revision != 'main' else ''}", ""
    return name, "no path and no owner/name: give a folder, a GGUF file or hf://owner/name"


def run_name(given: Given, key: str) -> Sequence[Outcome]:
    """The last part of an output folder is the run's name."""
    return [Put("name", slug(str(given.keys[key])), f"{key}: {given.keys[key]}; the folder is runs/<name>")]


def slug(text: str) -> str:
    """A run's name of any text: small letters, digits, '.', '_', '-'."""
    parts = [part for part in text.replace("\\", "/").split("/") if part.strip(".")]
    # saves/qwen3-4b/lora/sft: the last part alone says little
    short = bool(parts) and parts[-1].lower() in ("sft", "lora", "full", "out", "output", "outputs", "checkpoints")
    tail = "-".join(parts[-3:] if short else parts[-1:])
    words = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in tail.lower())
    return words.strip("._-")[:64] or "imported"
