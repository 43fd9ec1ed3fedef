"""A phrasing's text filled with a row's values: Jinja in a sandbox, a field that does not exist is an error.

Texts with plain fields and nothing else, as most are, are filled without Jinja, to the same letters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from etude.failures import DataError, nearest
from etude.records import Record

if TYPE_CHECKING:
    from jinja2 import Template as Compiled
    from jinja2.sandbox import ImmutableSandboxedEnvironment

PLACE = re.compile(r"\{\{ *([A-Za-z_]\w*) *\}\}")
"""The place of a value as it is, with no expression about it."""
CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})


def fill(text: str, values: Mapping[str, Any], record: Record, name: str) -> str:
    """One text of the template `name` with a row's values; raises DataError naming the row and the field."""
    try:
        return filler(text)(values)
    except Exception as error:
        raise explained(error, text, values, record, name) from error


def explained(error: Exception, text: str, values: Mapping[str, Any], record: Record, name: str) -> Exception:
    """A filling's failure as a DataError that names the row; any other failure as it is."""
    import jinja2

    if isinstance(error, jinja2.UndefinedError | KeyError):
        missing = sorted(undeclared(text) - set(values))
        what = f"there is no field {missing[0]!r}{nearest(missing[0], record.fields)}" if missing else str(error)
        return DataError(f"{record.origin}: {what}; template {name!r} needs it")
    if isinstance(error, jinja2.TemplateError | TypeError | ValueError | ArithmeticError):
        return DataError(f"{record.origin}: template {name!r} cannot be filled: {error}")
    return error


@functools.lru_cache(maxsize=4096)
def filler(text: str) -> Callable[[Mapping[str, Any]], str]:
    """The function that fills a text, made once."""
    parts = PLACE.split(text)
    fixed, fields = parts[::2], parts[1::2]
    if "\r" in text or any(mark in part for part in fixed for mark in ("{{", "{%", "{#")) or CONSTANTS & set(fields):
        return compiled(text).render
    fixed[-1] = fixed[-1].removesuffix("\n")  # Jinja drops the line end of a text
    if not fields:
        return lambda values: fixed[0]
    if fixed == ["", ""]:
        return lambda values: str(shown(values[fields[0]]))

    def joined(values: Mapping[str, Any]) -> str:
        filled = list(fixed)
        for i, field in enumerate(fields):
            filled[i] += str(shown(values[field]))
        return "".join(filled)

    return joined


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """Jinja without access to Python's insides; a field that does not exist is an error, never nothing."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=shown, autoescape=False)


@functools.lru_cache(maxsize=4096)
def compiled(text: str) -> Compiled:
    """A phrasing's text, compiled once."""
    return environment().from_string(text)


@functools.lru_cache(maxsize=4096)
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

    known = {*fields, "labels"}
    try:
        compiled(text)
        missing = sorted(undeclared(text) - known)
    except jinja2.TemplateSyntaxError as error:
        return f"not a Jinja text, line {error.lineno}: {error.message}"
    return f"there is no field {missing[0]!r}{nearest(missing[0], known - {'labels'})}" if missing else ""
