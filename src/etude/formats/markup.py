"""A model family's markup as data.

`Markup` says what stands before and after the words of each role, where the system text and the tools go, and
which tokens the tokenizer must have. Placeholders in its strings: `{bos}` and `{eos}`, the tokenizer's own
tokens, and `{start}`, its BOS where it begins every text with one itself, else nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from etude.formats.alpaca import own_start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Turn:
    """The markup of one role: `open`, then `lead` (which belongs to the answer: the space before it), the words,
    `end` (trained with the words) and `after` (never trained). `trim`: outer white space is taken off the words,
    or off the whole `turn` with what was folded into it."""

    open: str = ""
    end: str = ""
    after: str = ""
    lead: str = ""
    trim: Literal["", "words", "turn"] = ""


@dataclass(frozen=True, slots=True)
class Tools:
    """How tools, calls and results are written. `place` of the list of tools: in the system turn after its words,
    inside the first user turn before its words, or before the last user turn. `result` is a result's turn;
    results in a row share one turn where `shared` has markup around each."""

    place: Literal["system", "first_user", "before_last_user"]
    listed: tuple[str, str, str]
    """Before the list, between two tools, and after it."""
    indent: int | None
    note: str
    """Stands before the system words where there are tools."""
    calls: tuple[str, str, str]
    """Before the calls, between two, and after them."""
    call: tuple[str, str, str]
    """Before a call's name, between name and arguments, and after the arguments."""
    result: Turn
    shared: tuple[str, str] = ("", "")
    spoken: bool = False
    """Whether one turn may hold words and calls."""
    several: bool = True
    """Whether one turn may hold several calls."""
    bare: bool = False
    """Whether a tool is written as its function alone gives it, inside `{"type": "function", "function": ...}`."""
    results: Literal["text", "json_text", "json"] = "text"
    """A result's text as it is; as a JSON string; or as it is where it is JSON already, else as a JSON string."""
    ids: bool = False
    """Whether calls and results carry ids, of nine letters and digits."""


@dataclass(frozen=True, slots=True)
class Markup:
    """One family's way of writing. `fold`: the system turn stands inside the first or the last user turn.
    `default_system` is written where a conversation has no system text (None: nothing). `thinking`: answers are
    written with their reasoning as Qwen3 does (True), with an empty one (False), or as they are (None)."""

    name: str
    user: Turn
    assistant: Turn
    system: Turn
    fold: Literal["", "first", "last"] = ""
    begin: str = ""
    close: str = ""
    """After a whole conversation, never trained."""
    default_system: str | None = None
    alternate: bool = False
    """Whether user and assistant must take turns, the user first."""
    single: bool = False
    """Whether there is one question and one answer only."""
    needs: tuple[str, ...] = ()
    """Tokens (or placeholders) that must be single tokens of the tokenizer."""
    tools: Tools | None = None
    tools_hint: str = ""
    thinking: bool | None = None


def names(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """What the placeholders stand for with this tokenizer; one it has nothing for is missing."""
    found = {"{bos}": tokenizer.bos_token, "{eos}": tokenizer.eos_token}
    return {**{key: str(token) for key, token in found.items() if token}, "{start}": own_start(tokenizer)}


def filled(value: Any, known: Mapping[str, str]) -> Any:
    """The value with the placeholders in all its strings filled."""
    if isinstance(value, str):
        for key, token in known.items():
            value = value.replace(key, token)
        return value
    if isinstance(value, tuple):
        return tuple(filled(item, known) for item in value)
    if isinstance(value, Turn | Tools | Markup):
        return replace(value, **{f.name: filled(getattr(value, f.name), known) for f in fields(value)})
    return value


def lacking(markup: Markup, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens that the markup needs and the tokenizer has not as single tokens."""
    known = names(tokenizer)
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    missing = {"{bos}": "a beginning-of-sequence token (bos_token)", "{eos}": "an end-of-sequence token (eos_token)"}
    return [missing.get(need, repr(need)) for need in markup.needs if known.get(need, need) not in added]
