"""Scored rows for people to judge: `etude annotate` writes start and tuned answers in a hidden order, and reads the choices back.

The file has a row an item: `task`, `id`, `question`, `reference`, `answer_a`, `answer_b`, and two columns to fill in, `choice`
(`a`, `b` or `tie`) and `note`. Which answer is whose stands in a second file, OUT.key.jsonl, which the people who judge do not get.
Wins are told apart from chance by the sign test (Dixon and Mood 1946): under it ties say nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude import journal, runs
from etude.failures import DataError, RecipeError, nearest
from etude.reporting.words import clip, visible
from etude.seeds import number as drawn

COLUMNS = ("task", "id", "question", "reference", "answer_a", "answer_b", "choice", "note")

CHOICES = {
    **dict.fromkeys(("a", "answer_a", "answer a"), "a"),
    **dict.fromkeys(("b", "answer_b", "answer b"), "b"),
    **dict.fromkeys(("tie", "draw", "same", "equal", "both", "neither", "none"), "tie"),
}
"""What may stand in `choice` (case does not count) -> what it means. An empty cell is a row not judged yet."""

ACTS = re.compile(r"[\t\r\n]|\s*['\"]?\s*[=+\-@＝＋－＠]")
"""Cells that a spreadsheet would run as a formula, or cut at the start (OWASP, "CSV Injection", with the full-width signs)."""
NUMERIC = re.compile(r"\s*\d+(?:[.,]\d*)?(?:e\d+)?\s*", re.IGNORECASE)
"""Ids that a spreadsheet would turn into numbers: `12e34567` is one, and so is a row of 16 digits, rounded."""
CELL = 32_000
"""Characters of a cell: Excel holds 32,767."""

KEPT = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True, slots=True)
class Wins:
    """Judged rows: won by the start model, by the tuned one, ties; `open`: rows without a choice. `first`: how often answer A was
    chosen, where somebody won (half of the wins, if its place does not matter)."""

    start: int
    tuned: int
    tie: int
    open: int
    first: int

    @property
    def decided(self) -> int:
        """Rows that somebody won."""
        return self.start + self.tuned

    @property
    def p(self) -> float:
        """The sign test's exact two-sided p: wins against a fair coin, ties left out; 1 where nobody won."""
        from scipy.special import bdtr

        return min(1.0, 2 * float(bdtr(min(self.start, self.tuned), self.decided, 0.5))) if self.decided else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the tuned model's share of the rows that somebody won; (0, 1) where nobody did."""
        from etude import comparison

        if not self.decided:
            return 0.0, 1.0
        found = comparison.wilson(self.tuned, self.decided)
        return found.low, found.high

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data; `share` is None where nobody won."""
        counts = {"start": self.start, "tuned": self.tuned, "tie": self.tie, "open": self.open, "first": self.first}
        share = self.tuned / self.decided if self.decided else None
        return {**counts, "share": share, "interval": list(self.interval), "p": self.p}


@dataclass(frozen=True, slots=True)
class Summary:
    """What people chose: over all tasks, and by task."""

    wins: Wins
    tasks: Mapping[str, Wins] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The sums, and under `tasks` the same by task."""
        return {**self.wins.as_json(), "tasks": {task: wins.as_json() for task, wins in self.tasks.items()}}


# ---- writing ----------------------------------------------------------------------------------------


def key_of(out: Path) -> Path:
    """Where the key of a file is: OUT.key.jsonl beside it."""
    return out.with_name(f"{out.name}.key.jsonl")


def export(folder: Path, out: Path, *, blind: bool = True, seed: int = 0, limit: int | None = None, force: bool = False) -> int:
    """Write the scored rows of a run for people to judge, and their key beside them; returns the rows written.

    `blind`: each row's order is drawn from `seed`, its task and its id (else A is the start model and B the tuned one); `limit`: so many
    rows of all, drawn from `seed` (a higher limit keeps those of a lower one), in the order of the tasks and test sets; `force`:
    replace files that are there. Rows whose answers are equal have `tie` filled in. Of several sampled answers the first
    is shown. CSV (for spreadsheets) is UTF-8 with a byte order mark and `protected` cells; JSON Lines holds the texts as they are.

    Raises RecipeError for a name that ends otherwise, a limit below 1, files that are there, or a folder without a run; DataError where
    the run has no answers of both models yet.
    """
    kind = kind_of(out)
    if limit is not None and limit < 1:
        raise RecipeError(f"a limit of {limit}: at least one row is needed")
    key = key_of(out)
    for path in (out, key):
        if path.exists() and not force:
            raise RecipeError(f"{path} is there already, perhaps with somebody's choices; --force replaces it")
    found = list(pairs(folder))
    if not found:
        raise DataError(f"{folder}: no task of this run has scored rows")
    if limit is not None and limit < len(found):
        chance = [drawn(seed, "annotating", "rows", row["task"], row["id"]) for row, _ in found]
        chosen = set(sorted(range(len(found)), key=chance.__getitem__)[:limit])
        found = [pair for place, pair in enumerate(found) if place in chosen]
    orders = [drawn(seed, "annotating", "order", row["task"], row["id"]) & 1 if blind else 0 for row, _ in found]
    lines = [filled(row, answers if not order else answers[::-1]) for (row, answers), order in zip(found, orders, strict=True)]
    arms = ("start", "tuned")
    keys = ({"task": row["task"], "id": row["id"], "a": arms[o], "b": arms[1 - o]} for (row, _), o in zip(found, orders, strict=True))
    journal.write_rows(key, keys)  # first: a file without its key would be work lost
    if kind == "csv":
        journal.write_text(out, "\ufeff" + as_csv(lines))
    else:
        journal.write_rows(out, lines)
    return len(lines)


def kind_of(path: Path) -> str:
    """`csv` or `jsonl` by a file's name; raises RecipeError for another ending."""
    kind = KEPT.get(path.suffix.lower())
    if kind is None or path.name.endswith(".key.jsonl"):
        raise RecipeError(f"{path}: rows to judge are .csv or .jsonl{nearest(path.suffix, KEPT)}")
    return kind


def pairs(folder: Path) -> Iterator[tuple[dict[str, str], tuple[str, str]]]:
    """Every scored row of a run as ({task, id, question, reference}, (start answer, tuned answer)), in the order of the test sets."""
    for task in runs.recipe_of(folder).tasks():
        arms = []
        for arm in ("start", "tuned"):
            path = folder / runs.predictions_file(task, arm)
            if not path.is_file():
                raise DataError(f"{folder}: the {arm} model has not answered {task.task!r} yet; `etude run` with its recipe finishes it")
            arms.append({row["id"]: row for row in journal.read(path)})
        start, tuned = arms
        if tuned.keys() != start.keys():
            raise DataError(f"{folder}: the models answered different rows of {task.task!r}; `etude run` with its recipe does so again")
        name = task.task if task.split == "test" else f"{task.task} ({task.split})"
        for row in start.values():
            told = {"task": name, "id": str(row["id"]), "question": row["question"], "reference": "\n".join(row["references"])}
            yield told, ((row["outputs"] or [""])[0], (tuned[row["id"]]["outputs"] or [""])[0])


def filled(row: Mapping[str, str], answers: tuple[str, str]) -> dict[str, str]:
    """A row of the file, with nothing chosen unless there is nothing to choose."""
    same = answers[0].split() == answers[1].split()
    return {**row, "answer_a": answers[0], "answer_b": answers[1], "choice": "tie" if same else "", "note": ""}


def as_csv(lines: Iterable[Mapping[str, str]]) -> str:
    """Rows as CSV text, every cell in quotes and `protected`."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow([protected(line[column], column == "id") for column in COLUMNS])
    return text.getvalue()


def protected(cell: str, name: bool = False) -> str:
    """A cell that no spreadsheet runs or changes: an apostrophe before what would be a formula (or, of a `name`, a number), control
    characters and halves of characters as marks, and at most CELL characters."""
    shown = clip(visible(cell), CELL)
    return f"'{shown}" if ACTS.match(shown) or (name and NUMERIC.fullmatch(shown)) else shown


# ---- reading back -----------------------------------------------------------------------------------


def read_back(path: Path, key: Path | None = None) -> Summary:
    """What people chose in a file that `export` wrote; `key` is OUT.key.jsonl beside it by default.

    Rows may be in any order, and rows or other columns may be missing or added; a spreadsheet's semicolons or tabs instead of
    commas are read, too. Raises DataError, with the line, for a choice that is none of CHOICES, a row that the key does not know or that is
    there twice, and columns or files that are missing.
    """
    key = key or key_of(path)
    for file in (path, key):
        if not file.is_file():
            raise DataError(f"{file}: there is no such file")
    whose: dict[tuple[str, str], str] = {}
    for number, row in enumerate(journal.read(key), 1):
        if not {"task", "id", "a", "b"} <= row.keys() or {row["a"], row["b"]} != {"start", "tuned"}:
            raise DataError(f"{key}:{number}: not the key of a file to judge")
        whose[same_id(row["task"]), same_id(row["id"])] = row["a"]
    counts: dict[str, dict[str, int]] = {}
    seen: set[tuple[str, str]] = set()
    for number, row in rows_of(path):
        place = (same_id(row.get("task")), same_id(row.get("id")))
        if place not in whose:
            raise DataError(f"{path}:{number}: the key {key.name} has no row {place[1]!r} of task {place[0]!r}")
        if place in seen:
            raise DataError(f"{path}:{number}: row {place[1]!r} of task {place[0]!r} is there twice")
        seen.add(place)
        said = str(row.get("choice") or "").strip().strip(".'").lower()
        if said and said not in CHOICES:
            raise DataError(f"{path}:{number}: choice {said[:60]!r} is none of a, b and tie{nearest(said[:60], CHOICES)}")
        tally(counts.setdefault(place[0], {}), CHOICES.get(said, "open"), whose[place])
    tasks = {task: wins(found) for task, found in counts.items()}
    return Summary(Wins(*(sum(getattr(one, name) for one in tasks.values()) for name in ORDER)), tasks)


ORDER = ("start", "tuned", "tie", "open", "first")


def tally(counts: dict[str, int], choice: str, first: str) -> None:
    """Count one row; `first` is whose answer A was."""
    if choice in ("a", "b"):
        winner = first if choice == "a" else {"start": "tuned", "tuned": "start"}[first]
        counts["first"] = counts.get("first", 0) + (choice == "a")
    else:
        winner = choice
    counts[winner] = counts.get(winner, 0) + 1


def wins(counts: Mapping[str, int]) -> Wins:
    """Counts of one task."""
    return Wins(*(counts.get(name, 0) for name in ORDER))


def same_id(cell: Any) -> str:
    """A task or id without what `protected` may have put before it."""
    return visible(str(cell if cell is not None else "")).lstrip("'")


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a file to judge."""
    kind = kind_of(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); save it as UTF-8 (in Excel: CSV UTF-8)") from error
    if kind == "jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, parsed(path, number, line)
        return
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    missing = [name for name in ("task", "id", "choice") if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}:1: no column {missing[0]!r}; the first line must name the columns, as it was written")
    previous = csv.field_size_limit(1 << 30)
    try:
        for row in reader:
            if any(row.get(name) for name in ("task", "id", "choice")):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from error
    finally:
        csv.field_size_limit(previous)


def parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    """One JSON line; raises DataError for what is none or lacks the columns."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}:{number}: not JSON ({error})") from error
    if not isinstance(row, dict) or not {"task", "id", "choice"} <= row.keys():
        raise DataError(f"{path}:{number}: a row needs task, id and choice")
    return row


def as_text(found: Summary) -> str:
    """The choices for a terminal: a line a task, and one for all where there are several."""
    lines = []
    for task, one in [*found.tasks.items(), *([("all", found.wins)] if len(found.tasks) > 1 else [])]:
        line = f"{visible(task)}: tuned won {one.tuned}, start won {one.start}, {one.tie} ties, {one.open} not judged"
        if one.decided:
            low, high = one.interval
            p = "p < .001" if one.p < 0.001 else f"p = {one.p:.3f}"
            line += f"; tuned won {one.tuned / one.decided:.3f} [{low:.3f}, {high:.3f}] of the decided rows, sign test {p}"
            line += f"; answer A was chosen in {one.first} of {one.decided}"
        lines.append(line)
    return "\n".join(lines or ["no row is in the file"])
