"""A checked request -> what the engine is asked: prompts in the model's own format, settings, limits."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etude.failures import DataError
from etude.models import Sampling
from etude.models.live.guests import Ask
from etude.models.local import Local
from etude.records import Conversation, Message, Segment, ToolCall, identify
from etude.serving.failing import Refused, wrong
from etude.serving.requests import Chat, Completion, Drawing, Turn

ROLES = {"developer": "system"}
"""OpenAI's newer name of the system."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take. `context`: tokens of prompt and answer; `new`: tokens of an answer whose request names no
    number; `answers`: answers of one request; `temperature`: of a request that names none."""

    context: int
    new: int = 1024
    answers: int = 16
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as asks. `copies`: answers given for each ask (one greedy answer is all of them); `prompts`: their tokens, each
    prompt counted once."""

    asks: tuple[Ask, ...]
    copies: int
    prompts: int
    stream: bool
    usage: bool


def conversation_of(turns: Sequence[Turn]) -> Conversation:
    """The messages as a conversation, whose id is the hash of them; raises Refused where there is nothing to answer."""
    if turns[-1].role == "assistant":
        raise wrong("the last message is the assistant's own, so there is nothing to answer", "messages", "invalid_value")
    messages = tuple(
        Message(
            ROLES.get(turn.role, turn.role),
            turn.words(),
            tool_calls=tuple(ToolCall(call.function.name, call.function.arguments, call.id) for call in turn.tool_calls),
            call_id=turn.tool_call_id,
        )
        for turn in turns
    )
    plain = [{"role": m.role, "content": m.content, "calls": [c.arguments for c in m.tool_calls], "call_id": m.call_id} for m in messages]
    return Conversation(identify({"messages": plain}), messages)


def chat(request: Chat, local: Local, limits: Limits) -> Wanted:
    """A chat request as asks; raises Refused for what cannot be asked."""
    if request.top_logprobs is not None and not request.logprobs:
        raise wrong("'top_logprobs' needs 'logprobs': true", "top_logprobs", "invalid_value")
    if request.max_tokens and request.max_completion_tokens and request.max_tokens != request.max_completion_tokens:
        raise wrong("'max_tokens' is the older name of 'max_completion_tokens', and they differ", "max_tokens", "invalid_value")
    asked = conversation_of(request.messages)
    prompt = understood(lambda: local.encoder.ids(local.form.prompt(asked)), "messages")
    new = request.max_completion_tokens or request.max_tokens
    return wanted(request, [(asked.id, prompt)], new, (request.top_logprobs or 0) if request.logprobs else None, local, limits)


def completion(request: Completion, local: Local, limits: Limits) -> Wanted:
    """A completion request as asks: plain text, in which nothing is markup, or the ids themselves; raises Refused likewise."""
    given = request.prompt
    several = isinstance(given, list) and not (given and isinstance(given[0], int))
    prompts: list[str | list[int]] = list(given) if several else [given]  # type: ignore[arg-type, list-item]
    if not prompts:
        raise wrong("'prompt' is an empty list", "prompt", "invalid_value")
    listed = [(identify({"prompt": one}), text_ids(one, local)) for one in prompts]
    return wanted(request, listed, request.max_tokens, request.logprobs, local, limits)


def text_ids(prompt: str | list[int], local: Local) -> list[int]:
    """A plain prompt's ids, behind the beginning of text where the tokenizer puts one before every text."""
    if isinstance(prompt, list):
        size = local.model.get_input_embeddings().weight.shape[0]
        if bad := [token for token in prompt if not 0 <= token < size]:
            raise wrong(f"prompt: token {bad[0]} is not in the vocabulary of {size}", "prompt", "invalid_value")
        return prompt
    first = local.tokenizer("")["input_ids"]
    begin = [Segment(local.tokenizer.bos_token, special=True)] if first and first[0] == local.tokenizer.bos_token_id else []
    return understood(lambda: local.encoder.ids([*begin, Segment(prompt)]), "prompt")


def understood(make: Callable[[], list[int]], param: str) -> list[int]:
    """The ids, or a refusal where the model's format cannot write the request down."""
    try:
        return make()
    except DataError as error:
        raise wrong(str(error), param, "invalid_value") from error


def wanted(
    request: Drawing, prompts: Sequence[tuple[str, list[int]]], new: int | None, top: int | None, local: Local, limits: Limits
) -> Wanted:
    """The asks for named prompts; raises Refused beyond the limits."""
    temperature = limits.temperature if request.temperature is None else request.temperature
    copies = request.n if temperature == 0 else 1
    if len(prompts) * request.n > limits.answers:
        many = f"{len(prompts) * request.n} answers are asked for, and this server gives at most {limits.answers} to one request"
        raise wrong(many, "n", "invalid_value")
    seed = secrets.randbits(63) if request.seed is None else request.seed
    bias = biases(request, local)
    asks = []
    for name, prompt in prompts:
        sampling = Sampling(
            max_new_tokens=room(len(prompt), new, limits),
            temperature=temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            repetition_penalty=request.repetition_penalty,
            stop=request.stops(),
            seed=seed,
        )
        for sample in range(1 if copies > 1 else request.n):
            asks.append(Ask(tuple(prompt), sampling, (name, sample), request.presence_penalty, request.frequency_penalty, bias, top))
    tokens = sum(len(prompt) for _, prompt in prompts)
    return Wanted(tuple(asks), copies, tokens, request.stream, request.stream_options.include_usage)


def room(prompt: int, new: int | None, limits: Limits) -> int:
    """Most new tokens behind a prompt of so many; raises Refused where there is no room for those asked, or for one."""
    if not prompt:
        raise wrong("the prompt has no tokens; a model cannot answer nothing", "prompt", "invalid_value")
    if prompt + (new or 1) > limits.context:
        asked = f", and {new} new ones are asked for" if new else ""
        raise Refused(
            400,
            f"the context is {limits.context} tokens; the prompt has {prompt}{asked}",
            "messages" if prompt + 1 > limits.context else "max_tokens",
            "context_length_exceeded",
        )
    return new or min(limits.new, limits.context - prompt)


def biases(request: Drawing, local: Local) -> dict[int, float]:
    """`logit_bias` by token id."""
    size = local.model.get_input_embeddings().weight.shape[0]
    found = {}
    for name, value in request.logit_bias.items():
        if not name.isdecimal() or int(name) >= size:
            raise wrong(f"logit_bias: {name!r} is no token id of this model (0 to {size - 1})", "logit_bias", "invalid_value")
        found[int(name)] = value
    return found
