"""Rows of T0 and FLAN: `inputs` and `targets`, worded already; several targets are several right answers.

Tokenised copies (P3, FLAN's own cache) hold the words under `inputs_pretokenized` and `targets_pretokenized`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from etude.catalog import Settings
from etude.records import BadRow, Record
from etude.sources.keys import Column, DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Task, Where, Worded
from etude.sources.reading import Build, hint, inputs_of, read_file, text_of
from etude.sources.rows import Unusable, plain
from etude.sources.where import kind_of

NAMED = (("inputs_pretokenized", "targets_pretokenized"), ("inputs", "targets"), ("input", "target"))


class InputsTargets(Settings):
    """Rows of an input and one or several targets."""

    path: DataPath
    inputs_key: Column = None
    """The key of the input; None: inputs_pretokenized, inputs or input."""
    targets_key: Column = None
    """The key of the target, a text or a list of right ones; None: targets_pretokenized, targets or target."""
    strip: bool = True
    """Take the white space off both ends of input and target (P3's targets begin with a line end)."""
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
        return read_file(self, name, self.shape, named=(self.inputs_key, self.targets_key))

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self)

    def shape(self, columns: list[str]) -> Build:
        """How a row of these columns is built."""
        pair = next((pair for pair in NAMED if set(pair) <= set(columns)), ("inputs", "targets"))
        return partial(self.build, self.inputs_key or pair[0], self.targets_key or pair[1])

    def build(self, asked: str, said: str, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one row: `messages`, and `references` where there are several; raises Unusable."""
        if isinstance(cells.get(asked), list):
            raise Unusable(f"{asked!r} is a list (of tokens?), not text")
        question = self.words(text_of(cells, asked))
        if not question.strip():
            raise Unusable(f"{asked!r} is empty")
        answers = [self.words(answer) for answer in several(cells, said)]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answers[0]}]
        return {"messages": messages, **references(answers)}

    def words(self, text: str) -> str:
        """A text of the row."""
        return text.strip() if self.strip else text


def several(cells: dict[str, Any], key: str) -> list[str]:
    """The right answers of a row, at least one; raises Unusable where there is none or one is no text."""
    if key not in cells:
        raise Unusable(f"{key!r} is missing{hint(key, cells)}")
    given = cells[key] if isinstance(cells[key], list) else [cells[key]]
    if not given:
        raise Unusable(f"{key!r} is an empty list: there is no answer")
    for one in given:
        if not isinstance(one, str):
            raise Unusable(f"{key!r} holds {kind_of(one)}, not text")
        plain(one, f"{key!r}")
    return given


def references(answers: list[str]) -> dict[str, list[str]]:
    """The field `references`: every different right answer, the trained one first; nothing where there is only one."""
    different = list(dict.fromkeys(answers))
    return {"references": different} if len(different) > 1 else {}
