"""The names a recipe may use, and the settings classes they mean.

A catalog is one dict: `TUNINGS = Catalog("tuning", {"full": Full, "lora": Lora})`. A recipe field is
declared `Annotated[Tuning, TUNINGS]` and then accepts `lora`, `{type: lora, r: 8}`, an instance, or
`their_package.module:TheirClass` for a thing from another package.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from etude.failures import RecipeError, nearest

NOTES: list[str] = []
"""Notes for the user (today's name of an old spelling), in the order met; the command line prints them."""


def note(text: str) -> None:
    """Keep a note for the user, once."""
    if text not in NOTES:
        NOTES.append(text)


def describe(schema: dict[str, Any], kind: type[BaseModel]) -> None:
    """Add the text under each field of a settings class to its JSON schema."""
    properties = schema.get("properties", {})
    for parent in reversed(kind.__mro__):
        if not issubclass(parent, BaseModel) or parent is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(parent))).body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))) if name in properties:
                    properties[name]["description"] = inspect.cleandoc(said)


class Settings(BaseModel):
    """A frozen section of a recipe that refuses keys it does not know.

    `spellings` maps names that tutorials and other tools use to today's.
    """

    # A recipe uses a few of the classes it could name, and each costs milliseconds to build; so they are built when first
    # used, and the texts under their fields are read for the JSON schema only.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, json_schema_extra=describe)
    spellings: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def know_the_keys(cls, given: Any) -> Any:
        """Rename old spellings, and refuse an unknown key with the nearest known one."""
        if not isinstance(given, Mapping):
            return given
        known = dict(given)
        for old, new in cls.spellings.items():
            if old in known and old not in cls.model_fields:
                if new in known:
                    raise PydanticCustomError(
                        "twice", "'{key}' is an old spelling of '{new}', and both are given", {"key": old, "new": new}
                    )
                known[new] = known.pop(old)
                note(f"{old!r} is called {new!r} here")
        fields = {f.alias or name for name, f in cls.model_fields.items()} | set(cls.model_fields)
        for key in known:
            if key not in fields:
                raise PydanticCustomError(
                    "unknown_key", "unknown key '{key}'{hint}", {"key": str(key), "hint": nearest(str(key), cls.model_fields)}
                )
        return known


class Catalog(Mapping[str, type[Any]]):
    """Names -> classes of one kind; also the pydantic annotation of a field that takes one. An entry may be written
    `"package.module:Class"`: then its module is imported when a recipe names it, and not before."""

    def __init__(self, kind: str, entries: Mapping[str, type[Any] | str], default: str | None = None) -> None:
        self.kind = kind
        self.entries = dict(entries)
        self.default = default  # the name that settings without a `type` mean

    def __getitem__(self, name: str) -> type[Any]:
        kind = self.entries[name]
        if isinstance(kind, str):
            module, _, qualified = kind.partition(":")
            kind = self.entries[name] = getattr(importlib.import_module(module), qualified)
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __hash__(self) -> int:
        return id(self)

    def name_of(self, thing: object) -> str:
        """The name a recipe would use for this instance."""
        own = f"{type(thing).__module__}:{type(thing).__qualname__}"
        for name, kind in self.entries.items():
            if type(thing) is kind or kind == own:
                return name
        return own

    def find(self, name: str) -> type[Any]:
        """The class of a name or of `module:Class`; raises a placed error with the nearest name."""
        if name in self.entries:
            return self[name]
        if ":" in name:
            module, _, qualified = name.partition(":")
            try:
                return getattr(importlib.import_module(module), qualified)  # type: ignore[no-any-return]
            except (ImportError, AttributeError) as error:
                raise PydanticCustomError("no_plugin", "cannot load '{name}': {why}", {"name": name, "why": str(error)}) from error
        raise PydanticCustomError(
            "unknown_name", "no {kind} named '{name}'{hint}", {"kind": self.kind, "name": name, "hint": nearest(name, self.entries)}
        )

    def chosen(self, given: str | Mapping[str, Any], option: str) -> Any:
        """What a command's `option` means: a name, or settings in YAML such as `{type: NAME, key: value}`. Raises RecipeError."""
        import yaml

        try:
            raw = yaml.safe_load(given) if isinstance(given, str) else given
        except yaml.YAMLError as error:
            raise RecipeError(f"{option} {given!r}: not YAML") from error
        if not isinstance(raw, str | Mapping):
            raise RecipeError(f"{option}: no {self.kind} named {given!r}{nearest(str(given), self.entries)}")
        try:
            return TypeAdapter(Annotated[Any, self]).validate_python(raw)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise RecipeError(f"{option}: {f'{place}: ' if place else ''}{first['msg']}") from error

    def plain(self, thing: Any) -> dict[str, Any]:
        """The settings, as plain data, that mean this instance."""
        return {"type": self.name_of(thing), **thing.model_dump(mode="json")}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def build(given: Any, validate: Callable[[Any, type[Any]], Any]) -> Any:
            if isinstance(given, str):
                given = {"type": given}
            if isinstance(given, Mapping):
                if "type" not in given and self.default:
                    given = {**given, "type": self.default}
                if not isinstance(given.get("type"), str):
                    raise PydanticCustomError(
                        "no_type", "{kind} needs a 'type'{hint}", {"kind": self.kind, "hint": nearest("", self.entries)}
                    )
                return validate({k: v for k, v in given.items() if k != "type"}, self.find(given["type"]))
            self.find(self.name_of(given))
            return given

        def validate(fields: Any, kind: type[Any]) -> Any:
            return kind.__pydantic_validator__.validate_python(fields)

        return core_schema.no_info_plain_validator_function(
            lambda given: build(given, validate),
            serialization=core_schema.plain_serializer_function_ser_schema(self.plain),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices: list[dict[str, Any]] = [{"enum": list(self.entries)}]
        for name, kind in self.items():
            part = kind.model_json_schema()
            part = inlined(part, part.pop("$defs", {}))
            part["properties"] = {"type": {"const": name}, **part.get("properties", {})}
            part["required"] = [*([] if name == self.default else ["type"]), *part.get("required", [])]
            choices.append(part)
        return {"anyOf": choices}


def inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema with every reference to its own definitions written out (a class in a catalog is a part of another schema,
    where `#/$defs/...` means something else)."""
    if isinstance(schema, Mapping):
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        whole = {**definitions[name], **{k: v for k, v in schema.items() if k != "$ref"}} if name in definitions else schema
        return {key: inlined(value, definitions) for key, value in whole.items()}
    return [inlined(value, definitions) for value in schema] if isinstance(schema, list) else schema
