"""One message of a data set's own spelling -> the one form that all conversation sources give.

A Record of a conversation has the fields `{"messages": [...], "tools": [...]}` (`tools` only where there
are some), whatever shape the row had. A message is `{"role", "content"}`, and only where they say something
`context`, `tool_calls` (`[{"name", "arguments", "id"}]`, arguments as JSON text), `name`, `call_id`, `trained`:
the names of `records.Message`. A tool is in OpenAI's form, `{"type": "function", "function": {...}}`.

Understood are OpenAI's messages (parts of text, `tool_calls`, the older `function_call`, `weight`),
ShareGPT's `from`/`value` with `function_call` and `observation` turns, axolotl's `train`, LLaMA-Factory's
`loss_weight`, pairs `{"human": ..., "assistant": ...}`, and this form itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.failures import nearest
from etude.sources.reading import sound
from etude.sources.rows import Unusable, plain
from etude.sources.where import kind_of

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant", "bot": "assistant", "chatbot": "assistant",
    "function_call": "function_call", "tool_call": "function_call",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
"""Spellings of roles -> ours; `function_call` is an assistant's turn that holds nothing but calls."""
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
WEIGHTS = ("weight", "loss_weight")
SWITCHES = ("trained", "train", "training")
IN_PART = ("train_detail", "training_detail")
REASONING = ("reasoning_content", "thinking")

Turn = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a data set writes its turns: the keys of role and content (None: any of the usual ones), and
    further spellings of roles. `blank`: a null content is an empty one (which a mending rule takes out)."""

    role: str | None = None
    content: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    blank: bool = False


def turns(given: Any, spelling: Spelling, what: str) -> list[Turn]:
    """The messages of a list; raises Unusable with the number of the message and the reason. `what` names the list."""
    if not isinstance(given, list | tuple):
        raise Unusable(f"{what} is {kind_of(given)}, not a list of messages")
    found: list[Turn] = []
    for number, one in enumerate(given, 1):
        try:
            found += turn(one, spelling)
        except Unusable as error:
            raise Unusable(f"message {number}: {error}") from error
    return found


def turn(given: Any, spelling: Spelling) -> Iterator[Turn]:
    """The message (or the two of a pair) of one item; raises Unusable with the reason."""
    if not isinstance(given, Mapping):
        raise Unusable(f"{kind_of(given)}, not an object")
    key = there(given, ROLE_KEYS, spelling.role)
    if key is None:
        if not spelling.role and (pair := paired(given)):
            yield from pair
            return
        near = nearest(spelling.role or "role", map(str, given))
        raise Unusable(f"{spelling.role or 'role'!r} is missing{near}")
    role = role_of(given[key], spelling)
    content = content_of(given, spelling)
    calls = calls_of(given)
    if isinstance(content, list):
        content, more = parts(content)
        calls += more
    if role == "function_call":
        role, content, calls = "assistant", "", calls + spelled_calls(content)
    if content is None:
        if not calls and not spelling.blank:
            raise Unusable("its content is nothing (null)")
        content = ""
    yield message(role, thought(given) + content, calls, given)


def message(role: str, content: str, calls: list[Turn], given: Mapping[Any, Any]) -> Turn:
    """A message in our form; raises Unusable for calls of someone else than the assistant."""
    if calls and role != "assistant":
        raise Unusable(f"a tool call in a turn of the {role}")
    found: Turn = {"role": role, "content": plain(content, "its content")}
    if context := given.get("context"):
        found["context"] = a_text(context, "context")
    if calls:
        found["tool_calls"] = calls
    if role == "tool":
        for ours, keys in (("name", ("name",)), ("call_id", ("call_id", "tool_call_id"))):
            value = next((given[key] for key in keys if given.get(key)), None)
            if value:
                found[ours] = a_text(value, ours)
    trained = trained_of(given)
    if trained is not None:
        found["trained"] = trained
    return found


def there(given: Mapping[Any, Any], keys: tuple[str, ...], chosen: str | None) -> str | None:
    """The key to read: the one the recipe named, else the first usual one that is there."""
    return next((key for key in ((chosen,) if chosen else keys) if given.get(key) is not None), None)


def role_of(given: Any, spelling: Spelling) -> str:
    """The role of a turn in our names; raises Unusable for one that nobody knows."""
    if not isinstance(given, str):
        raise Unusable(f"its role is {kind_of(given)}, not text")
    role = spelling.roles.get(given) or ROLES.get(given.strip().lower())
    if role is None:
        raise Unusable(
            f"no role is called {given[:40]!r}{nearest(given.lower(), {*ROLES, *spelling.roles})}; `roles:` maps other spellings"
        )
    return role


def content_of(given: Mapping[Any, Any], spelling: Spelling) -> Any:
    """What a turn says: a text, a list of parts, or None; raises Unusable for anything else."""
    keys = (spelling.content,) if spelling.content else CONTENT_KEYS
    key = next((key for key in keys if key in given), None)
    if key is None:
        if given.get("tool_calls") or given.get("function_call"):
            return None
        raise Unusable(f"{keys[0]!r} is missing{nearest(keys[0], map(str, given))}")
    value = given[key]
    if value is not None and not isinstance(value, str | list):
        raise Unusable(f"{key!r} is {kind_of(value)}, not text")
    return value


def parts(given: list[Any]) -> tuple[str, list[Turn]]:
    """The text of a list of parts, and the calls among them; raises Unusable for a part that is no text."""
    texts, calls = [], []
    for part in given:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        value = next((part[key] for key in ("text", "value", "content") if part.get(key) is not None), None) if kind else None
        if kind == "text" and isinstance(value, str):
            texts.append(value)
        elif kind in ("tool_call", "function_call") and isinstance(value, str):
            calls += spelled_calls(value)
        else:
            raise Unusable(f"a part of its content is {f'of type {kind!r}' if kind else kind_of(part)}; only text can be used")
    return "".join(texts), calls


def thought(given: Mapping[Any, Any]) -> str:
    """Reasoning that stands in a key of its own, as the text before the answer that reasoning models write."""
    text = next((given[key] for key in REASONING if given.get(key)), "")
    return f"<think>\n{a_text(text, 'reasoning').strip()}\n</think>\n\n" if text else ""


def paired(given: Mapping[Any, Any]) -> list[Turn]:
    """The two messages of `{"human": ..., "assistant": ...}`, or none."""
    asked = [key for key in given if ROLES.get(str(key).lower()) == "user"]
    said = [key for key in given if ROLES.get(str(key).lower()) == "assistant"]
    if len(asked) != 1 or len(said) != 1:
        return []
    return [{"role": role, "content": a_text(given[key], str(key))} for role, key in (("user", asked[0]), ("assistant", said[0]))]


def trained_of(given: Mapping[Any, Any]) -> bool | None:
    """Whether a turn says that it is trained; raises Unusable for what is neither yes nor no."""
    found = set()
    for key in (*WEIGHTS, *SWITCHES):
        value = given.get(key)
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise Unusable(f"{key!r} is {value!r}; a turn is trained (1) or not (0)")
        found.add(bool(value))
    if len(found) > 1:
        raise Unusable("its weight and its switch say different things about training it")
    for key in IN_PART:
        if given.get(key):
            raise Unusable(f"{key!r} trains parts of a turn; a turn is trained whole or not at all")
    return found.pop() if found else None


def calls_of(given: Mapping[Any, Any]) -> list[Turn]:
    """The calls in `tool_calls` and in the older `function_call`."""
    listed = given.get("tool_calls") or []
    if isinstance(listed, str):
        listed = from_json(listed, "'tool_calls'")
    if not isinstance(listed, list | tuple):
        raise Unusable(f"'tool_calls' is {kind_of(listed)}, not a list")
    older = given.get("function_call")
    return [call(one) for one in (*listed, *([older] if older else []))]


def spelled_calls(text: Any) -> list[Turn]:
    """The calls that a ShareGPT `function_call` turn holds as JSON: an object, or a list of them."""
    given = from_json(text, "the function call")
    return [call(one) for one in (given if isinstance(given, list) else [given])]


def call(given: Any) -> Turn:
    """One call, `{"name", "arguments", "id"}`; raises Unusable for one without a name or with arguments that are no JSON object."""
    inner = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise Unusable("a tool call has no name")
    arguments = inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        if not isinstance(from_json(arguments, f"what is given to {inner['name']!r}"), dict):
            raise Unusable(f"the arguments of the call to {inner['name']!r} are no JSON object")
        plain(arguments, "a call's arguments")
    elif isinstance(arguments, Mapping):
        arguments = json.dumps(sound(dict(arguments), "a call's arguments"), ensure_ascii=False)
    elif arguments in (None, ""):
        arguments = "{}"
    else:
        raise Unusable(f"the arguments of the call to {inner['name']!r} are {kind_of(arguments)}, no JSON object")
    found = {"name": plain(inner["name"], "a call's name"), "arguments": arguments}
    return found | {"id": a_text(given["id"], "id")} if given.get("id") else found


def tools(given: Any) -> list[Turn]:
    """The functions the assistant may call, in OpenAI's form; from a list, or JSON text of one. Raises Unusable."""
    if isinstance(given, str):
        given = from_json(given, "'tools'") if given.strip() else None
    if given is None:
        return []
    found = []
    for one in given if isinstance(given, list | tuple) else [given]:
        inner = one.get("function", one) if isinstance(one, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise Unusable(f"a tool needs a name, found {kind_of(one) if inner is None else 'an object without'}")
        found.append(sound({"type": "function", "function": dict(inner)}, "'tools'"))
    return found


def from_json(text: Any, what: str) -> Any:
    """The value of a JSON text; raises Unusable where it is none."""
    if not isinstance(text, str):
        raise Unusable(f"{what} is {kind_of(text)}, not JSON text")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{what} is not JSON ({getattr(error, 'msg', 'nested too deeply')}): {text[:40]!r}") from error


def a_text(value: Any, what: str) -> str:
    """A text without half characters; raises Unusable for anything else."""
    if not isinstance(value, str):
        raise Unusable(f"{what!r} is {kind_of(value)}, not text")
    plain(value, f"{what!r}")
    return value
