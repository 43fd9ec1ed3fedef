"""What a server replied, judged: which of its texts are answers, and why the others are not.

Text that is empty, refused, cut off, malformed or from another model is never data. It is counted by one of `REASONS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.models import Answer, Sampling
from etude.models.servers.budgets import read_usage

REASONS: dict[str, str] = {
    "empty": "no text, or white space alone",
    "refused": "the server's filter or the model's refusal field",
    "length": "cut off at the most tokens",
    "malformed": "not a reply as the interface has it",
    "model": "from another model than asked",
    "count": "fewer or more answers than asked, or one twice",
    "tool_call": "a call of a function in place of text",
    "rejected": "the server cannot serve this request",
    "server": "no reply after all attempts",
}
"""Why there is no answer. "rejected" is not asked again; "server" was asked again all along."""

ENDED = frozenset({"stop", "eos", "end_turn", "stop_sequence"})
"""Finish reasons of a whole answer: OpenAI's "stop", and what other servers call it."""
VERSION = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{8}|-\d{4}|-0\d\d)?(-preview)?(-latest|:latest)?")
"""What may follow a model's name and still be that model: a date or version that the server filled in."""


@dataclass(frozen=True, slots=True)
class Read:
    """A reply read: its answers, why its other texts are none, and the model it names ("" for none)."""

    answers: tuple[Answer, ...] = ()
    reasons: tuple[str, ...] = ()
    said: str = ""
    model: str = ""


def same_model(asked: str, answered: str, aliases: Sequence[str] = ()) -> bool:
    """Whether the model a reply names is the one asked for.

    It is when the names are equal but for case; when the reply's adds a date, a version number or "latest" (`gpt-4o-mini` answers as
    `gpt-4o-mini-2024-07-18`); when only one of them has an owner before a slash, and the rest agrees; when the one asked for has a
    variant behind a colon (`name:free`) that the reply leaves out; or when it is one of `aliases` ("*" is any). A reply that names
    no model cannot be checked, and passes.
    """
    if not answered or "*" in aliases:
        return True
    given = answered.lower()
    for name in (asked.lower(), *(alias.lower() for alias in aliases)):
        one, other = name, given
        if ("/" in one) != ("/" in other):
            one, other = one.rpartition("/")[2], other.rpartition("/")[2]
        for base in {one, one.partition(":")[0] if ":" not in other else one}:
            if other.startswith(base) and VERSION.fullmatch(other[len(base) :]):
                return True
    return False


def read(reply: Any, wanted: int, model: str, aliases: Sequence[str], sampling: Sampling, keep_cut: bool = False) -> Read:
    """The answers in a reply of a chat or completions endpoint that was asked for `wanted` of them. `keep_cut`: texts cut off at
    the most tokens are answers too, with finish "length"."""
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        return Read(reasons=("malformed",) * wanted, said=str(reply))
    named = reply.get("model") or ""
    if not isinstance(named, str) or not same_model(model, named, aliases):
        return Read(reasons=("model",) * wanted, said=str(named), model=str(named))
    places = [choice.get("index", place) for place, choice in enumerate(choices)]
    if len(choices) != wanted or len(set(map(str, places))) != len(places):
        return Read(reasons=("count",) * wanted, said=f"{len(choices)} answers, {wanted} were asked for", model=named)
    usage = read_usage(reply)
    tokens = usage.output if usage else 0
    answers: list[Answer] = []
    reasons: list[str] = []
    said = ""
    # a reply tells the tokens of all answers together: each counts its share, the first ones what is left over
    shares = [tokens // wanted + (place < tokens % wanted) for place in range(wanted)]
    for share, (_, choice) in zip(shares, sorted(zip(map(str, places), choices, strict=True), key=lambda pair: pair[0]), strict=True):
        found = judged(choice, share, sampling, keep_cut)
        if isinstance(found, Answer):
            answers.append(found)
        else:
            reasons.append(found[0])
            said = said or found[1]
    return Read(tuple(answers), tuple(reasons), said, named)


def judged(choice: Mapping[str, Any], tokens: int, sampling: Sampling, keep_cut: bool) -> Answer | tuple[str, str]:
    """One choice as an answer, or why it is none and what it said."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    finish = choice.get("finish_reason")
    if isinstance(message, Mapping) and message.get("refusal"):
        return "refused", str(message["refusal"])
    if finish == "content_filter":
        return "refused", str(text)
    if isinstance(message, Mapping) and (message.get("tool_calls") or message.get("function_call")):
        return "tool_call", str(message.get("tool_calls") or message.get("function_call"))
    if text is not None and not isinstance(text, str):
        return "malformed", str(choice)
    before = sampling.before_stop(text or "")
    if finish == "length" and before == (text or ""):
        if not keep_cut:
            return "length", text or ""
    elif finish not in ENDED and finish != "length":
        return "malformed", f"finish_reason {finish!r}: {text}"
    if not before.strip():
        return "empty", text or ""
    return Answer(before, "length" if finish == "length" and before == text else "stop", tokens)
