"""Where rows come from. A Source yields a Record for each good row and a BadRow, with the reason,
for each that cannot become a Conversation: it never drops one in silence and never stops at one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from etude.catalog import Catalog
from etude.records import BadRow, Record
from etude.sources.alpaca import Alpaca
from etude.sources.columns import Columns
from etude.sources.stdlib import Stdlib


class Source(Protocol):
    """A data set as a recipe names it; a frozen settings class."""

    template: str | None
    """Name of the task template that words the rows, or None for rows that are worded already."""

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order; `name` is the recipe's name of this source.

        Raises DataError for a file that is missing, empty or not of this kind at all.
        """
        ...

    def inputs(self) -> dict[str, str]:
        """Path (or module) -> SHA-256 of every input, for the manifest and the stage digest."""
        ...


SOURCES = Catalog("source", {"alpaca": Alpaca, "columns": Columns, "stdlib": Stdlib})
