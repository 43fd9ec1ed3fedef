"""A Conversation as a row of one of the data set formats: `alpaca`, `sharegpt`, `messages`, `prompt-completion`.

A shape is a function; a dict line each. It raises Unfit, with the reason, for a conversation it cannot
hold without changing what is said or trained; what it folds together or leaves out besides (the border
between instruction and input, the ids of calls) it names in `lost`, to be counted and told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.records import Conversation, Message

FOLDED = "the border between instruction and input (the input follows after a blank line)"


class Unfit(Exception):
    """A conversation that a shape cannot hold; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """A row, and what it could not hold (each thing once)."""

    row: dict[str, Any]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """A target format. `keys`: the keys a row can have, which no other field of a row may take."""

    write: Callable[[Conversation], Shaped]
    keys: tuple[str, ...]
    flat: bool
    """Whether every value can be text, so that a CSV file can hold the rows."""


def alpaca(conversation: Conversation) -> Shaped:
    """`instruction, input, output`, with `system` and `history` ([question, answer] pairs) where there are some."""
    plain(conversation, "an Alpaca row")
    trained_alike(conversation, "an Alpaca row")
    system, turns = opening(conversation, "an Alpaca row")
    pairs = exchanges(turns, "an Alpaca row")
    question, answer = pairs[-1]
    if not question.content.strip():
        raise Unfit("the last question is empty; an Alpaca row needs an instruction")
    row: dict[str, Any] = {"instruction": question.content, "input": question.context, "output": answer.content}
    if system:
        row["system"] = system.words()
    if len(pairs) > 1:
        row["history"] = [[asked.words(), told.words()] for asked, told in pairs[:-1]]
    folded = any(message.context for message in conversation.messages if message is not question)
    return Shaped(row, (FOLDED,) if folded else ())


def messages(conversation: Conversation) -> Shaped:
    """OpenAI's `messages`, with `tools`; a turn that says whether it is trained has OpenAI's `weight`."""
    if not conversation.messages:
        raise Unfit("there are no messages")
    row: dict[str, Any] = {"messages": [openai(message) for message in conversation.messages]}
    if conversation.tools:
        row["tools"] = [dict(tool) for tool in conversation.tools]
    return Shaped(row, folds(conversation))


def openai(message: Message) -> dict[str, Any]:
    """One message as OpenAI's rows hold it."""
    value: dict[str, Any] = {"role": message.role, "content": message.words()}
    if message.tool_calls:
        value["tool_calls"] = [
            {**({"id": call.id} if call.id else {}), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.call_id:
        value["tool_call_id"] = message.call_id
    if message.name:
        value["name"] = message.name
    if message.trained is not None:
        value["weight"] = int(message.trained)
    return value


SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
"""Role -> ShareGPT's speaker; an answer that calls functions is `function_call`."""


def sharegpt(conversation: Conversation) -> Shaped:
    """ShareGPT's `conversations` of {from, value}; calls are JSON in a `function_call` turn and `tools` is JSON text, as
    LLaMA-Factory reads them; a turn that says whether it is trained has axolotl's `train`."""
    if not conversation.messages:
        raise Unfit("there are no messages")
    turns = []
    for number, message in enumerate(conversation.messages, 1):
        if message.tool_calls and message.content:
            raise Unfit(f"message {number} both speaks and calls functions; a ShareGPT turn does one of them")
        speaker = "function_call" if message.tool_calls else SPEAKERS[message.role]
        turn: dict[str, Any] = {"from": speaker, "value": called(message, number) if message.tool_calls else message.words()}
        if message.call_id:
            turn["tool_call_id"] = message.call_id
        if message.name:
            turn["name"] = message.name
        if message.trained is not None:
            turn["train"] = message.trained
        turns.append(turn)
    row: dict[str, Any] = {"conversations": turns}
    if conversation.tools:
        row["tools"] = json.dumps([dict(tool) for tool in conversation.tools], ensure_ascii=False)
    return Shaped(row, folds(conversation))


def called(message: Message, number: int) -> str:
    """Function calls as JSON text: an object, or a list of them for several."""
    calls = []
    for call in message.tool_calls:
        try:
            arguments = json.loads(call.arguments)
        except ValueError as error:
            raise Unfit(f"message {number}: the arguments of {call.name!r} are not JSON, which a ShareGPT row needs") from error
        calls.append({"name": call.name, "arguments": arguments, **({"id": call.id} if call.id else {})})
    return json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)


def prompt_completion(conversation: Conversation) -> Shaped:
    """`prompt` and `completion` as message lists; `as_text` makes them texts where a whole file allows it."""
    plain(conversation, "a prompt/completion row")
    body = conversation.messages
    if len(body) < 2 or body[-1].role != "assistant":
        raise Unfit("the conversation does not end with an answer to a question")
    if body[-1].trained is False:
        raise Unfit("the last answer is not trained, and a completion always is")
    earlier = [
        number
        for number, message in enumerate(body[:-1], 1)
        if message.trained or (message.trained is None and message.role == "assistant")
    ]
    if earlier:
        raise Unfit(f"message {earlier[0]} is trained too, and of a prompt/completion row only the last answer is")
    turns = [{"role": message.role, "content": message.words()} for message in body]
    return Shaped({"prompt": turns[:-1], "completion": turns[-1:]}, folds(conversation))


def is_single(row: Mapping[str, Any]) -> bool:
    """Whether a prompt/completion row is one question and its answer, so that both can be plain texts."""
    return len(row["prompt"]) == 1 and row["prompt"][0]["role"] == "user"


def as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """Such a row with plain texts."""
    return {**row, "prompt": row["prompt"][0]["content"], "completion": row["completion"][0]["content"]}


SHAPES: dict[str, Shape] = {
    "alpaca": Shape(alpaca, ("instruction", "input", "output", "system", "history"), True),
    "sharegpt": Shape(sharegpt, ("conversations", "tools", "system"), False),
    "messages": Shape(messages, ("messages", "tools"), False),
    "prompt-completion": Shape(prompt_completion, ("prompt", "completion"), True),
}
"""What `--to` can name."""


# ---- what a row may ask of a shape -----------------------------------------------------------------


def plain(conversation: Conversation, what: str) -> None:
    """Raise Unfit for tools, their calls and their results."""
    if conversation.tools:
        raise Unfit(f"it offers tools ({count(len(conversation.tools), 'function')}), for which {what} has no place")
    for number, message in enumerate(conversation.messages, 1):
        if message.tool_calls or message.role == "tool":
            raise Unfit(f"message {number} is a tool's {'call' if message.tool_calls else 'result'}, for which {what} has no place")


def trained_alike(conversation: Conversation, what: str) -> None:
    """Raise Unfit where the row itself says that an answer is not trained, or that another turn is."""
    for number, message in enumerate(conversation.messages, 1):
        if message.trained is not None and message.trained != (message.role == "assistant"):
            word = "trained" if message.trained else "not trained"
            raise Unfit(f"message {number} ({message.role}) is marked as {word}; {what} cannot say so, and would train every answer")


def opening(conversation: Conversation, what: str) -> tuple[Message | None, Sequence[Message]]:
    """The system message at the start, and the turns after it; raises Unfit for one in the middle."""
    body = conversation.messages
    system = body[0] if body and body[0].role == "system" else None
    turns = body[1:] if system else body
    if any(message.role == "system" for message in turns):
        raise Unfit(f"there is a system message in the middle, for which {what} has no place")
    return system, turns


def exchanges(turns: Sequence[Message], what: str) -> list[tuple[Message, Message]]:
    """Questions and answers in turn; raises Unfit for any other order."""
    if not turns:
        raise Unfit("there is no question")
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if message.role != expected:
            raise Unfit(f"turn {number + 1} is of the {message.role}, where {what} needs one of the {expected}")
    if len(turns) % 2:
        raise Unfit("the last question has no answer")
    return list(zip(turns[::2], turns[1::2], strict=True))


def folds(conversation: Conversation) -> tuple[str, ...]:
    """What is lost when content and context become one text."""
    return (FOLDED,) if any(message.context for message in conversation.messages) else ()


def count(number: int, thing: str) -> str:
    """A number of things in words."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def extras(fields: Mapping[str, Any], used: Iterator[str] | Sequence[str]) -> dict[str, Any]:
    """The fields of a record that no message came from."""
    known = set(used)
    return {key: value for key, value in fields.items() if key not in known}
