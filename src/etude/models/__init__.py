"""Models as etude sees them: an LLM answers conversations, Scores says how likely given answers are.

Teacher, judge and student under test are all the same two protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from etude.catalog import Catalog, Settings
from etude.records import Conversation

if TYPE_CHECKING:
    import numpy as np


class Sampling(Settings):
    """How answers are drawn; the names and meanings are those of transformers' generate."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Most tokens of one answer, its end of turn included."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy (or beam search, with `num_beams`); above 0 answers are sampled."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the smallest set of tokens whose probabilities reach this sum."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample from the k most likely tokens; 0 is all of them."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides (or multiplies, below zero) the logits of tokens already in prompt or answer (Keskar et al. 2019)."""
    num_beams: Annotated[int, Field(ge=1)] = 1
    """Beams of a beam search; 1 is none."""
    early_stopping: bool = False
    """End a beam search as soon as there are `num_beams` finished answers."""
    n: Annotated[int, Field(ge=1)] = 1
    """Answers drawn for each conversation."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it."""
    seed: int = 0
    """Seed of sampling: one stream a conversation, so that batching never changes an answer."""

    def before_stop(self, text: str) -> str:
        """`text` up to the first of the stop texts in it."""
        found = [text.find(stop) for stop in self.stop if stop]
        return text[: min((place for place in found if place >= 0), default=len(text))]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `finish`: "stop" (end of turn or stop text), "length", or "failed". `near_ties`: greedy
    steps whose best two logits were closer than 1e-4, where another batch might choose the other.

    Only a server fails to answer. `failure` then says why in one word (`replies.REASONS`) and the text is "", so that what a
    server said in place of an answer can never be taken for data."""

    text: str
    finish: str
    tokens: int
    near_ties: int = 0
    failure: str = ""

    @staticmethod
    def failed(reason: str) -> Answer:
        """No answer, for `reason`."""
        return Answer("", "failed", 0, failure=reason)


Progress = Callable[[int], None]
"""Told the number of items just finished."""


class LLM(Protocol):
    """Answers conversations."""

    def complete(
        self, conversations: Sequence[Conversation], sampling: Sampling, progress: Progress | None = None
    ) -> list[tuple[Answer, ...]]:
        """`sampling.n` answers for each conversation's question, in the order given; a failed one has `Answer.failure`."""
        ...


class Scores(Protocol):
    """Knows how likely given answers are."""

    def logprobs(self, conversations: Sequence[Conversation], progress: Progress | None = None) -> list[np.ndarray]:
        """For each conversation, the natural log-probability of each trained token (the answers and
        their ends of turn), float32, shape (trained tokens,)."""
        ...


Told = Callable[[Mapping[str, Any]], None]
"""Told what an LLM has done so far (requests, tokens, cost, failures): the same facts as the manifest gets at the end."""


OPERATION = frozenset(
    {
        *("base_url", "also", "api_key_env", "api_version", "headers", "length_field", "n_at_once", "cache", "prices", "budget"),
        *("concurrency", "timeout", "attempts", "longest_wait", "longest_retry_after", "asks", "most_failures", "batch_tokens"),
    }
)
"""Settings of an LLM that decide how it is reached and what it may cost, not what it answers."""


def answering(settings: Mapping[str, Any]) -> dict[str, Any]:
    """An LLM's settings, as plain data, without `OPERATION`."""
    return {key: value for key, value in settings.items() if key not in OPERATION}


class LLMSettings(Protocol):
    """An LLM as a recipe names it."""

    def open(self, folder: Path | None = None, told: Told | None = None) -> LLM:
        """The LLM. `folder`: where it may keep what outlives the process (money spent so far). Raises RecipeError where it cannot be."""
        ...


LLMS = Catalog(
    "llm",
    {
        "http": "etude.models.http:Http",
        "local": "etude.models.opening:LocalModel",
        "scripted": "etude.models.opening:Script",
    },
)
