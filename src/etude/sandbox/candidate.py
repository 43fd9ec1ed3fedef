"""What a jailed Python process does: the candidate, then its checks, then the nonce.

The nonce waits unread in a pipe until every check has passed, so neither an exit nor anything printed can stand for it. A program
that sets out to cheat its own checks (which share its process, as in Chen et al. 2021) still can: see docs/sandbox.md.
"""

from __future__ import annotations

import json
import os
import random
import sys
import types
from typing import NoReturn

from etude.sandbox.jail import CHALLENGE, REPORT
from etude.sandbox.programs import Kind, Program

LONGEST = 400
"""Characters of an error that are reported."""


def run(program: Program) -> NoReturn:
    """Judge the program in this process, which must be in its jail, and end."""
    leave, write, read = os._exit, os.write, os.read
    for name in [name for name in sys.modules if name.partition(".")[0] == "etude"]:
        del sys.modules[name]
    kind, detail = outcome(program)
    if kind == "passed":
        write(REPORT, read(CHALLENGE, 4096))
    else:
        write(REPORT, json.dumps({"kind": kind, "detail": detail}).encode())
    leave(0)


def outcome(program: Program) -> tuple[Kind, str]:
    """What became of the candidate and its checks, and the error in a line."""
    # not "__main__", so that a demonstration under `if __name__ == "__main__"` does not run; a real module, which dataclasses need
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    sys.argv = ["candidate"]
    random.seed(0)  # the same program has the same verdict each time
    for name, text in (("candidate", program.code), ("checks", program.tests)):
        try:
            compiled = compile(text, f"<{name}>", "exec", dont_inherit=True)
        except MemoryError:
            return "memory", "while it was compiled"
        except (SyntaxError, ValueError, RecursionError, OverflowError, UnicodeError) as error:
            return ("syntax" if name == "candidate" else "error"), said(error, program, name)
        try:
            exec(compiled, module.__dict__)
        except SystemExit:
            return "exited", f"by SystemExit in the {name}"
        except MemoryError as error:
            return "memory", said(error, program, name)
        except AssertionError as error:
            return "failed" if name == "checks" else "error", said(error, program, name)
        except BaseException as error:
            return "error", said(error, program, name)
        if name == "candidate" and program.entry_point and program.entry_point not in module.__dict__:
            return "no_entry_point", f"nothing is called {program.entry_point!r:.100}"
    return "passed", ""


def said(error: BaseException, program: Program, name: str) -> str:
    """The error in a line: its kind, its text, and the line of the checks (or the candidate) it rose from."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # its own __str__ failed
        text = type(error).__name__
    place, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == f"<{name}>":
            place = trace.tb_lineno
        trace = trace.tb_next
    lines = (program.tests if name == "checks" else program.code).splitlines()
    if 0 < place <= len(lines):
        text = f"{text.rstrip(': ')} (line {place} of the {name}: {lines[place - 1].strip()})"
    return " ".join(text[: 4 * LONGEST].split())[:LONGEST]
