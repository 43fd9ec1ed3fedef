"""What a jailed process does to trace calls: it runs them under `sys.settrace` and prints what was seen.

Nothing here is called in etude's own process. The text of this file is handed into the jail as the checks of a program, with a call of
`report` behind it (`program`), so it uses the standard library alone and knows nothing of etude.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
from types import CodeType, FrameType
from typing import Any

MARK = "\x1etrace "
"""Stands before what `report` prints, which is the last thing that is printed."""
TRACED = "<candidate>"
"""The file name that traced code is compiled with."""
LONGEST = 80
"""Characters of a value that is written down; a longer one is not."""
MOST_BITS = 200
"""Bits of the largest number that is written down."""


class Ended(BaseException):
    """A call that takes more steps than wanted."""


def shown(value: Any) -> str | None:
    """A value as Python spells it; None for one whose spelling says nothing (functions, iterators), depends on hashes (sets of
    several things), or is long."""
    if not plain(value, 0):
        return None
    text = repr(value)
    return text if len(text) <= LONGEST else None


def plain(value: Any, depth: int) -> bool:
    """Whether a value is made of numbers, texts, truth values, None, lists, tuples and dictionaries."""
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() <= MOST_BITS)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return len(value) <= LONGEST and value.isprintable()
    if kind is bool or value is None:
        return True
    if kind not in (list, tuple, dict, set, frozenset) or len(value) > LONGEST or depth > 3:
        return False
    if kind in (set, frozenset) and len(value) > 1:
        return False
    parts = [part for pair in value.items() for part in pair] if kind is dict else value
    return all(plain(part, depth + 1) for part in parts)


class Trace:
    """The events of one call: `["call", frame, function, variables]`, `["line", frame, line, variables]` (before the line runs) and
    `["return", frame, value, variables]`, frames numbered in the order they began."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.events: list[list[Any]] = []
        self.frames: dict[int, int] = {}
        self.number = 0
        self.lines = 0
        self.last: dict[int, tuple[int, dict[str, str]]] = {}
        self.raised = ""
        self.unwritten = ""

    def __call__(self, frame: FrameType, event: str, found: Any) -> Any:
        """What `sys.settrace` calls."""
        code = frame.f_code
        if code.co_filename != TRACED or code.co_name.startswith("<"):
            return None
        if event == "call":
            self.frames[id(frame)] = self.number
            self.number += 1
            self.events.append(["call", self.frames[id(frame)], code.co_name, self.variables(frame)])
        elif event == "line":
            self.line(frame)
        elif event == "return":
            self.events.append(["return", self.frames[id(frame)], shown(found), self.variables(frame)])
        elif event == "exception":
            self.raised = self.raised or str(getattr(found[0], "__name__", "an exception"))
        return self

    def line(self, frame: FrameType) -> None:
        """One more line; the same line twice without a change is one (some Pythons say it twice)."""
        number, now = self.frames[id(frame)], (frame.f_lineno, self.variables(frame))
        if self.last.get(number) == now:
            return
        self.last[number] = now
        self.lines += 1
        if self.lines > self.most:
            raise Ended
        self.events.append(["line", number, *now])

    def variables(self, frame: FrameType) -> dict[str, str]:
        """The names of a frame and their values; one that cannot be written down makes the trace useless."""
        found = {}
        for name, value in dict(frame.f_locals).items():
            text = shown(value)
            if text is None:
                self.unwritten = self.unwritten or type(value).__name__
            elif name.isidentifier():
                found[name] = text
        return found


def traced(code: CodeType, call: str, most: int) -> dict[str, Any]:
    """One call in a namespace of its own: `{"value", "events"}`, or `{"failed"}` with the reason."""
    trace = Trace(most)
    names: dict[str, Any] = {"__name__": "candidate"}
    try:
        exec(code, names)
        asked = compile(call, "<call>", "eval")
        sys.settrace(trace)
        try:
            value = eval(asked, names)
        finally:
            sys.settrace(None)
    except Ended:
        return {"failed": "too many steps"}
    except BaseException as error:
        return {"failed": f"raises {type(error).__name__}"}
    if trace.raised:
        return {"failed": f"raises {trace.raised} on its way"}
    if trace.unwritten:
        return {"failed": f"has a variable that is not written down ({trace.unwritten[:40]})"}
    text = shown(value)
    return {"failed": "its value cannot be written down"} if text is None else {"value": text, "events": trace.events}


def report(jobs: str) -> None:
    """Trace every call of every program of a JSON text `[{"code", "calls", "most"}]`, and print what was seen."""
    said, sys.stdout, sys.stderr = [], io.StringIO(), io.StringIO()
    write = os.write
    for job in json.loads(jobs):
        try:
            code = compile(job["code"], TRACED, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            said.append([{"failed": f"raises {type(error).__name__}"}] * len(job["calls"]))
            continue
        said.append([traced(code, call, job["most"]) for call in job["calls"]])
    data = (MARK + json.dumps(said)).encode()
    while data:
        data = data[write(1, data) :]
