"""Rows of table files with their line numbers: CSV, TSV, JSON, JSON Lines and Parquet.

Rows are streamed (a JSON list alone is read whole, then decoded one element at a time). A line that
cannot be read becomes a BadRow and reading goes on; a file that is missing, empty or of another kind
altogether is a DataError.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from etude.failures import DataError, nearest
from etude.records import BadRow, Origin
from etude.sources.rows import SHOWN, Row, count, surrogate
from etude.sources.where import kind_of

Container = Literal["csv", "tsv", "json", "jsonl", "parquet"]
CONTAINERS: dict[str, Container] = {
    ".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
LONGEST = 64 * 2**20
"""Most characters of one line or cell; a longer one is a bad row and is not kept in memory."""
PEEK = 100
"""Rows read ahead to know the keys of a JSON file."""
SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Table:
    """A file and how to read it. `container` None: by the file's extension. `delimiter` None: comma for
    CSV, tab for TSV. `quote` "": quotes are plain text. `header`: column names of a file without them."""

    path: str
    container: Container | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str = '"'
    header: tuple[str, ...] = ()
    licence: str = ""

    def origin(self, line: int) -> Origin:
        """The place of a line (1-based; of a Parquet file, the row's number)."""
        return Origin(self.path, line, self.licence)

    def bad(self, line: int, reason: str, text: object = "") -> BadRow:
        """A bad row of this file."""
        return BadRow(self.origin(line), reason, str(text)[:SHOWN])


def known_encoding(name: str) -> str:
    """The same name, or a placed pydantic error when Python has no such encoding of text."""
    try:
        "".encode(name)
    except LookupError as error:
        hint = nearest(name, ["utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "shift_jis", "ascii"])
        raise PydanticCustomError("encoding", "no text encoding is called '{name}'{hint}", {"name": name, "hint": hint}) from error
    return name


Encoding = Annotated[str, AfterValidator(known_encoding)]
"""The annotation of a settings field that names a text encoding."""


def find(path: str) -> Path:
    """The file, or a DataError naming the nearest file that does exist."""
    place = Path(path).expanduser()
    if place.is_dir():
        inside = sorted(name for name in os.listdir(place) if Path(name).suffix in CONTAINERS)[:5]
        raise DataError(f"{path} is a folder, a file is needed{'; in it are ' + ', '.join(inside) if inside else ''}")
    if not place.exists():
        folder = place.parent
        if not folder.is_dir():
            raise DataError(f"{path} does not exist; nor does its folder {folder}")
        hint = nearest(place.name, os.listdir(folder))
        raise DataError(f"{path} does not exist{hint if 'did you mean' in hint else f'; nothing in {folder} has a name like it'}")
    if not place.is_file():
        raise DataError(f"{path} is not a regular file")
    if place.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    return place


def opened(table: Table) -> tuple[Iterator[Row | BadRow], list[str]]:
    """The rows of a table, and its column names (of JSON: the keys of the first PEEK rows, in the order met).

    Raises DataError for a file that is missing, empty, without rows, or not of its kind at all.
    """
    rows = read(table)
    first = list(itertools.islice(rows, PEEK))
    if not first:
        raise DataError(f"{table.path} holds no rows")
    names = dict.fromkeys(name for row in first if isinstance(row, Row) for name in row.cells)
    return itertools.chain(first, rows), list(names)


def read(table: Table) -> Iterator[Row | BadRow]:
    """Every row in file order."""
    path = find(table.path)
    container = table.container or CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise DataError(f"{table.path}: the extension {path.suffix!r} is not known{nearest(path.suffix, CONTAINERS)}; or set container:")
    if container == "parquet":
        yield from read_parquet(path, table)
        return
    with open(path, "rb") as raw:
        start = raw.read(4)
    encoding = "utf-8-sig" if codecs.lookup(table.encoding).name == "utf-8" else table.encoding
    if encoding == "utf-8-sig" and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{table.path} is UTF-16 (it starts with its mark), not {table.encoding}; set encoding: utf-16")
    if start == b"PAR1":
        raise DataError(f"{table.path} is a Parquet file, not {container}; set container: parquet")
    reader = {"csv": read_csv, "tsv": read_csv, "json": read_json, "jsonl": read_lines}[container]
    # Undecodable bytes come through as lone surrogates (PEP 383), so that one bad row is one bad row.
    with open(path, encoding=encoding, errors="surrogateescape", newline="" if reader is read_csv else "\n") as file:
        try:
            yield from reader(file, table, "\t" if container == "tsv" else ",")
        except UnicodeError as error:
            raise DataError(f"{table.path} is not {table.encoding} ({error}); set encoding: to what it is") from error


def read_csv(file: IO[str], table: Table, delimiter: str) -> Iterator[Row | BadRow]:
    """Rows of CSV and TSV; quoted cells may span lines; a row's line is that of its first character."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE
    reader = csv.reader(file, delimiter=table.delimiter or delimiter, quotechar=table.quote or None, quoting=quoting, strict=True)
    names = list(table.header)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not names:
                raise DataError(f"{table.path}:{line}: the header cannot be read ({error})") from error
            why = f"broken quoting in lines {line} to {reader.line_num} ({error}); if quotes are plain text here, set quote: ''"
            yield table.bad(line, why)
            continue
        if not cells:
            continue
        if not names:
            names = header(cells, table, line)
        elif why := undecodable("".join(cells), table):
            yield table.bad(line, why, cells)
        elif len(cells) != len(names):
            yield table.bad(line, f"{count(len(cells), 'cell')} where the header has {len(names)}", cells)
        else:
            yield Row(table.origin(line), dict(zip(names, cells, strict=True)))


def header(cells: list[str], table: Table, line: int) -> list[str]:
    """The column names of a header line; raises DataError for unreadable or repeated ones."""
    why = undecodable("".join(cells), table)
    twice = [name for i, name in enumerate(cells) if name in cells[:i]]
    if twice:
        why = f"column {twice[0]!r} is named twice in the header"
    if why:
        raise DataError(f"{table.path}:{line}: {why}")
    return cells


def read_lines(file: IO[str], table: Table, _: str) -> Iterator[Row | BadRow]:
    """Rows of JSON Lines; blank lines are passed over."""
    first = True
    for line, text in lines(file):
        if not text.strip():
            continue
        if first and text.lstrip().startswith("["):
            raise DataError(f"{table.path}:{line}: this is one JSON list, not JSON Lines; set container: json")
        first = False
        if len(text) >= LONGEST:
            yield table.bad(line, f"the line is longer than {LONGEST} characters", text)
            continue
        try:
            value = decoder().decode(text.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            yield table.bad(line, undecodable(text, table) or not_json(error), text)
            continue
        yield as_row(value, text, line, table)


def lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Numbered lines; of an overlong one the first LONGEST characters."""
    number = 0
    while text := file.readline(LONGEST):
        number += 1
        rest = text
        while len(rest) == LONGEST and not rest.endswith("\n"):
            rest = file.readline(LONGEST)
        yield number, text


def read_json(file: IO[str], table: Table, _: str) -> Iterator[Row | BadRow]:
    """Rows of one JSON list, decoded one element at a time."""
    text = file.read()
    start = skip(text, 0)
    if not text.startswith("[", start):
        raise DataError(f"{table.path}: {not_a_list(text, start)}")
    position, line, counted, once = skip(text, start + 1), 1, 0, decoder()
    done = text.startswith("]", position)
    while not done:
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = once.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            here = getattr(error, "lineno", line)
            raise DataError(f"{table.path}:{here}: {not_json(error)}; the list cannot be read past this") from error
        yield as_row(value, text[position:end], line, table)
        position = skip(text, end)
        done = text.startswith("]", position)
        if text.startswith(",", position):
            position = skip(text, position + 1)
        elif not done:
            here = line + text.count("\n", counted, position)
            raise DataError(f"{table.path}:{here}: not JSON (',' or ']' expected after an element); is the file cut off?")
    if skip(text, position + 1) != len(text):
        raise DataError(f"{table.path}: there is text after the end of the JSON list")


def skip(text: str, position: int) -> int:
    """The next position that is not white space."""
    match = SPACE.match(text, position)
    return match.end() if match else position


def not_a_list(text: str, position: int) -> str:
    """What a JSON file holds when it holds no list."""
    try:
        value, end = decoder().raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        return not_json(error)
    if text[skip(text, end) :].startswith("{"):
        return "this is JSON Lines, not one JSON list; set container: jsonl"
    keys = f" with the keys {', '.join(list(value)[:8])}" if isinstance(value, dict) else ""
    return f"the file holds {kind_of(value)}{keys}, a list of rows is needed"


def read_parquet(path: Path, table: Table) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file, a thousand in memory at a time; the line is the row's number."""
    import pyarrow
    import pyarrow.parquet

    line = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for cells in batch.to_pylist():
                    line += 1
                    yield Row(table.origin(line), cells)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise DataError(f"{table.path}: cannot be read as Parquet after row {line} ({str(error).splitlines()[0]})") from error


class Twice(dict[str, Any]):
    """A JSON object in which a key stands twice."""


def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its pairs, marked when a key stands twice (JSON readers differ on which one counts)."""
    value = dict(items)
    return value if len(value) == len(items) else Twice(value)


def decoder() -> json.JSONDecoder:
    """A JSON decoder that notices repeated keys."""
    return json.JSONDecoder(object_pairs_hook=pairs)


def as_row(value: Any, text: str, line: int, table: Table) -> Row | BadRow:
    """A decoded JSON value as a row, or what is wrong with it."""
    if why := undecodable(text, table):
        return table.bad(line, why, text)
    if isinstance(value, Twice):
        return table.bad(line, "a key stands twice in the object", text)
    if not isinstance(value, dict):
        return table.bad(line, f"{kind_of(value)}, not an object", text)
    return Row(table.origin(line), value)


def not_json(error: Exception) -> str:
    """Why JSON could not be read, in one clause."""
    if isinstance(error, RecursionError):
        return "not JSON that can be read: nested too deeply"
    where = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    return f"not JSON ({str(getattr(error, 'msg', error)).removesuffix(' at')}{where})"


def undecodable(text: str, table: Table) -> str:
    """Why raw text is not of the file's encoding, or ""."""
    if char := surrogate(text):
        byte = f"byte 0x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else f"U+{ord(char):04X}"
        return f"{byte} is not {table.encoding}; if the file is latin-1 or cp1252, set encoding:"
    return ""
