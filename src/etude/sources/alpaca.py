"""Rows that are instructions already: `instruction, input, output`, optional `system` and `history`.

The row format of Stanford Alpaca, with the two optional keys LLaMA-Factory added. The Record's fields
are exactly these keys: `input` is "" where it is missing or null, `system` and `history` are there only
where they say something. Other keys of a row are no part of it (and of its id) unless `keep` names
them; `where` can read them all. An empty `output` is no bad row: curation decides about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings
from etude.failures import RecipeError, nearest
from etude.records import BadRow, Record
from etude.sources.rows import Unusable, plain, records
from etude.sources.tables import Container, Encoding, Table, digests, opened
from etude.sources.where import Expression, kind_of
from etude.templates import TemplateName, digest, load

KEYS = ("instruction", "input", "output", "system", "history")


class Alpaca(Settings):
    """Instruction rows in JSON (a list) or JSON Lines; the other table files work too."""

    path: str
    """A file (.json, .jsonl, .csv, .tsv, .parquet, .arrow; text also .gz or .zst), a folder of them, a glob such as
    `data/*.jsonl`, or `hf://owner/name@revision:split`."""
    template: TemplateName | None = None
    """A task template to word the rows with; None: the rows are worded already."""
    where: Expression | None = None
    """Take only rows for which this is true, e.g. `input == ''`; any key of the row can be named."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Take the first rows that pass `where`, at most this many."""
    keep: tuple[str, ...] = ()
    """Further keys of the rows that become fields (and so count in the row's id), e.g. to group by."""
    container: Container | None = None
    """What kind of file it is, where the extension does not say so."""
    rows_key: str | None = None
    """The key of a .json object that holds the list of rows; None: the only one that holds a list of objects."""
    encoding: Encoding = "utf-8"
    """The text encoding of the file; a byte-order mark is understood."""
    licence: str = ""
    """The licence of the data, for the manifest."""
    task: str | None = None
    """The name of the task; None: the template's task, else the name of this source."""

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for unknown names."""
        task = self.task or (load(self.template).task if self.template else name)
        rows, columns = opened(Table(self.path, self.container, self.encoding, licence=self.licence, rows_key=self.rows_key))
        for key in self.keep:
            if key not in columns:
                raise RecipeError(f"sources.{name}.keep: no row of {self.path} has the key {key!r}{nearest(key, columns)}")
        yield from records(
            rows,
            self.build,
            lambda cells: {"input": "", **cells},
            path=self.path,
            where=self.where,
            limit=self.limit,
            known=[*KEYS, *columns],
            source=name,
            task=task,
        )

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, which names the task."""
        found = digests(self.path, self.container)
        return found | {f"template {self.template}": digest(load(self.template))} if self.template else found

    def build(self, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one row; raises Unusable with the reason."""
        fields: dict[str, Any] = {
            "instruction": text(cells, "instruction"),
            "input": "" if cells.get("input") is None else text(cells, "input"),
            "output": text(cells, "output"),
        }
        if not fields["instruction"].strip():
            raise Unusable("'instruction' is empty")
        if cells.get("system") not in (None, ""):
            fields["system"] = text(cells, "system")
        if cells.get("history") not in (None, "", []):
            fields["history"] = turns(cells["history"])
        for key in self.keep:
            if cells.get(key) is not None:
                fields[key] = plain(cells[key], f"{key!r}")
        return fields


def text(cells: dict[str, Any], key: str) -> str:
    """The text under a key; raises Unusable where there is none."""
    value = cells.get(key)
    if isinstance(value, str) and value.isascii():
        return value
    if key not in cells:
        near = nearest(key, [other for other in cells if other not in KEYS])
        raise Unusable(f"{key!r} is missing{near if 'did you mean' in near else ''}")
    if not isinstance(value, str):
        raise Unusable(f"{key!r} is {kind_of(value)}, not text")
    plain(value, f"{key!r}")
    return value


def turns(history: Any) -> list[list[str]]:
    """Earlier turns as [question, answer] pairs; raises Unusable for any other shape."""
    if not isinstance(history, list):
        raise Unusable(f"'history' is {kind_of(history)}, not a list of [question, answer] pairs")
    pairs = []
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            found = f"a list of {len(pair)}" if isinstance(pair, list) else kind_of(pair)
            raise Unusable(f"'history' pair {number} is {found}, not a [question, answer] pair")
        cells = {"question": pair[0], "answer": pair[1]}
        try:
            pairs.append([text(cells, "question"), text(cells, "answer")])
        except Unusable as error:
            raise Unusable(f"'history' pair {number}: {error}") from error
    return pairs
