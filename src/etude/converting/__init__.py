"""Any data set format into any other: `etude convert IN OUT --to alpaca|sharegpt|messages|prompt-completion`.

Rows go one by one through `templates.write` (a Conversation) into the row of the target (`shapes`), so
memory stays flat. A row that the target cannot hold without changing what is said or trained is rejected
with the reason; what else a target has no place for is counted and told. OUT appears only when it is whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etude import templates
from etude.converting.shapes import SHAPES, Shape, Unfit, as_text, count, extras, is_single
from etude.converting.writing import kind_of, write
from etude.failures import DataError, RecipeError, nearest
from etude.records import BadRow, Record
from etude.sources import SOURCES, Source
from etude.sources.alpaca import KEYS
from etude.sources.messages import CONVERSATIONS, MESSAGES, TOOLS
from etude.sources.prompt_completion import CONTEXTS
from etude.sources.reading import OWN, pick
from etude.sources.sniffing import sniff
from etude.sources.tables import Table, files
from etude.sources.tables import opened as opened_table

LISTED = 10
"""Rejected rows that a message lists."""
WORDED = (*KEYS, "messages", "tools")
"""Fields that become messages (and tools) without a template."""
READ: dict[str, Callable[[Any, list[str]], set[str]]] = {
    "alpaca": lambda source, columns: set(KEYS),
    "messages": lambda source, columns: chat_keys(source, columns, MESSAGES),
    "sharegpt": lambda source, columns: chat_keys(source, columns, CONVERSATIONS),
    "prompt_completion": lambda source, columns: {
        *source.keys("data", columns), *((source.context and [source.context]) or CONTEXTS), "system", "history", *TOOLS,
    },
}  # fmt: skip
"""Format -> the keys it reads; the others go along as they are. Of other formats a row of the file is not a row here."""
KEPT = 1000
"""Rejected rows that the summary keeps with their reasons; the rest is counted."""


@dataclass(slots=True)
class Tally:
    """What happened to the rows so far. `extra`: further fields of the records, in the order met;
    `optional`: keys of the target that some row has; `lists`: whether a prompt or completion is a list."""

    read: int = 0
    written: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)
    unusable: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    extra: dict[str, None] = field(default_factory=dict)
    optional: dict[str, None] = field(default_factory=dict)
    lists: bool = False

    def reject(self, origin: object, reason: str) -> None:
        """One row that cannot be used."""
        self.unusable += 1
        if len(self.rejected) < KEPT:
            self.rejected.append((str(origin), reason))


@dataclass(frozen=True, slots=True)
class Converted:
    """The summary: rows read, written and rejected (place and reason; the first KEPT), the input's format and
    why it is thought to be that, and what the target could not hold (thing -> rows)."""

    read: int
    written: int
    unusable: int
    rejected: tuple[tuple[str, str], ...]
    type: str
    why: str
    lost: Mapping[str, int]
    path: str

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "out": self.path,
            "from": {"type": self.type, "why": self.why},
            "rows": {"in": self.read, "out": self.written, "rejected": self.unusable},
            "rejected": [{"row": place, "reason": reason} for place, reason in self.rejected],
            "not_carried": dict(self.lost),
        }


def convert(
    path: str,
    out: Path,
    to: str,
    *,
    origin: str | Mapping[str, Any] | None = None,
    max_bad_rows: int = 0,
    force: bool = False,
) -> Converted:
    """Write the rows of `path` (a file, folder, glob or hub data set) to `out` in the format `to`.

    `origin`: the input's format, a name of SOURCES or a source's settings with `type`; None: sniffed.
    Raises RecipeError for an unknown format, for an `out` that exists (unless `force`) or is the input;
    DataError, with the rows and reasons, when more than `max_bad_rows` rows cannot be used. Then nothing is written.
    """
    to = to.replace("_", "-")
    if to not in SHAPES:
        raise RecipeError(f"--to: no format is called {to!r}{nearest(to, SHAPES)}")
    shape = SHAPES[to]
    check_target(path, out, to, force)
    found = opened(path, origin)
    source = found.source
    holds = kind_of(out)
    template = templates.load(source.template) if source.template else None
    tally = Tally()
    if to == "prompt-completion" or holds in ("csv", "parquet"):
        # what the rows of the whole file have in common must be known before the first is written
        for _ in shaped(source, template, shape, tally):
            pass
        verdict(tally, path, to, max_bad_rows)
    texts = to == "prompt-completion" and not tally.lists
    columns = tuple(key for key in shape.keys if key in tally.optional) + tuple(tally.extra)
    again = Tally()

    def rows() -> Iterator[Mapping[str, Any]]:
        for row in shaped(source, template, shape, again):
            row = as_text(row) if texts else row
            again.written += 1
            yield cells(row, out) if holds == "csv" else row
        verdict(again, path, to, max_bad_rows)

    write(out, rows(), columns, texts)
    lost = {**again.lost, **{f"the key {key!r} (a name with a meaning of its own)": again.read for key in found.unread}}
    return Converted(again.read, again.written, again.unusable, tuple(again.rejected), found.kind, found.why, lost, str(out))


def origin_of(text: str | None) -> Mapping[str, Any] | None:
    """The value of `--from`: a format's name, or a source's settings in YAML (`{type: columns, template: nli}`)."""
    import yaml

    if text is None:
        return None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--from: not YAML: {' '.join(str(error).split())}") from error
    if isinstance(value, str):
        value = {"type": value.replace("-", "_")}
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise RecipeError(f"--from: a format's name or settings with a type are needed, not {text!r}{nearest('', SOURCES)}")
    return value


def check_target(path: str, out: Path, to: str, force: bool) -> None:
    """Raise RecipeError for an output that may not be written, DataError for a file kind that cannot hold the rows."""
    if kind_of(out) == "csv" and not SHAPES[to].flat:
        flat = [name for name, shape in SHAPES.items() if shape.flat]
        raise DataError(
            f"{out}: a row of {to} holds lists, and a CSV cell is text; write .jsonl, .json or .parquet, or --to {'|'.join(flat)}"
        )
    place = Path(path).expanduser()
    if out.is_dir():
        raise RecipeError(f"{out} is a folder; give the name of a file")
    if out.exists() and "://" not in path and any(out.samefile(name) for name in (files(path) if not place.is_file() else [path])):
        raise RecipeError(f"{out} is the input itself, or a part of it; give another name")
    if out.exists() and not force:
        raise RecipeError(f"{out} is there already; --force replaces it")


@dataclass(frozen=True, slots=True)
class Opened:
    """The source that reads the input, the name of its format, why it is thought to be that, and the keys of
    its rows that can neither be read nor kept."""

    source: Source
    kind: str
    why: str
    unread: tuple[str, ...] = ()


def opened(path: str, origin: str | Mapping[str, Any] | None) -> Opened:
    """The input, sniffed unless its format is given; keys that its source does not read are kept."""
    settings = {"type": origin} if isinstance(origin, str) else dict(origin or {"type": "auto"})
    kind, why = str(settings.get("type")), "--from"
    if kind == "auto":
        looked: dict[str, Any] = {key: settings[key] for key in ("container", "encoding", "template") if key in settings}
        kind, why = sniff(path, **looked)
    if kind not in SOURCES:
        raise RecipeError(f"--from: no format is called {kind!r}{nearest(kind, SOURCES)}")
    try:
        source = built(kind, path, settings)
        if settings.get("keep") or kind not in READ:
            return Opened(source, kind, why)
        others = beside(source, kind, path)
        extra = [key for key in others if key not in OWN]
        whole = built(kind, path, {**settings, "keep": extra}) if extra else source
        return Opened(whole, kind, why, tuple(key for key in others if key in OWN))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"--from: {'.'.join(map(str, first['loc']))}{': ' if first['loc'] else ''}{first['msg']}") from error


def chat_keys(source: Any, columns: list[str], usual: tuple[str, ...]) -> set[str]:
    """The keys that a source of conversations reads."""
    return {pick(columns, usual, source.messages), source.system or "system", pick(columns, TOOLS, source.tools)}


def built(kind: str, path: str, settings: Mapping[str, Any]) -> Source:
    """A source of its settings."""
    source: Source = SOURCES[kind].model_validate({"path": path, **{key: value for key, value in settings.items() if key != "type"}})
    return source


def beside(source: Any, kind: str, path: str) -> list[str]:
    """The keys of the rows that the source would leave out, so that they can be kept."""
    columns = opened_table(Table(path, source.container, source.encoding, licence=source.licence))[1]
    read = READ[kind](source, columns)
    return [column for column in columns if column not in read]


def shaped(source: Source, template: templates.Template | None, shape: Shape, tally: Tally) -> Iterator[dict[str, Any]]:
    """The rows of the target, one by one; everything else is counted in `tally`."""
    for record in source.read("data"):
        tally.read += 1
        if isinstance(record, BadRow):
            tally.reject(record.origin, record.reason)
            continue
        try:
            done = shape.write(templates.write(record, template))
        except (Unfit, DataError) as error:
            tally.reject(record.origin, str(error).removeprefix(f"{record.origin}: "))
            continue
        row = {**done.row, **carried(record, template, shape, tally)}
        tally.lost.update(done.lost)
        tally.optional.update(dict.fromkeys(done.row))
        tally.lists = tally.lists or ("prompt" in done.row and not is_single(done.row))
        yield row


def carried(record: Record, template: templates.Template | None, shape: Shape, tally: Tally) -> dict[str, Any]:
    """The fields of a record that no message came from, as further keys of the row; what cannot be is counted."""
    if record.origin.licence:
        tally.lost["the licence (say it beside the file)"] += 1
    found = extras(record.fields, template.fields if template else WORDED)
    for key in [key for key in found if key in shape.keys]:
        tally.lost[f"the field {key!r} (a key of the target's own)"] += 1
        found.pop(key)
    tally.extra.update(dict.fromkeys(found))
    return found


def cells(row: Mapping[str, Any], out: Path) -> dict[str, str]:
    """A row as texts; raises DataError for the first list, which a CSV cell cannot hold."""
    for key, value in row.items():
        if isinstance(value, list | dict):
            raise DataError(f"{out}: {key!r} is a list in some row, and a CSV cell is text; write .jsonl, .json or .parquet")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}


def verdict(tally: Tally, path: str, to: str, max_bad_rows: int) -> None:
    """Raise DataError, with the rows and the reasons, when more rows than allowed cannot be used, or none can."""
    good = tally.read - tally.unusable
    if tally.unusable <= max_bad_rows and good:
        return
    if not tally.read:
        raise DataError(f"{path}: there are no rows")
    listed = "".join(f"\n  {place}: {reason}" for place, reason in tally.rejected[:LISTED])
    more = f"\n  and {tally.unusable - LISTED:,} more" if tally.unusable > LISTED else ""
    asked = f"; --max-bad-rows {tally.unusable} leaves them out" if good else ""
    raise DataError(
        f"{path}: {count(tally.unusable, 'row')} of {tally.read:,} cannot become {to}; nothing was written{asked}{listed}{more}"
    )


def summary(done: Converted) -> str:
    """The summary for a terminal."""
    lines = [f"{done.path}: {count(done.written, 'row')} of {done.read:,} written; read as {done.type} ({done.why})"]
    lines += [f"  rejected {place}: {reason}" for place, reason in done.rejected[:LISTED]]
    if done.unusable > LISTED:
        lines.append(f"  and {done.unusable - LISTED:,} more rejected")
    lines += [f"  not carried, in {count(rows, 'row')}: {what}" for what, rows in done.lost.items()]
    return "\n".join(lines)
