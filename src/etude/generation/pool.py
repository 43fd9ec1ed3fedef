"""Tasks: seeds with the rows they stand for, and the pool that says how new another one is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etude.failures import DataError, RecipeError
from etude.records import Origin, Record, identify
from etude.similarity import tokens, words
from etude.templates import worded

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Instance:
    """An input ("" for none) and its output."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Task:
    """An instruction on one line with its instances. `id`: of the first row that has it, or of the instruction alone where a
    machine wrote it. `classification`: whether its answers are a small set of labels; None where nobody said."""

    id: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    classification: bool | None = None
    licences: tuple[str, ...] = ()


def seed_tasks(rows: Iterable[Record]) -> list[Task]:
    """The tasks of some rows, in the order they first come in; rows of the same instruction are instances of one task.

    A row is worded (`instruction, input, output`, or `messages`), or has Self-Instruct's `instances`. `is_classification` is read where
    it is there. Raises DataError for a row that is none of these.
    """
    found: dict[str, list[tuple[Record, tuple[Instance, ...]]]] = {}
    for row in rows:
        instruction, instances = parted(row)
        if instruction:
            found.setdefault(instruction, []).append((row, instances))
    return [
        Task(
            held[0][0].id,
            instruction,
            tuple(dict.fromkeys(one for _, instances in held for one in instances)),
            flag(held[0][0].fields),
            tuple(sorted({row.origin.licence for row, _ in held if row.origin.licence})),
        )
        for instruction, held in found.items()
    ]


def parted(row: Record) -> tuple[str, tuple[Instance, ...]]:
    """A row's instruction on one line, and its instances."""
    given = row.fields.get("instances")
    if isinstance(given, Sequence) and isinstance(row.fields.get("instruction"), str):
        instances = [one for one in given if isinstance(one, Mapping)]
        return " ".join(row.fields["instruction"].split()), tuple(Instance(text(one, "input"), text(one, "output")) for one in instances)
    messages = worded(row)
    asked = next((message for message in messages if message.role == "user"), None)
    if asked is None:
        raise DataError(f"{row.origin}: nobody asks anything in this row, so it is no seed task")
    answer = next((message.content for message in messages if message.role == "assistant"), "")
    return " ".join(asked.content.split()), (Instance(asked.context, answer),)


def text(instance: Mapping[str, Any], key: str) -> str:
    """A text of an instance, "" where there is none."""
    value = instance.get(key)
    return "" if value is None else str(value)


def flag(fields: Mapping[str, Any]) -> bool | None:
    """A row's `is_classification`; tables hold it as text."""
    value = fields.get("is_classification")
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "1": True, "0": False}.get(str(value).strip().lower())


def enough(strategy: str, source: str, seeds: Sequence[Task], needed: int) -> None:
    """Raise RecipeError where a request would show more seeds than there are."""
    where = f"the training rows of source {source!r} hold" if source else "etude's own seed tasks are"
    if not seeds:
        nothing = f"source {source!r} has no training rows" if source else "there are no seed tasks"
        raise RecipeError(f"{strategy}: {nothing}, so there is nothing to start from; give `rows` a source with at least {needed} tasks")
    if len(seeds) < needed:
        raise RecipeError(
            f"{strategy}: a request shows {needed} different seed tasks, and {where} {len(seeds)}; "
            f"add seeds, or show fewer (`in_context: {len(seeds)}`)"
        )


@dataclass(frozen=True, slots=True)
class Near:
    """The member of a pool that a text is nearest to, by ROUGE-L F1 (0 to 1); "" and 0 where nothing is shared."""

    id: str
    similarity: float

    def notes(self) -> dict[str, Any]:
        """As a row's notes."""
        return {"nearest": self.id, "similarity": round(self.similarity, 4)}


class Pool:
    """Seeds and accepted tasks; a new instruction is admitted unless it is too near to one of them.

    Exact and sequential: what was admitted before counts, also in the same round (Self-Instruct's code). Compared are the words of
    `rouge-score` without stemming; of texts outside ASCII, which it would see in pieces or not at all, the words of any language.
    """

    def __init__(self, seeds: Sequence[Task], threshold: float) -> None:
        from etude.similarity import NoveltyIndex

        self.index = NoveltyIndex(threshold)
        self.seeds = list(seeds)
        self.machine: list[Task] = []
        self.ids: list[str] = []
        for seed in seeds:
            self.add(seed)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, task: Task) -> None:
        """Make a task a member whatever it is near to."""
        self.index.add(compared(task.instruction))
        self.ids.append(task.id)

    def near(self, instruction: str) -> Near:
        """The nearest member."""
        found = self.index.nearest(compared(instruction))
        return Near(self.ids[found.id], found.score) if found.id >= 0 else Near("", 0.0)

    def admit(self, instruction: str) -> tuple[Task | None, Near]:
        """The instruction as a member of the pool, or None where it is too near to one; and the nearest that there was."""
        near = self.near(instruction)
        if near.similarity > self.index.threshold:
            return None, near
        task = Task(identify({"instruction": instruction}), instruction)
        self.add(task)
        self.machine.append(task)
        return task, near


def compared(instruction: str) -> list[str]:
    """The words by which instructions are compared."""
    return words(instruction) if instruction.isascii() else tokens(instruction)


def drawn(stream: np.random.Generator, tasks: Sequence[Task], most: int) -> list[Task]:
    """At most `most` different tasks, in the order drawn."""
    return [tasks[place] for place in stream.permutation(len(tasks))[:most].tolist()]


def origin(strategy: str, parents: Sequence[Task]) -> Origin:
    """Where a generated row came from: the strategy, under the licences of the seeds it was shown."""
    return Origin(strategy, 0, "; ".join(sorted({licence for parent in parents for licence in parent.licences})))


def own_tasks() -> list[Task]:
    """etude's own seed tasks."""
    from etude.sources.seed_tasks import SeedTasks

    return seed_tasks(row for row in SeedTasks().read("seed_tasks") if isinstance(row, Record))
