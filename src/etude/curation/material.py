"""A row's own words, without its template's: what duplicates and contamination compare.

Rows that share a template share its instruction; comparing whole prompts would call them all alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from etude.curation.rows import Row


@dataclass(frozen=True, slots=True)
class Material:
    """The words of one row. `instruction`: what is asked, without its input; of a row that a template words, all
    questions. `questions`: every text the user gave (turns, inputs). `answers`: the assistant's. `about`: the
    questions without an instruction that has an input beside it (it may stand over many rows)."""

    instruction: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    about: tuple[str, ...]


def material(row: Row) -> Material:
    """A row's own words: of its turns where it was worded already, of its fields where a template words it."""
    return templated(row) if needs_template(row) else worded(row)


def needs_template(row: Row) -> bool:
    """Whether a template words the row, rather than the row itself."""
    fields = row.record.fields
    return "template" in row.conversation.notes or not ("messages" in fields or "instruction" in fields or set(fields) == {"text"})


def worded(row: Row) -> Material:
    """The words of a row's turns, the system's left out."""
    questions, answers, about, instruction = [], [], [], ""
    for message in row.conversation.messages:
        if message.role == "assistant":
            answers.append(message.content)
        elif message.role != "system":
            questions += [message.content, message.context]
            about.append(message.context if message.context.strip() else message.content)
            if message.role == "user":
                instruction = message.content
    return Material(instruction, filled(questions), filled(answers), filled(about))


def templated(row: Row) -> Material:
    """The texts among a row's fields, by where its conversation shows them: asked, or answered. A field that is
    shown nowhere (a licence, a category) says nothing; a side that shows none is taken as it reads."""
    asked = "\n".join(part for m in row.conversation.messages if m.role == "user" for part in (m.content, m.context))
    answer = row.answer
    questions, answers = [], []
    for name, value in row.record.fields.items():
        for text in leaves(value):
            bare = text.strip()
            if bare == answer.strip() or name == "references":
                answers.append(text)
            elif bare in asked:
                questions.append(text)
            elif bare in answer:
                answers.append(text)
    found = filled(questions) or filled([asked])
    return Material("\n".join(found), found, filled(answers) or filled([answer]), found)


def leaves(value: Any) -> Iterator[str]:
    """Every text in a field, in its lists and objects too; not white space alone."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)


def filled(texts: list[str]) -> tuple[str, ...]:
    """The texts that say something."""
    return tuple(text for text in texts if text.strip())
