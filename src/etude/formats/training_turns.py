"""Which turns the loss counts: by role, all of them or the last, and what a row says of its own turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from etude.catalog import Settings
from etude.records import Conversation, Message

Role = Literal["system", "user", "assistant", "tool"]


class TrainOn(Settings):
    """The turns that are trained. What a data set says of a message (`trained`, or a weight of 0 or 1) goes first."""

    roles: tuple[Role, ...] = Field(default=("assistant",), min_length=1)
    """Whose turns count. A turn of another role than the assistant's is trained from its first word to its end of turn."""
    turns: Literal["all", "last"] = "all"
    """`all`: every turn of these roles; `last`: only the last one of a conversation."""


def is_trained(message: Message) -> bool:
    """Whether the loss counts this message: as it says itself, else if it is the assistant's."""
    return message.role == "assistant" if message.trained is None else message.trained


def trained_turns(conversation: Conversation) -> list[int]:
    """The indices of the messages that are trained, in order."""
    return [i for i, message in enumerate(conversation.messages) if is_trained(message)]


def choose_trained(conversation: Conversation, train_on: TrainOn) -> Conversation:
    """The conversation with every message's `trained` settled: its own word where it has one, else by `train_on`.

    `turns: last` means the last message of the named roles, whatever the others say of themselves.
    """
    named = [i for i, message in enumerate(conversation.messages) if message.role in train_on.roles]
    chosen = set(named if train_on.turns == "all" else named[-1:])
    return only_trained(conversation, {i for i, m in enumerate(conversation.messages) if (i in chosen if m.trained is None else m.trained)})


def only_trained(conversation: Conversation, turns: set[int]) -> Conversation:
    """The conversation with exactly the messages at `turns` trained; the same object where that is so already."""
    if turns == set(trained_turns(conversation)):
        return conversation
    return replace(conversation, messages=tuple(replace(m, trained=i in turns) for i, m in enumerate(conversation.messages)))
