"""The order of roles in a conversation: what is refused, and the named rules that mend it.

A conversation is a system turn or none, then turns of the user and the assistant by turns, beginning with
the user and ending with the assistant; an assistant's turn may call tools, and the results of those calls
follow it. A row in another order is a bad row, unless the recipe chose a rule that mends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from etude.catalog import note
from etude.sources.rows import Unusable, count

Rule = Literal[
    "drop_empty",
    "first_system_only",
    "system_to_front",
    "drop_stray_results",
    "drop_leading_assistant",
    "merge_same_role",
    "drop_trailing_user",
]
"""The rules, in the order in which they are applied, whatever the order in the recipe."""
RULES: tuple[Rule, ...] = get_args(Rule)
Mend = Annotated[
    tuple[Rule, ...],
    Field(
        description="Rules that mend rows in another order instead of refusing them: "
        "drop_empty (turns without a word or a call), first_system_only (later system turns go), "
        "system_to_front (system turns become one, in front), drop_stray_results (tool results that answer no call), "
        "drop_leading_assistant (turns before the user's first), merge_same_role (two turns of one speaker become one, "
        "a blank line between), drop_trailing_user (turns after the last answer). A mended row is counted; "
        "its id is that of the mended fields."
    ),
]

Turn = dict[str, Any]


class Mended:
    """How many rows each rule mended, told to the user once the source is read."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows = 0
        self.rules: Counter[str] = Counter()

    def count(self, rules: Iterable[str]) -> None:
        """Count one row, if any rule mended it."""
        rules = tuple(rules)
        self.rows += bool(rules)
        self.rules.update(rules)

    def tell(self) -> None:
        """Note what was mended, if anything was."""
        if self.rows:
            each = ", ".join(f"{rule} {number}" for rule, number in self.rules.items())
            note(f"sources.{self.source}: {count(self.rows, 'row')} mended ({each})")


def ordered(messages: list[Turn], mend: Iterable[str] = ()) -> tuple[list[Turn], tuple[str, ...]]:
    """(the messages in order, the rules that changed them); raises Unusable with the first fault left."""
    if not messages:
        raise Unusable("there are no messages")
    chosen = set(mend)
    used = []
    for rule in RULES:
        if rule in chosen:
            mended = MENDERS[rule](messages)
            if mended != messages:
                used.append(rule)
                messages = mended
    if not messages:
        raise Unusable(f"no message is left after {', '.join(used)}")
    if fault := first_fault(messages):
        raise Unusable(fault + (f" (after {', '.join(used)})" if used else ""))
    return messages, tuple(used)


def first_fault(messages: list[Turn]) -> str:
    """What is wrong with the order of the turns, with the number of the message and the rule that mends it, or ""."""
    last = ""
    waiting: list[str] = []
    for number, one in enumerate(messages, 1):
        role = one["role"]
        if role == "system" and number > 1:
            return f"message {number} is a system turn, and not the first{rule('first_system_only', 'system_to_front')}"
        if role == "user" and last == "user":
            return f"messages {number - 1} and {number} are both the user's{rule('merge_same_role')}"
        if role == "assistant" and last in ("", "system"):
            return f"message {number} is the assistant's, before any of the user{rule('drop_leading_assistant')}"
        if role == "assistant" and last == "assistant":
            return f"messages {number - 1} and {number} are both the assistant's{rule('merge_same_role')}"
        if role == "tool" and not answers(one, waiting):
            named = f" {one['call_id']!r}" if one.get("call_id") else ""
            return f"message {number} is a tool result{named} that answers no call{rule('drop_stray_results')}"
        if role == "user" and not (one["content"].strip() or one.get("context", "").strip()):
            return f"message {number}, the user's, is empty{rule('drop_empty')}"
        waiting = after(one, waiting)
        last = role
    if last != "assistant":
        whose = {"tool": "a tool's result", "user": "the user's"}.get(last, "the system's")
        return f"the last message is {whose}, and nobody answers it{rule('drop_trailing_user')}"
    return ""


def rule(*names: Rule) -> str:
    """Which rules mend a fault."""
    return f"; mend: [{'] or ['.join(names)}] mends it"


def answers(result: Turn, waiting: list[str]) -> bool:
    """Whether a tool result answers one of the calls that wait for theirs; ids count where both have one."""
    name = result.get("call_id")
    return bool(waiting) and (not name or name in waiting or "" in waiting)


def after(one: Turn, waiting: list[str]) -> list[str]:
    """The calls (by id, "" without) that wait for a result after this message."""
    if one["role"] == "assistant":
        return [call.get("id", "") for call in one.get("tool_calls", ())]
    if one["role"] != "tool":
        return []
    name = one.get("call_id", "")
    taken = name if name in waiting else "" if "" in waiting else waiting[0] if waiting else None
    left = list(waiting)
    if taken is not None:
        left.remove(taken)
    return left


def drop_empty(messages: list[Turn]) -> list[Turn]:
    """Without turns that neither say nor call anything; a tool may have returned nothing."""
    return [m for m in messages if m["role"] == "tool" or m["content"].strip() or m.get("tool_calls") or m.get("context", "").strip()]


def first_system_only(messages: list[Turn]) -> list[Turn]:
    """Without system turns after the first one."""
    first = next((i for i, m in enumerate(messages) if m["role"] == "system"), -1)
    return [m for i, m in enumerate(messages) if m["role"] != "system" or i == first]


def system_to_front(messages: list[Turn]) -> list[Turn]:
    """One system turn in front that says what all of them said, a blank line between."""
    said = [m for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not said:
        return messages
    return [{**said[0], "content": "\n\n".join(m["content"] for m in said)}, *rest]


def drop_stray_results(messages: list[Turn]) -> list[Turn]:
    """Without tool results that answer no call."""
    kept: list[Turn] = []
    waiting: list[str] = []
    for one in messages:
        if one["role"] == "tool" and not answers(one, waiting):
            continue
        waiting = after(one, waiting)
        kept.append(one)
    return kept


def drop_leading_assistant(messages: list[Turn]) -> list[Turn]:
    """Without turns of the assistant and of tools before the user's first."""
    first = next((i for i, m in enumerate(messages) if m["role"] == "user"), len(messages))
    return [m for i, m in enumerate(messages) if i >= first or m["role"] == "system"]


def merge_same_role(messages: list[Turn]) -> list[Turn]:
    """Neighbouring turns of the user, or of the assistant, as one. Left alone are turns of which only one is
    trained, and words that follow a call (they would come before it)."""
    merged: list[Turn] = []
    for one in messages:
        before = merged[-1] if merged else None
        if (
            before is None
            or one["role"] not in ("user", "assistant")
            or before["role"] != one["role"]
            or before.get("trained") != one.get("trained")
            or (before.get("tool_calls") and one["content"].strip())
        ):
            merged.append(one)
            continue
        words = [text for turn in (before, one) for text in (turn["content"], turn.get("context", "")) if text.strip()]
        together = {**before, "content": "\n\n".join(words)}
        together.pop("context", None)
        if calls := [*before.get("tool_calls", ()), *one.get("tool_calls", ())]:
            together["tool_calls"] = calls
        merged[-1] = together
    return merged


def drop_trailing_user(messages: list[Turn]) -> list[Turn]:
    """Without turns after the assistant's last."""
    last = next((i for i in reversed(range(len(messages))) if messages[i]["role"] == "assistant"), -1)
    return messages[: last + 1]


MENDERS = {
    "drop_empty": drop_empty,
    "first_system_only": first_system_only,
    "system_to_front": system_to_front,
    "drop_stray_results": drop_stray_results,
    "drop_leading_assistant": drop_leading_assistant,
    "merge_same_role": merge_same_role,
    "drop_trailing_user": drop_trailing_user,
}
