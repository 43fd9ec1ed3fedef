"""How model families write a conversation down, and the one check that keeps the loss mask honest.

The mask contract: the segments before a trained one equal `prompt()` of that turn, as text, so what
the model reads in training is what it reads when asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from etude.catalog import Catalog
from etude.failures import DataError
from etude.formats.alpaca import Alpaca
from etude.formats.jinja import Auto, Jinja
from etude.records import Conversation, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ChatFormat(Protocol):
    """One model family's way of writing, bound to a tokenizer."""

    name: str

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; assistant turns and their ends of turn are trained."""
        ...

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The conversation's question and the markup that opens the answer; nothing is trained."""
        ...

    def stops(self) -> tuple[str, ...]:
        """The special tokens that end an answer."""
        ...


class FormatSettings(Protocol):
    """A format as a recipe names it."""

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
        """The format for this tokenizer; raises RecipeError where it cannot be."""
        ...


FORMATS = Catalog("format", {"auto": Auto, "jinja": Jinja, "alpaca": Alpaca})


def text(segments: Sequence[Segment]) -> str:
    """The segments as one text."""
    return "".join(segment.text for segment in segments)


def renderings(form: ChatFormat, conversation: Conversation) -> list[tuple[Segment, ...]]:
    """The conversation as one rendering where every trained turn follows exactly its prompt, else
    (a format that rewrites earlier turns) one rendering a trained turn, each checked the same way.

    Raises DataError when even a single turn does not follow its prompt.
    """
    turns = [i for i, m in enumerate(conversation.messages) if m.role == "assistant"]
    whole = form.render(conversation)
    if follows(form, conversation, whole, turns):
        return [whole]
    single = []
    for turn in turns:
        part = replace(conversation, messages=conversation.messages[: turn + 1])
        rendered = only_last_trained(form.render(part))
        if not follows(form, part, rendered, [turn]):
            raise DataError(f"{conversation.origin or conversation.id}: turn {turn + 1} as trained does not begin with its prompt as asked")
        single.append(rendered)
    return single


def follows(form: ChatFormat, conversation: Conversation, rendered: Sequence[Segment], turns: Sequence[int]) -> bool:
    """Whether each trained stretch of `rendered` is preceded by exactly the prompt of its turn."""
    starts = []
    before = ""
    trained = False
    for segment in rendered:
        if segment.trained and not trained:
            starts.append(before)
        trained = segment.trained
        before += segment.text
    prompts = [text(form.prompt(replace(conversation, messages=conversation.messages[:turn]))) for turn in turns]
    return starts == prompts


def only_last_trained(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same segments with only the last trained stretch still trained."""
    last = max((i for i, s in enumerate(segments) if s.trained), default=-1)
    first = last
    while first > 0 and segments[first - 1].trained:
        first -= 1
    return tuple(replace(s, trained=s.trained and first <= i <= last) for i, s in enumerate(segments))
