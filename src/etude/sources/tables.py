"""Rows of table files with their line numbers: CSV, TSV, JSON, JSON Lines, Parquet and Arrow; alone, compressed,
in a folder, by a glob, or from the hub.

Rows are streamed, whatever the container. A row that cannot be read becomes a BadRow and reading goes on; a file
that is missing, empty, cut off or of another kind altogether is a DataError.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from etude import journal
from etude.failures import DataError, nearest
from etude.records import BadRow
from etude.sources import arrow, hub
from etude.sources.compressed import packed
from etude.sources.containers import CONTAINERS, LONGEST, Container, Table, kind
from etude.sources.delimited import read_csv
from etude.sources.encodings import Encoding, known_encoding
from etude.sources.folders import files, find
from etude.sources.json_lines import read_lines
from etude.sources.json_lists import read_json
from etude.sources.rows import Row

__all__ = [
    "CONTAINERS", "LONGEST", "Container", "Encoding", "Table", "digests", "files", "find", "kind", "known_encoding", "opened", "read",
]  # fmt: skip

PEEK = 100
"""Rows read ahead to know the keys of a JSON file."""


def opened(table: Table) -> tuple[Iterator[Row | BadRow], list[str]]:
    """The rows of a table, and its column names (of JSON: the keys of the first PEEK rows, in the order met).

    Raises DataError for a path that names no file, for files of several kinds, and for one that is empty, without
    rows, or not of its kind at all. A row's origin names the very file of a folder or glob.
    """
    rows = read(table)
    first = list(itertools.islice(rows, PEEK))
    if not first:
        raise DataError(f"{table.path} holds no rows")
    names = dict.fromkeys(name for row in first if isinstance(row, Row) for name in row.cells)
    return itertools.chain(first, rows), list(names)


def digests(path: str, container: Container | None = None) -> dict[str, str]:
    """Every file that `path` means -> SHA-256 (hex) of its bytes; of a hub data set, its commit.

    Raises DataError as `opened` does.
    """
    if path.startswith(hub.SCHEME):
        return {path: hub.commit(hub.place(path))}
    return {name: journal.file_digest(find(name)) for name in files(path, container)}


def read(table: Table) -> Iterator[Row | BadRow]:
    """Every row: of several files in the files' sorted order, of one file in its own."""
    if table.path.startswith(hub.SCHEME):
        yield from hub.read_hub(table)
        return
    for name in files(table.path, table.container):
        yield from read_file(replace(table, path=name))


def read_file(table: Table) -> Iterator[Row | BadRow]:
    """Every row of one file."""
    path = find(table.path)
    container = table.container or kind(path.name)
    if container is None:
        hint = nearest(path.suffix, CONTAINERS)
        raise DataError(f"{table.path}: the extension {path.suffix!r} is not known{hint}; or set container:")
    if table.rows_key is not None and container != "json":
        raise DataError(f"{table.path}: rows_key is for .json files, this is read as {container}")
    table = replace(table, container=container)
    if container in ("parquet", "arrow"):
        if packing := packed(path):
            raise DataError(f"{table.path}: a {container} file inside {packing} cannot be read a part at a time; unpack it first")
        yield from (arrow.read_parquet if container == "parquet" else arrow.read_arrow)(path, table)
    elif container in ("csv", "tsv"):
        yield from read_csv(path, table, "\t" if container == "tsv" else ",")
    else:
        yield from (read_lines if container == "jsonl" else read_json)(path, table)
