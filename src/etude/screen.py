"""What the terminal shows while work goes on: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

INTERVAL = 10.0
"""Seconds between plain progress lines."""


class Watch(Protocol):
    """What the stages tell about their progress."""

    def say(self, text: str) -> None:
        """One line for the user."""
        ...

    @contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Progress of one stage: the function given is told (done so far, a word about it)."""
        ...


class Silent:
    """A Watch that shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    @contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Nothing."""
        yield lambda done, text: None


class Plain:
    """A Watch that prints lines to standard error."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval

    def say(self, text: str) -> None:
        """Print the line."""
        print(printable(text), file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Print how far it is every `interval` seconds."""
        began = time.monotonic()
        last = began

        def update(done: float, text: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= self.interval:
                last = now
                # the first few say little about the rest
                left = f", about {(now - began) * (total - done) / done:.0f} s left" if done > 0.1 * total else ""
                self.say(f"  {name}: {done:,.0f} of {total:,.0f} {unit}{left}{f', {text}' if text else ''}")

        yield update


class Terminal(Plain):
    """A Watch with a live bar."""

    @contextmanager
    def bar(self, name: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Draw a bar that goes away when the stage is done."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns: tuple[Any, ...] = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(name, total=total, text="")
            yield lambda done, text: progress.update(task, completed=done, text=text)


@contextmanager
def counting(watch: Watch, name: str, total: float, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """A bar that is told what was just done, not how far it is."""
    with watch.bar(name, total, unit) as told:
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            told(done, "")

        yield progress


def watcher(quiet: bool = False) -> Watch:
    """The Watch that fits this terminal."""
    if quiet:
        return Silent()
    return Terminal() if sys.stderr.isatty() else Plain()


def printable(text: str) -> str:
    """Text whose control characters (but newline and tab) are shown, not obeyed, by a terminal."""
    return "".join(c if c in "\n\t" or (c.isprintable() and c not in "\u200e\u200f") or c == " " else f"\\x{ord(c):02x}" for c in text)
