"""Rows of CSV and TSV (RFC 4180 and its usual variations)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from etude.failures import DataError
from etude.records import BadRow
from etude.sources.containers import LONGEST, Table
from etude.sources.encodings import Text, text
from etude.sources.rows import Row, count


class Overlong(Exception):
    """A line beyond the bound; it has been passed over."""


class Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, target: bytearray) -> int:  # type: ignore[override]
        """The next bytes; 0 at the end."""
        self.rest = self.rest or next(self.pieces, b"")
        size = min(len(target), len(self.rest))
        target[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


class Lines:
    """The lines of a text with their ends (LF, CR LF or CR); `number` counts those given so far. An iterator
    rather than a generator, because it goes on after it has raised Overlong."""

    def __init__(self, source: Text, longest: int) -> None:
        raw: io.RawIOBase = Pieces(source.pieces)
        self.file: IO[str] = io.TextIOWrapper(io.BufferedReader(raw, 2**18), encoding="utf-8", errors=source.errors, newline="")
        self.longest, self.number = longest, 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline(self.longest + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > self.longest:
            while not line.endswith(("\n", "\r")) and (more := self.file.readline(self.longest)):
                line = more
            raise Overlong
        return line


def read_csv(path: Path, table: Table, delimiter: str) -> Iterator[Row | BadRow]:
    """Rows of CSV and TSV; quoted cells may span lines; a row's line is that of its first character."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE
    source = text(path, table)
    lines = Lines(source, table.longest)
    reader = csv.reader(lines, delimiter=table.delimiter or delimiter, quotechar=table.quote or None, quoting=quoting, strict=True)
    names = list(table.header)
    width, origin = len(names), table.origin
    while True:
        line = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, Overlong) as error:
            if not names:
                raise DataError(f"{table.path}:{line}: the header cannot be read ({error or 'the line is too long'})") from error
            yield table.bad(line, too_long(table) if isinstance(error, Overlong) else broken(error, line, lines.number))
            continue
        if not cells:
            continue
        if not names:
            names = header(cells, table, source, line)
            width = len(names)
        elif why := unfit(cells, width, table, source):
            yield table.bad(line, why, cells)
        else:
            yield Row(origin(line), dict(zip(names, cells, strict=True)))


def unfit(cells: list[str], width: int, table: Table, source: Text) -> str:
    """Why a line of cells is no row, or ""."""
    words = "".join(cells)
    if why := source.undecodable(words):
        return why
    if "\0" in words:
        return f"the row holds {count(words.count(chr(0)), 'zero byte')}; is the file damaged, or UTF-16?"
    if len(words) > table.longest:
        return too_long(table)
    return "" if len(cells) == width else f"{count(len(cells), 'cell')} where the header has {width}"


def too_long(table: Table) -> str:
    """What to say of a row beyond the bound."""
    return f"the row is longer than {table.longest:,} characters"


def broken(error: Exception, first: int, last: int) -> str:
    """What to say of quoting that csv cannot read."""
    return f"broken quoting in lines {first} to {last} ({error}); if quotes are plain text here, set quote: ''"


def header(cells: list[str], table: Table, source: Text, line: int) -> list[str]:
    """The column names of a header line; raises DataError for unreadable or repeated ones."""
    why = source.undecodable("".join(cells))
    twice = [name for i, name in enumerate(cells) if name in cells[:i]]
    if twice:
        why = f"column {twice[0]!r} is named twice in the header"
    if why:
        raise DataError(f"{table.path}:{line}: {why}")
    return cells
