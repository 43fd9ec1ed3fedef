"""Scoring: ask an LLM, keep every answer and every statistic.

Start and tuned model get the same prompts. Each answer is journalled as it comes, so a killed run
asks again only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field, field_validator

from etude import journal
from etude.baselines import Baseline
from etude.catalog import Settings
from etude.failures import DataError
from etude.metrics import METRICS, Metric
from etude.models import Answer, Sampling
from etude.records import Conversation, Message, Prediction

if TYPE_CHECKING:
    import numpy as np


class Judge(Settings):
    """A model that judges answers: which of two is better, or how good one is (`etude.judging`)."""

    spellings: ClassVar[Mapping[str, str]] = {"model": "llm", "judge": "llm", "criteria": "rubric"}

    llm: str
    """A name of the recipe's `llms`, or `start` for its start model."""
    mode: Literal["pairwise", "single"] = "pairwise"
    """`pairwise`: the tuned answer against the start model's, in both orders. `single`: a grade from 1 to 10 for each answer."""
    rubric: str = ""
    """What is judged, in your words, in place of the built-in criteria: the end of "Compare their answers by ..."."""
    references: Literal["category", "always", "never"] = "category"
    """When the judge sees a row's reference: where its `category` is one of `reference_categories`, always, or never."""
    reference_categories: tuple[str, ...] = ("math", "reasoning", "coding")
    """Categories that have one right answer (MT-bench's three)."""
    reply: Literal["auto", "choose", "text"] = "auto"
    """How verdicts are had: the likeliest one by log-probability (`choose`), or read from the reply's last line (`text`); `auto` chooses
    where the model gives log-probabilities."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """How often one question is asked at most until its reply can be read."""
    sampling: Sampling = Sampling(max_new_tokens=1024)
    """How replies are drawn; greedily unless said otherwise."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most items judged, the smallest ids (hashes) first; by default all that are scored."""
    most_characters: Annotated[int, Field(ge=200)] = 12000
    """Characters of one text that the judge is shown; the middle of longer ones is left out, and counted."""
    least_agreement: Annotated[float, Field(ge=0, le=1)] = 0.75
    """The share of the answer key that the judge must find; below it, it is disqualified."""
    attacks_allowed: Annotated[int, Field(ge=0)] = 0
    """Planted attacks that may move the judge; beyond it, it is disqualified."""
    most_unreadable: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of questions that may stay without a readable verdict; beyond it, the judge is disqualified."""
    length_control: bool = True
    """Whether the win rate at equal lengths is estimated, too (pairwise; needs scikit-learn)."""
    seed: int = 0
    """Seed of the marks around the texts, and of the tests."""


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
    judge: Judge | None = None
    """A model that judges the answers of both arms, beside the metrics."""

    @field_validator("judge", mode="before")
    @classmethod
    def by_name(cls, given: Any) -> Any:
        """An LLM's name alone is a judge."""
        return {"llm": given} if isinstance(given, str) else given


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


class Odds(Protocol):
    """The part of a model that metrics of log-probabilities need."""

    def logprobs(self, conversations: Sequence[Conversation]) -> list[np.ndarray]:
        """For each conversation, the log-probability of each token of its answer."""
        ...

    def choose(self, conversations: Sequence[Conversation], choices: Sequence[str]) -> list[tuple[int, np.ndarray]]:
        """For each question, the likeliest choice and each one's log-probability."""
        ...


OWN = ("id", "question", "outputs", "references", "finish", "near_ties", "turns", "then", "before")
"""The keys of a row that are no metric's."""

LOGPROBS = ("token_logprobs", "label_logprobs", "choice_logprobs")
"""What metrics may need besides answers: of the reference's tokens, of a closed task's labels, of a row's own choices."""


def ask(
    model: Any,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    path: Path,
    progress: Callable[[int], None] = lambda done: None,
    *,
    needed: Collection[str] = ("outputs",),
    labels: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Every conversation's answers as rows `{"id", "question", "outputs", "references", "finish", "near_ties"}`.

    `model` has Answers, and Odds where `needed` names log-probabilities; without "outputs" in it nothing is generated. `labels`: what
    `label_logprobs` are of. Rows found in the journal at `path` are not asked again; a row is written as soon as it is
    answered. The list is in the order of `conversations`. Raises DataError for a row without the choices that are needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with journal.Journal(path) as lines:
        done = {row["id"]: row for row in journal.read(path)}
        missing = [c for c in conversations if c.id not in done]
        progress(len(conversations) - len(missing))
        told = answers(model, missing, sampling) if "outputs" in needed and missing else unasked(missing)
        for conversation, row in told:
            row |= {key: odds(model, conversation, key, labels) for key in LOGPROBS if key in needed}
            lines.append(row)
            done[row["id"]] = row
            progress(1)
    return [done[c.id] for c in conversations]


def answers(model: Answers, asked: Sequence[Conversation], sampling: Sampling) -> Iterator[tuple[Conversation, dict[str, Any]]]:
    """Each conversation with its row, as they come; a question with further turns (`then` in its notes) is asked them after its
    own answers, and its row is the last answer, with all of them in `turns`."""
    later: list[tuple[Conversation, Conversation, list[str]]] = []
    for index, drawn in model.complete_each([c.question() for c in asked], sampling):
        if then := asked[index].notes.get("then"):
            later.append((asked[index], continued(asked[index].question(), drawn[0].text, then[0]), [drawn[0].text]))
            continue
        yield asked[index], row_of(asked[index], drawn)
    while later:
        following: list[tuple[Conversation, Conversation, list[str]]] = []
        for index, drawn in model.complete_each([now for _, now, _ in later], sampling):
            first, now, said = later[index]
            said, then = [*said, drawn[0].text], first.notes["then"]
            if len(said) <= len(then):
                following.append((first, continued(now, drawn[0].text, then[len(said) - 1]), said))
            else:
                yield first, {**row_of(first, drawn), "turns": said}
        later = following


def continued(conversation: Conversation, answer: str, question: str) -> Conversation:
    """A conversation with the model's answer and the user's next turn."""
    return replace(conversation, messages=(*conversation.messages, Message("assistant", answer), Message("user", question)))


def unasked(conversations: Sequence[Conversation]) -> Iterator[tuple[Conversation, dict[str, Any]]]:
    """Rows without an answer, for metrics that read none."""
    for conversation in conversations:
        yield conversation, answered(conversation, [""])


def row_of(conversation: Conversation, drawn: Sequence[Answer]) -> dict[str, Any]:
    """The row of a conversation's answers."""
    return answered(conversation, [a.text for a in drawn], [a.finish for a in drawn], sum(a.near_ties for a in drawn))


def odds(model: Odds, conversation: Conversation, key: str, labels: Sequence[str]) -> Any:
    """The log-probabilities of a kind: a number a token, a label, or a choice of the row."""
    if key == "token_logprobs":
        return [round(float(value), 6) for value in model.logprobs([conversation])[0]]
    choices = list(labels) if key == "label_logprobs" else conversation.notes.get("choices") or []
    if len(choices) < 2:
        raise DataError(
            f"{conversation.origin}: {key} need at least two {'labels' if key == 'label_logprobs' else 'choices'} to choose from"
        )
    values = [round(float(value), 6) for value in model.choose([conversation.question()], choices)[0][1]]
    return dict(zip(choices, values, strict=True)) if key == "label_logprobs" else values


def answered(conversation: Conversation, outputs: Sequence[str], finish: Sequence[str] = (), near_ties: int = 0) -> dict[str, Any]:
    """One row of a predictions file. What a judge must know of the conversation stands in it: `before`, the turns before the question
    (role, words) but for worked examples, and `then`, the user's further turns."""
    messages = conversation.question().messages
    before = [] if conversation.notes.get("shots") else [[m.role, m.words()] for m in messages[:-1]]
    return {
        "id": conversation.id,
        "question": "\n\n".join(m.words() for m in messages[-1:]),
        "outputs": list(outputs),
        "references": list(conversation.notes.get("references") or [conversation.answer()]),
        "finish": list(finish),
        "near_ties": near_ties,
        **({"choices": list(conversation.notes["choices"])} if conversation.notes.get("choices") else {}),
        **({"before": before} if before else {}),
        **({"then": list(conversation.notes["then"])} if conversation.notes.get("then") else {}),
        **conversation.notes.get("fields", {}),
    }


def predictions(rows: Sequence[Mapping[str, Any]], task: str) -> list[Prediction]:
    """Rows of a predictions file as Predictions; what else a row holds is their `fields`."""
    return [
        Prediction(row["id"], tuple(row["outputs"]), tuple(row["references"]), task, {k: v for k, v in row.items() if k not in OWN})
        for row in rows
    ]


def measure(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric], task: str) -> dict[str, Measured]:
    """Each metric over one arm's answers, by its name (`names`)."""
    asked = predictions(rows, task)
    found = {}
    for name, metric in zip(names(metrics), metrics, strict=True):
        stats = metric.stats(asked)
        found[name] = Measured(metric.score(stats.sum(axis=0)), metric.signature(asked), stats)
    return found


def names(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """What the metrics are called: their catalog names, and for one that is there more than once its settings too."""
    plain = [METRICS.name_of(metric) for metric in metrics]
    found = []
    for name, metric in zip(plain, metrics, strict=True):
        changed = metric.model_dump(mode="json", exclude_defaults=True) if isinstance(metric, Settings) and plain.count(name) > 1 else {}
        found.append(f"{name} ({', '.join(f'{key} {value}' for key, value in changed.items())})" if changed else name)
    return tuple(found)
