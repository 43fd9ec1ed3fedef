"""The one writer for every `Markup`: a conversation becomes a text with its data and its stretches, and then Segments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude.failures import DataError
from etude.formats.borders import untrained
from etude.formats.marks import TOOLS
from etude.formats.markup import Markup, Tools, Turn, filled, names
from etude.formats.spans import Stretch, Written, added_pattern, cut, tokens
from etude.formats.tool_calls import arguments, dumps, function, refuse_tools
from etude.formats.training_turns import is_trained
from etude.records import Conversation, Message, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REASONING = re.compile(r"\s*(?:<think>)?\n*(?P<thought>(?:(?!</?think>).)*?)\n*</think>\n*(?P<answer>(?:(?!</?think>).)*)", re.S)
"""An answer with its reasoning: `<think>`, what was thought, `</think>`, the answer; each tag at most once."""


@dataclass(frozen=True, eq=False)
class BoundMarkup:
    """A markup with a tokenizer's own tokens in the place of its placeholders."""

    markup: Markup
    added: re.Pattern[str] | None = field(repr=False)
    ends: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The family's name."""
        return self.markup.name

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; the turns that are to be trained are, with their ends of turn.

        Raises DataError, with the row's origin, when the family has no place for a role, an order of roles, or
        a tool.
        """
        return self._cut(conversation, conversation.messages, False)

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The conversation's question and what opens the answer; nothing is trained. Raises DataError as `render`
        does, and when there is nothing to answer."""
        return untrained(self._cut(conversation, conversation.question().messages, True))

    def stops(self) -> tuple[str, ...]:
        """The token that ends a turn, and the tokenizer's end-of-sequence token."""
        return self.ends

    def _cut(self, conversation: Conversation, messages: tuple[Message, ...], ask: bool) -> tuple[Segment, ...]:
        if self.markup.tools is None:
            refuse_tools(self.name, conversation, self.markup.tools_hint)
        try:
            check_roles(self.markup, messages)
            page = Page(self.markup, messages, conversation.tools, ask)
            page.write()
        except DataError as error:
            raise DataError(f"{conversation.origin or conversation.id}: {error}") from error
        text = "".join(page.parts)
        data = tuple(page.data)
        return cut(Written(text, data, tokens(text, data, self.added)), page.stretches)


def bind(markup: Markup, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
    """The markup with this tokenizer's tokens; the caller has seen that none is `lacking`."""
    added = added_pattern(tokenizer)
    ready: Markup = filled(markup, names(tokenizer))
    ends = [found.group().strip() for found in added.finditer(ready.assistant.end)][-1:] if added else []
    return BoundMarkup(ready, added, tuple(dict.fromkeys([*ends, *([str(tokenizer.eos_token)] if tokenizer.eos_token else [])])))


def check_roles(markup: Markup, messages: Sequence[Message]) -> None:
    """Raises DataError, naming the message, for a role or an order of roles that the family cannot write."""
    name = markup.name
    turns = [(i, m) for i, m in enumerate(messages) if m.role not in ("tool", "system") and not m.tool_calls]
    for i, message in enumerate(messages):
        if message.role not in ("system", "user", "assistant", "tool"):
            raise DataError(f"message {i + 1} is from {message.role!r}; format {name} knows system, user, assistant and tool")
        if message.role == "system" and i and (markup.fold or markup.alternate):
            raise DataError(f"message {i + 1} is from 'system', which format {name} can write only as the first message")
    if markup.alternate or markup.single:
        for k, (i, message) in enumerate(turns):
            expected = "assistant" if k % 2 else "user"
            if message.role != expected:
                raise DataError(
                    f"message {i + 1} is from {message.role!r} where format {name} needs {expected!r} "
                    "(system first if at all, then user and assistant in turn)"
                )
            if markup.single and k > 1:
                raise DataError(f"message {i + 1}: format {name} writes one question and one answer; make a row of each question")
    if (markup.fold or markup.alternate) and not any(m.role == "user" for m in messages):
        raise DataError(f"there is no user message, and format {name} needs one")


class Page:
    """One conversation being written: its text in parts, the spans of its data, and the stretches of its turns."""

    def __init__(self, markup: Markup, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], ask: bool) -> None:
        self.markup, self.messages, self.tools, self.ask = markup, messages, tools, ask
        self.parts: list[str] = []
        self.data: list[tuple[int, int, int]] = []
        self.stretches: list[Stretch] = []
        self.length = 0
        users = [i for i, m in enumerate(messages) if m.role == "user"]
        self.first, self.last = (users[0], users[-1]) if users else (-1, -1)
        self.system = next((m.words() for m in messages[:1] if m.role == "system"), markup.default_system)
        self.queried = last_query(messages)

    def put(self, text: str) -> None:
        """Append markup."""
        if text:
            self.parts.append(text)
            self.length += len(text)

    def say(self, text: str, owner: int) -> None:
        """Append data."""
        self.data.append((self.length, self.length + len(text), owner))
        self.put(text)

    def write(self) -> None:
        """The whole conversation, and what opens the answer where it is asked for."""
        markup = self.markup
        self.put(markup.begin)
        silent = not markup.fold and not (self.messages and self.messages[0].role == "system")
        if silent and (self.system is not None or (self.tools and markup.tools and markup.tools.place == "system")):
            self._system(markup.system, self.system or "", None)
        for turn, message in enumerate(self.messages):
            if message.role == "system":
                if not markup.fold:
                    self._system(markup.system, message.words(), turn)
            elif message.role == "user":
                self._user(turn, message)
            elif message.role == "assistant":
                self._assistant(turn, message)
            else:
                self._result(turn, message)
        if self.ask:
            self.put(markup.assistant.open + ("<think>\n\n</think>\n\n" if markup.thinking is False else ""))
        else:
            self.put(markup.close)

    def _trained(self, turn: int, start: int) -> None:
        if is_trained(self.messages[turn]) or self.messages[turn].role == "assistant":
            self.stretches.append(Stretch(start, self.length, is_trained(self.messages[turn])))

    def _system(self, part: Turn, words: str, turn: int | None) -> None:
        tools = self.markup.tools if self.tools and not turn else None
        self.put(part.open + (tools.note if tools else "") + part.lead)
        start = self.length
        words = words.strip() if part.trim else words
        self.say(words, turn) if turn is not None else self.put(words)
        if tools and tools.place == "system":
            self.put("\n\n" if words or turn is not None else "")
            self._list(tools)
        self.put(part.end)
        if turn is not None:
            self._trained(turn, start)
        self.put(part.after)

    def _list(self, tools: Tools) -> None:
        before, between, after = tools.listed
        self.put(before)
        for k, tool in enumerate(self.tools):
            self.put(between if k else "")
            self.say(dumps({"type": "function", "function": function(tool)} if tools.bare else tool, tools.indent), TOOLS)
        self.put(after)

    def _user(self, turn: int, message: Message) -> None:
        markup, part = self.markup, self.markup.user
        tools = markup.tools if self.tools else None
        if tools and tools.place == "before_last_user" and turn == self.last:
            self._list(tools)
        self.put(part.open)
        folded = markup.fold and self.system is not None and turn == (self.first if markup.fold == "first" else self.last)
        if folded:
            self._system(markup.system, self.system or "", 0 if self.messages[0].role == "system" else None)
        if tools and tools.place == "first_user" and turn == self.first:
            self._list(tools)
        words = message.words()
        if part.trim:
            words = words.rstrip() if folded and part.trim == "turn" else words.strip()
        if folded and part.trim == "turn" and not words:  # the white space before no words is the turn's outer one
            self.length -= len(self.parts[-1]) - len(self.parts[-1].rstrip())
            self.parts[-1] = self.parts[-1].rstrip()
        start = self.length
        self.say(words, turn)
        self.put(part.end)
        self._trained(turn, start)
        self.put(part.after)

    def _assistant(self, turn: int, message: Message) -> None:
        markup, part = self.markup, self.markup.assistant
        words, thought = self._apart(turn, message) if markup.thinking is not None else (message.words(), None)
        self.put(part.open)
        if thought is not None and markup.thinking is False:
            self.put("<think>\n\n</think>\n\n")
        start = self.length
        if thought is not None and markup.thinking:
            self.put("<think>\n")
            self.say(thought, turn)
            self.put("\n</think>\n\n")
        words = words.strip() if part.trim else words
        if words or not message.tool_calls:
            self.put(part.lead)
            self.say(words, turn)
        if message.tool_calls and markup.tools:
            self._calls(markup.tools, turn, message, words)
        self.put(part.end)
        self._trained(turn, start)
        self.put(part.after)

    def _apart(self, turn: int, message: Message) -> tuple[str, str | None]:
        """An answer and its reasoning (None: none is written), as Qwen3's template: reasoning stays only behind the
        last question, and the last answer has one even if it is empty."""
        words, thought = message.words(), ""
        if "</think>" in words:
            found = REASONING.fullmatch(words)
            if not found:
                raise DataError(
                    f"message {turn + 1}: its reasoning cannot be told from its answer (one <think>...</think> at its start is known)"
                )
            thought, words = found["thought"].strip("\n"), found["answer"]
        if self.markup.thinking is False and thought:
            raise DataError(f"message {turn + 1} has reasoning, and format {self.markup.name} with `thinking: false` asks for none")
        last = turn == len(self.messages) - 1
        if turn <= self.queried or not (last or thought):
            return words, None
        return words.lstrip("\n"), thought

    def _calls(self, tools: Tools, turn: int, message: Message, words: str) -> None:
        if words and not tools.spoken:
            raise DataError(f"message {turn + 1} has words and a tool call, and format {self.markup.name} writes one or the other")
        if len(message.tool_calls) > 1 and not tools.several:
            raise DataError(f"message {turn + 1} has {len(message.tool_calls)} tool calls, and format {self.markup.name} writes one a turn")
        before, between, after = tools.calls
        self.put(before + ("\n" if words else ""))
        for k, call in enumerate(message.tool_calls):
            self.put((between if k else "") + tools.call[0])
            self.say(dumps(call.name)[1:-1], turn)
            self.put(tools.call[1])
            self.say(dumps(arguments(call, turn)), turn)
            if tools.ids:
                self.put(', "id": "')
                self.say(checked_id(call.id, turn, self.markup.name), turn)
                self.put('"')
            self.put(tools.call[2])
        self.put(after)

    def _result(self, turn: int, message: Message) -> None:
        tools = self.markup.tools
        if tools is None:
            raise DataError(f"message {turn + 1} is a tool's result, and format {self.markup.name} has no place for it")
        roles = ["", *(m.role for m in self.messages), ""]
        joined = bool(tools.shared[0])
        if not (joined and roles[turn] == "tool"):
            self.put(tools.result.open)
        self.put(tools.shared[0])
        start, words = self.length, message.words()
        if tools.results == "json_text" or (tools.results == "json" and not is_json(words)):
            words = dumps(words)
        self.say(words, turn)
        if tools.ids:
            self.put(', "call_id": "')
            self.say(checked_id(message.call_id, turn, self.markup.name), turn)
            self.put('"')
        self.put(tools.shared[1])
        ends = not (joined and roles[turn + 2] == "tool")
        self.put(tools.result.end if ends else "")
        self._trained(turn, start)
        self.put(tools.result.after if ends else "")


def last_query(messages: Sequence[Message]) -> int:
    """The last user message that is a question and no tool's result in disguise; the last message where there is none (as Qwen3)."""
    for i in range(len(messages) - 1, -1, -1):
        words = messages[i].words()
        if messages[i].role == "user" and not (words.startswith("<tool_response>") and words.endswith("</tool_response>")):
            return i
    return len(messages) - 1


def checked_id(id: str, turn: int, name: str) -> str:
    """The id of a call; raises DataError unless it is nine letters and digits."""
    if not re.fullmatch("[A-Za-z0-9]{9}", id):
        raise DataError(f"message {turn + 1}: format {name} needs tool call ids of nine letters and digits, and this one is {id!r}")
    return id


def is_json(text: str) -> bool:
    """Whether a text is JSON already."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
