"""Tasks with a list of instances, the form of Self-Instruct's `seed_tasks.jsonl` (Wang et al. 2023).

Every instance is a row: the task's `instruction`, the instance's `input` and `output`, and `is_classification` where the task says.
A row's line is that of its task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from etude.catalog import Settings
from etude.records import BadRow, Record
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Phrased, Task, Where
from etude.sources.reading import inputs_of, read_file, text_of
from etude.sources.rows import SHOWN, Row, Unusable
from etude.sources.where import kind_of

FLAG = "is_classification"


class Instances(Settings):
    """Tasks of `instruction` and `instances`, an instance a row."""

    path: DataPath
    template: Phrased = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every instance in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""
        yield from read_file(self, name, lambda _: build, expand=expanded, expanded=("input", "output"))

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, which names the task."""
        return inputs_of(self)


def expanded(rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    """One row an instance; a task without any is a bad row."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        given = row.cells.get("instances")
        if not isinstance(given, list) or not given:
            reason = "'instances' is empty" if given == [] else f"'instances' is {kind_of(given)}, not a list of objects"
            yield BadRow(row.origin, reason if "instances" in row.cells else "'instances' is missing", str(row.cells)[:SHOWN])
            continue
        for number, one in enumerate(given, 1):
            if isinstance(one, Mapping):
                yield Row(row.origin, {**row.cells, "input": "", **one})
            else:
                yield BadRow(row.origin, f"instance {number} is {kind_of(one)}, not an object", str(one)[:SHOWN])


def build(cells: dict[str, Any]) -> dict[str, Any]:
    """The fields of one instance; raises Unusable with the reason."""
    fields: dict[str, Any] = {
        "instruction": text_of(cells, "instruction"),
        "input": text_of(cells, "input", optional=True),
        "output": text_of(cells, "output"),
    }
    if not fields["instruction"].strip():
        raise Unusable("'instruction' is empty")
    return fields | ({FLAG: cells[FLAG]} if isinstance(cells.get(FLAG), bool) else {})
