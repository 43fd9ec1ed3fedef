"""The command in a child that has its libraries loaded: a fork of the test's process in the place of a new interpreter.

What the user sees is the same: arguments, environment, folder, both streams, signals, the exit code. Only the seconds of
importing are left out; tests/test_cli.py starts real processes for what depends on them.
"""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import IO, NoReturn


def etude(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`etude` with these arguments in this folder, to its end: its exit code and what it wrote."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        code = os.waitstatus_to_exitcode(os.waitpid(start(place, *arguments, out=out, error=error, **environment), 0)[1])
        texts = []
        for file in (out, error):
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
    return subprocess.CompletedProcess(arguments, code, *texts)


def start(place: Path, *arguments: str, out: IO[bytes], error: IO[bytes], **environment: str) -> int:
    """The process id of a child that runs the command and writes into these files; wait for it with `os.waitpid`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fork beside other threads: the child is the only one it needs
        pid = os.fork()
    if pid == 0:
        run(place, arguments, out.fileno(), error.fileno(), environment)
    return pid


def run(place: Path, arguments: tuple[str, ...], out: int, error: int, environment: dict[str, str]) -> NoReturn:
    """The child: never returns into the test, whatever happens."""
    code = 1
    try:
        gc.disable()  # what the test's own process left to collect is not this one's
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(out, 1)
        os.dup2(error, 2)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
        os.chdir(place)
        os.environ.update({"COLUMNS": "120", **environment})
        sys.argv = ["etude", *arguments]
        warnings.resetwarnings()
        from etude import catalog, cli

        catalog.NOTES.clear()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
