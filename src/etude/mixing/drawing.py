"""Drawing rows: a queue for every source, and one order over all of them.

A source's queue is its rows sorted by a hash of (seed, source, row, pass), pass after pass, so that no row
comes again before every row of the source has come, and `n` draws are the first n of the queue. Rows
added to a source displace at most as many of its draws as were added, and none of another source's
(unless the settings make their numbers depend on it: examples-proportional rates, `fill`, no `total`).

The j-th of a source's n draws stands at (j + lot) / n of the whole order, so every stretch of the order holds
the sources in their proportions to within a row or two each. The order is a pure function of rows, settings
and seed: a run that was killed goes on from its position.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude import seeds
from etude.failures import DataError, RecipeError, nearest
from etude.mixing.rates import apportion, fill, largest_total, shares
from etude.mixing.settings import Balance, Mixture
from etude.mixing.tables import Line, Report, notes_of
from etude.records import Record


class Drawn(NamedTuple):
    """One draw: `repeat` says how often the row had been drawn before; `weight` is what the row counts in the loss."""

    source: str
    record: Record
    repeat: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Mixed:
    """The draws in their order, and the report of them."""

    order: tuple[Drawn, ...]
    report: Report

    @property
    def weights(self) -> dict[tuple[str, str], float]:
        """(source, row id) -> what the row counts in the loss, for rows that do not count 1. (A row may be in two
        sources under one id, hence the pair.)"""
        return {(draw.source, draw.record.id): draw.weight for draw in self.order if draw.weight != 1.0}


class Keyed(NamedTuple):
    """A row and which one of its id it is in its source, from 0."""

    record: Record
    copy: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are drawn as one: a source's, or those with (without) reasoning. `classes`: by class, where balanced."""

    source: str
    kind: str
    rows: tuple[Keyed, ...]
    classes: Mapping[str, tuple[Keyed, ...]]
    by: str = ""

    @property
    def size(self) -> int:
        """Rows of one pass."""
        if self.by not in ("oversample", "undersample"):
            return len(self.rows)
        sizes = [len(rows) for rows in self.classes.values()]
        return len(sizes) * (max(sizes) if self.by == "oversample" else min(sizes))


Reasoned = Callable[[str, Record], bool]


def mix(rows: Mapping[str, Sequence[Record]], mixture: Mixture, seed: int, *, reasoned: Reasoned | None = None) -> Mixed:
    """Draw from the rows of every source (in the recipe's order) as the mixture says.

    `reasoned(source, record)` says whether a row will be answered with its reasoning; needed where `cot` is set.
    Raises RecipeError for names that do not fit the sources, and DataError where there is nothing to draw, where
    `stop` met a shortfall (with the numbers), or where a row lacks the class that is balanced.
    """
    if mixture.plain():
        lines = [Line(name, len(given), len(given), len(given), len(given)) for name, given in rows.items()]
        return Mixed(tuple(Drawn(name, record) for name, given in rows.items() for record in given), Report(tuple(lines)))
    mixture.check(rows)
    units = units_of(rows, mixture, reasoned)
    sizes = Counter(dict.fromkeys(rows, 0))
    for unit in units.values():
        sizes[unit.source] += unit.size
    part = shares(mixture, sizes)
    parts = parts_of(units, part, mixture.cot)
    asked, drawn = numbers(units, parts, mixture)
    placed: list[tuple[float, int, int, Drawn]] = []
    lines = []
    for place, (name, unit) in enumerate(units.items()):
        draws = queue(unit, drawn[name], seed)
        lines.append(line_of(unit, asked[name], draws, mixture.balance))
        lots = seeds.stream(seed, "place", unit.source, unit.kind).random(len(draws)).tolist()
        placed += [((j + lot) / len(draws), place, j, draw) for j, (lot, draw) in enumerate(zip(lots, draws, strict=True))]
    placed.sort(key=lambda item: item[:3])
    order = weighed([item[3] for item in placed], mixture.balance, {unit.source for unit in units.values() if unit.by == "weights"})
    return Mixed(tuple(order), Report(tuple(lines), notes_of(lines, mixture.shortfall)))


# ---- what is drawn as one ---------------------------------------------------------------------------


def units_of(rows: Mapping[str, Sequence[Record]], mixture: Mixture, reasoned: Reasoned | None) -> dict[str, Unit]:
    """The units by a name of their own, in the order of the sources."""
    if mixture.cot is not None and reasoned is None:
        raise ValueError("mixture.cot needs `reasoned`, which says of a row whether it is answered with its reasoning")
    units: dict[str, Unit] = {}
    fields = balanced_sources(rows, mixture.balance) if mixture.balance else set()
    for name, given in rows.items():
        kinds: dict[str, list[Keyed]] = {}
        copies: Counter[str] = Counter()
        for record in given:
            kind = "" if mixture.cot is None or reasoned is None else "reasoned" if reasoned(name, record) else "plain"
            kinds.setdefault(kind, []).append(Keyed(record, copies[record.id]))
            copies[record.id] += 1
        for kind in sorted(kinds or {"": []}):
            own = tuple(kinds.get(kind, ()))
            balance = mixture.balance if name in fields and own else None
            classes = classes_of(own, balance.field) if balance else {}
            units[f"{name}\0{kind}"] = Unit(name, kind, own, classes, balance.by if balance else "")
    return units


def balanced_sources(rows: Mapping[str, Sequence[Record]], balance: Balance) -> set[str]:
    """The sources whose classes are balanced; raises RecipeError where there is none."""
    chosen = (
        set(balance.sources) if balance.sources is not None else {n for n, some in rows.items() if some and balance.field in some[0].fields}
    )
    if not chosen:
        fields = {field for some in rows.values() if some for field in some[0].fields}
        raise RecipeError(f"mixture.balance.field: no source has a field {balance.field!r}{nearest(balance.field, fields)}")
    return chosen


def classes_of(rows: Sequence[Keyed], field: str) -> dict[str, tuple[Keyed, ...]]:
    """Rows by class, in the order of the classes' names; raises DataError naming a row without one."""
    classes: dict[str, list[Keyed]] = {}
    for row in rows:
        classes.setdefault(class_of(row.record, field), []).append(row)
    return {name: tuple(classes[name]) for name in sorted(classes)}


def class_of(record: Record, field: str) -> str:
    """A row's class."""
    value = record.fields.get(field)
    if value is None:
        raise DataError(
            f"{record.origin}: mixture.balance.field is {field!r}, and the row has no such field{nearest(field, record.fields)}"
        )
    return str(value)


# ---- how many ---------------------------------------------------------------------------------------


def parts_of(units: Mapping[str, Unit], part: Mapping[str, float], cot: float | None) -> dict[str, float]:
    """Each unit's share of the draws. With a share of reasoning, that much goes to the sources that have such rows and
    the rest to those that have others, each in the proportion of the sources' own shares: a source with both keeps its
    share where all sources have both."""
    if cot is None:
        return {name: part[unit.source] for name, unit in units.items()}
    parts = {}
    for kind, share in (("reasoned", cot), ("plain", 1 - cot)):
        inside = {name: part[unit.source] for name, unit in units.items() if unit.kind == kind}
        whole = math.fsum(inside.values())
        if share and not whole:
            which = "with" if kind == "reasoned" else "without"
            raise DataError(f"mixture.cot is {cot:g}, and no source that is drawn from has a row {which} reasoning")
        parts.update({name: share * own / whole if whole else 0.0 for name, own in inside.items()})
    return {name: parts.get(name, 0.0) for name in units}


def numbers(units: Mapping[str, Unit], parts: Mapping[str, float], mixture: Mixture) -> tuple[dict[str, int], dict[str, int]]:
    """(rows asked of each unit, rows drawn); raises DataError where nothing can be drawn or `stop` met a shortfall."""
    once = {name: math.floor(unit.size * (mixture.passes(unit.source) or 1) + 1e-9) for name, unit in units.items()}
    empty = [units[name] for name, part in parts.items() if part > 0 and not once[name]]
    if empty and mixture.shortfall != "fill":
        kind = f"{empty[0].kind} " if empty[0].kind else ""
        allowed = " that its `epochs` lets be drawn" if empty[0].size else ""
        raise DataError(f"mixture: source {empty[0].source!r} has no {kind}row to draw{allowed}; give it weight 0, or shortfall: fill")
    if mixture.counts is not None:
        asked = {name: mixture.counts[unit.source] for name, unit in units.items()}
    else:
        total = mixture.total or largest_total({name: part for name, part in parts.items() if once[name]}, once)
        asked = apportion(total, parts)
    if mixture.shortfall == "fill":
        return asked, fill(sum(asked.values()), parts, once)
    if mixture.shortfall == "stop":
        lacking = [f"{units[n].source}: {asked[n]} rows asked, {once[n]} there" for n in units if asked[n] > once[n]]
        if lacking:
            most = largest_total(parts, once)
            raise DataError(
                f"mixture: {'; '.join(lacking)}. In these proportions there can be {most} rows; ask for fewer, allow more `epochs`, "
                "or say shortfall: oversample or fill"
            )
        return asked, asked
    most_of = {name: once[name] if mixture.passes(unit.source) else asked[name] for name, unit in units.items()}
    return asked, {name: min(asked[name], most_of[name]) for name in units}


# ---- which ones -------------------------------------------------------------------------------------


def queue(unit: Unit, count: int, seed: int) -> list[Drawn]:
    """The first `count` draws of a unit."""
    if unit.by not in ("oversample", "undersample"):
        return [Drawn(unit.source, row.record, repeat) for row, repeat in passes(unit.rows, count, seed, unit.source)]
    return in_turn(unit, count, seed)


def passes(rows: Sequence[Keyed], count: int, seed: int, source: str) -> list[tuple[Keyed, int]]:
    """`count` draws of some rows, pass after pass, each in the order of its own hashes."""
    drawn: list[tuple[Keyed, int]] = []
    while len(drawn) < count:
        turn = len(drawn) // len(rows)
        ranked = sorted(rows, key=lambda row: (seeds.number(seed, "draw", source, row.record.id, row.copy, turn), row.record.id))
        drawn += [(row, turn) for row in ranked[: count - len(drawn)]]
    return drawn


def in_turn(unit: Unit, count: int, seed: int) -> list[Drawn]:
    """`count` draws with every class equally often, to within one in any first so many: one of each class a round, the
    classes of a round in an order of its own."""
    names = list(unit.classes)
    rounds: list[str] = []
    for number in range(math.ceil(count / len(names))):
        rounds += sorted(names, key=lambda name: seeds.number(seed, "class", unit.source, number, name))
    wanted = Counter(rounds[:count])
    fewest = min(len(rows) for rows in unit.classes.values())
    waiting = {}
    for name, rows in unit.classes.items():
        pool = [row for row, _ in passes(rows, fewest, seed, unit.source)] if unit.by == "undersample" else rows
        waiting[name] = iter(passes(pool, wanted[name], seed, unit.source))
    drawn = [next(waiting[name]) for name in rounds[:count]]
    return [Drawn(unit.source, row.record, repeat) for row, repeat in drawn]


def weighed(order: list[Drawn], balance: Balance | None, sources: set[str]) -> list[Drawn]:
    """The draws of some sources with the weight of their class: draws / (classes x draws of the class), which is 1 on
    average over a source's draws (the "balanced" weights of King and Zeng 2001)."""
    if balance is None or not sources:
        return order
    found: Counter[tuple[str, str]] = Counter()
    for draw in order:
        if draw.source in sources:
            found[draw.source, class_of(draw.record, balance.field)] += 1
    totals = Counter({name: sum(n for (source, _), n in found.items() if source == name) for name in sources})
    classes = Counter(source for source, _ in found)

    def weight(draw: Drawn) -> float:
        return totals[draw.source] / (classes[draw.source] * found[draw.source, class_of(draw.record, balance.field)])

    return [draw._replace(weight=weight(draw)) if draw.source in sources else draw for draw in order]


def line_of(unit: Unit, asked: int, draws: Sequence[Drawn], balance: Balance | None) -> Line:
    """The report's line of a unit."""
    classes = Counter(class_of(draw.record, balance.field) for draw in draws) if balance and unit.by else Counter[str]()
    first = sum(1 for draw in draws if not draw.repeat)
    return Line(unit.source, len(unit.rows), asked, len(draws), first, unit.kind, dict(sorted(classes.items())))
