"""Questions to be answered, with no answer to compare with: MT-bench's and Vicuna-bench's files, AlpacaEval's, plain lists.

A row is a question, perhaps with turns that follow (`turns`: a list of the user's messages; the model's own answers stand
between them), a category and reference answers. Such rows are for scoring; they cannot be trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from etude.catalog import Settings
from etude.failures import DataError
from etude.records import BadRow, Record
from etude.sources.keys import Column, DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Task, Where, Worded
from etude.sources.reading import inputs_of, pick, read_file, text_of
from etude.sources.rows import Unusable
from etude.sources.tables import digests

KEYS = ("turns", "question", "instruction", "prompt", "text", "query")


class Questions(Settings):
    """Rows that ask and do not answer."""

    path: DataPath
    question: Column = None
    """The key of the question, a text or a list of turns; None: turns, question, instruction, prompt, text or query."""
    right_answers: str = ""
    """A second file with right answers for some of the questions, for a judge to see: JSON Lines of `question_id` and `choices`, as
    MT-bench's reference answers are."""
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

        right = right_answers(self.right_answers, name) if self.right_answers else {}

        def bound(columns: list[str]) -> Any:
            key = pick(columns, KEYS, self.question)
            return lambda cells: build(key, cells, right)

        return read_file(self, name, bound, named=(self.question,))

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self) | (digests(self.right_answers, "jsonl") if self.right_answers else {})


def right_answers(path: str, name: str) -> dict[str, list[str]]:
    """question_id -> an answer a turn; raises DataError for a file that is missing or of another form."""
    place = Path(path)
    if not place.is_file():
        raise DataError(f"sources.{name}.right_answers: there is no file {path}")
    found = {}
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            found[str(row["question_id"])] = [str(turn) for turn in row["choices"][0]["turns"]]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(f"{path}:{number}: 'question_id' and 'choices' with 'turns' were expected ({error})") from error
    return found


def build(key: str, cells: dict[str, Any], right: Mapping[str, list[str]] = MappingProxyType({})) -> dict[str, Any]:
    """The fields of one row; raises Unusable with the reason."""
    given = cells.get(key)
    turns = list(given) if isinstance(given, list | tuple) else [text_of(cells, key)]
    if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise Unusable(f"{key!r} must be a text or a list of texts, none of them empty")
    found: dict[str, Any] = {"instruction": turns[0], "input": "", "output": ""}
    if len(turns) > 1:
        found["then"] = turns[1:]
    references = right.get(str(cells.get("question_id"))) or cells.get("reference")
    if isinstance(references, list | tuple) and references:
        found["output"] = str(references[0])
    if isinstance(references, list | tuple) and len(references) > 1:
        found["turn_references"] = [str(one) for one in references]
    return found | {name: cells[name] for name in ("category",) if isinstance(cells.get(name), str)}
