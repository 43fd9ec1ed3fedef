"""Rows that are worded already: `messages` (and `tools`), Alpaca's fields, or plain `text`.

A field `references` beside them lists every right answer of a row, the trained one first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.failures import DataError, nearest
from etude.records import Message, Record, ToolCall

ROLES = ("system", "user", "assistant", "tool")


def worded(record: Record) -> tuple[Message, ...]:
    """The messages of a row that needs no template; raises DataError where it does."""
    fields = record.fields
    if "messages" in fields:
        if not isinstance(fields["messages"], list | tuple):
            raise DataError(f"{record.origin}: 'messages' is not a list")
        return tuple(message(given, record) for given in fields["messages"])
    if set(fields) == {"text"}:  # plain text for continued training: nobody asks, and all of it is trained
        return (Message("assistant", fields["text"], trained=True),)
    for key in ("instruction", "output"):
        if key not in fields:
            raise DataError(
                f"{record.origin}: there is no field {key!r}{nearest(key, fields)}; name a template for source {record.source!r}"
            )
    opening = (Message("system", fields["system"]),) if fields.get("system") else ()
    history = [Message(role, text) for pair in fields.get("history") or () for role, text in zip(("user", "assistant"), pair, strict=True)]
    return (*opening, *history, Message("user", fields["instruction"], fields.get("input") or ""), Message("assistant", fields["output"]))


def message(given: Any, record: Record) -> Message:
    """One message of a row's own; raises DataError for another shape."""
    if isinstance(given, Message):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("content"), str) or not isinstance(given.get("context", ""), str):
        raise DataError(f"{record.origin}: a message needs a role and a text as content")
    role = given.get("role")
    if role not in ROLES:
        raise DataError(f"{record.origin}: no role is called {role!r}{nearest(str(role), ROLES)}")
    calls = tuple(ToolCall(call["name"], call["arguments"], call.get("id", "")) for call in given.get("tool_calls") or ())
    name, call_id = given.get("name", ""), given.get("call_id", "")
    return Message(role, given["content"], given.get("context", ""), calls, name, call_id, given.get("trained"))
