"""What a client may ask, checked strictly: a parameter that would be ignored is refused, and the refusal names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from etude.failures import nearest
from etude.serving.failing import Refused, wrong

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
LABELS = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key"})
"""Parameters that only label a request; they change no answer."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}
"""OpenAI's parameters that this server has not, with the values that ask for nothing."""


class Part(BaseModel):
    """A part of a message's content."""

    model_config = STRICT
    type: Literal["text"]
    text: str


class Function(BaseModel):
    """A call's function, its arguments as JSON text."""

    model_config = STRICT
    name: str
    arguments: str


class Call(BaseModel):
    """A call that an earlier answer made."""

    model_config = STRICT
    function: Function
    id: str = ""
    type: Literal["function"] = "function"


class Turn(BaseModel):
    """A message of the conversation."""

    model_config = STRICT
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] = ""
    tool_calls: list[Call] = Field(default=[])
    tool_call_id: str = ""

    def words(self) -> str:
        """The content as one text; parts follow each other."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream tells besides the answer."""

    model_config = STRICT
    include_usage: bool = False
    include_obfuscation: bool = False


class Drawing(BaseModel):
    """How answers are drawn; None leaves it to the server."""

    model_config = STRICT
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default={}, max_length=1024)
    n: Annotated[int, Field(ge=1, le=128)] = 1
    stop: str | Annotated[list[str], Field(max_length=16)] = Field(default=[])
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None

    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return tuple(text for text in ([self.stop] if isinstance(self.stop, str) else self.stop) if text)


class Chat(Drawing):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Turn], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class Completion(Drawing):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


def parse(body: bytes) -> dict[str, Any]:
    """A request's JSON object; raises Refused for anything else."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    try:
        value = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise wrong(f"the body is not JSON: {reason}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise wrong(f"the body must be a JSON object, not {type(value).__name__}", code="invalid_json")
    return value


Kind = TypeVar("Kind", bound=Drawing)


def checked(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """A request as its class; a null parameter is one left out. Raises Refused naming the first parameter that is wrong."""
    left = {key: value for key, value in given.items() if value is not None and key not in LABELS}
    for key in [key for key in left if key in NEUTRAL and key not in kind.model_fields]:
        if left[key] not in NEUTRAL[key]:
            raise wrong(f"{key!r} is not supported by this server; leave it out", key, "unsupported_parameter")
        del left[key]
    if isinstance(left.get("messages"), list):
        left["messages"] = [without_nothing(turn) for turn in left["messages"]]
    try:
        return kind.model_validate(left)
    except ValidationError as error:
        raise told(error, kind) from error


def without_nothing(turn: Any) -> Any:
    """A message without its nulls and empty lists, which clients send back as they got them (`refusal`, `annotations`)."""
    return {key: value for key, value in turn.items() if value is not None and value != []} if isinstance(turn, dict) else turn


def told(error: ValidationError, kind: type[Drawing]) -> Refused:
    """The first fault that pydantic found, in words."""
    faults = error.errors(include_url=False)
    # a value that may be of several types has a fault for each: the deepest is about the type that was meant
    first = max((one for one in faults if one["loc"][:3] == faults[0]["loc"][:3]), key=lambda one: len(one["loc"]))
    place = [part for part in first["loc"] if not (isinstance(part, str) and part.startswith(("list[", "str", "function-", "constrained")))]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    top = place[0] if place else ""
    if first["type"] == "extra_forbidden":
        hint = nearest(str(place[-1]), kind.model_fields) if len(place) == 1 else ""
        where = "parameter" if len(place) == 1 else "key"
        return wrong(f"unknown {where} {param!r}{hint}", param, "unknown_parameter")
    if first["type"] == "missing":
        return wrong(f"{param!r} is missing", param, "missing_required_parameter")
    if top == "messages" and place[-1] == "type" and first["type"] == "literal_error":
        return wrong(f"{param}: this server reads text only, not {first['input']!r}", param, "unsupported_value")
    return wrong(f"{param}: {first['msg'][0].lower()}{first['msg'][1:]}, found {shown(first['input'])}", param, "invalid_value")


def shown(value: Any) -> str:
    """A wrong value, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
