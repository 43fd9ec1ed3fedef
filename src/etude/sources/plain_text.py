"""Plain text, a document a row, for continued training: there is no question, and every token is trained.

The Record's fields are `{"text": ...}`. In words it is a conversation of one assistant message alone, which
no other source gives (a conversation begins with the user): formats know plain text by that.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from etude.catalog import Settings
from etude.records import BadRow, Record
from etude.sources.keys import Column, DataPath, FileEncoding, FileKind, Licence, Limit, Task, Where, Worded
from etude.sources.reading import inputs_of, pick, read_file, text_of
from etude.sources.rows import Unusable

TEXTS = ("text", "content", "document")


class PlainText(Settings):
    """Rows of one text each."""

    path: DataPath
    text: Column = None
    """The key of the text; None: `text`, `content` or `document`."""
    template: Worded = None
    where: Where = None
    limit: Limit = None
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    @property
    def keep(self) -> tuple[str, ...]:
        """A text is all that such a row is."""
        return ()

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""
        return read_file(self, name, lambda columns: partial(build, pick(columns, TEXTS, self.text)), named=(self.text,))

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self)


def build(key: str, cells: dict[str, Any]) -> dict[str, Any]:
    """The fields of one row; raises Unusable with the reason."""
    text = text_of(cells, key)
    if not text.strip():
        raise Unusable(f"{key!r} is empty")
    return {"text": text}
