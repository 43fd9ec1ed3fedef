"""Alpaca's variant of Self-Instruct (Taori et al. 2023): whole tasks, with input and output, many in one request.

| setting | Alpaca's code (`generate_instruction.py`, `prompt.txt`) | here |
|---|---|---|
| tasks a request | 20, of which 3 are seeds shown (never machine-made) | `tasks` 20, `in_context` 3 |
| requests together | 5 | the same |
| sampling | temperature 1.0, top_p 1.0, 3072 tokens | the same |
| what is asked | variety of verbs, forms, kinds; English; inputs to 100 words or `<noinput>` | the same, in our words |
| reply | cut at every "###"; a task needs instruction, input and output | cut where a line begins with the next number and `Instruction:` |
| cut by its length | the last task is dropped | the same (`cut off`) |
| words, keywords, start, first character | `filters`, with five more keywords | the same |
| ROUGE-L F1 | above 0.7 against seeds and kept: dropped | the same, exact |

Departures: "20." ends no task in the middle (theirs cut "2020."), "###" within an output cuts nothing, and a task whose output is empty,
or is its input, is refused (theirs kept both).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from etude.catalog import Settings
from etude.failures import RecipeError
from etude.generation import Given, Made, Refused
from etude.generation.filters import (
    ALPACA_KEYWORDS,
    STARTS,
    Filters,
    Keywords,
    MaxWords,
    MinWords,
    NonAscii,
    Punctuation,
    Similarity,
    Starts,
    tidied,
)
from etude.generation.numbering import items
from etude.generation.pool import Instance, Pool, Task, drawn, enough, origin, own_tasks, seed_tasks
from etude.generation.quoting import SAID, quoted
from etude.generation.rounds import MostRequests, Patience, Questions, RequestsARound, conversation, failed, until
from etude.models import Answer, Sampling
from etude.records import Conversation
from etude.templates import TemplateName

NAME = "alpaca_batch"
NO_INPUT = "<noinput>"
WANTED = """\
Complete the list so that it has {tasks} different tasks for an assistant that reads and writes text, which will be tested with them.

1. Begin each task with another verb.
2. Vary the wording: mix questions with requests.
3. Vary the kind: open writing, sorting into classes, editing, explaining, extracting, planning and others.
4. An assistant that only reads and writes must be able to do it. It has no eyes and ears, and it cannot act: wake nobody, book nothing.
5. Write in English.
6. An instruction is one or two sentences, a request or a question.
7. Give the material a task needs as its input: realistic, specific, with enough in it to be hard, no placeholders, at most 100 words.
8. A task that needs no material, such as a question of general knowledge, has the input {no_input}.
9. The output is a right and complete answer, under 100 words."""
MARK = re.compile(r"^[ \t>*_#-]*(\d{1,4})[ \t]*[.):][*_ \t]*instruction[*_ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
"""`4. Instruction:` at the beginning of a line."""
INPUT = re.compile(r"^[ \t>*_#-]*(?:\d{1,4}[ \t]*[.):])?[*_ \t]*input[*_ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
OUTPUT = re.compile(r"^[ \t>*_#-]*(?:\d{1,4}[ \t]*[.):])?[*_ \t]*output[*_ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
FENCE = re.compile(r"\s*^[ \t]*#{3,}[ \t]*\Z", re.MULTILINE)
"""The line of ### that parts two tasks, at the end of one."""


class AlpacaBatch(Settings):
    """New tasks with input and output, many in a request (Alpaca, Taori et al. 2023)."""

    keeps_fields: ClassVar[bool] = False

    llm: str
    """Who writes: a name of the recipe's `llms`, or `start` for its start model."""
    rows: str = ""
    """The source whose training rows are the seeds; "" for etude's own seed tasks."""
    template: TemplateName | None = None
    """The template that words the rows, such as `self_instruct`; by default they are instruction, input and output as they are."""
    count: Annotated[int, Field(ge=1)] = 100
    """The rows wanted."""
    tasks: Annotated[int, Field(ge=2)] = 20
    """Tasks of a list, those shown included."""
    in_context: Annotated[int, Field(ge=1)] = 3
    """Seeds shown in a request."""
    requests_a_round: RequestsARound = 5
    min_words: MinWords = 4
    max_words: MaxWords = 150
    keywords: Keywords = ALPACA_KEYWORDS
    starts: Starts = STARTS
    punctuation: Punctuation = True
    non_ascii: NonAscii = True
    most_similar: Similarity = 0.7
    patience: Patience = 5
    most_requests: MostRequests = None
    sampling: Sampling = Sampling(max_new_tokens=3072, temperature=1.0)
    """How tasks are drawn."""

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """Rows of `instruction`, `input` and `output`, and what was refused, round by round.

        Raises RecipeError where the seeds are fewer than a request shows, DataError for rows that are no tasks.
        """
        if self.in_context >= self.tasks:
            raise RecipeError(f"{NAME}: a list of {self.tasks} tasks that shows {self.in_context} leaves none to write; raise `tasks`")
        found = [task for task in (seed_tasks(given.rows) if self.rows else own_tasks()) if task.instances]
        enough(NAME, self.rows, found, self.in_context)
        questions = Questions(given.ask, self.llm, self.most_requests)
        batches = Batches(self, given, Pool(found, self.most_similar), questions)
        yield from until(NAME, self.count, self.patience, questions, batches.round)

    def filters(self) -> Filters:
        """The rules for instructions."""
        return Filters(self.min_words, self.max_words, self.keywords, self.starts, self.punctuation, self.non_ascii)


@dataclass(frozen=True, slots=True)
class Batches:
    """What the rounds of one run share."""

    settings: AlpacaBatch
    given: Given
    pool: Pool
    questions: Questions

    def round(self, number: int) -> Iterator[Made | Refused]:
        """The outcomes of a round, in the order of the requests."""
        places = range(self.settings.requests_a_round)
        shown = [drawn(self.given.stream(NAME, number, place), self.pool.seeds, self.settings.in_context) for place in places]
        asked = [request(f"tasks.{number}.{place}", tasks, self.settings.tasks) for place, tasks in zip(places, shown, strict=True)]
        answers = self.questions(asked, self.settings.sampling)
        for question, tasks, answer in zip(asked, shown, answers or [], strict=answers is not None):
            yield from self.outcomes(number, question.id, tasks, answer)

    def outcomes(self, number: int, id: str, shown: Sequence[Task], answer: Answer) -> Iterator[Made | Refused]:
        """The rows and refusals of one reply."""
        parents = tuple(task.id for task in shown)
        notes: dict[str, Any] = {"round": number, "request": id}
        if answer.finish == "failed":
            yield failed(answer, "", parents, id)
            return
        found = items(answer.text, len(shown) + 1, MARK)
        if not found:
            yield Refused("no list", answer.text, parents, notes)
            return
        last = self.settings.tasks - len(shown)
        for place, item in enumerate(found):
            cut = answer.finish == "length" and place == len(found) - 1
            if cut or place >= last:
                yield Refused("cut off" if cut else "more than asked for", item.text, parents, notes)
            else:
                yield self.outcome(item.text, shown, parents, notes)

    def outcome(self, text: str, shown: Sequence[Task], parents: tuple[str, ...], notes: dict[str, Any]) -> Made | Refused:
        """What becomes of one task."""
        parted = part(text)
        if parted is None:
            return Refused("incomplete", text, parents, notes)
        instruction, one = parted
        if rule := self.settings.filters().broken(instruction):
            return Refused(rule, text, parents, notes)
        if not one.output or one.input == one.output:
            return Refused("input is output" if one.output else "no output", text, parents, notes)
        task, near = self.pool.admit(instruction)
        notes = {**notes, **near.notes()}
        if task is None:
            return Refused("not novel", text, parents, notes)
        row = {"instruction": instruction, "input": one.input, "output": one.output}
        return Made(row, origin(NAME, shown), parents, {**notes, "task": task.id})


def request(id: str, shown: Sequence[Task], tasks: int) -> Conversation:
    """The request for a list of tasks that begins with those shown."""
    listed = "\n###\n".join(written(number, task) for number, task in enumerate(shown, 1))
    wanted = WANTED.format(tasks=tasks, no_input=NO_INPUT)
    asked = f"Write tasks {len(shown) + 1} to {tasks} in the same form, each after a line with ### alone, and nothing else."
    return conversation(id, f"{SAID}\n\n{wanted}\n\nThe list begins so:\n\n{quoted('list', listed)}\n\n{asked}")


def written(number: int, task: Task) -> str:
    """A task as it stands in a list, with its first instance."""
    one = task.instances[0]
    instruction = task.instruction.rstrip().removesuffix(":")
    return (
        f"{number}. Instruction: {instruction}\n{number}. Input:\n{one.input.strip() or NO_INPUT}\n{number}. Output:\n{one.output.strip()}"
    )


def part(text: str) -> tuple[str, Instance] | None:
    """The instruction of a task, and its input and output; None where one of the three has no heading, or there is no instruction."""
    text = FENCE.sub("", text)
    given = INPUT.search(text)
    said = OUTPUT.search(text, given.end()) if given else None
    if not given or not said:
        return None
    instruction = tidied(text[: given.start()]).removesuffix(":").rstrip()
    material = text[given.end() : said.start()].strip()
    if material.strip("`*. ").casefold() in (NO_INPUT, "noinput"):
        material = ""
    return (instruction, Instance(material, text[said.end() :].strip())) if instruction else None
