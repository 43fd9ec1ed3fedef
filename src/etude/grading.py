"""Scoring answers that already exist: a predictions file and a metric in, a number with its signature and interval out.

The file is JSON Lines (perhaps .gz or .zst): `{"id", "output" or "outputs": [...], "references": [...] or "reference"}` a line;
further keys are handed to metrics that read them (`Prediction.fields`). The predictions of a run,
`predictions/<task>.<arm>.jsonl`, are such files, and give the numbers of its report: both go through `Metric.stats`,
`Metric.score` and `comparison.interval`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from etude.failures import DataError, RecipeError, nearest
from etude.metrics import METRICS, Metric, reads_outputs, reads_references
from etude.metrics.items import RowError
from etude.records import BadRow, Prediction

KNOWN = ("id", "output", "outputs", "reference", "references")
"""The keys of a row that are not a metric's `fields`."""


@dataclass(frozen=True, slots=True)
class Graded:
    """One metric over one file. `interval`: 95 %, both ends in the metric's unit; `values`: (id, the item's own number)."""

    score: float
    signature: str
    interval: tuple[float, float]
    items: int
    values: tuple[tuple[str, float], ...]

    def as_json(self, values: bool = False) -> dict[str, Any]:
        """`score`, `signature`, `interval`, `items`, and `values` (id -> number) if asked for; what is not finite is None."""
        found: dict[str, Any] = {
            "score": finite(self.score),
            "signature": self.signature,
            "interval": [finite(end) for end in self.interval],
            "items": self.items,
        }
        return {**found, "values": {id: finite(value) for id, value in self.values}} if values else found


def finite(value: float) -> float | None:
    """The number as JSON can hold it."""
    return value if math.isfinite(value) else None


def grade(path: Path | str, metric: str, settings: Mapping[str, str] | None = None) -> Graded:
    """Score a predictions file.

    `metric` is a catalog name (or `module:Class`), `settings` its settings as text (`{"stemmer": "true"}`). Raises RecipeError for
    an unknown metric, setting or value, and DataError, with file and line, for rows that cannot be scored.
    """
    from etude import comparison

    measure = metric_of(metric, settings or {})
    rows, lines = read(path, reads_outputs(measure), reads_references(measure))
    try:
        stats = measure.stats(rows)
        signature = measure.signature(rows)
    except RowError as error:
        raise DataError(f"{path}:{lines.get(error.id, 0)}: {error.what} (metric {metric}, row {error.id})") from error
    except DataError as error:
        raise DataError(f"{path}: {error} (metric {metric})") from error
    found = comparison.interval(stats, measure)
    values = tuple((row.id, measure.score(line)) for row, line in zip(rows, stats, strict=True))
    return Graded(measure.score(stats.sum(axis=0)), signature, (found.low, found.high), len(rows), values)


def metric_of(name: str, settings: Mapping[str, str]) -> Metric:
    """The metric of a catalog name with settings given as text; raises RecipeError, with the nearest name, for what there is not."""
    try:
        kind = METRICS.find(name)
    except PydanticCustomError as error:
        raise RecipeError(f"--metric: {error.message()}") from error
    fields = getattr(kind, "model_fields", {})
    given = {}
    for key, text in settings.items():
        if key not in fields:
            hint = nearest(key, fields) if fields else "; it has none"
            raise RecipeError(f"--set {key}={text}: {name} has no setting {key!r}{hint}")
        given[key] = setting(kind, name, key, text)
    metric: Metric = kind(**given)
    return metric


def setting(kind: type[Any], name: str, key: str, text: str) -> Any:
    """The value that a text means for a setting: itself if that fits, else as YAML, else a list with commas."""
    first: ValidationError | None = None
    for value in readings(text):
        try:
            return getattr(kind(**{key: value}), key)
        except ValidationError as error:
            first = first or error
        except RecipeError as error:
            raise RecipeError(f"--set {key}={text}: {error}") from error
    said = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in first.errors()) if first else ""
    raise RecipeError(f"--set {key}={text}: {said} (a setting of {name})")


def readings(text: str) -> Iterator[Any]:
    """What a text after `--set key=` may mean, the likeliest first."""
    import yaml

    yield text
    try:
        words, value = yaml.load(text, Loader=yaml.BaseLoader), yaml.safe_load(text)  # the first reads no `yes` as true
    except yaml.YAMLError:
        words = value = text
    yield words
    yield value
    yield [part.strip() for part in text.split(",")]


def read(path: Path | str, outputs: bool = True, references: bool = True) -> tuple[list[Prediction], dict[str, int]]:
    """The predictions of a file, and each id's line. `outputs`, `references`: every row must have one. Raises DataError for a file that is
    missing, empty or no JSON Lines, and for the first row that cannot be scored."""
    from etude.sources.containers import Table
    from etude.sources.json_lines import read_lines

    place = Path(path)
    if not place.is_file():
        raise DataError(f"{path} is a folder, not a predictions file" if place.is_dir() else f"there is no file {path}{neighbour(place)}")
    rows, lines = list[Prediction](), dict[str, int]()
    for row in read_lines(place, Table(str(path), container="jsonl")):
        where = str(row.origin)
        if isinstance(row, BadRow):
            raise DataError(f"{where}: {row.reason}")
        found = prediction(where, row.cells, outputs, references)
        if found.id in lines:
            raise DataError(
                f"{where}: the id {found.id!r} stands in line {lines[found.id]} already; an item has one line (several answers: outputs)"
            )
        lines[found.id] = row.origin.line
        rows.append(found)
    if not rows:
        raise DataError(f"{path} has no predictions: it is empty")
    check_counts(path, rows, lines)
    return rows, lines


def neighbour(place: Path) -> str:
    """The nearest file name beside a missing one."""
    names = [entry.name for entry in place.parent.iterdir() if entry.is_file()] if place.parent.is_dir() else []
    hint = nearest(place.name, names)
    return hint if "did you mean" in hint else ""


def check_counts(path: Path | str, rows: list[Prediction], lines: Mapping[str, int]) -> None:
    """Raise DataError where items have different numbers of outputs: their means are not equally sure, and a file was cut off or
    mixed up. An item with none (`[]`) counts as wrong and may stand beside any."""
    drawn = [row for row in rows if row.outputs]
    odd = next((row for row in drawn if len(row.outputs) != len(drawn[0].outputs)), None)
    if odd:
        first, other = (f"{len(row.outputs)} output{'s' * (len(row.outputs) != 1)}" for row in (drawn[0], odd))
        raise DataError(f"{path}:{lines[odd.id]}: {other} here, {first} in line {lines[drawn[0].id]}; give every item as many")


def prediction(where: str, cells: Mapping[str, Any], outputs: bool, references: bool = True) -> Prediction:
    """A row of a predictions file; raises DataError with its place."""
    id = cells.get("id")
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str) or not id:
        raise DataError(
            f"{where}: 'id' must be a text or whole number" + (f", not {id!r:.80}" if "id" in cells else f"; the keys are {keys(cells)}")
        )
    said = texts(where, cells, "output", "outputs", required=outputs)
    right = texts(where, cells, "reference", "references", required=references)
    if references and not right:
        raise DataError(f"{where}: 'references' is empty; there is nothing to score against (a question without an answer: [\"\"])")
    return Prediction(id, said, right, fields={key: value for key, value in cells.items() if key not in KNOWN})


def texts(where: str, cells: Mapping[str, Any], one: str, many: str, *, required: bool) -> tuple[str, ...]:
    """The texts under the key `one` or `many`; raises DataError for both, neither (where required), or anything but texts."""
    if one in cells and many in cells:
        raise DataError(f"{where}: both {one!r} and {many!r} are given; give one of them")
    if one not in cells and many not in cells:
        if required:
            raise DataError(f"{where}: neither {one!r} nor {many!r} is there; the keys are {keys(cells)}")
        return ()
    key = one if one in cells else many
    value = cells[key]
    if key == many and not isinstance(value, list):
        raise DataError(f"{where}: {many!r} must be a list of texts, not {shown(value)}; a single one goes under {one!r}")
    for entry in value if key == many else [value]:
        if not isinstance(entry, str):
            number = isinstance(entry, int | float) and not isinstance(entry, bool)
            say = "; write it as text, in quotes" if number else '; write "" for none' if entry is None else ""
            raise DataError(f"{where}: {key!r} must hold text, not {shown(entry)}{say}")
    return tuple(value) if key == many else (value,)


def shown(value: Any) -> str:
    """A wrong value and what it is, shortened."""
    if value is None:
        return "null"
    names = {bool: "the truth value", int: "the number", float: "the number", str: "the text", list: "the list", dict: "the object"}
    return f"{names.get(type(value), type(value).__name__)} {value!r:.60}"


def keys(cells: Mapping[str, Any]) -> str:
    """The keys of a row, for a message."""
    return ", ".join(map(repr, list(cells)[:12])) or "none"
