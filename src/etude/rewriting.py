"""`etude rewrite IN OUT`: comments, docstrings and trailing white space out of a data set or out of code files.

A data set's rows keep every key and their own shape: only the texts that are code change. OUT appears only when it
is whole. What became of every row, of every language, and why texts were kept, is counted.
"""

from __future__ import annotations

import json
import os
import shutil
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from etude import journal
from etude.converting.writing import kind_of, opened, to_csv, to_lines, to_list
from etude.curation.comments import FATES, Fate, Outcome, Part, RemoveComments, Wish, rewrite_code
from etude.curation.comments.languages import by_path, named
from etude.failures import DataError, RecipeError
from etude.records import BadRow
from etude.sources.tables import Table, files, kind
from etude.sources.tables import opened as opened_table

KEPT = 1000
"""Rows whose text was kept that the summary lists with their reasons; the rest is counted."""
LISTED = 8
"""Of these, how many a terminal shows; and bad rows in a message."""
ROWS = 24
"""Languages that a terminal shows."""
BATCH = 1000
"""Rows of a Parquet row group in memory at a time."""
LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv"})
"""Folders of a code tree that are not copied."""
As = Literal["data", "code"]


@dataclass(slots=True)
class Tally:
    """What happened so far. `languages`: (language, how it was known) -> fates of its pieces of code."""

    unit: str = "row"
    read: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    removed: int = 0
    languages: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    lowest: dict[tuple[str, str], float] = field(default_factory=dict)
    kept: list[tuple[str, Fate, str]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    unusable: int = 0
    copied: int = 0

    def add(self, place: object, outcome: Outcome) -> None:
        """One row or file."""
        self.read += 1
        self.fates[outcome.fate] += 1
        self.removed += outcome.removed
        for part in outcome.parts:
            if part.fate == "no_code":
                continue
            key = (part.language, part.how)
            self.languages.setdefault(key, Counter())[part.fate] += 1
            self.lowest[key] = min(self.lowest.get(key, 1.0), part.confidence)
        if FATES[outcome.fate].startswith("text kept") and len(self.kept) < KEPT:
            self.kept.append((str(place), outcome.fate, outcome.reason))

    def as_json(self, out: Path) -> dict[str, Any]:
        """As plain data."""
        return {
            "out": str(out),
            f"{self.unit}s": self.read,
            "fates": {fate: self.fates[fate] for fate in FATES},
            "characters_removed": self.removed,
            "languages": [
                {"language": language, "known_by": how, "lowest_confidence": self.lowest[language, how], **dict(counts)}
                for (language, how), counts in sorted(self.languages.items())
            ],
            "kept": [{self.unit: place, "fate": fate, "reason": reason} for place, fate, reason in self.kept],
            "bad_rows": self.unusable,
            "copied_files": self.copied,
        }


def settings(
    remove: str | None,
    strip: str | None,
    *,
    fields: Iterable[str] = (),
    language: str | None = None,
    confidence: float = 0.5,
    keep: str = "pragmas,types",
    doc_comments: str = "docstrings",
) -> RemoveComments:
    """The options of the command as a rewrite; raises RecipeError naming the option that is wrong."""
    from pydantic import ValidationError

    if remove not in (None, "comments", "docstrings", "both"):
        raise RecipeError(f"--remove: comments, docstrings or both, not {remove!r}")
    if strip not in (None, "trailing-space"):
        raise RecipeError(f"--strip: there is trailing-space, not {strip!r}")
    if remove is None and strip is None:
        raise RecipeError("nothing to do: give --remove comments|docstrings|both, --strip trailing-space, or both")
    given: dict[str, Any] = {
        "what": remove or "trailing_space", "trailing_space": strip is not None, "fields": tuple(fields), "confidence": confidence,
        "language": named(language, "--language").name if language else None, "doc_comments": doc_comments,
    }  # fmt: skip
    given["keep"] = tuple(word for word in keep.replace(" ", "").split(",") if word not in ("", "none"))
    try:
        return RemoveComments.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from error


def known_kind(text: str | None) -> As | None:
    """The value of `--as`; raises RecipeError for another."""
    if text not in (None, "data", "code"):
        raise RecipeError(f"--as: data or code, not {text!r}")
    return text  # type: ignore[return-value]


def rewrite(
    path: str, out: Path, how: RemoveComments, *, kind_of_input: As | None = None, max_bad_rows: int = 0, force: bool = False
) -> Tally:
    """Rewrite a data set (a file, folder, glob or hub data set) or code (a file, or a folder with code in it).

    `kind_of_input`: which of both, where a folder could be either. Raises RecipeError for an `out` that is there
    (unless `force`) or is the input, and for a grammar that is not installed; DataError for data that cannot be read
    or written. Then `out` is as it was.
    """
    place = Path(path).expanduser()
    what = kind_of_input or told(path, place)
    if out.exists() and place.exists() and out.samefile(place):
        raise RecipeError(f"{out} is the input itself; give another name")
    if place.is_dir() and place.resolve() in out.resolve().parents:
        raise RecipeError(f"{out} is inside the input; give a name outside of {path}")
    if out.exists() and not force:
        raise RecipeError(f"{out} is there already; --force replaces it")
    if out.is_dir() != (what == "code" and place.is_dir()) and out.exists():
        raise RecipeError(f"{out} is a {'folder' if out.is_dir() else 'file'}, and the output is none; give another name")
    if what == "data":
        return data_set(path, out, how, max_bad_rows)
    return folder(place, out, how) if place.is_dir() else one_file(place, out, how)


def told(path: str, place: Path) -> As:
    """Whether a path is data or code; raises RecipeError for a folder that could be both."""
    if place.is_file():
        return "code" if by_path(place) and not kind(place.name) else "data"
    if not place.is_dir():
        return "data"
    code = [name for name in inside(place) if by_path(name)]
    rows = [name for name in sorted(os.listdir(place)) if kind(name) and not name.endswith(".json")]
    if code and rows:
        raise RecipeError(f"{path} holds both code ({code[0].relative_to(place)} ...) and data ({rows[0]} ...); say --as code or --as data")
    return "code" if code else "data"


# ---- data sets -------------------------------------------------------------------------------------


def data_set(path: str, out: Path, how: RemoveComments, max_bad_rows: int) -> Tally:
    """Rewrite the rows of a data set; bad rows are left out when there are at most `max_bad_rows`."""
    holds = kind_of(out)
    place = Path(path).expanduser()
    if out.exists() and "://" not in path and any(out.samefile(name) for name in ([path] if place.is_file() else files(path))):
        raise RecipeError(f"{out} is a part of the input; give another name")
    table_rows, columns = opened_table(Table(path))
    if unknown := [name for name in how.fields if name not in columns and not nested(path, columns)]:
        from etude.failures import nearest

        raise RecipeError(f"--fields: no row of {path} has {unknown[0]!r}{nearest(unknown[0], columns)}")
    tally = Tally()

    def rows() -> Iterator[Mapping[str, Any]]:
        for row in table_rows:
            if isinstance(row, BadRow):
                tally.unusable += 1
                if len(tally.bad) < LISTED:
                    tally.bad.append((str(row.origin), row.reason))
                continue
            outcome = how.outcome(row.cells)
            tally.add(row.origin, outcome)
            yield outcome.fields
        refuse(tally, path, max_bad_rows)

    with journal.replacing(out) as temporary:
        if holds == "parquet":
            to_parquet(temporary, rows(), path)
        else:
            with opened(temporary, out.suffix == ".gz") as file:
                if holds == "csv":
                    to_csv(file, (as_cells(row, columns, out) for row in rows()), tuple(columns))
                else:
                    (to_lines if holds == "jsonl" else to_list)(file, rows(), tuple(columns))
        with open(temporary, "rb") as done:
            os.fsync(done.fileno())
    return tally


def nested(path: str, columns: Iterable[str]) -> bool:
    """Whether rows hold conversations, whose fields have names of their own (`content`, `value`)."""
    return any(column in ("messages", "conversations", "conversation", "turns", "items", "prompt", "completion") for column in columns)


def refuse(tally: Tally, path: str, max_bad_rows: int) -> None:
    """Raise DataError, with places and reasons, for more bad rows than allowed or no good row at all."""
    if tally.unusable <= max_bad_rows and tally.read:
        return
    listed = "".join(f"\n  {place}: {reason}" for place, reason in tally.bad)
    asked = f"; --max-bad-rows {tally.unusable} leaves them out" if tally.read else ""
    total = tally.unusable + tally.read
    raise DataError(f"{path}: {tally.unusable:,} of {total:,} rows cannot be read; nothing was written{asked}{listed}")


def as_cells(row: Mapping[str, Any], columns: Sequence[str], out: Path) -> dict[str, str]:
    """A row as texts; raises DataError for a list or an object, which a CSV cell cannot hold, and for a late key."""
    for key, value in row.items():
        if key not in columns:
            raise DataError(f"{out}: {key!r} is in a later row only, and a CSV file has one header; write .jsonl or .json")
        if isinstance(value, list | dict):
            raise DataError(f"{out}: {key!r} is a list or an object, and a CSV cell is text; write .jsonl or .json")
    return {key: value if isinstance(value, str) else "" if value is None else json.dumps(value) for key, value in row.items()}


def to_parquet(temporary: Path, rows: Iterable[Mapping[str, Any]], path: str) -> None:
    """Rows of a Parquet data set as Parquet, each column of its own type; raises DataError for another input."""
    import pyarrow
    import pyarrow.parquet

    names = files(path) if "://" not in path else []
    if not names or kind(Path(names[0]).name) != "parquet":
        raise DataError(
            f"{path} is not Parquet, so the types of its columns are not known; write .jsonl or .json (`etude convert` makes Parquet)"
        )
    schema = pyarrow.parquet.read_schema(names[0])
    with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        batch: list[Mapping[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
                batch = []
        if batch:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


# ---- code files ------------------------------------------------------------------------------------


def one_file(place: Path, out: Path, how: RemoveComments) -> Tally:
    """Rewrite one code file; its mode, line ends and byte order mark stay."""
    tally = Tally("file")
    with journal.replacing(out) as temporary:
        temporary.write_bytes(coded(place, place.name, how, tally))
        shutil.copymode(place, temporary)
    return tally


def folder(place: Path, out: Path, how: RemoveComments) -> Tally:
    """Rewrite a folder of code into a new one; files that are no code are copied as they are."""
    tally = Tally("file")
    with journal.staged(out) as temporary:
        for path in inside(place):
            name = path.relative_to(place)
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or not by_path(path):
                shutil.copy2(path, target, follow_symlinks=False)
                tally.copied += 1
                continue
            target.write_bytes(coded(path, str(name), how, tally))
            shutil.copymode(path, target)
    return tally


def inside(place: Path) -> Iterator[Path]:
    """The files below a folder, in order, but for version control and installed packages."""
    for base, folders, names in os.walk(place):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        yield from (Path(base) / name for name in sorted((*names, *links)))


def coded(path: Path, name: str, how: RemoveComments, tally: Tally) -> bytes:
    """The bytes of a code file rewritten; those it has when they are no text."""
    data = path.read_bytes()
    language = named(how.language, "--language") if how.language else by_path(path)
    if language is None:
        raise RecipeError(f"{path}: the extension {path.suffix!r} is of no language that is known; say --language")
    encoding = "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8"
    try:
        if language.name == "python":
            encoding = tokenize.detect_encoding(iter(data.splitlines(keepends=True)).__next__)[0]
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        part = Part(name, language.name, "extension", 1.0, "does_not_parse", f"not text: {error}")
        tally.add(name, Outcome({}, (part,)))
        return data
    wish = Wish(how.what, how.trailing_space, how.keep, how.doc_comments, may_be_empty=True)
    done = rewrite_code(text, language, wish)
    part = Part(name, language.name, "extension", 1.0, done.fate, done.reason, len(text) - len(done.text))
    tally.add(name, Outcome({}, (part,)))
    return done.text.encode(encoding)


# ---- what is said ----------------------------------------------------------------------------------


def summary(tally: Tally, out: Path) -> str:
    """The table for a terminal."""
    lines = [f"{out}: {tally.read:,} {tally.unit}s, {tally.removed:,} characters removed"]
    lines += [f"  {tally.fates[fate]:>8,}  {words}" for fate, words in FATES.items() if tally.fates[fate]]
    if tally.copied:
        lines.append(f"  {tally.copied:>8,}  copied: no code")
    if tally.unusable:
        lines.append(f"  {tally.unusable:>8,}  left out: could not be read")
    if tally.languages:
        heads = ("pieces", "changed", "no parse", "unproved", "unsure")
        lines.append(f"  {'language':12} {'known by':10} {'least sure':>12} " + " ".join(f"{head:>8}" for head in heads))
    ranked = sorted(tally.languages.items(), key=lambda item: (-item[1].total(), item[0]))
    for (language, how), counts in ranked[:ROWS]:
        numbers = (counts.total(), *(counts[fate] for fate in ("changed", "does_not_parse", "unproved", "low_confidence")))
        lines.append(f"  {language:12} {how:10} {tally.lowest[language, how]:>12.2f} " + " ".join(f"{number:>8,}" for number in numbers))
    if more := ranked[ROWS:]:
        lines.append(f"  and {len(more):,} more languages in {sum(counts.total() for _, counts in more):,} pieces")
    lines += [f"  kept {place}: {FATES[fate].removeprefix('text kept: ')}{f' ({reason})' if reason else ''}"
              for place, fate, reason in tally.kept[:LISTED]]  # fmt: skip
    if (kept := sum(tally.fates[fate] for fate in FATES if FATES[fate].startswith("text kept"))) > LISTED:
        lines.append(f"  and {kept - LISTED:,} more kept; --json lists the first {KEPT:,}")
    return "\n".join(lines)
