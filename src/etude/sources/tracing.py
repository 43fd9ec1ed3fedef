"""Programs run under a tracer in the jail, and what was seen as Steps: which line ran, what the variables were before and after."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.sandbox import ladder, runner
from etude.sandbox import tracer as jailed
from etude.sandbox.programs import Limits, Program
from etude.sources.written_programs import Traceable

TOGETHER = 40
"""Programs of our own that are traced in one jailed process; a user's programs have one each."""
LIMITS = Limits(seconds=20.0, cpu_seconds=10, output_bytes=32 << 20, keep_output=True)

Variables = Mapping[str, str]
"""Names and values as Python spells them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line that ran: the variables before and after it, the calls of the program's functions in it, and the line that ran next in
    the same function (None: it returned)."""

    line: int
    before: Variables
    after: Variables
    calls: tuple[Call, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function of the program: its arguments, its steps, and its value."""

    function: str
    arguments: Variables
    steps: tuple[Step, ...]
    value: str

    def size(self) -> int:
        """Lines that ran, those of the calls inside among them."""
        return sum(1 + sum(call.size() for call in step.calls) for step in self.steps)


def trace(programs: Sequence[Traceable], most: int, rung: ladder.Rung, together: int = TOGETHER) -> list[list[Call | str]]:
    """For each program, its calls as they ran, or why there is none ("too many steps", "raises KeyError").

    `most`: lines of one call. Nothing of the programs runs in this process. Raises NoSandbox where the jail is gone.
    """
    parts = [programs[start : start + together] for start in range(0, len(programs), together)]
    asked = [Program("", checks(part, most)) for part in parts]
    found: list[list[Call | str]] = []
    for part, verdict in zip(parts, runner.judge(asked, rung, LIMITS), strict=True):
        said = read(verdict.output, part) if verdict.passed else None
        reason = "ends its process" if verdict.passed or verdict.kind == "exited" else f"ends by {verdict.kind}"
        found += said if said is not None else [[reason for _ in program.calls] for program in part]
    return found


def checks(programs: Sequence[Traceable], most: int) -> str:
    """The text that traces programs in the jail."""
    jobs = json.dumps([{"code": one.code, "calls": one.calls, "most": most} for one in programs])
    return f"{text_of_tracer()}\n\nreport({jobs!r})\n"


@functools.cache
def text_of_tracer() -> str:
    """The tracer's own source."""
    return Path(jailed.__file__).read_text(encoding="utf-8")


def read(output: str, programs: Sequence[Traceable]) -> list[list[Call | str]] | None:
    """What a jailed process printed; None where it is not what the tracer prints, for programs may print what they like."""
    try:
        told = json.loads(output.rpartition(jailed.MARK)[2])
        if [len(calls) for calls in told] != [len(program.calls) for program in programs]:
            return None
        return [[one["failed"] if "failed" in one else call_of(one) for one in calls] for calls in told]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def call_of(said: Mapping[str, Any]) -> Call | str:
    """The call that a list of events tells of; or why it cannot be told."""
    events = iter(said["events"])
    first = next(events, None)
    if first is None:
        return "calls no function of the program"
    call = built(first, events)
    if isinstance(call, Call) and (call.value != said["value"] or next(events, None) is not None):
        return "calls more than one function of the program"
    return call if isinstance(call, Call) else "a value on its way cannot be written down"


def built(begun: Sequence[Any], events: Iterator[Sequence[Any]]) -> Call | None:
    """One function's events up to its return, its calls' among them; None where a returned value has no spelling."""
    lines: list[tuple[int, Variables]] = []
    inside: list[list[Call]] = []
    whole = True
    for event in events:
        if event[0] == "line":
            lines.append((int(event[2]), variables(event[3])))
            inside.append([])
        elif event[0] == "call":
            call = built(event, events)
            whole = whole and call is not None
            if call is not None:
                inside[-1].append(call)
        else:
            if event[2] is None or not whole:
                return None
            states = [*(before for _, before in lines), variables(event[3])]
            following = [*(line for line, _ in lines[1:]), None]
            steps = (
                Step(line, before, states[place + 1], tuple(inside[place]), following[place]) for place, (line, before) in enumerate(lines)
            )
            return Call(str(begun[2]), variables(begun[3]), tuple(steps), str(event[2]))
    raise ValueError("a function that does not return")


def variables(said: Any) -> Variables:
    """Names and values; raises ValueError for anything else."""
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise ValueError("no variables")
    return said
