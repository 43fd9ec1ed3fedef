"""What a row is on its way from a file to a Record, and the one loop that every file source shares."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from etude.failures import DataError
from etude.records import BadRow, Origin, Record, identify
from etude.sources.where import Unfit, kind_of, parse

SHOWN = 200
"""Characters of a bad row that are kept to recognise it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by column name (CSV and TSV: all text), and where it stands."""

    origin: Origin
    cells: dict[str, Any]


class Unusable(Exception):
    """A row that cannot become a Conversation; the text is the reason."""


def surrogate(text: str) -> str:
    """The first lone surrogate of a text (half a character, which no tokenizer can take), or ""."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return ""


def plain(value: Any, what: str) -> Any:
    """The value as JSON knows it (dates and decimals as text); raises Unusable for one that has no words:
    null, NaN, bytes, or text with half a character in it. `what` names the cell in the reason."""
    if isinstance(value, str):
        if not value.isascii() and (char := surrogate(value)):
            raise Unusable(f"{what} holds a lone surrogate (U+{ord(char):04X}), which is half a character")
        return value
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [None if item is None else plain(item, what) for item in value]
    if isinstance(value, dict):
        return {plain(key, what): None if item is None else plain(item, what) for key, item in value.items()}
    if isinstance(value, datetime.date | datetime.time | datetime.datetime | decimal.Decimal):
        return str(value)
    raise Unusable(f"{what} is {kind_of(value)}, which no template can show")


def spelled(value: Any) -> str:
    """A label as text: 1 and 1.0 are "1", true is "true"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def count(number: int, thing: str) -> str:
    """A number of things in words."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def records(
    rows: Iterator[Row | BadRow],
    build: Callable[[dict[str, Any]], dict[str, Any]],
    scope: Callable[[dict[str, Any]], Mapping[str, Any]],
    *,
    path: str,
    where: str | None,
    limit: int | None,
    known: list[str],
    source: str,
    task: str,
) -> Iterator[Record | BadRow]:
    """The first `limit` rows that pass `where`, as Records of the fields that `build` makes of their cells.

    `scope`: the values an expression may read, named `known`. A row that `build` refuses (Unusable), or
    for which `where` cannot be computed, is a BadRow. Raises RecipeError for an unknown field in `where`
    and DataError when no row at all passes.
    """
    condition = parse(where) if where else None
    if condition:
        condition.check(known)
    seen = tried = kept = 0
    for row in rows:
        seen += 1
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            if condition and not condition.passes(scope(row.cells)):
                continue
            tried += 1
            fields = build(row.cells)
        except (Unusable, Unfit) as error:
            tried += isinstance(error, Unfit)
            yield BadRow(row.origin, str(error), str(row.cells)[:SHOWN])
            continue
        kept += 1
        yield Record(identify(fields), fields, row.origin, source, task)
        if limit and kept >= limit:
            return
    if condition and not tried:
        raise DataError(f"{path}: none of the {count(seen, 'row')} passes where `{where}`")
