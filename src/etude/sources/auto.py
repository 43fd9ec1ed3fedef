"""Sources that stand for another: `auto` looks at the rows, `dataset_info` looks into LLaMA-Factory's index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from etude import journal
from etude.catalog import Settings, note
from etude.failures import RecipeError, nearest
from etude.records import BadRow, Record
from etude.sources.foreign import from_dataset_info, index_path
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Phrased, Task, Where
from etude.sources.mending import Mend
from etude.sources.reading import inputs_of
from etude.sources.sniffing import sniff

if TYPE_CHECKING:
    from etude.sources import Source


class Auto(Settings):
    """Rows of any known format, told by their keys; what was decided is noted, and nothing is guessed."""

    path: DataPath
    mend: Mend = ()
    template: Phrased = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order, as the source type that fits reads it. Raises DataError where none or
        several fit, RecipeError for a setting that the type does not have."""
        kind, seen = sniff(self.path, self.container, self.encoding, self.template)
        note(f"sources.{name}: {self.path} is read as {kind} ({seen}); `type:` says otherwise")
        yield from meant(name, {"type": kind}, self.model_dump(exclude_defaults=True)).read(name)

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file; and the template's, which names the task."""
        return inputs_of(self)


class DatasetInfo(Settings):
    """A data set by its name in LLaMA-Factory's `dataset_info.json`."""

    path: DataPath
    """The index file, or the folder it is in."""
    name: str
    """The name of the data set in the index."""
    mend: Mend = ()
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None
    template: Phrased = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every row in file order. Raises DataError for an entry that cannot be used, RecipeError for a
        setting that its format does not have."""
        found, comments = from_dataset_info(self.path, self.name)
        for comment in comments:
            note(f"sources.{name}: {comment}")
        yield from meant(name, found, self.given()).read(name)

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of the index and of every file of the entry."""
        found, _ = from_dataset_info(self.path, self.name)
        index = str(index_path(self.path))
        return {index: journal.file_digest(index_path(self.path))} | meant(self.name, found, self.given()).inputs()

    def given(self) -> dict[str, Any]:
        """The settings that go on to the source of the entry."""
        return self.model_dump(exclude_defaults=True, exclude={"path", "name"})


def meant(name: str, found: Mapping[str, Any], given: Mapping[str, Any]) -> Source:
    """The source of the settings `found` and, over them, those the recipe `given`; raises RecipeError for one
    that its type does not have."""
    from etude.sources import SOURCES  # the catalog holds this module's sources too

    kind = SOURCES[found["type"]]
    settings = {**{key: value for key, value in found.items() if key != "type"}, **given}
    for key in given:
        if key not in kind.model_fields:
            raise RecipeError(f"sources.{name}.{key}: rows of type {found['type']} have no such setting{nearest(key, kind.model_fields)}")
    try:
        return kind.model_validate(settings)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([f"sources.{name}", *map(str, first["loc"])])
        raise RecipeError(f"{place}: {first['msg']} (rows of type {found['type']})") from error
