"""Text to text, for T5 and its kin: the encoder reads one text, the decoder writes the other (Raffel et al. 2020, section 2.4).

Source: the question and the tokenizer's end; target: the answer and that end, both trained. Where the tokenizer itself
begins every text with its BOS (BART), so do both; T5 has none. What else a conversation holds stands in the source:

- a system text first, followed by a blank line; a context after its question, after a blank line;
- earlier turns before the question, a turn a line, each with its speaker, and then the question with its speaker too:
  `User: ...`, `Assistant: ...`, `User: ...`. A single question stands alone, as T5 and FLAN read it.

The answer alone can be trained: an encoder's text is read and never predicted. So every answer of a longer conversation is
a training example of its own, with the turns before it as its source. There is no place for tools.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etude.catalog import Settings
from etude.failures import DataError, RecipeError
from etude.formats import ChatFormat, FormatSettings
from etude.formats.alpaca import own_start
from etude.formats.families import TEXT_TO_TEXT, bound
from etude.formats.jinja import Auto
from etude.formats.markup import Markup
from etude.formats.tool_calls import refuse_tools
from etude.formats.training_turns import is_trained
from etude.formats.writer import BoundMarkup, check_roles
from etude.records import Conversation, Message, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPEAKERS = {"user": "User: ", "assistant": "Assistant: "}
"""What stands before a turn where there are several; ours, since T5 knows no turns."""

SEVERAL = replace(TEXT_TO_TEXT, single=False)
"""The order of roles that is taken."""


class TextToText(Settings):
    """Text to text, for T5 and its kin: the question and its end, the answer and its end; earlier turns stand in the source."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return TEXT_TO_TEXT

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundTextToText:
        """The format for this tokenizer; raises RecipeError when it lacks an end-of-sequence token."""
        return BoundTextToText(bound(self.markup(), tokenizer))


@dataclass(frozen=True, eq=False)
class BoundTextToText:
    """Text to text with a tokenizer's own tokens. `inner` writes one question and its answer."""

    inner: BoundMarkup
    name: str = "text_to_text"
    paired: bool = True
    """Source and target are two texts, as an encoder-decoder needs them."""

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """Everything up to the last question as the source, the last answer as the target, trained with its end if it is to be.

        Raises DataError, with the row's origin, for an order of roles that is not user, assistant, user, ... (system first if
        at all), for tools, and where another than the assistant's turn is to be trained.
        """
        return self.inner.render(self._folded(conversation))

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The source with its end; nothing is trained. Raises DataError as `render` does, and when there is nothing to answer."""
        return self.inner.prompt(self._folded(conversation.question()))

    def stops(self) -> tuple[str, ...]:
        """The tokenizer's end-of-sequence token."""
        return self.inner.stops()

    def _folded(self, conversation: Conversation) -> Conversation:
        """The conversation as at most a system text, one question with all earlier turns in it, and its answer."""
        messages = conversation.messages
        refuse_tools(self.name, conversation)
        where = conversation.origin or conversation.id
        try:
            check_roles(SEVERAL, messages)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        for turn, message in enumerate(messages):
            if message.role != "assistant" and is_trained(message):
                raise DataError(
                    f"{where}: message {turn + 1} ({message.role}) is to be trained, and format {self.name} can train answers only: "
                    "an encoder reads its text and never predicts it"
                )
        last = max(turn for turn, message in enumerate(messages) if message.role == "user")
        first = 1 if messages[0].role == "system" else 0
        if last == first:
            return conversation
        told = "\n".join(SPEAKERS[message.role] + message.words() for message in messages[first : last + 1])
        return replace(conversation, messages=(*messages[:first], Message("user", told), *messages[last + 1 :]))


def bind_for(settings: FormatSettings, tokenizer: PreTrainedTokenizerFast, paired: bool) -> ChatFormat:
    """The format for a model: for an encoder-decoder (`paired`) `auto` is text to text.

    Raises RecipeError, for an encoder-decoder, when the format writes one text instead of two, or the tokenizer frames texts with other
    tokens than BOS and EOS (mBART and NLLB with codes of languages), which text to text does not write.
    """
    form = (TextToText() if paired and isinstance(settings, Auto) else settings).bind(tokenizer)
    if not paired:
        return form
    if not getattr(form, "paired", False):
        raise RecipeError(
            f"format {form.name} writes one text, for a decoder-only model; this model is an encoder-decoder, which needs "
            "`format: text_to_text` (what `auto` chooses for it)"
        )
    bare, framed = (tokenizer("a", add_special_tokens=own)["input_ids"] for own in (False, True))
    ours = [*([tokenizer.bos_token_id] if own_start(tokenizer) else []), *bare, tokenizer.eos_token_id]
    if framed not in (bare, ours):
        raise RecipeError(
            f"format text_to_text: the tokenizer writes texts as {tokenizer.decode(framed)!r}, "
            f"and the format as {tokenizer.decode(ours)!r}; models that need other tokens around a text (codes of languages, no end of "
            "the source) are not supported"
        )
    return form
