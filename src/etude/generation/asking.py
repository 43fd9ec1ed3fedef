"""Questions whose replies are kept: asked at least once, and used exactly once.

A strategy is run again from its beginning after a kill. The questions it asked before are found here by all that decides their
replies (the LLM's name, the conversation with its id, how it is sampled), so nothing is asked or paid for twice; a reply that was
on its way when the process died is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from etude import journal
from etude.models import Answer, Sampling
from etude.models.arriving import arriving
from etude.records import Conversation

CHUNK = 64
"""Values found together before they are kept: what a kill can cost."""


class Asking:
    """Asks LLMs by name. `model` gives the LLM of a name, `identity` what decides its answers (by default the name); `path` is the
    journal of replies (None: nothing is kept). `told` hears the number of replies that have just come, old ones included."""

    def __init__(self, model: Callable[[str], Any], path: Path | None = None, identity: Callable[[str], str] = str) -> None:
        self.model = model
        self.identity = identity
        self.told: Callable[[int], None] = lambda replies: None
        self.known: dict[str, tuple[Answer, ...]] = {}
        self.values: dict[str, Any] = {}
        for line in journal.read(path) if path is not None and path.exists() else ():
            if "value" in line:
                self.values[line["key"]] = line["value"]
            else:
                self.known[line["key"]] = tuple(Answer(**one) for one in line["answers"])
        self.lines = journal.Journal(path) if path is not None else None
        self.asked = self.from_journal = self.tokens = 0
        self.seen: set[str] = set()

    def __call__(self, llm: str, conversations: Sequence[Conversation], sampling: Sampling) -> list[tuple[Answer, ...]]:
        """`sampling.n` answers to each conversation, in the order given, whatever the order they came in.

        A question without an answer has `Answer.failure`, and keeps it: a row is refused for it once and for all, or a run that
        goes on would not be the run that was never killed. Ids must differ between the questions of one strategy (they seed
        sampling): raises ValueError for one that came before with the same words.
        """
        identity = self.identity(llm)
        keys = [key(identity, conversation, sampling) for conversation in conversations]
        again = [c.id for c, one in zip(conversations, keys, strict=True) if one in self.seen]
        if again or len(set(keys)) < len(keys):
            raise ValueError(f"a strategy asked the same question twice under one id: {(again or [c.id for c in conversations])[:3]}")
        self.seen.update(keys)
        missing = [place for place, one in enumerate(keys) if one not in self.known]
        self.from_journal += len(keys) - len(missing)
        self.told(len(keys) - len(missing))
        if missing:
            self.fetch(llm, [conversations[place] for place in missing], [keys[place] for place in missing], sampling)
        return [self.known[one] for one in keys]

    def fetch(self, llm: str, conversations: Sequence[Conversation], keys: Sequence[str], sampling: Sampling) -> None:
        """Ask, and keep each reply as it comes."""
        for index, answers in arriving(self.model(llm), conversations, sampling):
            self.known[keys[index]] = tuple(answers)
            if self.lines:
                self.lines.append({"key": keys[index], "id": conversations[index].id, "answers": [line(answer) for answer in answers]})
            self.asked += 1
            self.tokens += sum(answer.tokens for answer in answers)
            self.told(1)

    def kept(self, keys: Sequence[str], find: Callable[[Sequence[int]], Sequence[Any]]) -> list[Any]:
        """A JSON value for each key, found once and kept as replies are, since finding it again might give another (a program that ran
        out of time on a busy machine). `find` is told the places of the keys that are not known."""
        for start in range(0, len(missing := [place for place, one in enumerate(keys) if one not in self.values]), CHUNK):
            part = missing[start : start + CHUNK]
            for place, value in zip(part, find(part), strict=True):
                self.values[keys[place]] = value
                if self.lines:
                    self.lines.append({"key": keys[place], "value": value})
        return [self.values[one] for one in keys]

    def facts(self) -> dict[str, int]:
        """What was asked now and before, and the tokens of the answers that came now."""
        return {"asked": self.asked, "from_journal": self.from_journal, "tokens": self.tokens}

    def close(self) -> None:
        """Close the journal."""
        if self.lines:
            self.lines.close()

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def key(identity: str, conversation: Conversation, sampling: Sampling) -> str:
    """What a reply is known by."""
    told = [[m.role, m.content, m.context] for m in conversation.messages]
    return journal.digest([identity, conversation.id, told, sampling.model_dump(mode="json")])


def line(answer: Answer) -> dict[str, Any]:
    """An answer as the journal holds it."""
    kept = {"text": answer.text, "finish": answer.finish, "tokens": answer.tokens, "near_ties": answer.near_ties}
    return {**kept, **({"failure": answer.failure} if answer.failure else {})}
