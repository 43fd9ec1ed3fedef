"""`etude curate DATA`: checks over a data set without a recipe; the rows that stay, and those that leave with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from etude import journal, preparing, templates
from etude.converting import Opened, opened
from etude.converting.writing import write
from etude.curation import CHECKS, PRESETS, Beside, Check, Row
from etude.curation.applying import Applied, apply
from etude.failures import DataError, RecipeError
from etude.records import BadRow
from etude.screen import Silent, Watch, counting

ANY_CHECK: TypeAdapter[Check] = TypeAdapter(Annotated[Check, CHECKS])


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a data set: its format and why it is thought to be that, rows read and unreadable, and what the checks did.
    `rows`: all that were read, in their order."""

    path: str
    kind: str
    why: str
    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...]
    applied: Applied
    beside: Beside

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        counts = {"read": len(self.rows), "kept": len(self.applied.kept), "dropped": len(self.applied.dropped), "bad": len(self.bad)}
        return {
            "data": self.path,
            "format": {"type": self.kind, "why": self.why},
            "rows": counts,
            "checks": [step.plain() for step in self.applied.steps],
            "failures": list(self.applied.failures),
        }


def checks_of(named: Sequence[str]) -> list[Check]:
    """The checks of names, presets (`standard`, `thorough`) and settings in YAML (`{type: length, most_words: 300}`), each once, in
    the order given; raises RecipeError naming what is no check."""
    import yaml

    found: list[Check] = []
    for text in named:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--check {text!r}: not YAML") from error
        for one in PRESETS[value] if isinstance(value, str) and value in PRESETS else (value,):
            try:
                check = ANY_CHECK.validate_python(one)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(map(str, first["loc"]))
                raise RecipeError(f"--check {text!r}: {where}{': ' if where else ''}{first['msg']}") from error
            if check not in found:
                found.append(check)
    return found


def clean(
    path: str,
    checks: Sequence[Check],
    *,
    origin: Mapping[str, Any] | None = None,
    against: Sequence[str] = (),
    max_bad_rows: int = 0,
    watch: Watch | None = None,
) -> Cleaned:
    """The checks over the rows of `path` (a file, folder, glob or hub data set); `against`: evaluation sets for contamination.

    Raises RecipeError for a format that is not known or a check that does not fit, DataError with places and reasons for more
    than `max_bad_rows` rows that cannot be used.
    """
    told = watch or Silent()
    found = opened(path, origin)
    rows, bad = rows_of(found)
    refuse(path, bad, max_bad_rows)
    template = templates.load(found.source.template) if found.source.template else None
    beside = Beside(
        evaluation={name: rows_of(opened(name, None))[0] for name in against},
        labels={template.task: template.labels} if template and template.labels else {},
    )

    def tell(name: str, total: int) -> AbstractContextManager[Any]:
        return counting(told, name, total)

    return Cleaned(path, found.kind, found.why, tuple(rows), tuple(bad), apply(rows, checks, beside, tell), beside)


def rows_of(found: Opened) -> tuple[list[Row], list[BadRow]]:
    """Rows in words, and those that cannot be put into words."""
    template = templates.load(found.source.template) if found.source.template else None
    rows, bad = [], []
    for record in found.source.read("data"):
        if isinstance(record, BadRow):
            bad.append(record)
            continue
        try:
            rows.append(Row(record, templates.write(record, template)))
        except DataError as error:
            bad.append(BadRow(record.origin, str(error).removeprefix(f"{record.origin}: "), ""))
    return rows, bad


def refuse(path: str, bad: Sequence[BadRow], most: int) -> None:
    """Raise DataError for more unusable rows than allowed."""
    if len(bad) > most:
        raise DataError(f"{path}: {preparing.refusal([(path, row) for row in bad], most)}\n--max-bad-rows {len(bad)} leaves them out")


def page(done: Cleaned) -> str:
    """The page of what was found, as HTML."""
    from etude.reporting import curation_page
    from etude.reporting.surveying import survey

    beside = done.beside
    return curation_page.page(survey(Path(done.path).name, done.rows, done.applied, evaluation=beside.evaluation, labels=beside.labels))


def save(done: Cleaned, out: Path, force: bool = False) -> Path:
    """Write the rows that stay to `out` (.jsonl, .json, .csv, .parquet; .gz), and the others with their reasons to OUT.dropped.jsonl
    beside it, whose path is returned. Raises RecipeError for a file that is there already or is the input."""
    place = Path(done.path).expanduser()
    left = out.with_name(f"{out.name}.dropped.jsonl")
    if out.is_dir():
        raise RecipeError(f"{out} is a folder; give the name of a file")
    if place.exists() and out.exists() and out.samefile(place):
        raise RecipeError(f"{out} is the input itself; give another name")
    for path in (out, left):
        if path.exists() and not force:
            raise RecipeError(f"{path} is there already; --force replaces it")
    columns = tuple(dict.fromkeys(key for row in done.applied.kept for key in row.record.fields))
    gone = [
        {**preparing.as_row(row.record), "check": check, "reason": fate.reason, "of": fate.of} for row, fate, check in done.applied.dropped
    ]
    bad = [
        {"path": row.origin.path, "line": row.origin.line, "check": "bad row", "reason": row.reason, "text": row.text[:500]}
        for row in done.bad
    ]
    journal.write_rows(left, [*gone, *bad])
    write(out, (dict(row.record.fields) for row in done.applied.kept), columns, False)
    return left
