"""Which files a path means: one file, the data files of a folder, or the matches of a glob."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from etude.failures import DataError, nearest
from etude.sources.containers import CONTAINERS, Container, kind

NAMED = 8
"""Most names that a message lists."""


def find(path: str) -> Path:
    """The file, or a DataError naming the nearest file that does exist."""
    place = Path(path).expanduser()
    if place.is_dir():
        inside = sorted(name for name in os.listdir(place) if kind(name))[:NAMED]
        raise DataError(f"{path} is a folder, a file is needed{'; in it are ' + ', '.join(inside) if inside else ''}")
    if not place.exists():
        folder = place.parent
        if not folder.is_dir():
            raise DataError(f"{path} does not exist; nor does its folder {folder}")
        hint = nearest(place.name, os.listdir(folder))
        raise DataError(f"{path} does not exist{hint if 'did you mean' in hint else f'; nothing in {folder} has a name like it'}")
    if not place.is_file():
        raise DataError(f"{path} is not a regular file")
    if place.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    return place


def files(path: str, container: Container | None = None) -> list[str]:
    """The files that `path` means, in sorted order, each as a path that exists and is not empty.

    A folder means the data files directly in it, by extension (`container` chooses where there are several
    kinds); a glob (`*`, `?`, `[...]`, `**`) every file that matches. Raises DataError where there is none, and
    for files of several kinds, with the list.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = inside(path, place, container)
    elif glob.has_magic(path) and not place.exists():
        found = sorted(name for name in glob.glob(str(place), recursive=True) if os.path.isfile(name))
        if not found:
            raise DataError(f"{path}: no file matches")
        if container is None:
            one_kind(path, found)
    else:
        return [path] if find(path) else []
    for name in found:
        find(name)
    return found


def inside(path: str, place: Path, container: Container | None) -> list[str]:
    """The data files of a folder; raises DataError where that means nothing, or several things."""
    names = sorted(name for name in os.listdir(place) if not name.startswith(".") and (place / name).is_file())
    known = [name for name in names if kind(name)]
    wanted = [name for name in known if container in (None, kind(name))]
    if not wanted:
        folders = sorted(entry.name + "/" for entry in place.iterdir() if entry.is_dir())
        there = listed(names + folders) if names or folders else "nothing"
        what = f"{container} file" if container else "data file"
        raise DataError(f"{path} is a folder without a {what}; in it is {there} (a glob such as {path}/*/*.jsonl names any files)")
    found = [str(place / name) for name in wanted]
    if container is None:
        one_kind(path, found)
    return found


def one_kind(path: str, found: list[str]) -> None:
    """Raise DataError with the list unless all files are, by their names, of one kind."""
    kinds: dict[Container | None, list[str]] = {}
    for name in found:
        kinds.setdefault(kind(name), []).append(os.path.basename(name))
    if None in kinds:
        raise DataError(f"{path}: the extension of {listed(kinds[None])} is not known; there is {', '.join(CONTAINERS)}; or set container:")
    if len(kinds) > 1:
        mixed = "; ".join(f"{name}: {listed(members)}" for name, members in kinds.items())
        raise DataError(f"{path} holds files of several kinds ({mixed}); set container: to the one that is meant")


def listed(names: list[str]) -> str:
    """Names in a row, the first few of many."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
