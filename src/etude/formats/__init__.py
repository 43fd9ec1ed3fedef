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
from etude.formats.borders import stretches
from etude.formats.training_turns import only_trained, trained_turns
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
        """The whole conversation; the turns that are to be trained (`training_turns.is_trained`) are, with their ends of turn,
        and a border stands where an answer begins that is not."""
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


FORMATS = Catalog(
    "format",
    {
        "auto": "etude.formats.jinja:Auto",
        "jinja": "etude.formats.jinja:Jinja",
        "alpaca": "etude.formats.alpaca:Alpaca",
        "chatml": "etude.formats.families:ChatML",
        "gemma": "etude.formats.families:Gemma",
        "llama2": "etude.formats.families:Llama2",
        "llama3": "etude.formats.families:Llama3",
        "mistral": "etude.formats.families:Mistral",
        "phi3": "etude.formats.families:Phi3",
        "qwen": "etude.formats.families:Qwen",
        "text_to_text": "etude.formats.text_to_text:TextToText",
        "vicuna": "etude.formats.families:Vicuna",
        "zephyr": "etude.formats.families:Zephyr",
    },
)


def text(segments: Sequence[Segment]) -> str:
    """The segments as one text."""
    return "".join(segment.text for segment in segments)


def renderings(form: ChatFormat, conversation: Conversation) -> list[tuple[Segment, ...]]:
    """The conversation as one rendering where every trained answer follows exactly its prompt and is written as
    it would be if it were the last, else (a format that rewrites earlier turns, as Qwen3's drops their
    reasoning) one rendering a trained answer, each checked the same way.

    Trained turns of other roles are then trained once, in the rendering of the answer after them. Raises DataError
    when even a single answer does not follow its prompt.
    """
    turns = trained_turns(conversation)
    whole = form.render(conversation)
    if follows(form, conversation, whole, turns) and not rewrites(form, conversation, whole, turns):
        return [whole]
    answers = [turn for turn in turns if conversation.messages[turn].role == "assistant"]
    single = []
    for before, turn in zip([-1, *answers], [*answers, None], strict=True):
        mine = [i for i in turns if before < i and (turn is None or i <= turn)]
        if mine:
            end = len(conversation.messages) if turn is None else turn + 1
            part = only_trained(replace(conversation, messages=conversation.messages[:end]), set(mine))
            rendered = form.render(part)
            if not follows(form, part, rendered, mine):
                raise DataError(
                    f"{conversation.origin or conversation.id}: message {mine[-1] + 1} as trained does not begin with its prompt as asked"
                )
            single.append(rendered)
    return single


def follows(form: ChatFormat, conversation: Conversation, rendered: Sequence[Segment], turns: Sequence[int]) -> bool:
    """Whether `rendered` trains exactly the messages at `turns`, each answer preceded by exactly its prompt."""
    starts = [before for before, _ in stretches(rendered)]
    # A prompt is asked with its own answer still there, which prompt() leaves out.
    return len(starts) == len(turns) and all(
        conversation.messages[turn].role != "assistant"
        or before == text(form.prompt(replace(conversation, messages=conversation.messages[: turn + 1])))
        for turn, before in zip(turns, starts, strict=True)
    )


def rewrites(form: ChatFormat, conversation: Conversation, rendered: Sequence[Segment], turns: Sequence[int]) -> bool:
    """Whether an earlier trained answer is written otherwise than when it ends the conversation."""
    written = [answer for _, answer in stretches(rendered)]
    for turn, answer in zip(turns, written, strict=True):
        if turn < len(conversation.messages) - 1 and conversation.messages[turn].role == "assistant":
            alone = stretches(form.render(replace(conversation, messages=conversation.messages[: turn + 1])))
            if not alone or alone[-1][1] != answer:
                return True
    return False
