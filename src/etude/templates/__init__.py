"""Templates: how the fields of a row become an instruction and an answer, in words.

A template is data, a YAML file: a task's fields, its label set if it has one, and several phrasings
(after FLAN, Wei et al. 2021), each a Jinja text for the instruction, for the material it is about and
for the answer. The instruction of a phrasing is the same for every row and comes first, the material
after it, so that all rows share a prefix. `write` is used in mixing, scoring and previewing alike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from etude import journal, seeds
from etude.catalog import Settings
from etude.failures import DataError, RecipeError, nearest
from etude.records import Conversation, Message, Record

if TYPE_CHECKING:
    from jinja2 import Template as Compiled
    from jinja2.sandbox import ImmutableSandboxedEnvironment

Phrasings = Literal["first", "all"]
ROLES = ("system", "user", "assistant", "tool")


class Phrasing(Settings):
    """One way of asking; each text is a Jinja template over the row's fields (and `labels`)."""

    instruction: str
    """What to do, without the row's material."""
    input: str = ""
    """The material the instruction is about."""
    answer: str
    """What the model should say."""


class Template(Settings):
    """How the rows of one task are put into words."""

    name: str
    """The built-in name, or the path of the file."""
    task: str
    """The task these rows are, unless the source says otherwise."""
    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    """The fields a row must have."""
    labels: tuple[str, ...] = ()
    """The answers there are, for a classification task."""
    label_field: str | None = None
    """The field that holds the label."""
    rename: dict[str, str] = Field(default={})
    """Other spellings of labels -> the label."""
    phrasings: Annotated[tuple[Phrasing, ...], Field(min_length=1)]
    """Ways of asking; the first is the one used where only one is."""
    metrics: tuple[str, ...] = ()
    """Suggested metrics."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Most tokens of an answer, its end included."""

    @model_validator(mode="after")
    def fits_together(self) -> Template:
        """The label field is a field, renamed labels are labels, phrasings name only fields there are."""
        if (self.label_field is None) != (not self.labels):
            raise PydanticCustomError("labels", "labels and label_field belong together; give both or neither")
        if self.label_field is not None and self.label_field not in self.fields:
            hint = nearest(self.label_field, self.fields)
            raise PydanticCustomError("labels", "label_field '{name}' is no field{hint}", {"name": self.label_field, "hint": hint})
        for label in self.rename.values():
            if label not in self.labels:
                hint = nearest(label, self.labels)
                raise PydanticCustomError("labels", "rename leads to '{name}', which is no label{hint}", {"name": label, "hint": hint})
        for number, phrasing in enumerate(self.phrasings, 1):
            for part, text in phrasing.model_dump().items():
                if why := wrong_names(text, self.fields):
                    place = {"number": number, "part": part, "why": why}
                    raise PydanticCustomError("phrasing", "phrasing {number}, {part}: {why}", place)
        return self


def names() -> list[str]:
    """The built-in templates, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml"))


def known(name: str) -> str:
    """The same name, or a placed pydantic error; files of the user's own are looked for when they are read."""
    if not is_file(name) and name not in names():
        hint = nearest(name, names())
        raise PydanticCustomError(
            "template", "no template is named '{name}'{hint} (or the path of a .yaml file)", {"name": name, "hint": hint}
        )
    return name


TemplateName = Annotated[str, AfterValidator(known)]
"""The annotation of a settings field that names a template."""


def is_file(name: str) -> bool:
    """Whether a template's name is the path of a file."""
    return name.endswith((".yaml", ".yml"))


def load(name_or_path: str) -> Template:
    """A built-in template by name, or one of the user's own by the path of its .yaml file.

    Raises RecipeError for a name or file that does not exist (with the nearest that does) or is no template.
    """
    if not is_file(name_or_path):
        if name_or_path not in names():
            raise RecipeError(f"no template is named {name_or_path!r}{nearest(name_or_path, names())}, or give the path of a .yaml file")
        return built_in(name_or_path)
    path = Path(name_or_path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        beside = [str(path.with_name(file.name)) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(f"there is no template file {name_or_path}{nearest(name_or_path, [*beside, *names()])}") from error
    except (OSError, UnicodeError) as error:
        raise RecipeError(f"template file {name_or_path} cannot be read: {error}") from error
    return parse(text, name_or_path)


@functools.cache
def built_in(name: str) -> Template:
    """A built-in template, read once."""
    return parse(resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), name)


def parse(text: str, name: str) -> Template:
    """A template of its YAML text; raises RecipeError naming it, the place and what is wrong."""
    import yaml

    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"template {name}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise RecipeError(f"template {name}: a mapping is needed with task, fields and phrasings")
    try:
        return Template.model_validate({**given, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"template {name}: {place + ': ' if place else ''}{first['msg']}") from error


def digest(template: Template) -> str:
    """SHA-256 (hex) of everything a template says."""
    return journal.digest(template.model_dump(mode="json"))


def write(record: Record, template: Template | None, *, phrasing: int = 0, exemplars: Sequence[Record] = ()) -> Conversation:
    """A row in words. `exemplars` become earlier turns in the same phrasing; the row itself is never one.

    Without a template the row must be worded already: `messages`, or Alpaca's fields. Raises DataError
    naming the row's place for a field that does not exist or messages of another shape.
    """
    shown = [record_ for record_ in exemplars if record_.id != record.id]
    turns = [turn for example in shown for turn in exchange(example, template, phrasing) if turn.role != "system"]
    own = exchange(record, template, phrasing)
    opening = [message for message in own[:1] if message.role == "system"]
    notes = {"template": template.name, "phrasing": phrasing} if template else {}
    task = record.task or (template.task if template else "")
    return Conversation(record.id, (*opening, *turns, *own[len(opening) :]), record.origin, task, notes)


def exchange(record: Record, template: Template | None, phrasing: int) -> tuple[Message, ...]:
    """The messages of one row."""
    if template is None:
        return worded(record)
    if not 0 <= phrasing < len(template.phrasings):
        raise RecipeError(f"template {template.name!r} has {len(template.phrasings)} phrasings, numbered from 0; there is no {phrasing}")
    words = template.phrasings[phrasing]
    values = {"labels": template.labels, **record.fields}
    instruction, material, answer = (fill(text, values, record, template) for text in (words.instruction, words.input, words.answer))
    return Message("user", instruction, material), Message("assistant", answer)


def worded(record: Record) -> tuple[Message, ...]:
    """The messages of a row that needs no template; raises DataError where it does."""
    fields = record.fields
    if "messages" in fields:
        if not isinstance(fields["messages"], list | tuple):
            raise DataError(f"{record.origin}: 'messages' is not a list")
        return tuple(message(given, record) for given in fields["messages"])
    for key in ("instruction", "output"):
        if key not in fields:
            raise DataError(
                f"{record.origin}: there is no field {key!r}{nearest(key, fields)}; name a template for source {record.source!r}"
            )
    opening = (Message("system", fields["system"]),) if fields.get("system") else ()
    history = [Message(role, text) for pair in fields.get("history") or () for role, text in zip(ROLES[1:], pair, strict=True)]
    return (*opening, *history, Message("user", fields["instruction"], fields.get("input") or ""), Message("assistant", fields["output"]))


def message(given: Any, record: Record) -> Message:
    """One message of a row's own; raises DataError for another shape."""
    if isinstance(given, Message):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("content"), str) or not isinstance(given.get("context", ""), str):
        raise DataError(f"{record.origin}: a message needs a role and a text as content")
    role = given.get("role")
    if role not in ROLES:
        raise DataError(f"{record.origin}: no role is called {role!r}{nearest(str(role), ROLES)}")
    return Message(role, given["content"], given.get("context", ""))


def choose(template: Template, record_id: str, seed: int, phrasings: Phrasings) -> int:
    """The phrasing of a row: 0, or one of all, the same one for the same row and seed every time."""
    return 0 if phrasings == "first" else seeds.number(seed, "phrasing", template.name, record_id) % len(template.phrasings)


def pick_exemplars(records: Sequence[Record], k: int, seed: int, template: Template | None) -> tuple[Record, ...]:
    """`k` different rows to show as examples: of every label alike (as nearly as k allows), rows no longer
    than the median of their label first, otherwise by lot; in an order drawn by lot. A pure function of
    seed and rows, whatever the order of the rows. Raises DataError when there are fewer than k rows."""
    if k <= 0:
        return ()
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        label = str(record.fields.get(template.label_field, "")) if template and template.label_field else ""
        groups.setdefault(label, {})[record.id] = record
    total = sum(len(group) for group in groups.values())
    if total < k:
        raise DataError(f"{k} examples are asked for, but there are only {total} rows to take them from")
    queues = []
    for label in sorted(groups, key=lambda name: seeds.number(seed, "exemplar label", name)):
        rows = list(groups[label].values())
        bound = median_low(size(row, template) for row in rows)
        queues.append(sorted(rows, key=lambda row: (size(row, template) > bound, seeds.number(seed, "exemplar", row.id))))
    picked: list[Record] = []
    for turn in range(k):
        picked += [queue[turn] for queue in queues if turn < len(queue)]
    return tuple(sorted(picked[:k], key=lambda row: seeds.number(seed, "exemplar order", row.id)))


def size(record: Record, template: Template | None) -> int:
    """Characters of a row's fields."""
    keys: Iterable[str] = template.fields if template else record.fields
    return sum(len(str(record.fields.get(key, ""))) for key in keys)


def fill(text: str, values: Mapping[str, Any], record: Record, template: Template) -> str:
    """One text of a phrasing with a row's values; raises DataError naming the row and the field."""
    import jinja2

    try:
        return compiled(text).render(values)
    except jinja2.UndefinedError as error:
        missing = sorted(undeclared(text) - set(values))
        what = f"there is no field {missing[0]!r}{nearest(missing[0], record.fields)}" if missing else str(error)
        raise DataError(f"{record.origin}: {what}; template {template.name!r} needs it") from error
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"{record.origin}: template {template.name!r} cannot be filled: {error}") from error


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """Jinja without access to Python's insides; a field that does not exist is an error, never nothing."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=shown, autoescape=False)


@functools.lru_cache(maxsize=1024)
def compiled(text: str) -> Compiled:
    """A phrasing's text, compiled once."""
    return environment().from_string(text)


@functools.lru_cache(maxsize=1024)
def undeclared(text: str) -> frozenset[str]:
    """The fields a text reads."""
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(environment().parse(text)))


def shown(value: Any) -> Any:
    """A value as text: true and false as JSON spells them, null as nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


def wrong_names(text: str, fields: Iterable[str]) -> str:
    """What is wrong with a phrasing's text, or ""."""
    import jinja2

    try:
        compiled(text)
        missing = sorted(undeclared(text) - set(fields) - {"labels"})
    except jinja2.TemplateSyntaxError as error:
        return f"not a Jinja text, line {error.lineno}: {error.message}"
    return f"there is no field {missing[0]!r}{nearest(missing[0], fields)}" if missing else ""
