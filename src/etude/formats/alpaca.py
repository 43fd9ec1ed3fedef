"""Alpaca: `### Instruction:`, `### Input:`, `### Response:`, for models without a chat template.

`preamble: standard` is the text of Stanford Alpaca's `train.py` (tatsu-lab/stanford_alpaca, commit
761dc5b), byte for byte: a prompt ends with `### Response:` and *no* newline, and the answer follows at
once. `preamble: none` is the bare form of the tutorials: no preamble, and `### Response:\\n`, with a newline.

The original knows one instruction and one answer. Ours for the rest:

- a system text stands first, followed by a blank line;
- the preamble stands once, before the first instruction, and says "paired with an input" when that
  first instruction has a context;
- a later turn follows the end of the answer before it, after a blank line, with no second preamble;
- an answer ends with the tokenizer's end-of-sequence token, which is trained;
- where the tokenizer itself begins every text with its BOS (Llama, OPT), so does the prompt, as in the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etude.catalog import Settings
from etude.failures import DataError, RecipeError
from etude.formats.borders import untrained
from etude.records import Conversation, Message, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)
WITHOUT_INPUT = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"

Preamble = Literal["standard", "none"]


class Alpaca(Settings):
    """The Alpaca form, which needs nothing of a tokenizer but an end-of-sequence token."""

    preamble: Preamble = "standard"
    """`standard`: Stanford Alpaca's two preambles, and no newline after `### Response:`; `none`: the bare form, with that newline."""

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundAlpaca:
        """The format for this tokenizer; raises RecipeError when it has no end-of-sequence token."""
        if not tokenizer.eos_token:
            raise RecipeError(
                "format alpaca: the tokenizer has no end-of-sequence token (eos_token), so a tuned model could never stop; "
                "set eos_token in the model folder's tokenizer_config.json"
            )
        # Asked of the tokenizer itself: only its post-processor knows whether it begins texts with BOS.
        first = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
        opens = tokenizer.bos_token is not None and first == [tokenizer.bos_token_id]
        return BoundAlpaca(self.preamble, str(tokenizer.eos_token), str(tokenizer.bos_token) if opens else "")


@dataclass(frozen=True, slots=True)
class BoundAlpaca:
    """Alpaca with a tokenizer's end (`eos`) and, if that tokenizer writes one itself, beginning (`bos`)."""

    preamble: Preamble
    eos: str
    bos: str = ""
    name: str = "alpaca"

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; each answer and the end-of-sequence token after it are trained.

        Raises DataError when turns do not go system (at most one, first), user, assistant, user, ...
        """
        return self._write(conversation, conversation.messages)

    def prompt(self, conversation: Conversation) -> tuple[Segment, ...]:
        """Everything up to `### Response:`; nothing is trained. Raises DataError as `render` does, and
        when the conversation does not end with a question."""
        messages = conversation.question().messages
        if not messages or messages[-1].role != "user":
            raise DataError(f"{conversation.origin or conversation.id}: there is no user message to answer")
        return untrained(self._write(conversation, messages))

    def stops(self) -> tuple[str, ...]:
        """The end-of-sequence token."""
        return (self.eos,)

    def _write(self, conversation: Conversation, messages: tuple[Message, ...]) -> tuple[Segment, ...]:
        check_turns(conversation, messages)
        segments = [Segment(self.bos, special=True)] if self.bos else []
        first = True
        for message in messages:
            if message.role == "system":
                segments.append(Segment(f"{message.words()}\n\n"))
            elif message.role == "user":
                segments.append(Segment(self._ask(message, first)))
                first = False
            else:
                segments += [Segment(message.words(), trained=True)] if message.words() else []
                segments.append(Segment(self.eos, trained=True, special=True))
        return tuple(segments)

    def _ask(self, message: Message, first: bool) -> str:
        start = "" if first else "\n\n"
        if first and self.preamble == "standard":
            start = WITH_INPUT if message.context else WITHOUT_INPUT
        context = f"\n\n### Input:\n{message.context}" if message.context else ""
        end = "" if self.preamble == "standard" else "\n"
        return f"{start}### Instruction:\n{message.content}{context}\n\n### Response:{end}"


def check_turns(conversation: Conversation, messages: tuple[Message, ...]) -> None:
    """Raises DataError, naming the turn, unless user and assistant alternate after at most one system message."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    skipped = len(messages) - len(turns)
    for i, message in enumerate(turns):
        expected = "assistant" if i % 2 else "user"
        if message.role != expected:
            raise DataError(
                f"{conversation.origin or conversation.id}: message {i + skipped + 1} is from {message.role!r} where alpaca needs "
                f"{expected!r} (system first if at all, then user and assistant in turn)"
            )
