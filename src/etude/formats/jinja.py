"""The tokenizer's own chat template (or one from a file), written as Segments.

A chat template is a program, so nobody can read off which of its output is markup and which is data. We
mark every content with a pair of private-use characters, render once with the marks and once without, and
prove on every row that taking the marks out gives the plain rendering; what stands between two marks is
data, the rest is markup. Marks stand inside a content's outer white space, so templates that strip contents
still prove. Only markup is searched for added tokens: `<|im_end|>` in data stays text.

An answer's trained stretch starts where its prompt (the messages before it, with the generation prompt)
ends and stops with the first added token after its content, the end of turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.catalog import Settings
from etude.failures import DataError, RecipeError
from etude.formats.alpaca import Alpaca, BoundAlpaca
from etude.formats.borders import untrained
from etude.records import Conversation, Message, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PRIVATE = (0xF0000, 0x10FFFE)
"""Planes 15 and 16 of Unicode, private use: where the marks come from (Unicode 15, section 23.5)."""
IN_PRIVATE = re.compile("[\U000f0000-\U0010fffd]")
REASONING = re.compile(r"(</?think>)")
"""What templates of reasoning models cut an answer apart by (Qwen3, DeepSeek-R1)."""


class Jinja(Settings):
    """A chat template: the tokenizer's own, or that of a file."""

    template: str | None = None
    """Path of a `.jinja` file to use instead of the tokenizer's own chat template."""

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundJinja:
        """The format for this tokenizer.

        Raises RecipeError when there is no template, it does not compile, or it ends no answer with an added token.
        """
        where = f"chat template {self.template}" if self.template else "the tokenizer's chat template"
        source = read_template(self.template) if self.template else own_template(tokenizer)
        import jinja2

        try:
            bound = BoundJinja(tokenizer, source)
            probe = Conversation("probe", (Message("user", "question"), Message("assistant", "answer")))
            ends = [s.text.strip() for s in bound.render(probe) if s.trained and s.special]
        except jinja2.TemplateSyntaxError as error:
            raise RecipeError(f"format jinja: {where}, line {error.lineno}: {error.message}") from error
        except DataError as error:
            reason = str(error).removeprefix("probe: ")
            raise RecipeError(f"format jinja: {where} cannot write one question and its answer: {reason}") from error
        return replace(bound, end=ends[-1])


class Auto(Settings):
    """The tokenizer's own chat template where it has one, else Alpaca with the standard preamble."""

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundJinja | BoundAlpaca:
        """The format for this tokenizer; raises RecipeError as the chosen one does."""
        return Jinja().bind(tokenizer) if tokenizer.chat_template else Alpaca().bind(tokenizer)


def read_template(path: str) -> str:
    """The text of a template file; raises RecipeError naming the path."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"format.template: cannot read {path}: {error}") from error


def own_template(tokenizer: PreTrainedTokenizerFast) -> str:
    """The tokenizer's chat template (its `default` one where it has several); raises RecipeError without one."""
    if not tokenizer.chat_template:
        raise RecipeError(
            "format jinja: the tokenizer has no chat template; use `format: alpaca`, or `format: {type: jinja, template: FILE.jinja}`"
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise RecipeError(f"format jinja: the tokenizer has several chat templates and none is called default: {error}") from error


@dataclass(frozen=True, slots=True)
class Written:
    """A plain rendering and where its data is: (start, end, message) in characters, in order; `markup`
    are the spans of the added tokens; `torn` are the messages of which some words are missing."""

    text: str
    data: tuple[tuple[int, int, int], ...]
    markup: tuple[tuple[int, int], ...]
    torn: frozenset[int]


@dataclass(frozen=True, eq=False)
class BoundJinja:
    """A chat template with its tokenizer; `source` is the template's text, `end` the token that ends a turn."""

    tokenizer: PreTrainedTokenizerFast = field(repr=False)
    source: str
    end: str = ""
    name: str = "jinja"
    _write: Callable[[tuple[Message, ...], bool], Written] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        added = added_pattern(self.tokenizer)

        def write(messages: tuple[Message, ...], ask: bool) -> Written:
            return written(self.tokenizer, self.source, messages, ask, added)

        # One row is asked for a few times (its rendering, its prompts, the proof that they agree).
        object.__setattr__(self, "_write", lru_cache(maxsize=64)(write))

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; answers and their ends of turn are trained. An earlier answer that does
        not follow its own prompt is left untrained (`renderings` then gives it a rendering of its own).

        Raises DataError, with the row's origin, when the template refuses the conversation, changes or
        drops its words, or when the final answer does not follow its prompt or has no end-of-turn token.
        """
        return self._cut(conversation, conversation.messages, False)

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The conversation's question and the generation prompt; nothing is trained. Raises DataError as `render` does."""
        return untrained(self._cut(conversation, conversation.question().messages, True))

    def _cut(self, conversation: Conversation, messages: tuple[Message, ...], ask: bool) -> tuple[Segment, ...]:
        try:
            whole = self._write(messages, ask)
            trained = []
            for turn, message in enumerate(messages):
                if message.role == "assistant":
                    found = self._stretch(whole, messages, turn)
                    if isinstance(found, tuple):
                        trained.append(found)
                    elif turn == len(messages) - 1 and not ask:
                        raise DataError(found)
        except DataError as error:
            raise DataError(f"{conversation.origin or conversation.id}: {error}") from error
        return cut(whole, trained)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokenizer, self.source, self.end)

    def stops(self) -> tuple[str, ...]:
        """The end of turn the template writes, and the tokenizer's end-of-sequence token."""
        return tuple(dict.fromkeys(token for token in (self.end, self.tokenizer.eos_token) if token))

    def _stretch(self, whole: Written, messages: tuple[Message, ...], turn: int) -> tuple[int, int] | str:
        """Start and end of a turn's trained stretch in characters, or why it has none."""
        prompt = self._write(messages[:turn], True).text
        start = len(prompt)
        spans = [(a, b) for a, b, message in whole.data if message == turn]
        if not whole.text.startswith(prompt) or (spans and spans[0][0] < start):
            return f"message {turn + 1}: the template's prompt for this answer is not how it begins in the whole conversation"
        if turn in whole.torn:
            return f"message {turn + 1}: the template leaves out a part of the answer"
        after = spans[-1][1] if spans else start
        later = min((a for a, _, message in whole.data if a >= after and message > turn), default=len(whole.text))
        for a, b in whole.markup:
            if a >= after and b <= later and (spans or self._ends(whole.text[a:b])):
                return start, b
        return f"message {turn + 1}: the template writes no added token after the answer, so a tuned model could never stop"

    def _ends(self, token: str) -> bool:
        """Whether markup after an answer without words ends it (and is not, say, an empty `<think>`)."""
        return token.strip() == (self.end or self.tokenizer.eos_token)


def added_pattern(tokenizer: PreTrainedTokenizerFast) -> re.Pattern[str] | None:
    """Matches the tokenizer's added tokens, longest first, with the white space that a token declared
    `lstrip` or `rstrip` swallows. Tokens of white space alone (runs of spaces in GPT-NeoX and Phi) are
    vocabulary, not markup, and are left out. None when there is none."""
    parts = []
    for token in sorted(tokenizer.added_tokens_decoder.values(), key=lambda t: -len(t.content)):
        if token.content.strip():
            parts.append((r"\s*" if token.lstrip else "") + re.escape(token.content) + (r"\s*" if token.rstrip else ""))
    return re.compile("|".join(parts)) if parts else None


def written(
    tokenizer: PreTrainedTokenizerFast, source: str, messages: tuple[Message, ...], ask: bool, added: re.Pattern[str] | None
) -> Written:
    """Render `messages` with and without marks, and prove that the marks change nothing.

    Ways to mark, from the plainest on: each content; the same inside outer white space, for templates that
    strip; only contents with words, for templates that test for emptiness; then the answers that do not come
    out whole (those alone: a message is read the same way in a prompt and in the whole) apart at their
    `<think>` tags. Raises DataError (without the row's origin) when the template refuses the messages or no way proves.
    """
    words = [message.words() for message in messages]
    whole = [[w] for w in words]
    spoken = [[w] if w.strip() else [] for w in words]
    ways = [(whole, False)]
    if any(w != w.strip() for w in words):
        ways.append((whole, True))
    if spoken != whole:
        ways.append((spoken, True))
    apart: set[int] = set()
    while True:
        pieces, inside = ways.pop(0)
        base = free(words, source, 2 * sum(len(p) for p in pieces))
        plain, marked = run(tokenizer, source, messages, [words, mark(pieces, words, base, inside)], ask)
        found = proven(plain, marked, base, pieces, inside)
        if isinstance(found, list):
            return settled(plain, found, pieces, messages, added)
        reason, blamed = found
        if not ways and blamed is not None and blamed not in apart and takes_apart(messages[blamed]):
            apart.add(blamed)
            ways.append(([REASONING.split(w) if i in apart else p for i, (w, p) in enumerate(zip(words, spoken, strict=True))], True))
        if not ways:
            raise DataError(f"cannot tell the words of this row from the chat template's markup: {reason}")


def takes_apart(message: Message) -> bool:
    """Whether a template may take this message apart at its `<think>` tags."""
    return message.role == "assistant" and REASONING.search(message.words()) is not None


def proven(
    plain: str, marked: str, base: int, pieces: Sequence[Sequence[str]], inside: bool
) -> list[tuple[int, int, int, int]] | tuple[str, int | None]:
    """The data's spans (start, end, message, piece), or why they are not sure, and which message is to blame if it is one."""
    found = unmark(marked, base, pieces)
    if isinstance(found[0], int):
        return f"message {found[0] + 1} does not come out in one piece", found[0]
    text, spans = found
    if text != plain:
        return "it treats some words unlike others", None
    for start, end, message, piece in spans:
        given = pieces[message][piece]
        if text[start:end] != (given.strip() if inside else given):
            return f"it changes the words of message {message + 1}", message
    return spans


def settled(
    text: str,
    spans: Sequence[tuple[int, int, int, int]],
    pieces: Sequence[Sequence[str]],
    messages: Sequence[Message],
    added: re.Pattern[str] | None,
) -> Written:
    """A proven rendering; raises DataError when it leaves a message out."""
    seen = {(message, piece) for _, _, message, piece in spans}
    for i, parts in enumerate(pieces):
        if parts and parts[-1].strip() and (i, len(parts) - 1) not in seen:
            raise DataError(f"the chat template leaves out message {i + 1} ({messages[i].role})")
    torn = frozenset(i for i, p in enumerate(pieces) for k, part in enumerate(p) if k % 2 == 0 and part.strip() and (i, k) not in seen)
    data = tuple((start, end, message) for start, end, message, _ in spans)
    return Written(text, data, tokens(text, data, added), torn)


def free(words: Sequence[str], source: str, count: int) -> int:
    """The first of `count` private-use characters in a row that occur nowhere in the words or the template."""
    base = PRIVATE[0]
    text = "".join([*words, source])
    if not IN_PRIVATE.search(text):
        return base
    taken = sorted({ord(c) for c in IN_PRIVATE.findall(text)})
    for code in taken:
        if code - base >= count:
            break
        base = code + 1
    if base + count > PRIVATE[1]:
        raise DataError("the row uses too many private-use characters to mark its words")
    return base


def mark(pieces: Sequence[Sequence[str]], words: Sequence[str], base: int, inside: bool) -> list[str]:
    """The contents with a mark before and after each even piece: around it, or `inside` its outer white space."""
    contents = []
    at = base
    for parts, whole in zip(pieces, words, strict=True):
        out = []
        for k, piece in enumerate(parts):
            core = piece.strip() if inside else piece
            head = piece[: len(piece) - len(piece.lstrip())] if inside else ""
            out.append(piece if k % 2 else f"{head}{chr(at)}{core}{chr(at + 1)}{piece[len(head) + len(core) :]}")
            at += 2
        contents.append("".join(out) if parts else whole)
    return contents


def run(
    tokenizer: PreTrainedTokenizerFast, source: str, messages: Sequence[Message], contents: Sequence[Sequence[str]], ask: bool
) -> list[str]:
    """The template's text for each set of contents; raises DataError with the template's own message."""
    chats = [[{"role": m.role, "content": c} for m, c in zip(messages, given, strict=True)] for given in contents]
    import jinja2

    try:
        return list(tokenizer.apply_chat_template(chats, chat_template=source, tokenize=False, add_generation_prompt=ask))
    except jinja2.TemplateSyntaxError:
        raise
    except Exception as error:  # a template is a program: anything may come out of it
        roles = ", ".join(m.role for m in messages) or "none"
        raise DataError(f"the chat template refuses this conversation (messages: {roles}): {error}") from error


def unmark(marked: str, base: int, pieces: Sequence[Sequence[str]]) -> tuple[str, list[tuple[int, int, int, int]]] | tuple[int, None]:
    """The text without its marks and the spans (start, end, message, piece) between them; or the first message
    whose marks are not a pair, and None."""
    owner: list[tuple[int, int]] = [(i, k) for i, p in enumerate(pieces) for k in range(len(p))]
    if not owner:
        return marked, []
    spans: list[tuple[int, int, int, int]] = []
    parts: list[str] = []
    length, last, opened, start = 0, 0, -1, 0
    for found in re.finditer(f"[{chr(base)}-{chr(base + 2 * len(owner) - 1)}]", marked):
        length += found.start() - last
        parts.append(marked[last : found.start()])
        last = found.end()
        which, closing = divmod(ord(found.group()) - base, 2)
        if closing != (opened >= 0) or (closing and which != opened):
            return owner[opened if opened >= 0 else which][0], None
        if closing:
            spans.append((start, length, *owner[which]))
        opened, start = (-1, 0) if closing else (which, length)
    if opened >= 0:
        return owner[opened][0], None
    return "".join([*parts, marked[last:]]), spans


def tokens(text: str, data: Sequence[tuple[int, int, int]], added: re.Pattern[str] | None) -> tuple[tuple[int, int], ...]:
    """The spans of added tokens in the markup: between the data, never across it."""
    if added is None:
        return ()
    found: list[tuple[int, int]] = []
    at = 0
    for start, end in [*((a, b) for a, b, _ in data), (len(text), len(text))]:
        found += [m.span() for m in added.finditer(text, at, start)]
        at = end
    return tuple(found)


def cut(whole: Written, trained: Sequence[tuple[int, int]]) -> tuple[Segment, ...]:
    """The rendering as Segments: cut at data, added tokens and trained stretches (never inside an added token)."""
    special = dict(whole.markup)
    edges = {0, len(whole.text)}
    for span in (*whole.data, *whole.markup):
        edges.update(span[:2])
    edges.update(start for start, _ in trained if not any(a < start < b for a, b in whole.markup))
    segments = []
    marks = sorted(edges)
    for start, end in pairwise(marks):
        flag = any(a <= start < b for a, b in trained)
        segments.append(Segment(whole.text[start:end], flag, special.get(start) == end))
    return tuple(segments)
