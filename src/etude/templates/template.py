"""A template as data: its YAML file read, checked, and found by name or path."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from etude import journal
from etude.catalog import Settings
from etude.failures import RecipeError, nearest
from etude.templates.filling import wrong_names

Options = Literal["told", "shown", "hidden", "mixed"]


class Phrasing(Settings):
    """One way of asking; each text is a Jinja template over the row's fields (and `labels`)."""

    instruction: str
    """What to do, without the row's material."""
    input: str = ""
    """The material the instruction is about."""
    answer: str
    """What the model should say."""
    options: Options | None = None
    """Whether the options are listed: `told`, this text names them itself; `shown`, always; `hidden`, never; `mixed`, as
    the recipe's wording says. By default as the template says."""
    inverts: bool = False
    """Whether it asks the other way round: for the input, given the output. Never used in scoring."""
    cot: bool = False
    """Whether the answer is written with its reasoning: the rationale, then 'The answer is X.'"""


class Template(Settings):
    """How the rows of one task are put into words."""

    name: str
    """The built-in name, or the path of the file."""
    task: str
    """The task these rows are, unless the source says otherwise."""
    about: str = ""
    """What the task is, in a sentence."""
    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    """The fields a row must have."""
    optional: tuple[str, ...] = ()
    """Fields a row may have; null where it has not."""
    notes: dict[str, str] = Field(default={})
    """Field -> what it holds."""
    labels: tuple[str, ...] = ()
    """The answers there are, for a classification task; left out beside a label_field, the source's `labels` give them."""
    label_field: str | None = None
    """The field that holds the label."""
    rename: dict[str, str] = Field(default={})
    """Other spellings of labels -> the label."""
    options_field: str | None = None
    """The field that holds a row's own options."""
    answer_field: str | None = None
    """The field that says which of a row's own options is right: its text, its letter, or its position from 0."""
    rationale: str | None = None
    """The field that holds the reasoning before an answer."""
    options: Options = "told"
    """Whether options are listed, for phrasings that do not say."""
    phrasings: Annotated[tuple[Phrasing, ...], Field(min_length=1)]
    """Ways of asking; the first is the one used where only one is."""
    metrics: tuple[str, ...] = ()
    """Suggested metrics."""
    baselines: tuple[str, ...] = ()
    """Suggested baselines; by default the few-shot model, and for label sets the majority class and the constrained model."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Most tokens of an answer, its end included."""
    example: dict[str, Any] = Field(default={})
    """A row of the task, for `etude templates NAME` and the tests."""

    @model_validator(mode="after")
    def fits_together(self) -> Template:
        """The label field is a field, renamed labels are labels, phrasings name only fields there are."""
        if self.labels and self.label_field is None:
            raise PydanticCustomError("labels", "labels and label_field belong together; give both or neither")
        if (self.options_field is None) != (self.answer_field is None):
            raise PydanticCustomError("options", "options_field and answer_field belong together; give both or neither")
        if self.label_field and self.options_field:
            raise PydanticCustomError("options", "a task has labels or a row's own options, not both")
        everything = (*self.fields, *self.optional)
        for key in ("label_field", "options_field", "answer_field", "rationale"):
            name = getattr(self, key)
            if name is not None and name not in everything:
                place = {"key": key, "name": name, "hint": nearest(name, everything)}
                raise PydanticCustomError("field", "{key} '{name}' is no field{hint}", place)
        for label in self.rename.values():
            if self.labels and label not in self.labels:
                hint = nearest(label, self.labels)
                raise PydanticCustomError("labels", "rename leads to '{name}', which is no label{hint}", {"name": label, "hint": hint})
        if missing := [field for field in self.fields if self.example and field not in self.example]:
            raise PydanticCustomError("example", "the example has no field '{name}'", {"name": missing[0]})
        self.check_phrasings(everything)
        return self

    def check_phrasings(self, fields: tuple[str, ...]) -> None:
        """Raise a placed error for the first phrasing that cannot be used."""
        if self.phrasings[0].inverts:
            raise PydanticCustomError("phrasing", "phrasing 1 inverts; the first one is used in scoring and must ask for the answer")
        for number, phrasing in enumerate(self.phrasings, 1):
            if phrasing.cot and self.rationale is None:
                raise PydanticCustomError("phrasing", "phrasing {number}: cot needs a template with a rationale field", {"number": number})
            for part in ("instruction", "input", "answer"):
                if why := wrong_names(getattr(phrasing, part), fields):
                    place = {"number": number, "part": part, "why": why}
                    raise PydanticCustomError("phrasing", "phrasing {number}, {part}: {why}", place)

    @property
    def answered(self) -> str:
        """The field that holds the answer: what the first phrasing answers with, if that is one field alone, else `answer`."""
        found = re.fullmatch(r"\s*\{\{\s*(\w+)\s*\}\}\s*", self.phrasings[0].answer)
        return found[1] if found else "answer"

    def choices(self) -> bool:
        """Whether there are options to list: a label set, or a row's own."""
        return bool(self.labels or self.options_field)

    def switch(self, phrasing: int) -> Options:
        """Whether a phrasing lists options; one that inverts does not unless it says so."""
        words = self.phrasings[phrasing]
        return words.options or ("hidden" if words.inverts else self.options)

    def forward(self) -> tuple[int, ...]:
        """The phrasings that ask for the answer; the others invert."""
        return tuple(i for i, phrasing in enumerate(self.phrasings) if not phrasing.inverts)


def names() -> list[str]:
    """The built-in templates, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in resources.files("etude.templates").iterdir() if file.name.endswith(".yaml"))


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


def load(name_or_path: str, labels: Iterable[str] = ()) -> Template:
    """A built-in template by name, or one of the user's own by the path of its .yaml file.

    `labels`: the label set of a template that leaves it open (`topic`), doubles counted once; others keep
    their own. Raises RecipeError for a name or file that does not exist (with the nearest that does) or is no template.
    """
    found = built_in(name_or_path) if not is_file(name_or_path) else parse(text_of(name_or_path), name_or_path)
    given = tuple(dict.fromkeys(labels))
    if not given or found.labels or found.label_field is None:
        return found
    return found.model_copy(update={"labels": given})


@functools.cache
def built_in(name: str) -> Template:
    """A built-in template, read once; raises RecipeError for a name there is not."""
    if name not in names():
        raise RecipeError(f"no template is named {name!r}{nearest(name, names())}, or give the path of a .yaml file")
    return parse(resources.files("etude.templates").joinpath(f"{name}.yaml").read_text(encoding="utf-8"), name)


def text_of(name: str) -> str:
    """The text of a template file; raises RecipeError where there is none."""
    path = Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        beside = [str(path.with_name(file.name)) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(f"there is no template file {name}{nearest(name, [*beside, *names()])}") from error
    except (OSError, UnicodeError) as error:
        raise RecipeError(f"template file {name} cannot be read: {error}") from error


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
