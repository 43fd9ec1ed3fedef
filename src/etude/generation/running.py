"""A strategy at work: its rows and refusals on disk as they come, each once, however often the process is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude import journal
from etude.failures import DataError
from etude.generation import Given, Made, Refused, Strategy
from etude.records import Origin, Record, identify


@dataclass(slots=True)
class Tally:
    """How far a strategy is: rows made, refusals by rule, and what the asker counts."""

    made: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    facts: Mapping[str, int] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"made": self.made, "refused": dict(self.refused.most_common()), **self.facts}


Told = Callable[[Tally, Made | Refused], None]
"""Hears of every outcome, with the tally that counts it."""


def generate(strategy: Strategy, given: Given, folder: Path, told: Told = lambda tally, outcome: None) -> Tally:
    """Write `rows.jsonl` and `refused.jsonl` into `folder`, a line each as it is decided.

    Lines that a killed run left are the same program's first ones: they are checked, not written again. Raises DataError where
    they differ (the files were changed, or belong to other settings), and what the strategy raises.
    """
    tally = Tally()
    with (
        journal.Journal(folder / "rows.jsonl") as rows,
        journal.Journal(folder / "refused.jsonl") as refused,
    ):
        before = {kept.path: before_it(kept.path) for kept in (rows, refused)}
        for number, outcome in enumerate(strategy.generate(given)):
            kept, row = (rows, made_row(outcome)) if isinstance(outcome, Made) else (refused, {"at": number, **refused_row(outcome)})
            line = journal.line(row)
            earlier = next(before[kept.path], None)
            if earlier is None:
                kept.append(row)
            elif earlier != line:
                raise DataError(f"{kept.path} holds other rows than these settings make; remove {folder} to make them anew")
            if isinstance(outcome, Made):
                tally.made += 1
            else:
                tally.refused[outcome.rule] += 1
            tally.facts = given.ask.facts()
            told(tally, outcome)
    tally.facts = given.ask.facts()
    return tally


def before_it(path: Path) -> Iterator[bytes]:
    """The whole lines that are in a file now."""
    with open(path, "rb") as file:
        left = path.stat().st_size
        for line in file:
            if left <= 0:
                return
            left -= len(line)
            yield line


def made_row(row: Made) -> dict[str, Any]:
    """A made row as a line: its fields, and under `made` what is known of it."""
    origin = {"path": row.origin.path, "line": row.origin.line, "licence": row.origin.licence}
    about = {"id": row.id or identify(row.fields), "parents": list(row.parents), "origin": origin, **row.notes}
    return {**row.fields, "made": about}


def refused_row(row: Refused) -> dict[str, Any]:
    """A refusal as a line."""
    return {"rule": row.rule, "text": row.text, "parents": list(row.parents), **row.notes}


def records(folder: Path, source: str) -> list[Record]:
    """The rows that `generate` left in `folder`, as Records of a source."""
    found = []
    for row in journal.read(folder / "rows.jsonl"):
        about = row.pop("made")
        found.append(Record(about["id"], row, Origin(**about["origin"]), source))
    return found
