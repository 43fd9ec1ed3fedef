"""The chat itself: lines in, answers out as they come, and Ctrl-C that stops the answer and not the program.

What a model writes is shown, never obeyed: control characters and escapes appear as text.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from etude import loading
from etude.chatting.saving import Rows
from etude.chatting.session import Again, Leave, Session, Turn
from etude.chatting.voices import LocalVoice, RemoteVoice, Voice
from etude.failures import Failure, RecipeError
from etude.models import Sampling
from etude.screen import printable

FENCE = '"""'


@dataclass(frozen=True, slots=True)
class Chatting:
    """How to talk. `base`: the run's start model answers too; `save`: where rows go; `form`: the chat format, for a model without
    a run; `model` and `key_env`: for a server."""

    system: str = ""
    base: bool = False
    save: Path = Path("chat.jsonl")
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=1024))
    form: str | None = None
    model: str | None = None
    key_env: str | None = None


def chat(spec: str, root: Path, settings: Chatting, say: loading.Say) -> None:
    """Talk to what `spec` names until the input ends. Raises RecipeError where there is nobody of that name; where the input is no
    terminal, any Failure of a turn ends the chat."""
    session, voices = opened(spec, root, settings, say)
    interactive = sys.stdin.isatty()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (arrows and history in input())
        say(f"talking to {' and '.join(session.voices)}; /help lists the commands, Ctrl-D leaves")
    with contextlib.ExitStack() as stack:
        for voice in voices:
            stack.callback(voice.close)
        interrupts = stack.enter_context(Interrupts())
        for line in lines(interrupts, interactive):
            try:
                turn(line, session, voices, settings.sampling, interrupts)
            except Leave:
                break
            except Failure as failure:
                if not interactive:
                    raise
                print(f"etude: {printable(str(failure))}", file=sys.stderr)


def opened(spec: str, root: Path, settings: Chatting, say: loading.Say) -> tuple[Session, list[Voice]]:
    """The session and who answers in it; raises RecipeError for settings that mean nothing together."""
    rows = Rows(settings.save)
    voices: list[Voice]
    if spec.startswith(("http://", "https://")):
        if settings.base or settings.form:
            raise RecipeError("--base and --format are for a run or a model on this machine, not for a server")
        voices = [RemoteVoice(spec, settings.model, settings.key_env)]
    else:
        if settings.model or settings.key_env:
            raise RecipeError("--model and --key-env are for a server (http://...)")
        run = loading.run_folder(spec, root)
        if settings.base and run is None:
            raise RecipeError(f"--base needs a run, which has a start model; {spec} is none")
        voices = [LocalVoice(loading.load(spec, root, say, settings.form))]
        if settings.base and run is not None:
            voices.append(LocalVoice(loading.start_of(run, say)))
    return Session([voice.name for voice in voices], rows, settings.system), voices


def turn(line: str, session: Session, voices: Sequence[Voice], sampling: Sampling, interrupts: Interrupts) -> None:
    """One line: a command, or a question to everybody."""
    question = line.removeprefix("/") if line.startswith("//") else line
    if line.startswith("/") and not line.startswith("//"):
        done = session.command(line)
        if not isinstance(done, Again):
            print(printable(done), file=sys.stderr)
            return
        question = done.question
    said = Turn(question)
    for voice in voices:
        if len(voices) > 1:
            print(printable(f"[{voice.name}] "), end="", flush=True)
        said.answers[voice.name] = heard(voice, session, question, sampling, interrupts)
    if any(said.answers.values()):
        session.turns.append(said)


def heard(voice: Voice, session: Session, question: str, sampling: Sampling, interrupts: Interrupts) -> str:
    """One voice's answer, shown as it comes; what there is of it where it was interrupted."""
    parts: list[str] = []
    with interrupts.stopping(voice.blocking):
        pieces = iter(voice.answer(session.messages(voice.name, question), sampling))
        try:
            for piece in pieces:
                parts.append(piece)
                print(printable(piece), end="", flush=True)
                if interrupts.stopped:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            close = getattr(pieces, "close", None)
            if close:
                close()
            print(flush=True)
    if interrupts.stopped:
        print("(stopped)", file=sys.stderr)
    return "".join(parts)


def lines(interrupts: Interrupts, interactive: bool, source: TextIO | None = None) -> Iterator[str]:
    """What the user says, line by line or between lines of three quotation marks, until the input ends."""
    waiting: list[str] | None = None
    while True:
        try:
            with interrupts.stopping(True):
                line = next_line("" if not interactive else "... " if waiting is not None else ">>> ", source)
        except KeyboardInterrupt:
            if not interactive or interrupts.again:
                return
            interrupts.again = True
            waiting = None
            print("\n(Ctrl-C again, or Ctrl-D, leaves)", file=sys.stderr)
            continue
        interrupts.again = False
        if line is None:
            return
        if waiting is None and line.startswith(FENCE):
            waiting, line = [], line.removeprefix(FENCE)
        if waiting is not None:
            ended = line.endswith(FENCE)
            waiting.append(line.removesuffix(FENCE))
            if not ended:
                continue
            line, waiting = "\n".join(waiting).strip("\n"), None
        if line.strip():
            yield line


def next_line(prompt: str, source: TextIO | None) -> str | None:
    """The next line without its end, None at the end of the input."""
    if prompt:
        try:
            return input(prompt)
        except EOFError:
            print(file=sys.stderr)
            return None
    line = (source or sys.stdin).readline()
    return line.removesuffix("\n").removesuffix("\r") if line else None


class Interrupts:
    """Ctrl-C as a wish: noted, and raised only where somebody waits for the keyboard or the network, so that no step of a model
    is torn. `again`: the last thing at the keyboard was a Ctrl-C."""

    def __init__(self) -> None:
        self.stopped = False
        self.again = False
        self.raising = False
        self.before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self.note)
        return self

    def __exit__(self, *raised: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def note(self, number: int, frame: FrameType | None) -> None:
        """A Ctrl-C has come."""
        self.stopped = True
        if self.raising:
            self.raising = False
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def stopping(self, raising: bool) -> Iterator[None]:
        """A block that Ctrl-C stops: at once where it is `raising`, else where the block looks."""
        self.stopped = False
        self.raising = raising
        try:
            yield
        finally:
            self.raising = False
