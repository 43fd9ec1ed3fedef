"""What curation looks at: a row's Record and its words; and what a check may know besides the rows it judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from etude.models import LLM
from etude.records import Conversation, Fate, Record


@dataclass(frozen=True, slots=True)
class Row:
    """A Record and how it reads: the conversation in the phrasing that scoring would use (or its own words)."""

    record: Record
    conversation: Conversation

    @property
    def id(self) -> str:
        """The row's id."""
        return self.record.id

    @property
    def instruction(self) -> str:
        """What the last user turn asks, without its material."""
        asked = [m for m in self.conversation.messages if m.role == "user"]
        return asked[-1].content if asked else ""

    @property
    def input(self) -> str:
        """The material the last user turn is about, "" for none."""
        asked = [m for m in self.conversation.messages if m.role == "user"]
        return asked[-1].context if asked else ""

    @property
    def answer(self) -> str:
        """The last assistant turn."""
        return self.conversation.answer()


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the rows: every evaluation set of the recipe, the label sets of closed tasks, how to get a
    model the recipe names, a folder for journals that survive a kill, and whom to tell of rows done."""

    evaluation: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Evaluation set ("news.test") -> its rows."""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Task -> its closed label set; a task that is not here has open answers."""
    model: Callable[[str], LLM] | None = None
    """The model of a name in the recipe; also gives log-probabilities (`Scores`) where it is local."""
    folder: Path | None = None
    """Where a check may keep a journal of what it asked a model."""
    count: Callable[[str], int] | None = None
    """Tokens of a text for the recipe's model, without markup; None where there is no model to count with."""
    progress: Callable[[int], None] = lambda done: None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One Fate a row, in the order given, and facts for the report (counts, rates, examples) as plain data."""

    fates: list[Fate]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Check(Protocol):
    """Decides which rows stay; a frozen settings class. Pure: the same rows and seed give the same Fates."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """A Fate for every row. Raises RecipeError for settings that do not fit these rows."""
        ...


class Rewrite(Protocol):
    """Changes a row, or says why it cannot; a frozen settings class."""

    def rewrite(self, record: Record) -> Record | str:
        """The changed Record, with `origin`, `source`, `task` and (design: "keeps the id of the row it came from")
        the id of the given one; the same Record where there is nothing to change; or the reason why not."""
        ...
