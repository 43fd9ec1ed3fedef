"""A question as a server is asked it: the body of a chat or completions request, and what the answer is known by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from etude import journal, seeds
from etude.failures import DataError, RecipeError
from etude.models import Sampling
from etude.models.servers.budgets import Usage
from etude.records import Conversation, Message

if TYPE_CHECKING:
    from etude.encoding import Encoder
    from etude.formats import ChatFormat, FormatSettings

MOST_STOPS = 4
"""Stop texts that OpenAI's endpoints take; the rest is looked for in the answer."""
MESSAGE_TOKENS = 16
"""Tokens that a chat template adds to a message at most, as a budget reckons."""
PROMPT_TOKENS = 256
"""Tokens that a chat template adds to a prompt at most (a system text of its own, a date), as a budget reckons."""


class Endpoint(Protocol):
    """What a request depends on, of an LLM's settings."""

    @property
    def model(self) -> str:
        """The name the server knows the model by."""
        ...

    @property
    def base_url(self) -> str:
        """Where the server is."""
        ...

    @property
    def api_version(self) -> str:
        """Azure's."""
        ...

    @property
    def endpoint(self) -> Literal["chat", "completions"]:
        """Which interface."""
        ...

    @property
    def tokenizer(self) -> str:
        """The model whose tokenizer writes completions."""
        ...

    @property
    def format(self) -> FormatSettings:
        """And its chat format."""
        ...

    @property
    def keep_cut(self) -> bool:
        """Whether cut answers count."""
        ...

    @property
    def send_seed(self) -> bool:
        """Whether the server takes seeds."""
        ...

    @property
    def extra(self) -> Mapping[str, Any]:
        """What else stands in every body."""
        ...

    def length_name(self) -> str:
        """What the server calls the most tokens of an answer."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """A question on its way: `body` without the number of answers and the seed, `key` what its answers are kept under."""

    id: str
    key: str
    body: Mapping[str, Any] = field(repr=False)
    sampled: bool
    seed: int
    most_output: int

    def request(self, settings: Endpoint, wanted: int, drawn: int = 0, ask: int = 0) -> dict[str, Any]:
        """The body of one request: `wanted` answers, after `drawn` others, asked for the `ask`-th time (from 0), which a
        sampled answer has a fresh seed for."""
        body = dict(self.body)
        if wanted > 1:
            body["n"] = wanted
        if self.sampled and settings.send_seed:
            # llama.cpp's seeds have 32 bits, and 2**32 - 1 means a random one there
            body["seed"] = seeds.number(self.seed, self.id, drawn, *([ask] if ask else [])) % 2**31
        body.update(settings.extra)
        return {name: value for name, value in body.items() if value is not None}

    def most(self, wanted: int) -> Usage:
        """The most tokens that a request for `wanted` answers can take. A token is a byte of text at least, so a prompt has no
        more tokens than bytes, and what its template adds."""
        told = self.body.get("messages", ())
        size = len(journal.line({"told": [told, self.body.get("prompt"), self.body.get("tools")]}))
        return Usage(size + MESSAGE_TOKENS * len(told) + PROMPT_TOKENS, self.most_output * wanted)


Prompt = Callable[[Conversation], str | list[int]]
"""Writes a question as one text, or as token ids."""


def form_of(settings: Endpoint) -> tuple[Encoder, ChatFormat] | None:
    """The tokenizer and the chat format that the settings name, None for none."""
    if not settings.tokenizer:
        return None
    from etude.encoding import Encoder
    from etude.models import weights

    folder = Path(settings.tokenizer).expanduser()  # a folder with a tokenizer alone will do: the weights are the server's
    folder = folder if (folder / "tokenizer.json").is_file() else weights.locate(settings.tokenizer).folder
    tokenizer = weights.load_tokenizer(folder)
    return Encoder.of(tokenizer), settings.format.bind(tokenizer)


def writer(settings: Endpoint, form: tuple[Encoder, ChatFormat] | None) -> Prompt | None:
    """What writes prompts for a completions endpoint, None for chat. Token ids where the tokenizer is known: a server that reads
    text would take a row's own `<|im_end|>` for markup."""
    if settings.endpoint == "chat":
        return None
    if form is None:
        return plain
    encoder, written_as = form
    return lambda question: [int(i) for i in encoder.ids(written_as.prompt(question))]


def item(settings: Endpoint, conversation: Conversation, sampling: Sampling, prompt: Prompt | None = None) -> Item:
    """How one conversation's question is asked. `prompt` writes it for completions.

    Greedy answers are known by their request alone, so rows that read the same are asked once; sampled ones by their row as well.
    Raises RecipeError for beams, which no server has; DataError for a question without words.
    """
    if sampling.num_beams > 1:
        raise RecipeError(f"num_beams={sampling.num_beams}: an LLM behind HTTP has no beam search; use n with a temperature")
    question = conversation.question()
    if not question.messages:
        raise DataError(f"{conversation.origin or 'row'} ({conversation.id}): no question; a model cannot answer nothing")
    body: dict[str, Any] = {"model": settings.model}
    if prompt:
        body["prompt"] = prompt(question)
    else:
        body["messages"] = [written(message) for message in question.messages]
        if question.tools:
            body["tools"] = [dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in question.tools]
    body[settings.length_name()] = sampling.max_new_tokens
    body["temperature"] = sampling.temperature
    if sampling.temperature > 0:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.repetition_penalty != 1:
        body["repetition_penalty"] = sampling.repetition_penalty
    if sampling.stop:
        body["stop"] = list(sampling.stop[:MOST_STOPS])
    sampled = sampling.temperature > 0
    known = [settings.base_url.rstrip("/"), settings.api_version, settings.endpoint, body, dict(settings.extra), list(sampling.stop)]
    key = journal.digest([*known, settings.keep_cut, sampling.n, [conversation.id, sampling.seed] if sampled else None])
    return Item(conversation.id, key, body, sampled, sampling.seed, sampling.max_new_tokens)


def written(message: Message) -> dict[str, Any]:
    """A message as OpenAI's interface has it."""
    found: dict[str, Any] = {"role": message.role, "content": message.words()}
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls
        ]
    if message.role == "tool":
        found["tool_call_id"] = message.call_id
    elif message.name:
        found["name"] = message.name
    return found


def plain(question: Conversation) -> str:
    """The words of all messages, for a model that continues text and knows no turns."""
    return "\n\n".join(message.words() for message in question.messages)


def grouped(items: Sequence[Item]) -> dict[str, list[int]]:
    """Key -> the places of its items, in order."""
    found: dict[str, list[int]] = {}
    for place, one in enumerate(items):
        found.setdefault(one.key, []).append(place)
    return found
