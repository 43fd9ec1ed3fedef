"""Seed tasks: what Self-Instruct (Wang et al. 2023) grows new instructions from. etude's own, or a file in that paper's shape.

A line of the paper's file has `instruction`, `instances` (a list of `input` and `output`), `is_classification` and `name`; etude's
own has one instance a line, written out flat, and both shapes are read. The Record's fields are `instruction`, `input`, `output`
and `is_classification`; a task with several instances becomes as many rows, all with the line of the task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings
from etude.records import BadRow, Origin, Record
from etude.sources.instances import expanded
from etude.sources.keys import FileEncoding, FileKind, Licence, Limit, Task, Where, Worded
from etude.sources.reading import text_of
from etude.sources.rows import Row, Unusable, records
from etude.sources.tables import Table, digests, opened
from etude.sources.where import kind_of

OWN = "seed_tasks.jsonl"
"""etude's own tasks, beside this module; rows name it so, wherever etude is installed."""
KEYS = ("id", "name", "instruction", "input", "output", "is_classification")


class SeedTasks(Settings):
    """Tasks for generation to start from, each with an input (or none) and an answer."""

    path: Annotated[str, Field(min_length=1)] | None = None
    """A file of tasks as Self-Instruct writes them (`instruction`, `instances`, `is_classification`), a folder or a glob of such files;
    None: the tasks that come with etude."""
    template: Worded = None
    where: Where = None
    limit: Limit = None
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for an unknown field in `where`."""
        rows, columns = self.own() if self.path is None else self.given(self.path)
        yield from records(
            rows,
            build,
            lambda cells: {"input": "", **cells},
            path=self.path or OWN,
            where=self.where,
            limit=self.limit,
            known=[*KEYS, *columns],
            source=name,
            task=self.task or name,
        )

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        if self.path is None:
            return {OWN: hashlib.sha256(own_bytes()).hexdigest()}
        return digests(self.path, self.container)

    def own(self) -> tuple[Iterator[Row | BadRow], list[str]]:
        """etude's own tasks as rows."""
        lines = own_bytes().decode("utf-8").splitlines()
        licence = self.licence or "Apache-2.0"
        return (Row(Origin(OWN, number, licence), json.loads(line)) for number, line in enumerate(lines, 1)), list(KEYS)

    def given(self, path: str) -> tuple[Iterator[Row | BadRow], list[str]]:
        """The rows of the user's file, an instance each."""
        rows, columns = opened(Table(path, self.container, self.encoding, licence=self.licence))
        return (one for row in rows for one in instances(row)), columns


def own_bytes() -> bytes:
    """The file of etude's own tasks."""
    return files("etude.sources").joinpath(OWN).read_bytes()


def instances(row: Row | BadRow) -> Iterator[Row | BadRow]:
    """The instances of a task; a row without `instances` is one already."""
    flat = isinstance(row, BadRow) or "instances" not in row.cells
    yield from (row,) if flat else expanded(iter((row,)))


def build(cells: dict[str, Any]) -> dict[str, Any]:
    """The fields of one row; raises Unusable with the reason."""
    fields: dict[str, Any] = {
        "instruction": text_of(cells, "instruction"),
        "input": text_of(cells, "input", optional=True),
        "output": text_of(cells, "output"),
        "is_classification": False if cells.get("is_classification") is None else cells["is_classification"],
    }
    for key in ("instruction", "output"):
        if not fields[key].strip():
            raise Unusable(f"{key!r} is empty")
    if not isinstance(fields["is_classification"], bool):
        raise Unusable(f"'is_classification' is {kind_of(fields['is_classification'])}, not true or false")
    return fields
