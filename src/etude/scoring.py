"""Scoring: ask an LLM, keep every answer and every statistic.

Start and tuned model get the same prompts. Each answer is journalled as it comes, so a killed run
asks again only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from etude import journal
from etude.baselines import Baseline
from etude.catalog import Settings
from etude.metrics import METRICS, Metric
from etude.models import Answer, Sampling
from etude.records import Conversation, Prediction

if TYPE_CHECKING:
    import numpy as np


class Task(Settings):
    """One thing that is scored before and after tuning."""

    spellings: ClassVar[Mapping[str, str]] = {"source": "task", "num_fewshot": "few_shot"}

    task: str
    """Name of the source whose held-out rows are asked."""
    split: Literal["test", "validation"] = "test"
    """Which held-out rows."""
    metrics: tuple[Annotated[Metric, METRICS], ...] | None = None
    """What is measured, the primary metric first; by default what the source's template suggests."""
    baselines: tuple[Baseline, ...] | None = None
    """Trivial answers beside the verdict; by default all that fit the task."""
    few_shot: Annotated[int, Field(ge=0, le=64)] = 0
    """Training rows, worked out, before every question of every arm."""
    shots: Annotated[int, Field(ge=1, le=32)] = 3
    """Training rows in the prompt of the few-shot baseline."""
    cot: bool | None = None
    """Whether rows are asked for their reasoning first, where the template can; by default as the recipe's wording says."""
    limit: Annotated[int, Field(ge=1)] | None = 200
    """Most rows asked, chosen by the hash of their ids."""
    sampling: Sampling | None = None
    """How answers are drawn; by default greedily, as long as the template suggests."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One metric over one arm's predictions: the number, how it was made, and a row of statistics an item."""

    value: float
    signature: str
    stats: np.ndarray


class Answers(Protocol):
    """The part of a model that scoring needs: answers as they are finished."""

    def complete_each(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        """(index of the conversation, its answers), in any order."""
        ...


def ask(
    model: Answers,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    path: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Every conversation's answers as rows `{"id", "question", "outputs", "references", "finish", "near_ties"}`.

    Rows found in the journal at `path` are not asked again; a row is written as soon as it is
    answered. The list is in the order of `conversations`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with journal.Journal(path) as lines:
        done = {row["id"]: row for row in journal.read(path)}
        missing = [c for c in conversations if c.id not in done]
        progress(len(conversations) - len(missing))
        for index, answers in model.complete_each([c.question() for c in missing], sampling):
            row = answered(missing[index], [a.text for a in answers], [a.finish for a in answers], sum(a.near_ties for a in answers))
            lines.append(row)
            done[row["id"]] = row
            progress(1)
    return [done[c.id] for c in conversations]


def answered(conversation: Conversation, outputs: Sequence[str], finish: Sequence[str] = (), near_ties: int = 0) -> dict[str, Any]:
    """One row of a predictions file."""
    return {
        "id": conversation.id,
        "question": "\n\n".join(m.words() for m in conversation.question().messages[-1:]),
        "outputs": list(outputs),
        "references": list(conversation.notes.get("references") or [conversation.answer()]),
        "finish": list(finish),
        "near_ties": near_ties,
    }


def predictions(rows: Sequence[Mapping[str, Any]], task: str) -> list[Prediction]:
    """Rows of a predictions file as Predictions."""
    return [Prediction(row["id"], tuple(row["outputs"]), tuple(row["references"]), task) for row in rows]


def measure(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric], task: str) -> dict[str, Measured]:
    """Each metric over one arm's answers, by the metric's catalog name."""
    asked = predictions(rows, task)
    found = {}
    for metric in metrics:
        stats = metric.stats(asked)
        found[METRICS.name_of(metric)] = Measured(metric.score(stats.sum(axis=0)), metric.signature(asked), stats)
    return found
