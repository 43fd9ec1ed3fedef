"""The data sets a configuration of another tool names -> sources of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.failures import DataError
from etude.importing.rules import Given, Left, Outcome, Put, whole
from etude.sources import foreign

NAME = re.compile(r"[^A-Za-z0-9._-]+")


def from_names(given: Given, key: str, folder: str, limit: int | None) -> Sequence[Outcome]:
    """LLaMA-Factory's data sets by name, which its index describes.

    Without the index at hand each is taken for the file `folder/NAME.json`, with a comment. Raises
    RecipeError for a name the index does not have and for data that is not for supervised tuning.
    """
    value = given.keys[key]
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise given.wrong(key, f"names of data sets were expected, not {value!r}")
    outcomes: list[Outcome] = []
    index = at_hand(folder, given.path)
    for name in names:
        if index is None:
            settings: dict[str, Any] = {"type": "auto", "path": str(Path(folder, f"{name}.json"))}
            comments = [f"{Path(folder, foreign.INDEX)} is not at hand: the file is guessed from the name"]
        else:
            try:
                settings, comments = foreign.from_dataset_info(str(index), name)
            except DataError as error:
                raise given.wrong(key, str(error)) from error
        if limit is not None:
            settings["limit"] = whole(given, "max_samples", limit)
        outcomes.append(Put(f"sources.{label(name)}", settings, "; ".join(comments)))
    return outcomes


def at_hand(folder: str, config: Path) -> Path | None:
    """The index of data sets: where the tool looks for it, or beside the configuration."""
    for place in (Path(folder).expanduser(), config.parent / folder):
        if (place / foreign.INDEX).is_file():
            return place / foreign.INDEX
    return None


def from_list(given: Given, key: str) -> Sequence[Outcome]:
    """A list of data sets, as axolotl and TRL's mixtures have it. Raises RecipeError for preference pairs."""
    value = given.keys[key]
    if not isinstance(value, list) or not value:
        raise given.wrong(key, f"a list of data sets was expected, not {value!r}")
    outcomes: list[Outcome] = []
    taken: set[str] = set()
    for entry in value:
        try:
            name, settings, comments = foreign.from_axolotl(entry)
        except DataError as error:
            raise given.wrong(key, str(error)) from error
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique)
        outcomes.append(Put(f"sources.{unique}", settings, "; ".join(comments)))
    return outcomes


def from_mixture(given: Given, key: str) -> Sequence[Outcome]:
    """TRL's list of data sets (DatasetConfig: path, name, data_dir, data_files, split, columns)."""
    value = given.keys[key]
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) and isinstance(entry.get("path"), str) for entry in value):
        raise given.wrong(key, f"a list of data sets, each with a path, was expected, not {value!r}")
    outcomes: list[Outcome] = []
    for entry in value:
        rest = {name: entry[name] for name in entry if name not in ("path", "split", "name") and entry[name] is not None}
        outcomes += from_hub_name(entry["path"], entry.get("name"), str(entry.get("split") or "train"))
        outcomes += [Left(f"{entry['path']}: {name}: {what!r} has no equal") for name, what in rest.items()]
    return outcomes


def from_hub_name(name: str, subset: object, split: str) -> Sequence[Outcome]:
    """One data set: a file or folder, else a name on the hub; its rows say of what shape they are."""
    place = Path(name).expanduser()
    local = place.exists() or name.startswith((".", "/", "~")) or bool(place.suffix in (".json", ".jsonl", ".csv", ".parquet", ".arrow"))
    path = name if local else foreign.hub(name, str(subset) if subset else None, None, split)
    return [Put(f"sources.{label(foreign.label(name))}", {"type": "auto", "path": path})]


def label(name: str) -> str:
    """A source's name."""
    return NAME.sub("-", name).strip("-.")[:64] or "train"
