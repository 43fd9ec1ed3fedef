"""Which rows train, validate and test: by the hash of the row, so that more data moves (almost) nothing.

Test and validation are drawn from independent streams of the seed. A fraction is a threshold on the
hash: adding rows moves no row. A count takes the rows whose hash is smallest: adding rows moves at
most as many out of a part as were added. Rows with the same id always fall on the same side, and the
evaluation parts keep one row an id. The split is made per source, so that every task has its test rows;
`leaks` looks over all of them for what is on two sides.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from etude import seeds
from etude.catalog import Settings
from etude.failures import CheckFailed, DataError, nearest
from etude.records import Fate, Record


class Predefined(Settings):
    """A part that is a file of its own, read with the settings of the same source."""

    path: str
    """The file."""
    settings: dict[str, Any] = Field(default={})
    """Settings of the source that are others for this file, such as `columns`."""


def amount(given: Any) -> Any:
    """A part's size as given, or a placed pydantic error: 0.1 is a share of the rows, 200 a count."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        if isinstance(given, Predefined | dict) or given == "all":
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
Everything = Annotated[float | int | Predefined | Literal["all"], BeforeValidator(amount)]


class Split(Settings):
    """How rows are divided into training, validation and test."""

    validation: Size = 0.05
    """Share of all rows, count, or `{path: FILE}`; 0 is none. After a test count or file: share of the remaining rows."""
    test: Everything = 0.1
    """Share of all rows, count, or `{path: FILE}`; 0 is none. `all`: nothing is trained, every row is scored (`etude score`)."""
    group: str | None = None
    """Keep all rows with the same value of this field on one side (a document, a file, a passage)."""
    stratify: str | None = None
    """Give every part each value of this field (a label) in the share it has of all rows, to within one row."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed is another division."""

    @model_validator(mode="after")
    def leaves_training_rows(self) -> Split:
        """Shares of test and validation leave something to train on."""
        if isinstance(self.test, float) and isinstance(self.validation, float) and self.test + self.validation >= 1:
            shares = {"test": self.test, "validation": self.validation}
            raise PydanticCustomError("size", "test {test} and validation {validation} together leave no row to train on", shares)
        if self.group is not None and self.stratify is not None:
            raise PydanticCustomError("stratify", "group keeps rows together that stratify would divide; give one of the two")
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
    if settings.test == "all":
        left: list[tuple[Record, Fate]] = []
        return Parts((), (), tuple(once(train, "test", left)), tuple(record for record, _ in left), tuple(fate for _, fate in left))
    dropped: list[tuple[Record, Fate]] = []
    parts: dict[str, Rows] = {"test": [], "validation": []}
    total = distinct(train)
    whole = values_of(train, settings.stratify)
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
        if isinstance(size, Predefined | str):
            continue
        of_all = part == "test" or isinstance(settings.test, float)
        if settings.stratify is not None and size:
            train, parts[part] = draw_values(train, size, part, settings, whole if of_all else None, dropped)
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
    """(the groups held out, the ids kept of them): whole groups, of which the `size` ids with the smallest hash are
    kept. Without groups every id is its own group."""
    enough(rows, size, part)
    key = group_of(settings.group)
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(key(row), set()).add(row.id)
    names = sorted(groups, key=lambda name: (seeds.number(settings.seed, part, name), name))
    inside = names[:size] if settings.group is None else whole_groups([(name, len(groups[name])) for name in names], size)
    ids = {id for name in inside for id in groups[name]}
    return set(inside), set(by_hash(ids, part, settings)[:size])


def enough(rows: Rows, size: int, part: str) -> None:
    """Raise DataError where there are no more than `size` different rows."""
    there = distinct(rows)
    if size >= there:
        more = "more than" if size > there else "all of"
        raise DataError(f"split.{part} asks for {size} rows, {more} the {there} different rows there are to take them from")


def by_hash(ids: Iterable[str], part: str, settings: Split) -> list[str]:
    """Ids in the order of their hashes."""
    return sorted(ids, key=lambda id: (seeds.number(settings.seed, part, id), id))


EXACT = 2048
"""Rows of a count that are made up by looking at sums of groups; those before are taken as they come."""


def whole_groups(groups: Sequence[tuple[str, int]], size: int) -> list[str]:
    """Groups (name, rows) that hold `size` rows, or as few more as can be; of such choices one whose groups come first in
    the order given. So no group is preferred for its size, and few rows are lost with their group.

    Groups are taken as they come until 2,048 rows are missing. For those the sums that can be reached are
    the bits of a whole number (subset sums by shifting), over the next groups until those that fit hold twice what is missing.
    """
    chosen: list[str] = []
    rest: list[tuple[str, int]] = []
    left, held = size, 0
    for name, rows in groups:
        if left - rows >= EXACT:
            chosen.append(name)
            left -= rows
        else:
            rest.append((name, rows))
    window: list[tuple[str, int]] = []
    for name, rows in rest:
        if held >= 2 * left and len(window) >= 64:
            break
        window.append((name, rows))
        held += rows if rows <= left else 0
    bound = 0
    for rows in sorted(rows for _, rows in window):
        bound = bound + rows if bound < left else bound
    reachable = [1]  # of the last k groups of the window
    for _, rows in reversed(window):
        reachable.append((reachable[-1] | reachable[-1] << rows) & ((1 << (bound + 1)) - 1))
    above = reachable[-1] >> left
    left += (above & -above).bit_length() - 1  # the smallest sum that is enough
    for at, (name, rows) in enumerate(window):
        if left >= rows and reachable[len(window) - at - 1] >> (left - rows) & 1:
            chosen.append(name)
            left -= rows
    return chosen


def values_of(rows: Rows, field: str | None) -> Counter[str]:
    """How many different rows have each value of a field; raises DataError for a row without it."""
    key = group_of(field, "stratify") if field is not None else None
    return Counter({row.id: key(row) for row in rows}.values()) if key else Counter()


def draw_values(
    rows: Rows, size: float | int, part: str, settings: Split, whole: Counter[str] | None, dropped: list[tuple[Record, Fate]]
) -> tuple[Rows, Rows]:
    """(the rows that stay, the rows of an evaluation part), each value in its share. A share is of `whole`, the rows
    of each value before any part was drawn (None: of the rows there are now); the only row left of a value stays.

    A share is rounded up or down by a lot of the value's own, a count by the largest remainders, so adding rows
    of one value moves at most as many of it out of a part as were added (with a count, and one of each value).
    """
    key = group_of(settings.stratify, "stratify")
    ids: dict[str, set[str]] = {}
    for row in rows:
        ids.setdefault(key(row), set()).add(row.id)
    if isinstance(size, int):
        enough(rows, size, part)
        taken = counted({name: len(own) for name, own in ids.items()}, size, part, settings)
    else:
        sizes = whole or {name: len(own) for name, own in ids.items()}
        taken = {name: math.floor(size * sizes[name] + seeds.share(settings.seed, part, "value", name)) for name in ids}
    inside = {id for name, own in ids.items() for id in by_hash(own, part, settings)[: min(taken[name], max(0, len(own) - 1))]}
    held = once([row for row in rows if row.id in inside], part, dropped)
    return [row for row in rows if row.id not in inside], held


def counted(sizes: Mapping[str, int], size: int, part: str, settings: Split) -> dict[str, int]:
    """`size` rows divided over values in proportion to their rows: whole numbers by the largest remainders, of equal ones by
    lot, and never the only row of a value. Raises DataError where too few values have a second row."""
    whole = sum(sizes.values())
    taken = {name: min(size * rows // whole, rows - 1) for name, rows in sizes.items()}
    lots = {name: (-(size * rows % whole), seeds.number(settings.seed, part, "value", name)) for name, rows in sizes.items()}
    while left := size - sum(taken.values()):
        able = sorted((name for name in taken if taken[name] < sizes[name] - 1), key=lots.__getitem__)
        if not able:
            most = sum(taken.values())
            raise DataError(
                f"split.{part} asks for {size} rows, and stratified by {settings.stratify!r} {most} leave training one of each value"
            )
        taken |= {name: taken[name] + 1 for name in able[:left]}
    return taken


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


def group_of(field: str | None, setting: str = "group") -> Callable[[Record], str]:
    """What keeps rows together: the value of a field, or the row's id. Raises DataError for a row without the field."""

    def key(record: Record) -> str:
        if field is None:
            return record.id
        value = record.fields.get(field)
        if value is None:
            raise DataError(f"{record.origin}: split.{setting} is {field!r}, and the row has no such field{nearest(field, record.fields)}")
        return str(value)

    return key


def distinct(rows: Iterable[Record]) -> int:
    """How many different rows there are."""
    return len({row.id for row in rows})


# ---- what is on two sides ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that is in two parts: `kind` is `id` (the same row), `input` (another row that asks the same) or `group`; `part`
    and `other` are the sides ("news.train", "news.test"), `rows` and `others` the ids there, `what` the id, text or group."""

    kind: str
    what: str
    part: str
    other: str
    rows: tuple[str, ...]
    others: tuple[str, ...]


def leaks(parts: Mapping[str, Parts], asked: Mapping[str, Callable[[Record], str]] | None = None, group: str | None = None) -> list[Leak]:
    """What stands on two sides of the split, over all sources (name -> Parts): same id, then same input, then same group.

    `asked`: source -> the text a row asks, compared after normalisation (NFKC, case, white space) among rows of the same
    task; rows that ask nothing are passed over. `group`: the field that was to keep rows together. Training against
    validation and test, and validation against test; a row that leaks by its id is not named again.
    """
    found: list[Leak] = []
    for kind in ("id", "input", "group"):
        places: dict[tuple[str, str], dict[str, dict[str, list[str]]]] = {}
        for source, own in parts.items():
            for side in SIDES:
                for row in getattr(own, side):
                    key = shared_by(kind, row, (asked or {}).get(source), group)
                    if key is not None:
                        places.setdefault(key, {}).setdefault(side, {}).setdefault(f"{source}.{side}", []).append(row.id)
        for (_, what), sides in places.items():
            for one, two in PAIRS:
                for part, rows in sides.get(one, {}).items():
                    for other, others in sides.get(two, {}).items():
                        if kind == "input" and set(rows) & set(others):
                            continue  # the same row, named already
                        found.append(Leak(kind, what, part, other, tuple(dict.fromkeys(rows)), tuple(dict.fromkeys(others))))
    return found


SIDES = ("train", "validation", "test")
PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


def shared_by(kind: str, row: Record, asked: Callable[[Record], str] | None, group: str | None) -> tuple[str, str] | None:
    """What rows are compared by: (task or "", text)."""
    if kind == "id":
        return "", row.id
    if kind == "group":
        value = row.fields.get(group) if group is not None else None
        return None if value is None else ("", str(value))
    text = " ".join(unicodedata.normalize("NFKC", asked(row)).casefold().split()) if asked else ""
    return (row.task, text) if text else None


def refuse_leaks(found: Sequence[Leak], kinds: Iterable[str] = ("id", "group")) -> None:
    """Raise CheckFailed where a run would be wrong: a row, or a group that was to stay together, is on two sides. Inputs that
    are the same in different rows are for the contamination check to judge, unless `kinds` names them."""
    wrong = [leak for leak in found if leak.kind in set(kinds)]
    if not wrong:
        return
    words = {"id": "the same row", "input": "rows that ask the same", "group": "rows of one group"}
    shown = [f"  {words[leak.kind]} ({leak.what[:60]!r}) in {leak.part} and {leak.other}" for leak in wrong[:5]]
    more = [f"  ... and {len(wrong) - 5} more"] if len(wrong) > 5 else []
    why = "a score would be of what was trained; give split.test and split.validation as shares (equal rows then fall on the same side)"
    raise CheckFailed("\n".join([f"the split leaks in {len(wrong)} places: {why}", *shown, *more]))
