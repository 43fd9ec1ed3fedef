"""Self-Instruct (Wang et al. 2023): tasks out of tasks, then examples of them.

A round: `requests_a_round` requests, each a numbered list of `in_context` tasks out of the pool that the LLM goes on with; what comes
is filtered one by one and joins the pool; of each accepted task the LLM says whether it is classification, and then writes
examples, labels first for classification and inputs first else. Every example that passes is a row.

| setting | the paper's code | here |
|---|---|---|
| seeds | 175 tasks | `rows`, or etude's own |
| shown | 8, of which up to 2 machine-made, shuffled; the first round 8 seeds | the same |
| new tasks a request | 7 (the list goes on at 9, and "16." stops it) | `new_tasks` 7 |
| requests together | 5 | the same |
| for tasks | temperature 0.7, top_p 0.5, 1024 tokens, presence penalty 2 | the same, without the penalty |
| reply cut by its length | dropped whole | the same; a list with more than is asked for is whole |
| words, keywords, start, first character | `filters` | the same |
| ROUGE-L F1 | above 0.7 against seeds and accepted: dropped | the same, exact |
| is it classification | 31 examples (12 yes, 19 no), temperature 0, 3 tokens | as many out of the seeds' `is_classification`, 8 tokens |
| examples of a task | temperature 0, 300 or 350 tokens, at most 5 | 350 tokens, at most 5 |
| rules for examples | `instances` | the same |
| name of a lone field in an input | taken off for half of the rows | the same |
| ways to write the prompt | 7 with an input, 6 without | the template `self_instruct` |

Departures, all of them faults of the original: capitals stay; no stop text can cut a task ("2016."); nothing depends on the hash seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from etude.catalog import Settings
from etude.failures import RecipeError
from etude.generation import Given, Made, Refused
from etude.generation.filters import (
    KEYWORDS,
    STARTS,
    Filters,
    Keywords,
    MaxWords,
    MinWords,
    NonAscii,
    Punctuation,
    Similarity,
    Starts,
)
from etude.generation.pool import Pool, Task, drawn, enough, own_tasks, seed_tasks
from etude.generation.rounds import MostRequests, Patience, Questions, RequestsARound, until
from etude.generation.self_instruct.playing import NAME, Playing
from etude.models import Sampling
from etude.templates import TemplateName


class SelfInstruct(Settings):
    """New tasks with examples, out of seed tasks (Self-Instruct, Wang et al. 2023)."""

    keeps_fields: ClassVar[bool] = False

    llm: str
    """Who writes: a name of the recipe's `llms`, or `start` for its start model."""
    rows: str = ""
    """The source whose training rows are the seeds; "" for etude's own seed tasks."""
    template: TemplateName | None = None
    """The template that words the rows, such as `self_instruct`; by default they are instruction, input and output as they are."""
    count: Annotated[int, Field(ge=1)] = 100
    """The rows wanted; a task with several examples is several rows."""
    in_context: Annotated[int, Field(ge=1)] = 8
    """Tasks shown in a request."""
    machine_made: Annotated[int, Field(ge=0)] = 2
    """How many of them may be accepted new tasks; the first round shows seeds alone."""
    new_tasks: Annotated[int, Field(ge=1)] = 7
    """New tasks asked for in a request."""
    requests_a_round: RequestsARound = 5
    classification_only: bool = False
    """Ask for classification tasks only, and show only seeds that are."""
    min_words: MinWords = 4
    max_words: MaxWords = 150
    keywords: Keywords = KEYWORDS
    starts: Starts = STARTS
    punctuation: Punctuation = True
    non_ascii: NonAscii = True
    most_similar: Similarity = 0.7
    most_instances: Annotated[int, Field(ge=1)] = 5
    """Examples of a task that become rows, at most."""
    classification_shots: Annotated[int, Field(ge=0)] = 12
    """Seeds shown as classification tasks when asking whether one is; of those who are not, `other_shots`."""
    other_shots: Annotated[int, Field(ge=0)] = 19
    """Seeds shown as tasks that are not classification."""
    without_field_name: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of rows whose input loses the name of its only field ("Sentence: ..."), and blank lines."""
    patience: Patience = 5
    most_requests: MostRequests = None
    sampling: Sampling = Sampling(max_new_tokens=1024, temperature=0.7, top_p=0.5)
    """How new tasks are drawn."""
    class_sampling: Sampling = Sampling(max_new_tokens=8)
    """How it is said whether a task is classification."""
    instance_sampling: Sampling = Sampling(max_new_tokens=350)
    """How examples are drawn."""

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """Rows of `instruction`, `input` and `output`, and what was refused, round by round.

        Raises RecipeError where the seeds are fewer than a request shows, DataError for rows that are no tasks.
        """
        pool = Pool(self.seeds(given), self.most_similar)
        questions = Questions(given.ask, self.llm, self.most_requests)
        playing = Playing(self, given, pool, questions, self.shots(pool, given))
        yield from until(NAME, self.count, self.patience, questions, playing.round)

    def seeds(self, given: Given) -> list[Task]:
        """The seed tasks; raises RecipeError where they are too few."""
        if self.machine_made > self.in_context:
            raise RecipeError(f"{NAME}: machine_made ({self.machine_made}) is a part of in_context ({self.in_context}) and cannot be more")
        found = seed_tasks(given.rows) if self.rows else own_tasks()
        if self.classification_only and found:
            found = [task for task in found if task.classification]
            if not found:
                raise RecipeError(f"{NAME}: classification_only needs seeds with a true `is_classification`; {self.rows!r} has none")
        enough(NAME, self.rows, found, self.in_context)
        return found

    def shots(self, pool: Pool, given: Given) -> list[Task]:
        """Tasks of which it is known whether they are classification: seeds, or etude's own where the seeds do not say."""
        if self.classification_only or not self.classification_shots + self.other_shots:
            return []
        told = pool.seeds
        if {task.classification for task in told} & {True, False} != {True, False}:
            told = own_tasks()
        stream = given.stream(NAME, "shots")
        yes = drawn(stream, [task for task in told if task.classification is True], self.classification_shots)
        no = drawn(stream, [task for task in told if task.classification is False], self.other_shots)
        return drawn(stream, [*yes, *no], len(yes) + len(no))

    def filters(self) -> Filters:
        """The rules for instructions."""
        return Filters(self.min_words, self.max_words, self.keywords, self.starts, self.punctuation, self.non_ascii)
