"""Rows read as requests, however they are written: Alpaca's fields, `messages`, or worded by a template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from etude.failures import DataError, RecipeError, nearest
from etude.generation import Refused
from etude.records import Conversation, Message, Record, ToolCall
from etude.templates.rows import worded
from etude.templates.template import Template
from etude.templates.writing import write

ANSWERED = ("output", "references")
"""The fields of a worded row that say what its answer is."""


@dataclass(frozen=True, slots=True)
class Request:
    """A row read as a request: its messages up to the last question, and the answer it has ("" for none)."""

    record: Record
    messages: tuple[Message, ...]
    answer: str = ""

    @property
    def id(self) -> str:
        """The row's id."""
        return self.record.id

    @property
    def question(self) -> Message:
        """The last question."""
        return next(message for message in reversed(self.messages) if message.role == "user")

    @property
    def system(self) -> str:
        """What the system says at the start, "" for nothing."""
        return self.messages[0].content if self.messages[0].role == "system" else ""

    @property
    def tools(self) -> tuple[Any, ...]:
        """The functions that the assistant may call."""
        return tuple(self.record.fields.get("tools") or ())

    def asking(self, id: str, added: str = "") -> Conversation:
        """The request as a question to a model, under an id of its own; `added` stands after it and is no part of the row."""
        messages = self.messages
        if added:
            messages = (
                (*messages, Message("user", added)) if messages[-1].role != "user" else (*messages[:-1], with_words(messages[-1], added))
            )
        return Conversation(id, messages, self.record.origin, tools=self.tools)

    def answered(self, answer: str) -> dict[str, Any]:
        """The row's fields with another answer."""
        kept = {key: value for key, value in self.record.fields.items() if key not in ANSWERED}
        if "messages" in kept:
            return {**kept, "messages": [*map(plain, self.messages), {"role": "assistant", "content": answer}]}
        return {**kept, "output": answer}

    def reworded(self, instruction: str) -> dict[str, Any]:
        """The row's fields with its last question in other words."""
        if "messages" not in self.record.fields:
            return {**self.record.fields, "instruction": instruction}
        last = max(place for place, message in enumerate(self.messages) if message.role == "user")
        turns = [plain(message) for message in worded(self.record)]
        turns[last] = {**turns[last], "content": instruction}
        return {**self.record.fields, "messages": turns}


def with_words(message: Message, added: str) -> Message:
    """A message with words after all that it has."""
    return (
        replace(message, context=f"{message.context}\n\n{added}")
        if message.context
        else replace(message, content=f"{message.content}\n\n{added}")
    )


def plain(message: Message | ToolCall) -> dict[str, Any]:
    """A message as a row holds it: what is empty is left out."""
    found = {field.name: getattr(message, field.name) for field in fields(message)}
    if isinstance(message, Message):
        found["tool_calls"] = [plain(call) for call in message.tool_calls]
    needed = ("role", "content", "name", "arguments") if isinstance(message, ToolCall) else ("role", "content")
    return {key: value for key, value in found.items() if key in needed or (value is not None and value not in ("", []))}


def in_words(record: Record, template: Template | None) -> Record:
    """A row that a template words, as the worded row it stands for (first phrasing), under its own id; the row itself where there is no
    template. Fields of the row that say how its answers are tested stay. Raises DataError as `templates.writing.write`."""
    if template is None:
        return record
    told = write(record, template)
    question = told.messages[-2]
    kept = {key: value for key, value in record.fields.items() if key not in ("instruction", "input", "output", "messages", "references")}
    return replace(record, fields={**kept, "instruction": question.content, "input": question.context, "output": told.answer()})


def read(record: Record) -> Request:
    """A row as a request. Raises DataError, which names the row, for one that is no request."""
    given = record.fields
    if "messages" in given:
        turns = worded(record)
    elif isinstance(given.get("instruction"), str):
        turns = worded(replace(record, fields={**given, "output": given.get("output") or ""}))
    else:
        raise DataError(
            f"{record.origin}: row {record.id} cannot be read as an instruction: it has neither a text 'instruction' nor 'messages'"
            f"{nearest('instruction', given)}; name a template for source {record.source!r}"
        )
    answer = turns[-1].content if turns and turns[-1].role == "assistant" else ""
    asked = turns[:-1] if turns and turns[-1].role == "assistant" else turns
    if not any(message.role == "user" for message in asked):
        raise DataError(f"{record.origin}: row {record.id} cannot be read as an instruction: nobody asks in it")
    return Request(record, asked, answer)


def requests(rows: Sequence[Record], source: str, strategy: str, several: bool) -> tuple[list[Request], list[Refused]]:
    """The rows as requests, and what was refused of them: rows that stand there twice, that ask nothing, and, unless `several`, those
    of more than one question. Raises RecipeError where there are no rows, DataError for a row that is no request."""
    if not rows:
        raise RecipeError(f"{strategy} starts from training rows, and {source!r} has none; look at its `limit`, `where` and the split")
    found: dict[str, Request] = {}
    refused = []
    for record in rows:
        request = read(record)
        words = request.question.words()
        about = (words, (record.id,), {"root": record.id})
        if record.id in found:
            refused.append(Refused("the same row twice", *about))
        elif not request.question.content.strip():
            refused.append(Refused("nothing is asked", *about))
        elif not several and [m.role for m in request.messages if m.role != "system"] != ["user"]:
            refused.append(Refused("more than one turn", *about))
        else:
            found[record.id] = request
    return list(found.values()), refused


def enough(count: int | None, most: int, strategy: str, why: str) -> None:
    """Raises RecipeError where more rows are wanted than can be made."""
    if count is not None and count > most:
        raise RecipeError(f"{strategy}: count is {count:,}, and {why} make {most:,} rows at most")
