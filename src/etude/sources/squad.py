"""Questions about a passage with the words of the passage as answers: SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018).

Both the released JSON (articles of paragraphs of questions) and the flat rows of hubs (`answers.text`). Every
question is a row with the fields `instruction` (the question), `input` (the passage) and `output` (the first
answer), or for a template `question`, `context` and `answer`; and `references`, all different answers, where
there are several. A row's line is that of its article.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

from etude.catalog import Settings, note
from etude.records import BadRow, Record
from etude.sources.inputs_targets import references
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Phrased, Task, Where
from etude.sources.reading import inputs_of, read_file, text_of
from etude.sources.rows import Row, Unusable, count, plain
from etude.sources.where import kind_of

NESTED = "paragraphs"


class Squad(Settings):
    """Questions, passages and answers of SQuAD's form."""

    path: DataPath
    unanswerable: Literal["refuse", "skip", "say"] = "refuse"
    """Rows without an answer (SQuAD 2.0): `refuse` them as bad rows, `skip` them (counted), or `say` the words of `no_answer`."""
    no_answer: str = "The passage does not say."
    """What is answered to a question that the passage does not answer."""
    template: Phrased = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every question in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""
        skipped = [0]
        try:
            yield from read_file(self, name, lambda _: self.build, expand=partial(self.expand, skipped), expanded=COLUMNS)
        finally:
            if skipped[0]:
                note(f"sources.{name}: {count(skipped[0], 'question')} without an answer left out (unanswerable: skip)")

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, which names the task."""
        return inputs_of(self)

    def expand(self, skipped: list[int], rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """One row a question."""
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            for question in questions(row) if NESTED in row.cells else [row]:
                if self.unanswerable == "skip" and isinstance(question, Row) and no_answer(question.cells):
                    skipped[0] += 1
                else:
                    yield question

    def build(self, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one question; raises Unusable with the reason."""
        place = f"question {cells['id']}: " if isinstance(cells.get("id"), str) else ""
        try:
            question, passage = text_of(cells, "question"), text_of(cells, "context")
            for key, value in (("question", question), ("context", passage)):
                if not value.strip():
                    raise Unusable(f"{key!r} is empty")
            answers = texts(cells)
            if not answers and self.unanswerable != "say":
                raise Unusable("there is no answer in the passage; `unanswerable:` says what becomes of such rows")
        except Unusable as error:
            raise Unusable(f"{place}{error}") from error
        answers = answers or [self.no_answer]
        names = ("question", "context", "answer") if self.template else ("instruction", "input", "output")
        return dict(zip(names, (question, passage, answers[0]), strict=True)) | references(answers)


COLUMNS = ["id", "title", "context", "question", "answers", "is_impossible"]


def questions(row: Row) -> Iterator[Row | BadRow]:
    """The questions of an article, a row each, or a BadRow for a part of another shape."""
    try:
        for paragraph in items(row.cells, NESTED):
            for one in items(paragraph, "qas"):
                beside = {"title": row.cells.get("title"), "context": paragraph.get("context")}
                yield Row(row.origin, {**beside, **one})
    except Unusable as error:
        yield BadRow(row.origin, str(error), str(row.cells)[:200])


def items(owner: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects in a list; raises Unusable for another shape."""
    given = owner.get(key)
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise Unusable(f"{key!r} is {kind_of(given)}, not a list of objects")
    return given


def no_answer(cells: Mapping[str, Any]) -> bool:
    """Whether a row says that the passage has no answer."""
    try:
        return not texts(cells)
    except Unusable:
        return False


def texts(cells: Mapping[str, Any]) -> list[str]:
    """The answers of a question: `[{"text": ...}]`, `{"text": [...]}`, or a list of texts; raises Unusable for another shape."""
    given = cells.get("answers", cells.get("answer"))
    if cells.get("is_impossible"):
        return []
    if isinstance(given, Mapping):
        given = given.get("text")
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list):
        raise Unusable(f"'answers' is {kind_of(given)}; a list of answers, or an object with 'text', is needed")
    found: list[Any] = [one.get("text") if isinstance(one, Mapping) else one for one in given]
    for one in found:
        if not isinstance(one, str):
            raise Unusable(f"an answer is {kind_of(one)}, not text")
        plain(one, "an answer")
    return [one for one in found if one.strip()]
