"""Rows of Parquet and of Arrow files (the IPC file format and the stream format, which `datasets` writes)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.failures import DataError
from etude.records import BadRow
from etude.sources.containers import Table
from etude.sources.rows import Row

if TYPE_CHECKING:
    import pyarrow

BATCH = 1000
"""Rows that are Python objects at once."""
BUFFER = 2**20
"""Bytes of a Parquet column read at once; without it a whole row group of each column is in memory."""
SPANNING = b"ARROW1"
"""First bytes of an Arrow IPC file; a stream has none of its own."""


def read_parquet(path: Path, table: Table) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file, a thousand in memory at a time; the line is the row's number."""
    import pyarrow
    import pyarrow.parquet

    line = 0
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER) as file:
            columns(file.schema_arrow.names, table)
            for batch in file.iter_batches(batch_size=BATCH):
                yield from rows(batch, line, table)
                line += batch.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise damaged(table, "Parquet", line, error) from error


def read_arrow(path: Path, table: Table) -> Iterator[Row | BadRow]:
    """Rows of an Arrow file or stream. The file is mapped, so a batch of any size takes little memory."""
    import pyarrow
    import pyarrow.ipc

    line = 0
    try:
        with pyarrow.memory_map(str(path)) as file:
            whole = file.read(len(SPANNING)) == SPANNING
            file.seek(0)
            with pyarrow.ipc.open_file(file) if whole else pyarrow.ipc.open_stream(file) as reader:
                columns(reader.schema.names, table)
                for batch in (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader:
                    for start in range(0, batch.num_rows, BATCH):
                        part = batch.slice(start, BATCH)
                        yield from rows(part, line, table)
                        line += part.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise damaged(table, "Arrow", line, error) from error


def rows(batch: pyarrow.RecordBatch, line: int, table: Table) -> Iterator[Row | BadRow]:
    """The rows of a batch that follows row `line`; one at a time where the batch cannot be had at once."""
    origin = table.origin
    if batch.nbytes <= table.longest:
        try:
            found = batch.to_pylist()
        except (ValueError, OverflowError):  # text that is not UTF-8, a date beyond Python's, ...
            pass
        else:
            for number, cells in enumerate(found, line + 1):
                yield Row(origin(number), cells)
            return
    for index in range(batch.num_rows):
        number = line + index + 1
        try:
            cells = batch.slice(index, 1).to_pylist()[0]
        except (ValueError, OverflowError) as error:
            yield table.bad(number, f"a cell cannot be read ({str(error).splitlines()[0]})")
            continue
        size = weight(cells)
        if size > table.longest:
            yield table.bad(number, f"the row is longer than {table.longest:,} characters")
        else:
            yield Row(origin(number), cells)


def weight(value: Any) -> int:
    """Characters of text (and bytes) in a value."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(weight(item) for item in value.values())
    return sum(map(weight, value)) if isinstance(value, list | tuple) else 0


def columns(names: list[str], table: Table) -> None:
    """Raise DataError for a column name that stands twice (one of the two would be lost)."""
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise DataError(f"{table.path}: column {twice[0]!r} stands twice")


def damaged(table: Table, what: str, line: int, error: Exception) -> DataError:
    """What to say of a file that is not of its kind, or ends too early."""
    return DataError(f"{table.path}: cannot be read as {what} after row {line} ({(str(error).splitlines() or [type(error).__name__])[0]})")
