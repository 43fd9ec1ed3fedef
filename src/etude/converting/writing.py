"""Rows into a file, one at a time: JSON Lines, a JSON list, CSV, Parquet, and the texts gzipped where the name says so."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from etude import journal
from etude.failures import DataError, nearest

Kind = Literal["jsonl", "json", "csv", "parquet"]
KINDS: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
BATCH = 1000
"""Rows of a Parquet row group that are in memory at a time, as in reading."""

Row = Mapping[str, Any]


def kind_of(path: Path) -> Kind:
    """What a file's name says it shall hold; without an extension, JSON Lines. Raises DataError for another."""
    name = Path(path.stem) if path.suffix == ".gz" else path
    if not name.suffix:
        return "jsonl"
    found = KINDS.get(name.suffix.lower())
    if found is None:
        hint = nearest(name.suffix, KINDS)
        raise DataError(f"{path}: no writer for the extension {name.suffix!r}{hint} (each text also with .gz)")
    if found == "parquet" and path.suffix == ".gz":
        raise DataError(f"{path}: Parquet is compressed inside; write {name.name}")
    return found


def write(path: Path, rows: Iterable[Row], columns: tuple[str, ...], texts: bool) -> int:
    """Write every row and return how many; the file appears under its name only when it is whole.

    `columns`: the header of a CSV file; `texts`: whether every value is text (Parquet needs to know before
    the first row). Raises DataError for a value that the file cannot hold, NoSpace for a full disk.
    """
    kind = kind_of(path)
    counted = Counted(rows)
    with journal.replacing(path) as temporary:
        if kind == "parquet":
            to_parquet(temporary, counted, columns, texts)
        else:
            with opened(temporary, path.suffix == ".gz") as file:
                writer: Callable[[IO[bytes], Iterable[Row], tuple[str, ...]], None] = {"jsonl": to_lines, "json": to_list, "csv": to_csv}[
                    kind
                ]
                writer(file, counted, columns)
        with open(temporary, "rb") as done:
            os.fsync(done.fileno())
    return counted.number


class Counted:
    """Rows that are counted while they pass."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = rows
        self.number = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.number += 1
            yield row


@contextlib.contextmanager
def opened(path: Path, zipped: bool) -> Iterator[IO[bytes]]:
    """The file to write to; gzipped without a time or a name in it, so that the same rows give the same bytes."""
    with open(path, "wb") as raw:
        if not zipped:
            yield raw
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
            buffer = io.BufferedWriter(file, 1 << 20)
            yield buffer
            buffer.flush()
            buffer.detach()


def to_lines(file: IO[bytes], rows: Iterable[Row], columns: tuple[str, ...]) -> None:
    """JSON Lines."""
    for row in rows:
        file.write(journal.line(row))
    file.flush()


def to_list(file: IO[bytes], rows: Iterable[Row], columns: tuple[str, ...]) -> None:
    """One JSON list, a row a line."""
    file.write(b"[")
    for number, row in enumerate(rows):
        file.write((b",\n" if number else b"\n") + journal.line(row).rstrip(b"\n"))
    file.write(b"\n]\n")
    file.flush()


def to_csv(file: IO[bytes], rows: Iterable[Row], columns: tuple[str, ...]) -> None:
    """CSV with a header; line ends inside cells stay as they are."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row.get(column, "") for column in columns])
    text.flush()
    text.detach()


def to_parquet(path: Path, rows: Iterable[Row], columns: tuple[str, ...], texts: bool) -> None:
    """Parquet with zstd, a thousand rows a group; columns of one type each, as `schema` says."""
    import pyarrow
    import pyarrow.parquet

    described = schema(columns, texts)
    with pyarrow.parquet.ParquetWriter(path, described, compression="zstd") as writer:
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                writer.write_table(table(batch, described))
                batch = []
        if batch:
            writer.write_table(table(batch, described))


def table(rows: list[Row], described: Any) -> Any:
    """Rows as an Arrow table; `tools` and other free forms as JSON text, for a column has one type."""
    import pyarrow

    flat = []
    for row in rows:
        cells = dict(row)
        for name in cells:
            if described.field(name).type == pyarrow.string() and not isinstance(cells[name], str):
                cells[name] = json.dumps(cells[name], ensure_ascii=False)
        flat.append(cells)
    return pyarrow.Table.from_pylist(flat, schema=described)


def schema(columns: tuple[str, ...], texts: bool) -> Any:
    """The Arrow schema of a shape's columns; a column of no fixed form is JSON text."""
    import pyarrow as pa

    text = pa.string()
    call = pa.struct([("id", text), ("type", text), ("function", pa.struct([("name", text), ("arguments", text)]))])
    turn = pa.struct(
        [("role", text), ("content", text), ("tool_calls", pa.list_(call)), ("tool_call_id", text), ("name", text), ("weight", pa.int8())]
    )
    said = pa.struct([("role", text), ("content", text)])
    forms = {
        "history": pa.list_(pa.list_(text)),
        "messages": pa.list_(turn),
        "conversations": pa.list_(
            pa.struct([("from", text), ("value", text), ("tool_call_id", text), ("name", text), ("train", pa.bool_())])
        ),
        "prompt": text if texts else pa.list_(said),
        "completion": text if texts else pa.list_(said),
    }
    return pa.schema([(column, forms.get(column, text)) for column in columns])
