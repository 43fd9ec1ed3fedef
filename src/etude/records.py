"""The nouns every part of etude passes around; frozen, and with no behaviour beyond reading them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


IGNORED = -100
"""Label of a token that is not trained (the value torch's cross entropy leaves out)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from: file (or module), 1-based line, licence if known."""

    path: str
    line: int = 0
    licence: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Record:
    """Raw fields as a dataset gave them. `id` is the hash of the fields before any template."""

    id: str
    fields: Mapping[str, Any]
    origin: Origin
    source: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot become a Conversation, with the reason; never dropped in silence."""

    origin: Origin
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that an answer asks to be called: its name and its arguments, JSON text as OpenAI's
    rows hold it (a data set's object is written as JSON); `id` pairs the call with its result."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the system, the user, the assistant or a tool. `context` is the material a user's
    instruction is about: formats with a place for it (Alpaca's `### Input:`) use it, the others append
    it after a blank line. `trained`: whether the loss counts this turn; None leaves it to the recipe
    (an assistant's turns count). `name` and `call_id` say which tool, and which call, a result is of."""

    role: str
    content: str
    context: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""
    trained: bool | None = None

    def words(self) -> str:
        """Content and context as one text, for formats without a place for the context."""
        return f"{self.content}\n\n{self.context}" if self.context else self.content


@dataclass(frozen=True, slots=True)
class Conversation:
    """One example in words, in no model's format."""

    id: str
    messages: tuple[Message, ...]
    origin: Origin | None = None
    task: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    """The functions the assistant may call, each in OpenAI's JSON schema form."""

    def answer(self) -> str:
        """The last assistant message, or "" when the conversation ends with a question."""
        last = self.messages[-1] if self.messages else None
        return last.content if last and last.role == "assistant" else ""

    def question(self) -> Conversation:
        """The conversation without its final answer: what a model is asked."""
        if self.messages and self.messages[-1].role == "assistant":
            return replace(self, messages=self.messages[:-1])
        return self


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of rendered text. `trained`: part of the loss. `special`: one added token of the
    tokenizer, written by the format; data is never special, whatever it spells."""

    text: str
    trained: bool = False
    special: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Token ids and labels (int32, shape (tokens,)); `labels[i]` is `ids[i]` where token i is
    trained, else IGNORED. `cut` counts the prompt tokens that truncation took out; `weight` is what
    each trained token counts in the loss."""

    id: str
    ids: np.ndarray
    labels: np.ndarray
    cut: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a row: kept, or dropped with a reason and, for duplicates, of what."""

    id: str
    kept: bool
    reason: str = ""
    of: str = ""

    @staticmethod
    def keep(id: str) -> Fate:
        """The row stays."""
        return Fate(id, True)

    @staticmethod
    def drop(id: str, reason: str, of: str = "") -> Fate:
        """The row leaves, for `reason`, perhaps because of row `of`."""
        return Fate(id, False, reason, of)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question, every answer drawn for it, and its references. `fields` holds what else a metric may need: log-probabilities
    (`token_logprobs`, `label_logprobs`, `choice_logprobs`), `choices`, a task's tests (which keys: `Metric.needs`)."""

    id: str
    outputs: tuple[str, ...]
    references: tuple[str, ...]
    task: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)


CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode
"""Canonical JSON: the encoder `json.dumps` would make anew for each row, kept."""


def identify(fields: Mapping[str, Any]) -> str:
    """The id of a row: the first 16 hex digits of the SHA-256 of its fields as canonical JSON."""
    return hashlib.sha256(CANONICAL(fields).encode("utf-8", "surrogatepass")).hexdigest()[:16]
