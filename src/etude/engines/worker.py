"""A process that does one job: the job comes on standard input, the answer leaves on standard output, and when the input ends, so does it.

Started as a file (`python -P .../worker.py`), so that the folder it is started in lends it no modules; where to import from is told with
the job. Nothing but the standard library is imported before that.
"""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn


class Told(BaseException):
    """A signal said to stop while no one else took care of signals; no `except Exception` of the work holds it up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def answer(work: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Do the job: `{"result": plain data}`, `{"stopped": why, "signal": number or 0}` or `{"no_space": why}`.

    A result that is not plain data (what JSON holds) is a failed one, and so is whatever the work raises.
    """
    from etude.failures import Failure, NoSpace, Stopped
    from etude.journal import NO_SPACE

    try:
        result = dict(pkgutil.resolve_name(work)(job))
        json.dumps(result)
        return {"result": result}
    except Told as told:
        return {"stopped": str(told), "signal": told.number}
    except KeyboardInterrupt:
        return {"stopped": "interrupted", "signal": int(signal.SIGINT)}
    except Stopped as stopped:
        return {"stopped": str(stopped), "signal": max(0, stopped.exit_code - 128)}
    except NoSpace as full:
        return {"no_space": str(full)}
    except Failure as failure:
        return {"result": {"failed": str(failure), "exit_code": failure.exit_code}}
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return {"no_space": f"{error}; make room and run again"}
        return {"result": {"failed": f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}", "exit_code": 1}}


def end_with(lifeline: int) -> NoReturn:
    """Wait until the other end of this pipe is closed, which the kernel does when the parent dies, however it dies; then end at once.

    Not at a checkpoint: who starts the parent again at once must find the folders unlocked, and work can be killed at any moment.
    """
    while os.read(lifeline, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit  # not reached


def told(number: int, frame: Any) -> NoReturn:
    """The handler of SIGINT and SIGTERM."""
    raise Told(number)


def main() -> None:
    """Do the job that standard input names, and write its answer, one line of JSON, to what standard output was."""
    caught = (signal.SIGINT, signal.SIGTERM)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the parent died before it had said all
    asked = json.loads(line)
    channel, lifeline = os.dup(1), os.dup(0)  # neither is inherited by programs that the work starts
    os.dup2(2, 1)  # what libraries print must not stand between the parent and the answer
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()
    sys.path[:] = asked["path"]
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # as the command itself does
    try:
        for number in caught:
            signal.signal(number, told)
        said = answer(asked["work"], asked["job"])
    except Told as error:  # before the work began
        said = {"stopped": str(error), "signal": error.number}
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
    with os.fdopen(channel, "wb") as file:
        file.write(json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main()
