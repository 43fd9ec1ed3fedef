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
- a system text or an instruction that is to be trained is trained as it stands, without its markup;
- there is no place for tools: a row with tools, calls or results is refused;
- where the tokenizer itself begins every text with its BOS (Llama, OPT), so does the prompt, as in the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etude.catalog import Settings
from etude.failures import DataError, RecipeError
from etude.formats.borders import BORDER, untrained
from etude.formats.tool_calls import refuse_tools
from etude.formats.training_turns import is_trained
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
        return BoundAlpaca(self.preamble, str(tokenizer.eos_token), own_start(tokenizer))


def own_start(tokenizer: PreTrainedTokenizerFast) -> str:
    """The tokenizer's BOS where it begins every text with one itself, else "". Asked of the tokenizer: only its
    post-processor knows."""
    first = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
    return str(tokenizer.bos_token) if tokenizer.bos_token is not None and first == [tokenizer.bos_token_id] else ""


@dataclass(frozen=True, slots=True)
class BoundAlpaca:
    """Alpaca with a tokenizer's end (`eos`) and, if that tokenizer writes one itself, beginning (`bos`)."""

    preamble: Preamble
    eos: str
    bos: str = ""
    name: str = "alpaca"

    def render(self, conversation: Conversation) -> tuple[Segment, ...]:
        """The whole conversation; each turn that is to be trained is, an answer with the end-of-sequence token after it.

        Raises DataError when turns do not go system (at most one, first), user, assistant, user, ..., or there are tools.
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
        refuse_tools(self.name, conversation)
        check_turns(conversation, messages)
        segments = [Segment(self.bos, special=True)] if self.bos else []
        first = True
        for message in messages:
            trained = is_trained(message)
            if message.role == "system":
                segments += [Segment(message.words(), trained), Segment("\n\n")]
            elif message.role == "user":
                start, words, end = self._ask(message, first)
                segments += [Segment(start), Segment(words, trained), Segment(end)]
                first = False
            else:
                # Tokens begin where an answer begins, also one that is only read.
                segments += [] if trained else [BORDER]
                segments += [Segment(message.words(), trained)] if message.words() else []
                segments.append(Segment(self.eos, trained, special=True))
        return joined(segments)

    def _ask(self, message: Message, first: bool) -> tuple[str, str, str]:
        start = "" if first else "\n\n"
        if first and self.preamble == "standard":
            start = WITH_INPUT if message.context else WITHOUT_INPUT
        context = f"\n\n### Input:\n{message.context}" if message.context else ""
        end = "" if self.preamble == "standard" else "\n"
        return f"{start}### Instruction:\n", f"{message.content}{context}", f"\n\n### Response:{end}"


def joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments with those plain texts that stand together and are not trained made one."""
    out: list[Segment] = []
    for segment in segments:
        last = out[-1] if out else None
        if last and last.text and segment.text and not (last.trained or last.special or segment.trained or segment.special):
            out[-1] = Segment(last.text + segment.text)
        elif segment.text or segment is BORDER:
            out.append(segment)
    return tuple(out)


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
