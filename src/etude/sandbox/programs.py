"""The nouns: a Program to judge, the Limits it runs under, the Verdict on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Language = Literal["python", "javascript"]

Kind = Literal[
    "passed", "failed", "error", "syntax", "no_entry_point", "exited", "timeout", "cpu", "memory", "output", "disk", "threads", "killed",
    "too_long",
]  # fmt: skip

MEANING: dict[str, str] = {
    "passed": "all checks held: the nonce came back after the last of them",
    "failed": "a check did not hold",
    "error": "the program or its checks raised an exception",
    "syntax": "the program cannot be compiled",
    "no_entry_point": "the program does not define what the checks call",
    "exited": "the program ended before its checks did (exit(0) is no pass)",
    "timeout": "too much time on the clock",
    "cpu": "too much processor time",
    "memory": "too much memory",
    "output": "too much output",
    "disk": "too many or too large files",
    "threads": "too many threads",
    "killed": "ended by a signal",
    "too_long": "the text of the program is too long to run",
}
"""What each kind of verdict says."""


@dataclass(frozen=True, slots=True)
class Program:
    """One candidate and its checks, in two texts that are compiled apart: an open quote at the end of one cannot swallow the other.

    `entry_point`: a name that `code` must define, "" for none. `tests` see everything that `code` defined."""

    code: str
    tests: str
    entry_point: str = ""
    language: Language = "python"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    `seconds` on the clock, `cpu_seconds` of processor time (whole seconds; all its threads), `memory_mb` MiB of address space (of data,
    for JavaScript, whose engine reserves far more than it uses), `output_bytes` on both standard streams, `file_bytes` a file,
    `disk_bytes` and `files` in all, `threads`, `code_bytes` of its text (UTF-8, checks included). `keep_output`: what it prints is
    given back in the verdict."""

    seconds: float = 10.0
    cpu_seconds: int = 3
    memory_mb: int = 512
    output_bytes: int = 1 << 20
    file_bytes: int = 1 << 20
    disk_bytes: int = 16 << 20
    files: int = 1000
    threads: int = 64
    code_bytes: int = 4 << 20
    keep_output: bool = False

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a program. `detail`: its error in one line, where there is one; `rung`: the jail it ran in; `output`: what it
    printed on both streams, where the limits keep it (the text of an untrusted program: whoever reads it checks it)."""

    kind: Kind
    detail: str = ""
    rung: str = ""
    seconds: float = 0.0
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return self.kind == "passed"
