"""Plain text inside any format: a document is a conversation of one assistant message alone, and all of it is trained.

No chat format has words for an answer without a question, so a document is written as pretraining has it: the tokenizer's BOS
where the tokenizer itself begins every text with one, the text, and the tokenizer's end of text. Everything else is the format's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etude.failures import RecipeError
from etude.formats import ChatFormat
from etude.formats.alpaca import own_start
from etude.formats.training_turns import is_trained
from etude.records import Conversation, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def is_document(conversation: Conversation) -> bool:
    """Whether this is plain text: one message, the assistant's, and no question."""
    return len(conversation.messages) == 1 and conversation.messages[0].role == "assistant"


def with_documents(form: ChatFormat, tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
    """The format, which then also writes documents; raises RecipeError for a tokenizer without an end of text and for a
    format of source and target, which has no place for them."""
    if getattr(form, "paired", False):
        raise RecipeError(f"format: {form.name} writes a source and a target, and plain text has only one of them; leave the source out")
    if tokenizer.eos_token is None:
        raise RecipeError("the tokenizer has no eos_token, which plain text ends with")
    return WithDocuments(form, own_start(tokenizer), str(tokenizer.eos_token))


@dataclass(frozen=True, slots=True)
class WithDocuments:
    """A format and a tokenizer's beginning ("" for none) and end of text."""

    inner: ChatFormat
    start: str
    end: str

    @property
    def name(self) -> str:
        """The format's own name."""
        return self.inner.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def opening(self) -> tuple[Segment, ...]:
        """What stands before a document."""
        return (Segment(self.start, special=True),) if self.start else ()

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """A document trained from its first character to its end of text; else what the format writes."""
        if not is_document(conversation):
            return self.inner.render(conversation)
        message = conversation.messages[0]
        trained = is_trained(message)
        return (*self.opening(), Segment(message.words(), trained), Segment(self.end, trained, special=True))

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """What stands before a document; else what the format asks."""
        return self.opening() if is_document(conversation) or not conversation.messages else self.inner.prompt(conversation)

    def stops(self) -> tuple[str, ...]:
        """The format's ends of turn, and the end of text."""
        return tuple(dict.fromkeys((*self.inner.stops(), self.end)))
