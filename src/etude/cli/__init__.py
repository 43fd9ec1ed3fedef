"""The command line: one function a verb; each parses, calls, prints. The order of the imports is the order of `etude --help`."""

from __future__ import annotations  # noqa: I001  (commands stand in the order of `etude --help`)

import errno
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

from etude.cli import running, studying, judging, generating, curating, data, talking, looking, comparing  # noqa: F401
from etude.cli.app import app, print_notes

__all__ = ["app", "main"]


def end(code: int, text: str) -> NoReturn:
    """Print why the command ends and end it."""
    from etude.screen import printable

    print_notes()
    print(f"etude: {printable(text)}", file=sys.stderr)
    sys.stderr.flush()
    raise SystemExit(code)


def main() -> None:
    """The `etude` command: every failure ends with one message and its exit code."""
    from etude.failures import Failure, NoSpace

    def interrupt(number: int, frame: Any) -> NoReturn:
        end(
            128 + number,
            f"interrupted by {signal.Signals(number).name}; what was finished is kept, and the same command goes on from there",
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' advice to programmers; python -W default shows it
    try:
        app()
    except Failure as failure:
        end(failure.exit_code, str(failure))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            end(NoSpace.exit_code, f"{error}; make room and run again")
        raise
