"""One round of Self-Instruct: new tasks, whether they are classification, their examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude import seeds
from etude.generation import Given, Made, Refused
from etude.generation.filters import tidied
from etude.generation.numbering import lines
from etude.generation.pool import Instance, Near, Pool, Task, drawn, origin
from etude.generation.rounds import Questions, failed
from etude.generation.self_instruct.instances import parsed, sifted, without_field_name
from etude.generation.self_instruct.prompts import for_class, for_instances, for_tasks
from etude.models import Answer
from etude.records import identify

if TYPE_CHECKING:
    from etude.generation.self_instruct import SelfInstruct

NAME = "self_instruct"


@dataclass(frozen=True, slots=True)
class New:
    """A task that joined the pool in this round: the request it came from, the tasks shown in it, and what it was nearest to."""

    task: Task
    request: str
    shown: Sequence[Task]
    near: Near
    classification: bool = False

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the tasks shown."""
        return tuple(task.id for task in self.shown)


@dataclass(slots=True)
class Playing:
    """What the rounds of one run share."""

    settings: SelfInstruct
    given: Given
    pool: Pool
    questions: Questions
    shots: Sequence[Task]
    written: set[str] = field(default_factory=set)
    """Ids of the rows made."""

    def round(self, number: int) -> Iterator[Made | Refused]:
        """The outcomes of a round: first of all that was proposed, in the order of the requests, then of the accepted tasks' examples."""
        shown = [self.shown(number, place) for place in range(self.settings.requests_a_round)]
        ids = [f"instructions.{number}.{place}" for place in range(len(shown))]
        new, only = self.settings.new_tasks, self.settings.classification_only
        asked = [for_tasks(id, tasks, new, only) for id, tasks in zip(ids, shown, strict=True)]
        answers = self.questions(asked, self.settings.sampling)
        if answers is None:
            return
        accepted: list[New] = []
        for id, tasks, answer in zip(ids, shown, answers, strict=True):
            for outcome in self.proposed(number, id, tasks, answer):
                if isinstance(outcome, New):
                    accepted.append(outcome)
                else:
                    yield outcome
        told: list[New] = []
        for one in self.classified(number, accepted):
            if isinstance(one, New):
                told.append(one)
            else:
                yield one
        yield from self.exemplified(number, told)

    def shown(self, number: int, place: int) -> list[Task]:
        """The tasks of one request: up to `machine_made` accepted ones, the rest seeds, shuffled."""
        stream = self.given.stream(NAME, number, place)
        machine = drawn(stream, self.pool.machine, self.settings.machine_made)
        tasks = [*machine, *drawn(stream, self.pool.seeds, self.settings.in_context - len(machine))]
        return drawn(stream, tasks, len(tasks))

    def proposed(self, number: int, id: str, shown: Sequence[Task], answer: Answer) -> Iterator[New | Refused]:
        """The tasks of one reply: those that joined the pool, and refusals."""
        parents = tuple(task.id for task in shown)
        notes: dict[str, Any] = {"round": number, "request": id}
        if answer.finish == "failed":
            yield failed(answer, "", parents, id)
            return
        found = lines(answer.text, len(shown) + 1)
        wanted, more = found[: self.settings.new_tasks], found[self.settings.new_tasks :]
        if not found:
            yield Refused("no list", answer.text, parents, notes)
            return
        if answer.finish == "length" and not more:
            yield Refused("cut off", answer.text, parents, notes)
            return
        for item in wanted:
            text = tidied(item.text).removesuffix(":").rstrip()
            if rule := self.settings.filters().broken(text):
                yield Refused(rule, text, parents, notes)
                continue
            task, near = self.pool.admit(text)
            yield New(task, id, shown, near) if task else Refused("not novel", text, parents, {**notes, **near.notes()})
        for item in more:
            yield Refused("more than asked for", item.text, parents, notes)

    def classified(self, number: int, accepted: Sequence[New]) -> Iterator[New | Refused]:
        """The accepted tasks with whether they are classification: yes only where the first word of the reply is."""
        if self.settings.classification_only:
            yield from (New(one.task, one.request, one.shown, one.near, True) for one in accepted)
            return
        ids = [f"classification.{number}.{place}" for place in range(len(accepted))]
        asked = [for_class(id, one.task.instruction, self.shots) for id, one in zip(ids, accepted, strict=True)]
        answers = self.questions(asked, self.settings.class_sampling)
        for id, one, answer in zip(ids, accepted, answers or [], strict=answers is not None):
            if answer.finish == "failed":
                yield failed(answer, one.task.instruction, one.parents, id)
                continue
            first = next(iter(answer.text.split()), "").strip("*_`\"'.,:!")
            yield New(one.task, one.request, one.shown, one.near, first.casefold() == "yes")

    def exemplified(self, number: int, told: Sequence[New]) -> Iterator[Made | Refused]:
        """The rows of the accepted tasks."""
        ids = [f"instances.{number}.{place}" for place in range(len(told))]
        asked = [
            for_instances(id, one.task.instruction, one.classification, self.settings.most_instances)
            for id, one in zip(ids, told, strict=True)
        ]
        answers = self.questions(asked, self.settings.instance_sampling)
        for id, one, answer in zip(ids, told, answers or [], strict=answers is not None):
            if answer.finish == "failed":
                yield failed(answer, one.task.instruction, one.parents, id)
            else:
                notes = {"round": number, "request": one.request, "task": one.task.id, "classification": one.classification}
                yield from self.rows(one, answer, notes | one.near.notes())

    def rows(self, new: New, answer: Answer, notes: dict[str, Any]) -> Iterator[Made | Refused]:
        """The rows out of one reply with examples."""
        instances = parsed(answer.text, new.classification)
        if not instances:
            yield Refused("no output", new.task.instruction, new.parents, notes)
        kept, refused = sifted(instances, answer.finish == "length")
        taken = kept
        if len(kept) > self.settings.most_instances:
            order = self.given.stream(NAME, "instances", new.task.id).permutation(len(kept))[: self.settings.most_instances]
            taken = [kept[place] for place in sorted(order.tolist())]
            refused += [("over most", one) for one in kept if one not in taken]
        for rule, one in refused:
            yield Refused(rule, shown_as(new.task.instruction, one), new.parents, notes)
        for place, one in enumerate(taken):
            row = {"instruction": new.task.instruction, "input": self.written_input(new, place, one.input), "output": one.output}
            if identify(row) in self.written:
                yield Refused("duplicate", shown_as(new.task.instruction, one), new.parents, notes)
                continue
            self.written.add(identify(row))
            yield Made(row, origin(NAME, new.shown), new.parents, notes)

    def written_input(self, new: New, place: int, text: str) -> str:
        """An input as the row has it: for a share of the rows without the name of its only field."""
        lot = seeds.share(self.given.seed, "generate", NAME, "field name", new.task.id, place)
        return without_field_name(text) if text and lot < self.settings.without_field_name else text


def shown_as(instruction: str, one: Instance) -> str:
    """A refused instance as text."""
    return "\n".join(part for part in (instruction, one.input and f"Input: {one.input}", f"Output: {one.output}") if part)
