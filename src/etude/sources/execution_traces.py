"""Questions about running code, with the reasoning taken from a trace of the code as it ran: no teacher, and nothing made up.

Rows for training and testing chain of thought at levels: `code` (a small Python program), `call`, `question`, `answer` (as Python spells
it), `rationale_simple`, `rationale_normal` and `rationale_complex`, `rationale` (the normal one, until the rewrite `reasoning_level` says
otherwise), `kind`, `steps` (lines that ran), and `program`, to split by: two questions about one program must not straddle a split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from etude import journal, seeds
from etude.catalog import Settings, note
from etude.failures import DataError
from etude.records import BadRow, Origin, Record, identify
from etude.sandbox import ladder
from etude.sources import written_programs
from etude.sources.code_calls import Untraceable, traceable
from etude.sources.code_tasks import CodeTasks
from etude.sources.explaining import Told, explain
from etude.sources.rows import SHOWN
from etude.sources.trace_questions import KINDS, Asked, Kind, questions
from etude.sources.tracing import TOGETHER, Call, trace
from etude.sources.where import Expression, Unfit, parse
from etude.sources.written_programs import Traceable, write_program
from etude.templates import TemplateName
from etude.templates.levels import WRITTEN, broken, leveled

VERSION = 1
"""Of questions and steps: another number means other rows for the same settings."""
BATCH = 160
"""Programs written and traced before it is seen whether more are needed."""
BARREN = 5
"""Batches in a row without a row, after which there are taken to be none."""
FIELDS = ("answer", "call", "code", "kind", "program", "question", "rationale", *(f"rationale_{level}" for level in WRITTEN), "steps")


class ExecutionTraces(Settings):
    """Questions about what small Python programs do, answered with the steps of their execution at several levels. Programs run in a
    jail, or the run ends (exit 7)."""

    programs: str = "generated"
    """`generated`: written by lot; or a file of tasks of HumanEval's or MBPP's form, whose solutions are called as their tests do."""
    count: Annotated[int, Field(gt=0)] = 1000
    """Rows wanted of generated programs; a file gives what it has, at most this many."""
    seed: int = 0
    """Seed of programs, inputs and questions."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = KINDS
    """What is asked: what a call `returns`, which `branch` is taken, the `value` of a variable after a line."""
    questions: Annotated[int, Field(ge=1, le=12)] = 3
    """Most questions about one program, each with inputs of its own where there are as many."""
    most_steps: Annotated[int, Field(ge=3, le=200)] = 10
    """Most lines that run before the answer is known; what takes more is left out."""
    sandbox: Literal["auto", "bubblewrap", "landlock", "container"] = "auto"
    """The jail: the first that works here, or this one and no other."""
    template: TemplateName | None = "execution"
    """The template that words the rows."""
    where: Expression | None = None
    """Take only rows for which this is true, e.g. `kind == 'returns' and steps < 10`."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Take the first rows that pass `where`, at most this many."""
    licence: str = ""
    """The licence of the data, for the manifest."""
    task: str = "execution"
    """The name of the task."""

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row, in the order of the programs; what was left out is counted in a note.

        Raises NoSandbox where no jail can be had, DataError for a file that gives no row, RecipeError for an unknown field in `where`.
        """
        where = parse(self.where) if self.where else None
        if where:
            where.check(FIELDS)
        left: Counter[str] = Counter()
        kept = seen = 0
        for row in self.rows(left):
            if isinstance(row, BadRow):
                yield row
                continue
            seen += 1
            origin, fields = row
            try:
                if where and not where.passes(fields):
                    continue
            except Unfit as error:
                yield BadRow(origin, str(error), str(fields)[:SHOWN])
                continue
            kept += 1
            yield Record(identify(fields), fields, origin, name, self.task)
            if kept == self.limit:
                break
        if not kept:
            raise DataError(f"sources.{name}: {f'none of {seen} rows passes where `{self.where}`' if seen else self.none(left)}")
        if left:
            reasons = "; ".join(f"{many:,} {why}" for why, many in left.most_common(6))
            note(f"sources.{name}: {seen:,} rows; left out: {reasons}")

    def none(self, left: Counter[str]) -> str:
        """Why there is no row at all."""
        reasons = "; ".join(f"{many} {why}" for why, many in left.most_common(6))
        return f"no program of {self.programs!r} gives a row ({reasons or 'it is empty'})"

    def inputs(self) -> dict[str, str]:
        """The settings with the versions of what they mean -> SHA-256; and a file's own."""
        settings = self.model_dump(mode="json", exclude={"sandbox"})
        found = {f"execution traces, version {VERSION}": journal.digest([VERSION, written_programs.VERSION, settings])}
        return found if self.programs == "generated" else found | self.tasks().inputs()

    def tasks(self) -> CodeTasks:
        """The file of tasks."""
        return CodeTasks(path=self.programs, answer="whole")

    def rows(self, left: Counter[str]) -> Iterator[tuple[Origin, dict[str, Any]] | BadRow]:
        """Origin and fields of `count` rows, and bad rows of a file; `left` counts what was left out, by reason."""
        made = barren = 0
        tally: Counter[Kind] = Counter()
        together = TOGETHER if self.programs == "generated" else 1  # a user's program that ends its process ends nobody else's
        rung = ladder.choose(self.sandbox)
        for batch in self.batches(left):
            programs = [one for one in batch if isinstance(one, tuple)]
            yield from (one for one in batch if isinstance(one, BadRow))
            traced = trace([program for _, program in programs], 2 * self.most_steps, rung, together)
            before = made
            for (origin, program), calls in zip(programs, traced, strict=True):
                for fields in self.asked(program, calls, tally, left):
                    yield origin, fields
                    made += 1
                    if made == self.count:
                        return
            barren = barren + 1 if made == before else 0
            if barren == BARREN:
                return

    def batches(self, left: Counter[str]) -> Iterator[list[tuple[Origin, Traceable] | BadRow]]:
        """Programs with their origins, a batch at a time: without end where they are written."""
        if self.programs != "generated":
            yield from self.from_file(left)
            return
        numbers = range(0, 1 << 62, BATCH)
        known: set[str] = set()
        for start in numbers:
            size = min(BATCH, max(8, self.count // 2))
            wrote = [(number, write_program(self.seed, number, self.questions)) for number in range(start, start + size)]
            fresh = [(number, one) for number, one in wrote if one.code not in known]
            known |= {one.code for _, one in fresh}
            yield [(Origin("generated programs", number + 1, self.licence), one) for number, one in fresh]

    def from_file(self, left: Counter[str]) -> Iterator[list[tuple[Origin, Traceable] | BadRow]]:
        """The programs of a file's tasks, in batches."""
        batch: list[tuple[Origin, Traceable] | BadRow] = []
        for number, row in enumerate(self.tasks().read("tasks")):
            if isinstance(row, BadRow):
                batch.append(row)
                continue
            origin = Origin(row.origin.path, row.origin.line, self.licence or row.origin.licence)
            try:
                batch.append((origin, traceable(row.fields, number, self.questions)))
            except Untraceable as error:
                left[f"tasks: {error}"] += 1
            if len(batch) == TOGETHER:
                yield batch
                batch = []
        yield batch

    def asked(self, program: Traceable, calls: Sequence[Call | str], tally: Counter[Kind], left: Counter[str]) -> Iterator[dict[str, Any]]:
        """The rows of one program: a call a place, asked about in the way that was asked least so far (`tally`) where it can be."""
        told = Told.of(program.code, program.entry)
        known: set[str] = set()
        for place in range(self.questions):
            text, call = program.calls[place % len(calls)], calls[place % len(calls)]
            if isinstance(call, str):
                left[f"calls: {call}"] += 1
                continue
            found: list[Asked] = []
            for kind in sorted(self.kinds, key=lambda kind: tally[kind]):
                every = [one for one in questions(told, text, call, kind) if one.question not in known]
                if found := [one for one in every if Call("", {}, one.steps, "").size() <= self.most_steps]:
                    break
            else:
                left["calls: no question with so few steps"] += 1
                continue
            answers = list(dict.fromkeys(one.answer for one in found))  # a rare answer is as likely as one that many questions have
            lot = seeds.number(self.seed, "question", program.id, place)
            found = [one for one in found if one.answer == answers[lot % len(answers)]]
            chosen = found[lot // 64 % len(found)]
            known.add(chosen.question)
            fields, why = self.fields(program, told, text, call, chosen)
            if why:
                left[f"rows: {why}"] += 1
            else:
                tally[chosen.kind] += 1
                yield fields

    def fields(self, program: Traceable, told: Told, text: str, call: Call, asked: Asked) -> tuple[dict[str, Any], str]:
        """The fields of a row, and what is wrong with its levels, "" if nothing is."""
        texts: dict[str, str] = {level: explain(told, call, asked.steps, level) for level in WRITTEN}
        about = {"code": program.code, "call": text, "question": asked.question, "answer": asked.answer}
        size = Call("", {}, asked.steps, "").size()
        return {**about, **leveled(texts), "kind": asked.kind, "steps": size, "program": program.id}, broken(texts, asked.answer)
