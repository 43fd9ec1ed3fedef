"""Marks: how we learn from a chat template's output which of it is data.

A pair of private-use characters stands around each stretch of data; the template is run with the marks and
without; if taking the marks out of the one gives the other, what stood between a pair is that data. The proof
is made on every row: a template that counts, changes, tests or drops its words fails it and is refused.

Data are the messages' words, and inside tool calls and tools: each call's name and every string among its
arguments, each tool's name, and whatever string in it spells an added token. The other names, keys and numbers
are left to the template's own text, and are refused where they spell an added token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from etude.failures import DataError
from etude.formats.spans import Written, tokens
from etude.formats.tool_calls import arguments, dumps, openai
from etude.records import Message

PRIVATE = (0xF0000, 0x10FFFE)
"""Planes 15 and 16 of Unicode, private use: where the marks come from (Unicode 15, section 23.5)."""
IN_PRIVATE = re.compile("[\U000f0000-\U0010fffd]")
REASONING = re.compile(r"(</?think>)")
"""What templates of reasoning models cut an answer apart by (Qwen3, DeepSeek-R1)."""
TOOLS = -1
"""The owner of data that belongs to the conversation's tools and to no message."""

Give = Callable[[int, str], str]
Run = Callable[[list[dict[str, Any]], list[Any] | None], str]


class Piece(NamedTuple):
    """A stretch of data: whose it is (a message's index, or TOOLS), its text, whether it is marked (an answer's
    `<think>` tags are not), and whether it stands inside a call or a tool, where templates write it as JSON."""

    owner: int
    text: str
    marked: bool = True
    inner: bool = False


class Span(NamedTuple):
    """Where a rendering shows a piece: start and end in characters, and the piece's number."""

    start: int
    end: int
    piece: int


@dataclass(frozen=True, slots=True)
class Chat:
    """What a template is run on: messages, their words, the tools; arguments of calls as objects, or as JSON `text`."""

    messages: tuple[Message, ...]
    words: tuple[str, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    text: bool = False
    simple: bool = True
    """Whether there are words and nothing else: the case of nearly every row, and the quick one."""

    @staticmethod
    def of(messages: tuple[Message, ...], tools: tuple[Mapping[str, Any], ...] = (), text: bool = False) -> Chat:
        """The chat of these messages."""
        simple = not tools and not any(m.tool_calls or m.name or m.call_id for m in messages)
        return Chat(messages, tuple(m.words() for m in messages), tools, text, simple)

    def given(self, contents: Sequence[str], give: Give, added: re.Pattern[str] | None) -> tuple[list[dict[str, Any]], list[Any] | None]:
        """The messages with `contents`, and the tools, as templates read them; `give(owner, text)` says how each
        string of data inside calls and tools is written. Raises DataError as this module's docstring says."""
        if self.simple:
            return [{"role": m.role, "content": c} for m, c in zip(self.messages, contents, strict=True)], None
        messages = []
        for turn, (message, content) in enumerate(zip(self.messages, contents, strict=True)):
            refuse_tokens(turn, added, message.name, message.call_id, *(call.id for call in message.tool_calls))
            calls: list[dict[str, Any]] = []
            for call in message.tool_calls:
                name = give(turn, call.name)
                written = through(arguments(call, turn), turn, give, added, all_strings=True)
                about = {"name": name, "arguments": dumps(written) if self.text else written}
                calls.append({"type": "function", **({"id": call.id} if call.id else {}), "function": about})
            messages.append(openai(message, content, calls))
        tools = [self._tool(tool, give, added) for tool in self.tools]
        return messages, tools or None

    def _tool(self, tool: Mapping[str, Any], give: Give, added: re.Pattern[str] | None) -> Any:
        made = through(tool, TOOLS, give, added, all_strings=False)
        inner = made["function"] if isinstance(made.get("function"), dict) else made
        if isinstance(inner.get("name"), str):
            inner["name"] = give(TOOLS, inner["name"])
        return made


def through(value: Any, owner: int, give: Give, added: re.Pattern[str] | None, all_strings: bool) -> Any:
    """A copy of a JSON value with its strings given: all of them, or those alone that spell an added token."""
    if isinstance(value, str):
        return give(owner, value) if all_strings or (added and added.search(value)) else value
    if isinstance(value, Mapping):
        refuse_tokens(owner, added, *value)
        return {key: through(item, owner, give, added, all_strings) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [through(item, owner, give, added, all_strings) for item in value]
    return value


def refuse_tokens(owner: int, added: re.Pattern[str] | None, *names: str) -> None:
    """Raises DataError where a name, key or id spells an added token: it would become that token."""
    for name in names:
        if name and added and (found := added.search(name)):
            whose = "a tool" if owner == TOOLS else f"message {owner + 1}"
            raise DataError(f"{whose} has the name, key or id {name!r}, which spells the token {found.group()!r}")


def ways(chat: Chat) -> Iterator[tuple[list[Piece], bool]]:
    """Ways to mark the words, from the plainest on: each content; the same inside outer white space (True), for
    templates that strip; only contents with words, for templates that test for emptiness. A call without words has none to mark."""
    whole = [Piece(i, w, bool(w) or not m.tool_calls) for i, (w, m) in enumerate(zip(chat.words, chat.messages, strict=True))]
    yield whole, False
    if any(w != w.strip() for w in chat.words):
        yield whole, True
    if any(p.marked and not p.text.strip() for p in whole):
        yield spoken(chat), True


def spoken(chat: Chat) -> list[Piece]:
    """The messages' words, those alone marked that are not mere white space."""
    return [Piece(i, w, bool(w.strip())) for i, w in enumerate(chat.words)]


def prove(chat: Chat, run: Run, source: str, added: re.Pattern[str] | None) -> Written:
    """Run a template with and without marks, and prove that the marks change nothing.

    After the `ways`, the answers that do not come out whole (those alone: a message is read the same way in a
    prompt and in the whole) are taken apart at their `<think>` tags. Raises DataError (without the row's origin)
    when the template refuses the messages, no way proves, or it leaves out a message, a call or the tools.
    """
    inner = inner_pieces(chat, added)
    plain = run(*chat.given(chat.words, lambda _, text: text, added))
    left = ways(chat)
    apart: set[int] = set()
    words, inside = next(left)
    while True:
        pieces = [*words, *inner] if inner else words
        base = free(chat, source, 2 * len(pieces))
        contents, give = mark(pieces, len(chat.words), base, inside)
        found = proven(plain, run(*chat.given(contents, give, added)), base, pieces, inside)
        if isinstance(found, list):
            return settled(plain, found, pieces, chat.messages, added)
        reason, blamed = found
        if (way := next(left, None)) is not None:
            words, inside = way
        elif blamed not in apart and blamed >= 0 and takes_apart(chat.messages[blamed]):
            apart.add(blamed)
            words, inside = [q for p in spoken(chat) for q in (pulled(p) if p.owner in apart else [p])], True
        else:
            raise DataError(f"cannot tell the words of this row from the chat template's markup: {reason}")


def takes_apart(message: Message) -> bool:
    """Whether a template may take this message apart at its `<think>` tags."""
    return message.role == "assistant" and REASONING.search(message.words()) is not None


def pulled(piece: Piece) -> list[Piece]:
    """A message's words apart at their `<think>` tags, the tags unmarked."""
    return [Piece(piece.owner, part, k % 2 == 0) for k, part in enumerate(REASONING.split(piece.text))]


def inner_pieces(chat: Chat, added: re.Pattern[str] | None) -> list[Piece]:
    """The strings of data inside calls and tools, in the order in which `Chat.given` gives them."""
    found: list[Piece] = []
    if not chat.simple:

        def give(owner: int, text: str) -> str:
            found.append(Piece(owner, text, inner=True))
            return text

        chat.given(chat.words, give, added)
    return found


def proven(plain: str, marked: str, base: int, pieces: Sequence[Piece], inside: bool) -> list[Span] | tuple[str, int]:
    """The data's spans, or why they are not sure and which message is to blame (TOOLS: none)."""
    text, spans = unmark(marked, base, len(pieces))
    if isinstance(spans, int):
        owner = pieces[spans].owner
        return f"{'a tool' if owner == TOOLS else f'message {owner + 1}'} does not come out in one piece", owner
    if text != plain:
        return "it treats some words unlike others", TOOLS
    for start, end, number in spans:
        _, given, _, inner = pieces[number]
        if inside and not inner:
            given = given.strip()
        shown = text[start:end]
        if shown != given and shown != dumps(given)[1:-1]:
            owner = pieces[number].owner
            return f"it changes the words of {'a tool' if owner == TOOLS else f'message {owner + 1}'}", owner
    return spans


def settled(
    text: str, spans: Sequence[Span], pieces: Sequence[Piece], messages: Sequence[Message], added: re.Pattern[str] | None
) -> Written:
    """A proven rendering; raises DataError when it leaves a message, a call or a tool out."""
    seen = {span.piece for span in spans}
    torn: set[int] = set()
    for k, piece in enumerate(pieces):
        if k in seen or not piece.marked or not (piece.inner or piece.text.strip()):
            continue
        if piece.owner == TOOLS:
            raise DataError(f"the chat template leaves out the tools (no {piece.text[:40]!r} in what it writes)")
        if piece.inner:
            raise DataError(f"the chat template leaves out a part of the tool calls of message {piece.owner + 1} ({piece.text[:40]!r})")
        if k + 1 == len(pieces) or pieces[k + 1].owner != piece.owner or pieces[k + 1].inner:  # the last of its message
            raise DataError(f"the chat template leaves out message {piece.owner + 1} ({messages[piece.owner].role})")
        torn.add(piece.owner)
    data = tuple((start, end, pieces[number].owner) for start, end, number in spans)
    return Written(text, data, tokens(text, data, added), frozenset(torn))


def free(chat: Chat, source: str, count: int) -> int:
    """The first of `count` private-use characters in a row that occur nowhere in the data or the template."""
    base = PRIVATE[0]
    texts = [source, *chat.words]
    if not chat.simple:
        texts += [
            dumps(list(map(dict, chat.tools))),
            *(call.name + dumps(arguments(call, 0)) for m in chat.messages for call in m.tool_calls),
        ]
    text = "".join(texts)
    if text.isascii() or not IN_PRIVATE.search(text):
        return base
    for code in sorted({ord(c) for c in IN_PRIVATE.findall(text)}):
        if code - base >= count:
            break
        base = code + 1
    if base + count > PRIVATE[1]:
        raise DataError("the row uses too many private-use characters to mark its words")
    return base


def mark(pieces: Sequence[Piece], messages: int, base: int, inside: bool) -> tuple[list[str], Give]:
    """The messages' contents with a mark before and after each marked piece, around it or `inside` its outer white
    space; and how to write the inner pieces, in their order."""
    contents = [""] * messages
    for k, (owner, text, marked, inner) in enumerate(pieces):
        if inner:
            break
        if not marked:
            contents[owner] += text
            continue
        if not inside:
            contents[owner] += f"{chr(base + 2 * k)}{text}{chr(base + 2 * k + 1)}"
            continue
        core = text.strip()
        head = text[: len(text) - len(text.lstrip())]
        contents[owner] += f"{head}{chr(base + 2 * k)}{core}{chr(base + 2 * k + 1)}{text[len(head) + len(core) :]}"
    numbers: Iterator[int] = (k for k, piece in enumerate(pieces) if piece.inner)

    def give(owner: int, text: str) -> str:
        at = base + 2 * next(numbers)
        return f"{chr(at)}{text}{chr(at + 1)}"

    return contents, give


def unmark(marked: str, base: int, count: int) -> tuple[str, list[Span]] | tuple[str, int]:
    """The text without its marks and the spans between them; or the number of the first piece whose marks are
    not a pair."""
    if not count:
        return marked, []
    spans: list[Span] = []
    parts: list[str] = []
    length, last, opened, start = 0, 0, -1, 0
    for found in between(base, count).finditer(marked):
        at = found.start()
        length += at - last
        parts.append(marked[last:at])
        last = at + 1
        which, closing = divmod(ord(marked[at]) - base, 2)
        if closing != (opened >= 0) or (closing and which != opened):
            return "", opened if opened >= 0 else which
        if closing:
            spans.append(Span(start, length, which))
        opened, start = (-1, 0) if closing else (which, length)
    if opened >= 0:
        return "", opened
    return "".join([*parts, marked[last:]]), spans


@lru_cache(maxsize=64)
def between(base: int, count: int) -> re.Pattern[str]:
    """Matches the marks of `count` pieces from `base` on."""
    return re.compile(f"[{chr(base)}-{chr(base + 2 * count - 1)}]")
