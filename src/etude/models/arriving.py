"""Answers as they come, from any LLM: what a journal keeps before the next is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from etude.models import Answer, Sampling
from etude.records import Conversation

CHUNK = 16
"""Conversations handed at once to an LLM that answers only whole lists: what a kill can cost."""


def arriving(llm: Any, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[tuple[int, tuple[Answer, ...]]]:
    """(index of the conversation, its answers) in the order they come; nothing is asked where there is no conversation."""
    if not conversations:
        return
    if each := getattr(llm, "complete_each", None):
        yield from each(conversations, sampling)
        return
    for start in range(0, len(conversations), CHUNK):
        yield from enumerate(llm.complete(conversations[start : start + CHUNK], sampling), start)
