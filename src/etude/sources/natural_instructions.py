"""Task files of (Super-)Natural Instructions (Mishra et al. 2022; Wang et al. 2022): one JSON object a task.

`Definition` is the instruction, each of `Instances` a row: its `input`, its `output` (all right ones in
`references`), and the file's name as `task_name`, to group a split by. A row's line is its number in the task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings
from etude.failures import DataError, RecipeError, nearest
from etude.records import BadRow, Record
from etude.sources.encodings import text
from etude.sources.inputs_targets import references, several
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Phrased, Task, Where
from etude.sources.reading import inputs_of, shaped, text_of
from etude.sources.rows import SHOWN, Row, Unusable
from etude.sources.tables import Table, files, find
from etude.sources.where import kind_of

COLUMNS = ("definition", "input", "output", "id", "task_name", "categories", "examples")
NEEDED = ("Definition", "Instances")


class NaturalInstructions(Settings):
    """A task file, or a folder or glob of them."""

    path: DataPath
    examples: Annotated[int, Field(ge=0)] = 0
    """The task's positive examples that stand before each row as earlier turns, at most this many."""
    per_task: Annotated[int, Field(gt=0)] | None = None
    """Take the first instances of each task, at most this many."""
    template: Phrased = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every instance, the files in sorted order. Raises DataError for a file that is no task, RecipeError for unknown names."""
        for key in self.keep:
            if key not in COLUMNS:
                raise RecipeError(f"sources.{name}.keep: an instance has no key {key!r}{nearest(key, COLUMNS)}")
        yield from shaped(self, name, self.build, self.rows(), COLUMNS)

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, which names the task."""
        return inputs_of(self)

    def rows(self) -> Iterator[Row | BadRow]:
        """The instances of every task, as rows."""
        for path in files(self.path, self.container):
            table = Table(path, "json", self.encoding, licence=self.licence)
            task = document(table)
            for key in NEEDED:
                if key not in task:
                    raise DataError(f"{path} is no task of Natural Instructions: it has no {key!r}{nearest(key, task)}")
            if not isinstance(task["Instances"], list):
                raise DataError(f"{path}: 'Instances' is {kind_of(task['Instances'])}, not a list")
            shared = {"definition": definition(task["Definition"]), "task_name": Path(path).name.split(".")[0]}
            shared |= {"categories": task.get("Categories"), "examples": task.get("Positive Examples") or []}
            for number, one in enumerate(task["Instances"][: self.per_task], 1):
                if isinstance(one, Mapping):
                    yield Row(table.origin(number), {**shared, **one})
                else:
                    yield table.bad(number, f"an instance is {kind_of(one)}, not an object", str(one)[:SHOWN])

    def build(self, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one instance; raises Unusable with the reason."""
        instruction = text_of(cells, "definition")
        if not instruction.strip():
            raise Unusable("the task's 'Definition' is empty")
        answers = several(cells, "output")
        fields: dict[str, Any] = {"instruction": instruction, "input": text_of(cells, "input"), "output": answers[0]}
        if shown := cells["examples"][: self.examples]:
            fields["history"] = [shown_as(one, instruction) for one in shown]
        return fields | {"task_name": cells["task_name"]} | references(answers)


def document(table: Table) -> dict[str, Any]:
    """The one JSON object of a file, whole in memory; raises DataError for anything else."""
    source = text(find(table.path), table)
    try:
        value = json.loads(b"".join(source.pieces).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{table.path}: not JSON ({str(error) or 'nested too deeply'})") from error
    if not isinstance(value, dict):
        raise DataError(f"{table.path} holds {kind_of(value)}, one object with Definition and Instances is needed")
    return value


def definition(given: Any) -> Any:
    """The definition of a task as one text (the later releases hold a list of one)."""
    return "\n".join(given) if isinstance(given, list) and all(isinstance(one, str) for one in given) else given


def shown_as(example: Any, instruction: str) -> list[str]:
    """A positive example as a [question, answer] pair; raises Unusable for another shape."""
    if not isinstance(example, Mapping):
        raise Unusable(f"a positive example is {kind_of(example)}, not an object")
    asked = text_of(dict(example), "input")
    return [f"{instruction}\n\n{asked}" if asked else instruction, several(dict(example), "output")[0]]
