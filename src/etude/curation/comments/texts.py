"""Where the code in a row is: every text of its fields, with what it is (an answer, an input, something else).

A row is walked whatever its shape (Alpaca's keys, messages, ShareGPT's turns, prompt and completion, a data set's
own columns). Answers and inputs may be code from end to end; everywhere else only fenced blocks are looked at, for
a comment in a question may be the question.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ANSWERS = frozenset({
    "output", "outputs", "answer", "answers", "response", "responses", "completion", "completions", "target", "targets", "solution",
    "canonical_solution", "code", "chosen", "rejected", "reference", "references", "program", "reference_code",
})  # fmt: skip
INPUTS = frozenset({"input", "inputs", "context", "code_snippet", "snippet", "source_code"})
SPEAKERS = ("role", "from", "speaker")
SPOKEN = ("content", "value", "text")
ASSISTANTS = frozenset({"assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard", "prompter_reply"})
LANGUAGE_KEYS = ("language", "lang", "programming_language", "programming_lang", "prog_lang")
UNREAD = frozenset({"tools", "tool_calls", "arguments", "id", "task_id", "url", "licence", "license", *LANGUAGE_KEYS})
"""Keys whose texts are no one's words."""
Place = Literal["code", "fences"]
Change = Callable[[str, str, Place], str]
"""(text, name of the field, whether it may be code as a whole) -> the text to put there."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which fields may be code as a whole: those named, else answers and inputs."""

    fields: Collection[str] = ()

    def place(self, key: str, above: Place) -> Place | None:
        """What the texts below a key are; None: not looked at. With `fields` named, only these are."""
        if self.fields:
            return "code" if key in self.fields or above == "code" else None
        if key in UNREAD:
            return None
        return "code" if key in ANSWERS or key in INPUTS else above


def changed(fields: Mapping[str, Any], where: Where, change: Change) -> dict[str, Any]:
    """The fields with every text that is looked at replaced by what `change` makes of it; the given values where
    nothing changed. Nested as deeply as sources allow (64 levels)."""
    out: dict[str, Any] = {}
    for key, value in fields.items():
        place = where.place(key, "fences")
        if place is None and not isinstance(value, list | dict):
            out[key] = value
        else:
            out[key] = within(value, key, place, where, change)
    return out


def within(value: Any, name: str, place: Place | None, where: Where, change: Change) -> Any:
    """A value below a key."""
    if isinstance(value, str):
        return change(value, name, place) if place else value
    if isinstance(value, list | tuple):
        new = [within(item, name, place, where, change) for item in value]
        return new if any(one is not other for one, other in zip(new, value, strict=True)) else value
    if isinstance(value, Mapping):
        return of_turn(value, name, place, where, change)
    return value


def of_turn(value: Mapping[str, Any], name: str, place: Place | None, where: Where, change: Change) -> Any:
    """An object below a key: a turn is an answer when the assistant speaks, else only its fenced blocks count."""
    speaker = next((str(value[key]).lower() for key in SPEAKERS if isinstance(value.get(key), str)), "")
    out = {}
    for key, item in value.items():
        inner: Place | None
        if speaker and key in SPOKEN:
            inner = "code" if speaker in ASSISTANTS else "fences"
            if where.fields:
                inner = "code" if {key, name} & set(where.fields) else None
        elif key in SPEAKERS or (key in UNREAD and not where.fields):
            out[key] = item
            continue
        else:
            inner = where.place(key, place or "fences")
        out[key] = within(item, key, inner, where, change)
    return out if any(out[key] is not value[key] for key in out) else value


def language_of(fields: Mapping[str, Any]) -> str:
    """What a row says its language is, or ""."""
    return next((value for key in LANGUAGE_KEYS if isinstance(value := fields.get(key), str)), "")


def asked(fields: Mapping[str, Any]) -> str:
    """The words of a row that may name its language: the texts that are neither answers nor inputs."""
    words: list[str] = []

    def listen(text: str, name: str, place: Place) -> str:
        if place == "fences":
            words.append(text[:2000])
        return text

    changed(fields, Where(), listen)
    return "\n".join(words)
