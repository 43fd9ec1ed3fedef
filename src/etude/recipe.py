"""The Recipe: one experiment, whole, from a YAML or JSON file and `key=value` overrides.

Only `name`, `model` and `sources` are needed; `recipe.resolved.yaml` in the run folder shows every
default. Keys of other tools and of old tutorials are accepted where they can mean only one thing,
with a note of today's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from etude import journal
from etude.catalog import Settings, note
from etude.curation import CHECKS, PRESETS, REWRITES, Check, Rewrite
from etude.failures import RecipeError, nearest
from etude.formats import FORMATS, FormatSettings
from etude.formats.jinja import Auto
from etude.formats.training_turns import TrainOn
from etude.generation import STRATEGIES, Strategy
from etude.mixing import Mixture
from etude.models import LLMS, LLMSettings
from etude.scoring import Task
from etude.sources import SOURCES, Source
from etude.splitting import Split
from etude.steps import Tune
from etude.templates import Wording
from etude.tunings.lora import Lora

MOST_BYTES = 1_000_000
"""A recipe is a page or two; a larger file is something else (or a YAML bomb)."""

SECRET = {"api_key_env", "base_url", "headers"}
"""Keys whose values a message never repeats: somebody may have put a key there."""

DataName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


START = "start"
"""What the recipe's own start model is called where an LLM is named."""


def llms_of(strategy: Strategy) -> list[str]:
    """The LLMs that a strategy names: its settings called `llm`, `judge` and the like."""
    return [name for field in ("llm", "judge", "teacher") if isinstance(name := getattr(strategy, field, None), str) and name]


class Recipe(Settings):
    """One experiment: a start model, data, and how they become a tuned model and a verdict."""

    name: Annotated[str, Field(pattern=NAME)]
    """Name of the run; its folder is runs/<name>."""
    model: str
    """Start model: an alias (smollm2-135m-instruct), a folder, a GGUF file, hf://owner/name@revision, pypi:package==version."""
    sources: dict[DataName, Annotated[Source, SOURCES]] = Field(default={})
    """Named data sets; at least one, here or made by `generate`."""
    generate: dict[DataName, Annotated[Strategy, STRATEGIES]] = Field(default={})
    """Named data sets that a model makes, in order; each starts from the training rows of a source (or of one made before it), and all
    its rows are for training."""
    split: Split = Split()
    """Which rows are for training, validation and test."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """Rows that may be unusable before the run stops; each is in dropped.jsonl with its reason."""
    rewrite: tuple[Annotated[Rewrite, REWRITES], ...] = ()
    """What is changed in the training rows before the checks: comments removed from code, secrets masked."""
    rewrite_evaluation: bool = False
    """Whether validation and test rows are rewritten too."""
    curate: Annotated[tuple[Annotated[Check, CHECKS], ...], Field(validate_default=True)] = ()
    """Checks of the training rows, in order; each drops rows with a reason. `standard` and `thorough` stand for lists of them.
    `contamination` comes last where it is not named: training rows that hold a test question always leave, unless
    the recipe says `{type: contamination, drop: false}`."""
    llms: dict[DataName, Annotated[LLMSettings, LLMS]] = Field(default={})
    """Named models that strategies, checks and judges ask: any OpenAI-compatible server, a model on this machine, fixed answers."""
    mixture: Mixture = Mixture()
    """How much of each source is trained; by default every training row once."""
    format: Annotated[FormatSettings, FORMATS] = Auto()
    """How conversations are written for the model."""
    wording: Wording = Wording()
    """How rows are put into words: phrasings, worked examples, options, reasoning."""
    train_on: TrainOn = TrainOn()
    """Whose turns the loss counts, all of them or the last."""
    tune: Tune = Tune()
    """How the model is tuned."""
    score: tuple[Task, ...] | None = None
    """What is scored before and after; by default every source on its test rows."""
    probes: tuple[str, ...] = ()
    """Questions without a reference that both models answer in the report."""
    forgetting: bool = True
    """Whether both models also read prose and code of this machine and take a few small tasks: what tuning cost."""
    seed: int = 0
    """Seed of every random choice that has no seed of its own."""

    @field_validator("score", mode="before")
    @classmethod
    def one_or_many(cls, given: Any) -> Any:
        """A single task may stand without a list."""
        return [given] if isinstance(given, Mapping) else given

    @field_validator("rewrite", mode="before")
    @classmethod
    def one_or_several(cls, given: Any) -> Any:
        """A single rewrite may stand without a list."""
        return [given] if isinstance(given, Mapping | str) else given

    @field_validator("curate", mode="before")
    @classmethod
    def with_contamination(cls, given: Any) -> Any:
        """The names of presets spelled out, and contamination last where it is not named."""
        listed = [given] if isinstance(given, Mapping | str) else list(given or ())
        whole = [one for item in listed for one in (PRESETS[item] if isinstance(item, str) and item in PRESETS else (item,))]
        names = [one if isinstance(one, str) else one.get("type") if isinstance(one, Mapping) else CHECKS.name_of(one) for one in whole]
        return whole if "contamination" in names else [*whole, "contamination"]

    @model_validator(mode="after")
    def know_the_data(self) -> Recipe:
        """Some data; made data under names of their own, each from rows and a model that there are."""
        if not self.sources and not self.generate:
            raise ValueError("sources: a recipe needs data: a source, or something to generate")
        known = dict.fromkeys(self.sources)
        for name, strategy in self.generate.items():
            if name in known:
                raise ValueError(f"generate.{name}: a source has this name already")
            if strategy.rows and strategy.rows not in known:
                raise ValueError(f"generate.{name}.rows: no data named {strategy.rows!r} before it{nearest(strategy.rows, known)}")
            for llm in llms_of(strategy):
                if llm != START and llm not in self.llms:
                    raise ValueError(f"generate.{name}: no LLM named {llm!r} in llms{nearest(llm, self.llms)}, and it is not {START!r}")
            known[name] = None
        return self

    def data_names(self) -> tuple[str, ...]:
        """Sources and made data, in order."""
        return (*self.sources, *self.generate)

    def tasks(self) -> tuple[Task, ...]:
        """The tasks to score, defaults filled in; raises RecipeError for a task without a source."""
        chosen = self.score if self.score is not None else tuple(Task(task=name) for name in self.sources)
        for task in chosen:
            if task.task not in self.sources:
                raise RecipeError(f"score: no source named {task.task!r}{nearest(task.task, self.sources)}")
        return chosen

    def training_seed(self) -> int:
        """The seed of training: `tune.seed`, else the recipe's."""
        return self.seed if self.tune.seed is None else self.tune.seed

    def dump(self) -> dict[str, Any]:
        """Every value, defaults included, as plain data."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of every value."""
        return journal.digest(self.dump())


# ---- old spellings ---------------------------------------------------------------------------------

TOP = {"model_name_or_path": "model", "base_model": "model", "model_name": "model"}
DATA = ("train_data", "train_file", "data_path", "dataset_path")
BATCH = ("batch_size", "per_device_train_batch_size", "micro_batch_size", "gradient_accumulation_steps")
EVALUATION = ("evaluation_strategy", "eval_strategy")


def modernise(given: Mapping[str, Any]) -> dict[str, Any]:
    """Move the flat keys of other tools to where they live here, with a note for each.

    Raises RecipeError where an old and a new spelling disagree or a key cannot be meant.
    """
    raw = dict(given)
    tune = raw.get("tune")
    if tune is None or isinstance(tune, Mapping):
        flat = {**{k: raw.pop(k) for k in list(raw) if k not in Recipe.model_fields and belongs_to_tune(k)}, **(tune or {})}
        for old in [k for k in raw if k in TOP]:
            put(raw, TOP[old], raw.pop(old), old)
        modern = modern_tune(flat, given)
        if modern or "tune" in raw:
            raw["tune"] = modern
    for old in [k for k in raw if k in DATA]:
        put(raw, "sources", {"train": {"type": "alpaca", "path": raw.pop(old)}}, old, "sources.train.path")
    if "output_dir" in raw:
        put(raw, "name", Path(str(raw.pop("output_dir"))).name.lower(), "output_dir", "name (the folder is runs/<name>)")
    if "phrasings" in raw:
        old, section = raw.pop("phrasings"), raw.get("wording") or {}
        raw["wording"] = dict(section) if isinstance(section, Mapping) else {}
        put(raw["wording"], "phrasings", old, "phrasings", "wording.phrasings")
    if "load_best_model_at_end" in raw:
        raw.pop("load_best_model_at_end")
        note("'load_best_model_at_end' is not needed: the weights with the lowest validation loss are always kept")
    return raw


def belongs_to_tune(key: str) -> bool:
    """Whether a top-level key is one of the training settings of today or of another tool."""
    known = {*Tune.model_fields, *Tune.spellings, *BATCH, *EVALUATION, "eval_steps", "fp16", "bf16"}
    return key in known or key in Lora.spellings or key == "target_modules"


def put(raw: dict[str, Any], key: str, value: Any, old: str, shown: str = "") -> None:
    """Set `key` from an old spelling, unless it is given twice."""
    if key in raw:
        raise RecipeError(f"{old!r} is an old spelling of {shown or key!r}, and both are given")
    raw[key] = value
    note(f"{old!r} is called {shown or key!r} here")


def modern_tune(flat: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The tune section with other tools' keys in today's places."""
    tune = {k: v for k, v in flat.items() if k not in BATCH and k not in EVALUATION and k not in ("eval_steps", "fp16", "bf16")}
    for key in [k for k in tune if k in given and k not in Recipe.model_fields]:
        if key in Tune.model_fields:
            note(f"{key!r} is called 'tune.{key}' here")
    batch = [k for k in BATCH if k in flat]
    if batch:
        size = 1
        for key in batch:
            if not isinstance(flat[key], int) or flat[key] < 1:
                raise RecipeError(f"{key}: a whole number of rows was expected, not {flat[key]!r}")
            size *= flat[key]
        put(tune, "rows_per_step", size, " x ".join(batch), "tune.rows_per_step")
    strategy = next((k for k in EVALUATION if k in flat), None)
    steps = flat.get("eval_steps")
    if strategy or steps:
        chosen = {"epoch": "epoch", "no": "never", False: "never", "steps": steps or 500}.get(flat[strategy] if strategy else "steps")
        if chosen is None:
            raise RecipeError(f"{strategy}: 'epoch', 'steps' or 'no' was expected, not {flat[strategy or '']!r}")
        put(tune, "evaluate_every", chosen, strategy or "eval_steps", "tune.evaluate_every")
    for key, precision in (("fp16", "float16"), ("bf16", "bfloat16")):
        if flat.get(key):
            put(tune, "precision", precision, key, "tune.precision")
    adapter = {k: tune.pop(k) for k in list(tune) if k == "target_modules" or (k in Lora.spellings and k != "rank")}
    if adapter:
        method = tune.get("method") or tune.pop("peft", None) or tune.pop("adapter", None) or tune.pop("finetuning_type", None) or "lora"
        tune["method"] = {**({"type": method} if isinstance(method, str) else method)}
        for old, value in adapter.items():
            new = Lora.spellings.get(old, old)
            put(tune["method"], new, value, old, f"tune.method.{new}")
    return tune


# ---- reading ---------------------------------------------------------------------------------------


def parse(text: str, where: str) -> dict[str, Any]:
    """A YAML (or JSON) mapping; raises RecipeError with the line of a syntax error."""
    import yaml

    if len(text) > MOST_BYTES:
        raise RecipeError(f"{where}: {len(text):,} characters; a recipe has at most {MOST_BYTES:,}")
    if text.count("&") and text.count("*") > 1000:
        raise RecipeError(f"{where}: too many YAML aliases")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{where}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(value, dict):
        raise RecipeError(f"{where}: a mapping of keys was expected, not {type(value).__name__}")
    return value


def override(raw: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `dotted.key=value` assignments (values in YAML); list positions are numbers."""
    import yaml

    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        if not sign or not path:
            raise RecipeError(f"{assignment!r}: an override is key=value, such as tune.learning_rate=3e-4")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{assignment!r}: the value is not YAML") from error
        raw = assign(raw, path.split("."), parsed, assignment)
    return raw


def assign(node: Any, path: Sequence[str], value: Any, shown: str) -> Any:
    """A copy of `node` with `value` at `path`."""
    if not path:
        return value
    if isinstance(node, str):
        node = {"type": node}
    if isinstance(node, list):
        if not path[0].isdigit() or int(path[0]) >= len(node):
            raise RecipeError(f"{shown!r}: {path[0]!r} is no position in a list of {len(node)}")
        copy = list(node)
        copy[int(path[0])] = assign(node[int(path[0])], path[1:], value, shown)
        return copy
    if node is not None and not isinstance(node, dict):
        raise RecipeError(f"{shown!r}: {path[0]!r} is inside a value that has no keys")
    return {**(node or {}), path[0]: assign((node or {}).get(path[0]), path[1:], value, shown)}


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file with overrides; raises RecipeError naming file, line, key and the nearest right thing."""
    if not path.is_file():
        near = (
            nearest(path.name, [p.name for p in path.parent.glob("*") if p.suffix in (".yaml", ".yml", ".json")])
            if path.parent.is_dir()
            else ""
        )
        raise RecipeError(f"{path}: no such recipe{near}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error})") from error
    return build(override(parse(text, str(path)), overrides), str(path), text)


def build(raw: Mapping[str, Any], where: str = "recipe", text: str = "") -> Recipe:
    """A validated Recipe; every fault is listed, with its line in `text` where it has one."""
    try:
        return Recipe.model_validate(modernise(raw))
    except ValidationError as error:
        raise RecipeError("\n".join(explain(item, where, text) for item in error.errors(include_url=False))) from error
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def with_documents(recipe: Recipe, documents: Path) -> Recipe:
    """The recipe with every strategy that reads documents reading these; raises RecipeError where none does."""
    given = {"documents": str(documents)}
    changed = {name: one.model_copy(update=given) for name, one in recipe.generate.items() if "documents" in type(one).model_fields}  # type: ignore[attr-defined]
    if not changed:
        raise RecipeError(f"--from {documents}: the recipe has no strategy that reads documents, such as {{type: back_translation}}")
    return recipe.model_copy(update={"generate": {**recipe.generate, **changed}})


def explain(item: Mapping[str, Any], where: str, text: str) -> str:
    """One line for one fault: place, key, what is wrong."""
    key = item.get("ctx", {}).get("key") if item["type"] in ("unknown_key", "twice") else None
    loc = [str(part) for part in item["loc"] if not str(part).startswith(("function-", "constrained-", "literal["))]
    loc = [*loc, str(key)] if key else loc
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "unknown_key" and len(loc) == 1:
        message = f"unknown key {key!r}{nearest(str(key), [*Recipe.model_fields, *(f'tune.{name}' for name in Tune.model_fields)])}"
    if item["type"] == "missing":
        message = "is needed"
    elif loc and item["type"] not in ("unknown_key", "twice", "unknown_name", "no_type", "no_plugin") and not SECRET & set(loc):
        message += f", not {json.dumps(item['input'], default=str)[:80]}"
    line = line_of(text, loc)
    key_said = f"{'.'.join(loc)}: " if loc else ""  # a fault of the whole names its keys itself
    return f"{where}{f':{line}' if line else ''}: {key_said}{message}"


def line_of(text: str, loc: Sequence[str]) -> int:
    """1-based line of the deepest part of `loc` that stands in the YAML text; 0 when none does."""
    import yaml

    try:
        node = yaml.compose(text) if text else None
    except yaml.YAMLError:
        return 0
    line = 0
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                continue
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their order."""
    import yaml

    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120)


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    value = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **value, "title": "etude recipe"}
