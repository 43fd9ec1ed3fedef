"""Tool calls and tools as JSON, the way models' own templates spell it.

Their `tojson` is transformers': `json.dumps` with non-ASCII text as it is and no HTML escapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from etude.failures import DataError
from etude.records import Conversation, Message, ToolCall


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as transformers' `tojson` writes it."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def arguments(call: ToolCall, turn: int) -> dict[str, Any]:
    """A call's arguments as an object; raises DataError, naming the message, when they are none."""
    try:
        found = json.loads(call.arguments or "{}")
    except ValueError as error:
        raise DataError(f"message {turn + 1}: the arguments of the call to {call.name!r} are no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"message {turn + 1}: the arguments of the call to {call.name!r} are no JSON object: {call.arguments[:40]!r}")
    return found


def openai(message: Message, content: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """A message as chat templates read it (OpenAI's fields); keys without a value are left out."""
    found: dict[str, Any] = {"role": message.role, "content": content}
    if calls:
        found["tool_calls"] = calls
    if message.name:
        found["name"] = message.name
    if message.call_id:
        found["tool_call_id"] = message.call_id
    return found


def function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description inside a tool: OpenAI's `{"type": "function", "function": {...}}`, or a bare one."""
    inner = tool.get("function")
    return inner if isinstance(inner, Mapping) else tool


def refuse_tools(name: str, conversation: Conversation, hint: str = "") -> None:
    """Raises DataError when a conversation has tools, calls or results, for a format without a place for them."""
    where = conversation.origin or conversation.id
    if conversation.tools:
        raise DataError(f"{where}: format {name} has no place for tools{hint}")
    for turn, message in enumerate(conversation.messages):
        if message.tool_calls:
            raise DataError(f"{where}: message {turn + 1} calls a tool, and format {name} has no place for tool calls{hint}")
        if message.role == "tool":
            raise DataError(f"{where}: message {turn + 1} is a tool's result, and format {name} has no place for it{hint}")
