"""How model families write a conversation down, and the one check that keeps the loss mask honest.

The mask contract: the segments before a trained one equal `prompt()` of that turn, as text, so what
the model reads in training is what it reads when asked. `borders` keeps it true of token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from etude.catalog import Catalog
from etude.failures import DataError
from etude.formats.alpaca import Alpaca
from etude.formats.borders import only_last_trained, stretches
from etude.formats.jinja import Auto, Jinja
from etude.records import Conversation, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ChatFormat(Protocol):
    """One model family's way of writing, bound to a tokenizer."""

    @property
    def name(self) -> str:
        """The format's name, for reports."""
        ...

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; assistant turns and their ends of turn are trained."""
        ...

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The conversation's question (a final answer is left out) and the markup that opens the answer; nothing is
        trained, and an empty segment (`borders.BORDER`) stands where each earlier answer begins."""
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
    """The conversation as one rendering where every answer follows exactly its prompt and is written as
    it would be if it were the last, else (a format that rewrites earlier turns, as Qwen3's drops their
    reasoning) one rendering an answer, each checked the same way.

    Raises DataError when even a single answer does not follow its prompt.
    """
    turns = [i for i, m in enumerate(conversation.messages) if m.role == "assistant"]
    whole = form.render(conversation)
    if follows(form, conversation, whole, turns) and not rewrites(form, conversation, whole, turns):
        return [whole]
    single = []
    for turn in turns:
        part = replace(conversation, messages=conversation.messages[: turn + 1])
        rendered = only_last_trained(form.render(part))
        if not follows(form, part, rendered, [turn]):
            raise DataError(
                f"{conversation.origin or conversation.id}: message {turn + 1} as trained does not begin with its prompt as asked"
            )
        single.append(rendered)
    return single


def follows(form: ChatFormat, conversation: Conversation, rendered: Sequence[Segment], turns: Sequence[int]) -> bool:
    """Whether `rendered` trains exactly the answers at `turns`, each preceded by exactly its prompt."""
    starts = [before for before, _ in stretches(rendered)]
    # A prompt is asked with its own answer still there, which prompt() leaves out.
    return starts == [text(form.prompt(replace(conversation, messages=conversation.messages[: turn + 1]))) for turn in turns]


def rewrites(form: ChatFormat, conversation: Conversation, rendered: Sequence[Segment], turns: Sequence[int]) -> bool:
    """Whether an earlier answer is written otherwise than when it ends the conversation."""
    written = [answer for _, answer in stretches(rendered)]
    for turn, answer in zip(turns, written, strict=True):
        if turn < len(conversation.messages) - 1:
            alone = stretches(form.render(replace(conversation, messages=conversation.messages[: turn + 1])))
            if not alone or alone[-1][1] != answer:
                return True
    return False
