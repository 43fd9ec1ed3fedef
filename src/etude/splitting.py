"""Which rows train, validate and test: by the hash of the row, so that more data moves (almost) nothing.

Test and validation are drawn from independent streams of the seed. A fraction is a threshold on the
hash: adding rows moves no row. A count takes the rows whose hash is smallest: adding rows moves at
most as many out of a part as were added. Rows with the same id always fall on the same side, and the
evaluation parts keep one row an id. The split is made per source, so that every task has its test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from etude import seeds
from etude.catalog import Settings
from etude.failures import DataError, nearest
from etude.records import Fate, Record


class Predefined(Settings):
    """A part that is a file of its own, read with the settings of the same source."""

    path: str
    """The file."""


def amount(given: Any) -> Any:
    """A part's size as given, or a placed pydantic error: 0.1 is a share of the rows, 200 a count."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        if isinstance(given, Predefined | dict):
            return given
        raise PydanticCustomError(
            "size", "a share (0.1), a count (200) or a file ({path: FILE}) is needed, found {found}", {"found": given}
        )
    if isinstance(given, float) and not 0 <= given < 1:
        raise PydanticCustomError(
            "size", "a share must be at least 0 and below 1, found {found}; a count is a whole number", {"found": given}
        )
    if given < 0:
        raise PydanticCustomError("size", "a count cannot be negative, found {found}", {"found": given})
    return given


Size = Annotated[float | int | Predefined, BeforeValidator(amount)]


class Split(Settings):
    """How rows are divided into training, validation and test."""

    validation: Size = 0.05
    """Share of all rows, count, or `{path: FILE}`; 0 is none. After a test count or file: share of the remaining rows."""
    test: Size = 0.1
    """Share of all rows, count, or `{path: FILE}`; 0 is none."""
    group: str | None = None
    """Keep all rows with the same value of this field on one side (a document, a file, a passage)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed is another division."""

    @model_validator(mode="after")
    def leaves_training_rows(self) -> Split:
        """Shares of test and validation leave something to train on."""
        if isinstance(self.test, float) and isinstance(self.validation, float) and self.test + self.validation >= 1:
            shares = {"test": self.test, "validation": self.validation}
            raise PydanticCustomError("size", "test {test} and validation {validation} together leave no row to train on", shares)
        return self


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of each part in the order given; the dropped rows, and `fates` with the reason for each."""

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]
    dropped: tuple[Record, ...]
    fates: tuple[Fate, ...]


Rows = list[Record]


def split(
    records: Iterable[Record],
    settings: Split,
    *,
    validation: Sequence[Record] | None = None,
    test: Sequence[Record] | None = None,
) -> Parts:
    """Divide the rows of one source. `validation` and `test`: the rows of a predefined file, which must be
    given where `settings` names one. Rows that are also in an evaluation part leave training.

    Raises DataError when a count exceeds the rows or no training row is left (with both numbers), or a row
    lacks the group field.
    """
    given = {"test": (settings.test, test), "validation": (settings.validation, validation)}
    for part, (size, rows) in given.items():
        if isinstance(size, Predefined) != (rows is not None):
            raise ValueError(f"the rows of {part} are {'needed' if rows is None else 'not asked for'}: split.{part} is {size!r}")
    train = list(records)
    dropped: list[tuple[Record, Fate]] = []
    parts: dict[str, Rows] = {"test": [], "validation": []}
    total = distinct(train)
    # Predefined parts first: what they hold can be in no other part.
    for part, (_, rows) in given.items():
        if rows is not None:
            earlier = [name for name in parts if name != part and parts[name]]
            chosen = once(rows, part, dropped)
            for other in earlier:
                chosen = without(chosen, parts[other], other, None, dropped)
            parts[part] = chosen
    for part, rows in parts.items():
        train = without(train, rows, part, settings.group, dropped)
    for part, (size, _) in given.items():
        if isinstance(size, Predefined):
            continue
        if part == "validation" and isinstance(settings.test, float) and isinstance(size, float):
            size = size / (1 - settings.test)  # of what test left, as many as this share of all rows
        train, parts[part] = draw(train, size, part, settings, dropped)
    if not train:
        held = " and ".join(f"{len(rows)} in {part}" for part, rows in parts.items())
        raise DataError(f"the split leaves no row to train on: of {total} different rows, {held}; ask for smaller parts")
    records_out, fates = tuple(record for record, _ in dropped), tuple(fate for _, fate in dropped)
    return Parts(tuple(train), tuple(parts["validation"]), tuple(parts["test"]), records_out, fates)


def draw(rows: Rows, size: float | int, part: str, settings: Split, dropped: list[tuple[Record, Fate]]) -> tuple[Rows, Rows]:
    """(the rows that stay, the rows of an evaluation part, one an id)."""
    if not size:
        return rows, []
    key = group_of(settings.group)
    if isinstance(size, float):
        inside = {name for name in {key(row) for row in rows} if seeds.share(settings.seed, part, name) < size}
        kept_ids = None
    else:
        inside, kept_ids = smallest(rows, size, part, settings)
    stay = [row for row in rows if key(row) not in inside]
    held = once([row for row in rows if key(row) in inside], part, dropped)
    if kept_ids is not None:
        surplus = [row for row in held if row.id not in kept_ids]
        dropped += [(row, Fate.drop(row.id, "held out with its group")) for row in surplus]
        held = [row for row in held if row.id in kept_ids]
    return stay, held


def smallest(rows: Rows, size: int, part: str, settings: Split) -> tuple[set[str], set[str]]:
    """(the groups held out, the ids kept of them): whole groups in hash order until they hold `size` ids,
    and of these ids the `size` whose own hash is smallest. Without groups every id is its own group."""
    key = group_of(settings.group)
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(key(row), set()).add(row.id)
    there = distinct(rows)
    if size >= there:
        more = "more than" if size > there else "all of"
        raise DataError(f"split.{part} asks for {size} rows, {more} the {there} different rows there are to take them from")
    inside: set[str] = set()
    ids: set[str] = set()
    for name in sorted(groups, key=lambda name: (seeds.number(settings.seed, part, name), name)):
        if len(ids) >= size:
            break
        inside.add(name)
        ids |= groups[name]
    return inside, set(sorted(ids, key=lambda id: (seeds.number(settings.seed, part, id), id))[:size])


def once(rows: Iterable[Record], part: str, dropped: list[tuple[Record, Fate]]) -> Rows:
    """The first row of each id; the others are dropped."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        if row.id in seen:
            dropped.append((row, Fate.drop(row.id, f"repeated in {part}", row.id)))
        else:
            seen.add(row.id)
            kept.append(row)
    return kept


def without(rows: Rows, held: Rows, part: str, group: str | None, dropped: list[tuple[Record, Fate]]) -> Rows:
    """The rows that are not in an evaluation part, nor (where there are groups) of a group that is."""
    if not held:
        return rows
    ids = {row.id for row in held}
    key = group_of(group)
    groups = {key(row) for row in held} if group else set()
    kept = []
    for row in rows:
        if row.id in ids:
            dropped.append((row, Fate.drop(row.id, f"also in the {part} set", row.id)))
        elif group and key(row) in groups:
            dropped.append((row, Fate.drop(row.id, f"its group is in the {part} set")))
        else:
            kept.append(row)
    return kept


def group_of(field: str | None) -> Callable[[Record], str]:
    """What keeps rows together: the value of a field, or the row's id. Raises DataError for a row without the field."""

    def key(record: Record) -> str:
        if field is None:
            return record.id
        value = record.fields.get(field)
        if value is None:
            raise DataError(f"{record.origin}: split.group is {field!r}, and the row has no such field{nearest(field, record.fields)}")
        return str(value)

    return key


def distinct(rows: Iterable[Record]) -> int:
    """How many different rows there are."""
    return len({row.id for row in rows})
