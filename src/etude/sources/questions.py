"""Questions to be answered, with no answer to compare with: MT-bench's and Vicuna-bench's files, AlpacaEval's, plain lists.

A row is a question, perhaps with turns that follow (`turns`: a list of the user's messages; the model's own answers stand
between them), a category and reference answers. Such rows are for scoring; they cannot be trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etude.catalog import Settings
from etude.records import BadRow, Record
from etude.sources.keys import Column, DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Task, Where, Worded
from etude.sources.reading import inputs_of, pick, read_file, text_of
from etude.sources.rows import Unusable

KEYS = ("turns", "question", "instruction", "prompt", "text", "query")


class Questions(Settings):
    """Rows that ask and do not answer."""

    path: DataPath
    question: Column = None
    """The key of the question, a text or a list of turns; None: turns, question, instruction, prompt, text or query."""
    template: Worded = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""

        def bound(columns: list[str]) -> Any:
            key = pick(columns, KEYS, self.question)
            return lambda cells: build(key, cells)

        return read_file(self, name, bound, named=(self.question,))

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self)


def build(key: str, cells: dict[str, Any]) -> dict[str, Any]:
    """The fields of one row; raises Unusable with the reason."""
    given = cells.get(key)
    turns = list(given) if isinstance(given, list | tuple) else [text_of(cells, key)]
    if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise Unusable(f"{key!r} must be a text or a list of texts, none of them empty")
    found: dict[str, Any] = {"instruction": turns[0], "input": "", "output": ""}
    if len(turns) > 1:
        found["then"] = turns[1:]
    references = cells.get("reference")
    if isinstance(references, list | tuple) and references:
        found["output"] = str(references[0])
    if isinstance(references, list | tuple) and len(references) > 1:
        found["turn_references"] = [str(one) for one in references]
    return found | {name: cells[name] for name in ("category",) if isinstance(cells.get(name), str)}
