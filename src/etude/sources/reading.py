"""From a file source's settings to its Records: the one way that every shape of rows is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from etude.failures import RecipeError, nearest
from etude.records import BadRow, Record
from etude.sources.rows import Row, Unusable, plain, records
from etude.sources.tables import Container, Table, digests, opened
from etude.sources.where import kind_of
from etude.templates import digest, load

MOST_DEEP = 64
"""Levels of lists and objects inside a row; what is nested deeper is no data but an accident (or an attack)."""

OWN = ("messages", "tools", "references", "text", "instruction", "input", "output")
"""Fields that have a meaning of their own; no kept key may take their place."""


class FileSource(Protocol):
    """What a source of files has, whatever the shape of its rows."""

    @property
    def path(self) -> str:
        """The file, folder, glob or hub data set."""

    @property
    def template(self) -> str | None:
        """The name of a task template, or None."""

    @property
    def where(self) -> str | None:
        """Which rows to take."""

    @property
    def limit(self) -> int | None:
        """How many rows to take."""

    @property
    def keep(self) -> tuple[str, ...]:
        """Further keys that become fields."""

    @property
    def container(self) -> Container | None:
        """The kind of file."""

    @property
    def encoding(self) -> str:
        """The text encoding."""

    @property
    def licence(self) -> str:
        """The licence."""

    @property
    def task(self) -> str | None:
        """The task's name."""


Build = Callable[[dict[str, Any]], dict[str, Any]]
Expand = Callable[[Iterator[Row | BadRow]], Iterator[Row | BadRow]]


def read_file(
    source: FileSource,
    name: str,
    shape: Callable[[list[str]], Build],
    *,
    named: Iterable[str | None] = (),
    expand: Expand | None = None,
    expanded: Sequence[str] = (),
) -> Iterator[Record | BadRow]:
    """The Records and BadRows of a source in file order. `shape(columns)` gives the function that makes a
    row's cells into fields; `named` are the keys that the recipe named itself; `expand` makes one row of the
    file into several (a tree's paths, an article's questions), whose keys are `expanded` and the file's own.

    Raises DataError for an unusable file, RecipeError for a key that no row has.
    """
    rows, columns = opened(Table(source.path, source.container, source.encoding, licence=source.licence))
    columns = list(dict.fromkeys((*columns, *expanded)))
    for key in (*source.keep, *(key for key in named if key)):
        if key not in columns:
            raise RecipeError(f"sources.{name}: no row of {source.path} has the key {key!r}{nearest(key, columns)}")
    if expand:
        rows = expand(rows)
    yield from shaped(source, name, shape(columns), rows, columns)


def shaped(source: FileSource, name: str, build: Build, rows: Iterator[Row | BadRow], columns: Sequence[str]) -> Iterator[Record | BadRow]:
    """Rows as Records, with the keys that the recipe keeps."""
    if own := [key for key in source.keep if key in OWN]:
        raise RecipeError(f"sources.{name}.keep: {own[0]!r} is a field of its own and is always there")

    def whole(cells: dict[str, Any]) -> dict[str, Any]:
        fields = build(cells)
        return fields | {key: sound(cells[key], f"{key!r}") for key in source.keep if cells.get(key) is not None}

    yield from records(
        rows,
        whole,
        lambda cells: cells,
        path=source.path,
        where=source.where,
        limit=source.limit,
        known=list(columns),
        source=name,
        task=source.task or (load(source.template).task if source.template else name),
    )


def inputs_of(source: FileSource) -> dict[str, str]:
    """Path -> SHA-256 of every file; and the template's, which names the task."""
    found = digests(source.path, source.container)
    return found | {f"template {source.template}": digest(load(source.template))} if source.template else found


def text_of(cells: dict[str, Any], key: str, *, optional: bool = False) -> str:
    """The text under a key ("" where it is optional and missing or null); raises Unusable where it is none."""
    value = cells.get(key)
    if optional and value is None:
        return ""
    if key not in cells:
        raise Unusable(f"{key!r} is missing{hint(key, cells)}")
    if not isinstance(value, str):
        raise Unusable(f"{key!r} is {kind_of(value)}, not text")
    plain(value, f"{key!r}")
    return value


def hint(key: str, known: Iterable[str]) -> str:
    """The nearest of the known keys, or the list of what there is."""
    return nearest(key, [str(other) for other in known])


def sound(value: Any, what: str) -> Any:
    """The value as JSON knows it; raises Unusable for one that is nested too deeply or has no words."""
    level, depth = [value], 0
    while level := [item for one in level for item in inside(one)]:
        depth += 1
        if depth > MOST_DEEP:
            raise Unusable(f"{what} is nested more than {MOST_DEEP} levels deep")
    return plain(value, what)


def inside(value: Any) -> Iterable[Any]:
    """What a list or an object holds."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


def pick(columns: Sequence[str], known: Sequence[str], chosen: str | None) -> str:
    """The key to read: the one the recipe named, else the first of the known ones that there is, else the usual one."""
    return chosen or next((key for key in known if key in columns), known[0])
