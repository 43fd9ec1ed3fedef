"""The kinds of file that rows come in, and what a setting says about one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etude.records import BadRow, Origin
from etude.sources.rows import SHOWN

Container = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow"]
CONTAINERS: dict[str, Container] = {
    ".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".arrow": "arrow",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".zst": "Zstandard"}
"""Endings that may follow those of the text containers, and what they promise."""
LONGEST = 16 * 2**20
"""Most bytes (of CSV and of one JSON list: characters) of a row; a longer one is a bad row and is not kept in
memory. Sixteen million characters are some four million tokens."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file, folder, glob or hub data set and how to read it. `container` None: by the file's extension.
    `delimiter` None: comma for CSV, tab for TSV. `quote` "": quotes are plain text. `header`: column names of
    a file without them. `rows_key`: the key of a JSON object that holds the rows, None: its only list of objects."""

    path: str
    container: Container | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str = '"'
    header: tuple[str, ...] = ()
    licence: str = ""
    rows_key: str | None = None
    longest: int = LONGEST

    def origin(self, line: int) -> Origin:
        """The place of a line (1-based; of Parquet, Arrow and the hub, the row's number)."""
        return Origin(self.path, line, self.licence)

    def bad(self, line: int, reason: str, text: object = "") -> BadRow:
        """A bad row of this file."""
        return BadRow(self.origin(line), reason, (text if isinstance(text, str) else str(text))[:SHOWN])


def kind(name: str) -> Container | None:
    """What a file's name says it holds (`rows.jsonl.gz`: JSON Lines), or None."""
    path = Path(name.lower())
    return CONTAINERS.get(Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix)
