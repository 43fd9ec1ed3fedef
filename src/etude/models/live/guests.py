"""What a live engine is asked, what it tells, and a prompt on its way through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from etude.failures import Failure
from etude.models import Answer, Sampling
from etude.models.decoding import Ended, Live
from etude.models.live import prefixes
from etude.models.live.choosing import TokenChance
from etude.models.live.detokenizing import Detokenizer


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer that is wanted: the prompt's ids, how it is drawn (`n` and beams aside), and the name of its stream of random
    numbers. `presence`, `frequency`: what is taken from the logits of tokens the answer holds, once and for each time they
    were drawn; `bias`: added to these tokens' logits; `top`: likeliest tokens told with each token, None: no log-probabilities."""

    prompt: tuple[int, ...]
    sampling: Sampling
    stream: tuple[object, ...] = ()
    presence: float = 0.0
    frequency: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict)
    top: int | None = None

    @property
    def most(self) -> int:
        """Tokens of the prompt and of the longest answer."""
        return len(self.prompt) + self.sampling.max_new_tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """What became certain with a token. `answer` and `error` end the answer; `cached`: prompt tokens that were not read again."""

    text: str = ""
    chances: tuple[TokenChance, ...] = ()
    answer: Answer | None = None
    error: Exception | None = None
    cached: int = 0


Tell = Callable[[Piece], None]


class Full(Failure):
    """The queue is full; `seconds` is a guess when there will be room."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Closed(Failure):
    """The engine takes no more prompts."""


@dataclass(slots=True)
class Guest(Live):
    """A prompt that is waiting, being read or being answered."""

    ask: Ask = field(kw_only=True)
    tell: Tell = field(kw_only=True)
    words: Detokenizer = field(kw_only=True)
    ended: Ended | None = field(kw_only=True)
    start: prefixes.Start | None = None
    have: int = 0
    cached: int = 0
    held: list[tuple[int, TokenChance]] = field(default_factory=list)
    cancelled: bool = False
