"""Data sets of the Hugging Face hub: `hf://owner/name[/config][@revision][:split]`, through the `datasets` library."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etude.failures import DataError
from etude.records import BadRow
from etude.sources.containers import Table
from etude.sources.rows import Row

SCHEME = "hf://"
SHAPE = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?:@(?P<revision>[^:\s]+))?(?::(?P<split>\S+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Place:
    """What a hub path names. `revision`: branch, tag or commit; `split` "": the only one there is."""

    path: str
    name: str
    config: str | None
    revision: str
    split: str


def place(path: str) -> Place:
    """The parts of a hub path; raises DataError for another shape."""
    match = SHAPE.fullmatch(path)
    if match is None:
        raise DataError(f"{path}: expected hf://owner/name, then /config, @revision and :split where they are needed, in this order")
    return Place(path, match["name"], match["config"], match["revision"] or "main", match["split"] or "")


def offline() -> bool:
    """Whether the user said that no network may be used (the variables of huggingface_hub and datasets)."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


def commit(where: Place) -> str:
    """The commit (40 hex digits) a revision stands for: itself, what the hub says, or offline what the cache holds.

    Raises DataError when it cannot be told.
    """
    if COMMIT.fullmatch(where.revision):
        return where.revision
    from huggingface_hub import HfApi, constants

    if offline():
        folder = os.path.join(constants.HF_HUB_CACHE, "datasets--" + where.name.replace("/", "--"), "refs", where.revision)
        try:
            with open(folder, encoding="ascii") as file:
                return file.read().strip()
        except OSError as error:
            raise DataError(f"{where.path}: HF_HUB_OFFLINE is set and no copy of revision {where.revision!r} is here; {REMEDY}") from error
    try:
        return str(HfApi().dataset_info(where.name, revision=where.revision).sha)
    except Exception as error:  # the library raises its own, the network's and the system's errors
        raise DataError(f"{where.path}: the hub did not say what {where.revision!r} is ({reason(error)}); {REMEDY}") from error


REMEDY = "download it once with the network on, name a commit (@ and its 40 digits), or give the path of a local file"


def read_hub(table: Table) -> Iterator[Row | BadRow]:
    """Rows of a hub data set, streamed; offline, from the copy that `datasets` keeps. The line is the row's number."""
    where = place(table.path)
    for setting, value in (("container", table.container), ("rows_key", table.rows_key), ("header", table.header)):
        if value:
            raise DataError(f"{where.path}: {setting} is for files; a data set of the hub says itself what it holds")
    line = 0
    try:
        for cells in loaded(where):
            line += 1
            yield Row(table.origin(line), dict(cells))
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(f"{where.path}: cannot be read after row {line} ({reason(error)}); {REMEDY}") from error


def loaded(where: Place) -> Any:
    """An iterable of rows; raises DataError where the library is missing or several splits could be meant."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{where.path}: reading from the hub needs the package datasets; install it with `pip install datasets`") from error
    streaming = not offline() and "[" not in where.split
    found = datasets.load_dataset(where.name, where.config, split=where.split or None, revision=commit(where), streaming=streaming)
    if where.split:
        return found
    if len(found) > 1:
        raise DataError(f"{where.path}: there are the splits {', '.join(found)}; name one, as in {where.path}:{next(iter(found))}")
    return next(iter(found.values()))


def reason(error: Exception) -> str:
    """The first line of an error, with its kind."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".removesuffix(": ")
