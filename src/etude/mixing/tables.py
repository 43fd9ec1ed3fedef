"""What was asked, drawn and trained, a source: the rows of the report's table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One source, or its rows with reasoning (`kind` "reasoned") or without ("plain") where the mixture tells
    them apart. `rows`: there are; `asked`, `drawn`: in all, repeats counted; `distinct`: different rows drawn;
    `classes`: rows drawn of each class, where classes are balanced."""

    source: str
    rows: int
    asked: int
    drawn: int
    distinct: int
    kind: str = ""
    classes: Mapping[str, int] = field(default_factory=dict)

    @property
    def repeats(self) -> int:
        """Draws of a row that had been drawn before."""
        return self.drawn - self.distinct

    @property
    def short(self) -> int:
        """Rows asked and not drawn."""
        return max(0, self.asked - self.drawn)


@dataclass(frozen=True, slots=True)
class Report:
    """What a mixture really drew, a line a source in the recipe's order; `notes` say in words what a reader
    should know: every shortfall, every repeat, every share that went to others."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def drawn(self) -> int:
        """Rows drawn in all."""
        return sum(line.drawn for line in self.lines)

    def plain(self) -> dict[str, Any]:
        """The same as plain data, for journals and results.json."""
        asked = sum(line.asked for line in self.lines)
        rows = [
            {
                "source": line.source,
                **({"kind": line.kind} if line.kind else {}),
                "rows": line.rows,
                "asked": line.asked,
                "asked_share": line.asked / asked if asked else 0.0,
                "drawn": line.drawn,
                "drawn_share": line.drawn / self.drawn if self.drawn else 0.0,
                "distinct": line.distinct,
                "repeats": line.repeats,
                "short": line.short,
                **({"classes": dict(line.classes)} if line.classes else {}),
            }
            for line in self.lines
        ]
        return {"asked": asked, "drawn": self.drawn, "sources": rows, "notes": list(self.notes)}


def notes_of(lines: Iterable[Line], shortfall: str) -> tuple[str, ...]:
    """What to say of lines: rows drawn again, rows missing, rows given for others."""
    said = []
    for line in lines:
        name = f"{line.source} ({line.kind} rows)" if line.kind else line.source
        if line.repeats:
            said.append(f"{name}: {line.drawn} rows drawn, {line.distinct} different ones: {line.repeats} are repeats")
        if line.short:
            given = "other sources fill in where they can" if shortfall == "fill" else "the set is smaller by that"
            said.append(f"{name}: {line.asked} rows asked, {line.drawn} drawn: {line.short} short, {given}")
        elif line.drawn > line.asked:
            said.append(f"{name}: {line.drawn - line.asked} rows more than asked, for sources that fell short")
    return tuple(said)


def realised(report: Report, encoded: Iterable[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """The realised mixture, a row a source: asked, drawn, distinct, repeats, passes, examples encoded, tokens,
    trained tokens, and the share of each in the whole; a last row sums up.

    `encoded`: (source, tokens, trained tokens) of every example that is trained, in any order; a row drawn
    twice comes twice. Truncation may have dropped examples, and a template may give several a row.
    """
    found: dict[str, list[int]] = {}
    for line in report.lines:
        found.setdefault(line.source, [0, 0, 0])
    for source, tokens, trained in encoded:
        tally = found[source]
        tally[0] += 1
        tally[1] += tokens
        tally[2] += trained
    table = []
    for source, (examples, tokens, trained) in found.items():
        lines = [line for line in report.lines if line.source == source]
        table.append(summed(source, lines, examples, tokens, trained))
    sums = [sum(tally[i] for tally in found.values()) for i in range(3)]
    table.append(summed("all", list(report.lines), sums[0], sums[1], sums[2]))
    for row in table:
        for key in ("asked", "drawn", "tokens", "trained_tokens"):
            row[f"{key}_share"] = row[key] / table[-1][key] if table[-1][key] else 0.0
    return table


def summed(source: str, lines: list[Line], examples: int, tokens: int, trained: int) -> dict[str, Any]:
    """One row of the realised mixture."""
    rows, drawn, distinct = (sum(getattr(line, key) for line in lines) for key in ("rows", "drawn", "distinct"))
    return {
        "source": source,
        "rows": rows,
        "asked": sum(line.asked for line in lines),
        "drawn": drawn,
        "distinct": distinct,
        "repeats": drawn - distinct,
        "passes": drawn / rows if rows else 0.0,
        "examples": examples,
        "tokens": tokens,
        "trained_tokens": trained,
    }
