"""The tokenizer's own chat template (or one from a file), written as Segments.

A chat template is a program, so nobody can read off which of its output is markup and which is data: `marks`
proves it anew on every row. Only markup is searched for added tokens: `<|im_end|>` in data stays text.

An answer's trained stretch starts where its prompt (the messages before it, with the generation prompt)
ends and stops with its end of turn: the first token after its content that ends turns in this template, else
the first added token. Another message's stretch, where it is trained, is its content up to the same end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from etude.catalog import Settings
from etude.failures import DataError, RecipeError
from etude.formats.alpaca import Alpaca, BoundAlpaca
from etude.formats.borders import untrained
from etude.formats.marks import Chat, prove
from etude.formats.spans import Stretch, Written, added_pattern, cut
from etude.formats.training_turns import is_trained
from etude.records import Conversation, Message, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REMEMBERED = 64
"""Renderings kept: one row is asked for a few times (its rendering, its prompts, the proof that they agree)."""


class Jinja(Settings):
    """A chat template: the tokenizer's own, or that of a file."""

    template: str | None = None
    """Path of a `.jinja` file to use instead of the tokenizer's own chat template."""
    variables: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """What the template may read beside the messages, e.g. `{enable_thinking: false}`."""

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundJinja:
        """The format for this tokenizer.

        Raises RecipeError when there is no template, it does not compile, or it ends no answer with an added token.
        """
        where = f"chat template {self.template}" if self.template else "the tokenizer's chat template"
        source = read_template(self.template) if self.template else own_template(tokenizer)
        import jinja2

        try:
            bound = BoundJinja(tokenizer, source, variables=self.variables)
            probe = Conversation("probe", (Message("user", "question"), Message("assistant", "answer")))
            ends = [s.text.strip() for s in bound.render(probe) if s.trained and s.special]
        except jinja2.TemplateSyntaxError as error:
            raise RecipeError(f"format jinja: {where}, line {error.lineno}: {error.message}") from error
        except DataError as error:
            reason = str(error).removeprefix("probe: ")
            raise RecipeError(f"format jinja: {where} cannot write one question and its answer: {reason}") from error
        return replace(bound, end=ends[-1])


class Auto(Settings):
    """The tokenizer's own chat template where it has one, else Alpaca with the standard preamble; text to text for an encoder-decoder."""

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


@dataclass(frozen=True, eq=False)
class BoundJinja:
    """A chat template with its tokenizer; `source` is the template's text, `end` the token that ends a turn."""

    tokenizer: PreTrainedTokenizerFast = field(repr=False)
    source: str
    end: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    name: str = "jinja"
    _write: Callable[[tuple[Message, ...], tuple[ToolKey, ...], bool], Written] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        added = added_pattern(self.tokenizer)
        template = compiled(self.source)
        known = {**self.tokenizer.special_tokens_map, **self.variables}

        def write(messages: tuple[Message, ...], tools: tuple[ToolKey, ...], ask: bool) -> Written:
            def run(chat: list[dict[str, Any]], given: list[Any] | None) -> str:
                try:
                    return template({**known, "messages": chat, "tools": given, "documents": None, "add_generation_prompt": ask})
                except Exception as error:  # a template is a program: anything may come out of it
                    roles = ", ".join(m.role for m in messages) or "none"
                    raise Refused(f"the chat template refuses this conversation (messages: {roles}): {error}") from error

            schemas = tuple(tool.value for tool in tools)
            try:
                return prove(Chat.of(messages, schemas), run, self.source, added)
            except Refused:  # some templates read a call's arguments as text
                if not any(m.tool_calls for m in messages):
                    raise
                return prove(Chat.of(messages, schemas, text=True), run, self.source, added)

        object.__setattr__(self, "_write", lru_cache(maxsize=REMEMBERED)(write))

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; the turns that are to be trained are, with their ends of turn. An earlier answer
        that does not follow its own prompt is left untrained (`renderings` then gives it a rendering of its own).

        Raises DataError, with the row's origin, when the template refuses the conversation, changes or drops its
        words, calls or tools, or when the final answer does not follow its prompt or has no end-of-turn token.
        """
        return self._cut(conversation, conversation.messages, False)

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The conversation's question and the generation prompt; nothing is trained. Raises DataError as `render` does."""
        return untrained(self._cut(conversation, conversation.question().messages, True))

    def stops(self) -> tuple[str, ...]:
        """The end of turn the template writes, and the tokenizer's end-of-sequence token."""
        return tuple(dict.fromkeys(token for token in (self.end, self.tokenizer.eos_token) if token))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokenizer, self.source, self.end, dict(self.variables))

    def _cut(self, conversation: Conversation, messages: tuple[Message, ...], ask: bool) -> tuple[Segment, ...]:
        tools = tuple(ToolKey.of(tool) for tool in conversation.tools)
        last = len(messages) - 1
        try:
            whole = self._write(stripped(messages), tools, ask)
            found: list[Stretch] = []
            for turn, message in enumerate(messages):
                trained = is_trained(message)
                if message.role == "assistant":
                    stretch, fault = self._answer(whole, messages, tools, turn)
                    if fault and trained and turn == last and not ask:
                        raise DataError(fault)
                    if stretch:
                        found.append(stretch._replace(trained=trained and not fault))
                elif trained:
                    found.append(self._other(whole, turn))
        except DataError as error:
            raise DataError(f"{conversation.origin or conversation.id}: {error}") from error
        return cut(whole, sorted(found))

    def _answer(self, whole: Written, messages: tuple[Message, ...], tools: tuple[ToolKey, ...], turn: int) -> tuple[Stretch | None, str]:
        """The stretch of an answer, and why it cannot be trained as it stands here ("": it can). An answer that the
        template shortens in later turns still has its stretch: tokens begin where it begins."""
        prompt = self._write(stripped(messages[:turn]), tools, True).text
        start = len(prompt)
        spans = [(a, b) for a, b, message in whole.data if message == turn]
        where = f"message {turn + 1}: the template"
        if not whole.text.startswith(prompt) or (spans and spans[0][0] < start):
            return None, f"{where}'s prompt for this answer is not how it begins in the whole conversation"
        end = self._end(whole, turn, spans[-1][1] if spans else start, bool(spans))
        if end is None:
            return None, f"{where} writes no added token after the answer, so a tuned model could never stop"
        return Stretch(start, end), f"{where} leaves out a part of the answer" if turn in whole.torn else ""

    def _other(self, whole: Written, turn: int) -> Stretch:
        """The stretch of a message of another role: its words, and its end of turn where it has one."""
        spans = [(a, b) for a, b, message in whole.data if message == turn]
        if not spans:
            raise DataError(f"message {turn + 1} is to be trained, but has no words")
        return Stretch(spans[0][0], self._end(whole, turn, spans[-1][1], True) or spans[-1][1])

    def _end(self, whole: Written, turn: int, after: int, words: bool) -> int | None:
        """Where the end of turn ends: the known one, else (after words) the first added token; None without one."""
        later = min((a for a, _, message in whole.data if a >= after and message > turn), default=len(whole.text))
        # Not every token ends a turn: an empty `<think>` does not, nor does `</tool_call>`.
        known = self.end or (None if words else self.tokenizer.eos_token)
        first = None
        for a, b in whole.markup:
            if a >= after and b <= later:
                if whole.text[a:b].strip() == known:
                    return b
                first = first or b
        return first if words else None


class Refused(DataError):
    """The template raised an error on this conversation."""


@dataclass(frozen=True, slots=True)
class ToolKey:
    """A tool that can be a key: equal where its JSON is."""

    text: str
    value: Mapping[str, Any] = field(compare=False)

    @staticmethod
    def of(tool: Mapping[str, Any]) -> ToolKey:
        """The key of a tool."""
        return ToolKey(json.dumps(tool, sort_keys=True, default=str), tool)


def stripped(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages without what the template does not read, so that equal texts are rendered once."""
    return tuple(m if m.trained is None else replace(m, trained=None) for m in messages)


def compiled(source: str) -> Callable[[dict[str, Any]], str]:
    """The template as `apply_chat_template` compiles it, in transformers' sandbox and with its filters, without
    what that function and jinja2's `render` do around it on every call. Raises jinja2.TemplateSyntaxError."""
    from transformers.utils import chat_template_utils

    template = chat_template_utils._compile_jinja_template(source)
    known, context = dict(template.globals), template.environment.context_class

    def write(variables: dict[str, Any]) -> str:
        parent = {**known, **variables}
        return "".join(template.root_render_func(context(template.environment, parent, template.name, template.blocks)))

    return write
