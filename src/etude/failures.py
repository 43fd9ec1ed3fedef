"""What can go wrong for a user, one class an exit code.

```
Failure                1  a fault of etude's own
├── RecipeError        2  the command line or the recipe
├── DataError          3  the data cannot be used
├── CheckFailed        4  a check of ours said no
├── NonFinite          5  training produced NaN or infinity
├── ServerGaveUp       6  a model server gave up
├── NoSandbox          7  no jail for generated code
├── Locked             8  another process works in this folder
├── NoSpace            9  the disk is full or read-only
└── Stopped           75  stopped on purpose, can be resumed
```

A message says where (file, line or key), what was found, and the nearest right thing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class Failure(Exception):
    """Any failure that etude explains to its user; `exit_code` ends the command."""

    exit_code = 1


class RecipeError(Failure):
    """The command line or the recipe is wrong."""

    exit_code = 2


class DataError(Failure):
    """The data cannot be used as given."""

    exit_code = 3


class CheckFailed(Failure):
    """A check refused: a broken mask, a contaminated test set, a regression. `facts`: what it found, as plain data."""

    exit_code = 4

    def __init__(self, text: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.facts = dict(facts or {})


class NonFinite(Failure):
    """A loss or gradient was NaN or infinite; no weight was changed by it."""

    exit_code = 5


class ServerGaveUp(Failure):
    """A model server could not be reached or refused for good."""

    exit_code = 6


class NoSandbox(Failure):
    """This machine offers no jail for generated code."""

    exit_code = 7


class Locked(Failure):
    """Another process holds the folder."""

    exit_code = 8


class NoSpace(Failure):
    """The disk is full, read-only or over quota."""

    exit_code = 9


class Stopped(Failure):
    """Stopped before the end; the same command resumes. `signal` is the number of the signal that
    asked for it (exit code 128 + signal), 0 for a budget that ran out (75)."""

    exit_code = 75

    def __init__(self, message: str, signal: int = 0) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal if signal else 75


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest known word, else the list of what there is."""
    names = sorted(known)
    same = [name for name in names if name.casefold() == word.casefold()]
    close = same or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(names)}" if names else ""
