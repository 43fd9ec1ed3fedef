"""The geometry of the pictures of made data: outcomes and likeness in the order of deciding, lengths of replies, trees, levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from etude.reporting import words
from etude.reporting.charts import Tick, percent, spaced, tick_text
from etude.reporting.curation_charts import Line, line
from etude.reporting.generated import RULES_SHOWN, Asked, Generated, Generation, Levels, Outcome, Replied, Stretch, Tree, Twig

COLOURED = 4
"""Rules with a colour of their own in the columns, the commonest; the others share one."""
LANE = 46
"""Pixels from one line of a tree to the next."""
LABELLED = 8
"""Columns of a tree up to which its dots have words beside them."""
INDENTED = 12
"""Steps by which an outline is set in at most."""


class Part(NamedTuple):
    """A stretch of a column: what it is (`made`, `rule0` ..., `other`), where it begins and how high it is."""

    role: str
    y: str
    height: str


class Stack(NamedTuple):
    """One column, filled from below."""

    x: str
    width: str
    parts: tuple[Part, ...]
    title: str


class Stacks(NamedTuple):
    """Columns of equal height over the order of deciding; `roles`: (role, name) of what they hold."""

    columns: tuple[Stack, ...]
    roles: tuple[tuple[str, str], ...]
    across: tuple[Tick, ...]


class Curve(NamedTuple):
    """A line in a box of 1000 by 1000, with its dots where they are few, ticks, and a level (a dashed line) or None."""

    points: str
    dots: tuple[tuple[str, str], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    level: str | None
    spoken: str


class Dot(NamedTuple):
    """A row in a tree's picture."""

    x: str
    y: int
    label: str
    title: str
    more: str


class Lanes(NamedTuple):
    """A tree from left to right, a column a round: dots for rows, `edges` (x1, y1, x2, y2) from parent to child, `crosses` for attempts
    given up, `tries` from the row to them."""

    height: int
    heads: tuple[Tick, ...]
    tries: tuple[tuple[str, int, str, int], ...]
    edges: tuple[tuple[str, int, str, int], ...]
    dots: tuple[Dot, ...]
    crosses: tuple[Dot, ...]
    many: bool


def stacks(one: Generated) -> Stacks | None:
    """What became of the outcomes, stretch by stretch; None where there is only one stretch."""
    if len(one.stretches) < 2:
        return None
    top = [rule for rule, _ in Counter(one.refused).most_common(COLOURED)]
    roles = [("made", "made"), *((f"rule{k}", rule) for k, rule in enumerate(top))]
    if len(one.refused) > len(top):
        roles.append(("other", "other rules"))
    drawn = []
    width = 100 / len(one.stretches)
    for index, stretch in enumerate(one.stretches):
        rest = sum(n for rule, n in stretch.refused.items() if rule not in top)
        counts = [stretch.made, *(stretch.refused.get(rule, 0) for rule in top), rest]
        parts, filled = [], 0.0
        for (role, _), n in zip(roles, counts, strict=False):
            if n:
                high = 100 * n / stretch.outcomes
                filled += high
                parts.append(Part(role, percent(100 - filled), percent(high)))
        said = ", ".join(f"{words.name(name, 40)} {n:,}" for (_, name), n in zip(roles, counts, strict=False) if n)
        title = f"outcomes {stretch.start + 1:,} to {stretch.start + stretch.outcomes:,}: {said}"
        drawn.append(Stack(percent(index * width + width * 0.06), percent(width * 0.88), tuple(parts), title))
    return Stacks(tuple(drawn), tuple(roles), across(sum(stretch.outcomes for stretch in one.stretches)))


def across(total: int) -> tuple[Tick, ...]:
    """Ticks of an axis from nothing to `total` things."""
    marks, step = spaced(0, max(1, total), 5, whole=True)
    return tuple(Tick(percent(100 * mark / max(1, total)), tick_text(mark, step)) for mark in marks if mark <= total)


def curve(pairs: Sequence[tuple[float, float]], total: int, what: str, level: float | None = None, digits: int = 2) -> Curve | None:
    """Values over an order of `total` things, on an axis that begins at zero; None for fewer than two of them."""
    if len(pairs) < 2:
        return None
    values, step = spaced(0.0, max([y for _, y in pairs] + ([level] if level is not None else [])) or 1.0, 4)
    top = values[-1]
    spots = [(100 * x / max(1, total), 100 * (1 - y / top)) for x, y in pairs]
    low, high = min(pairs, key=lambda p: p[1]), max(pairs, key=lambda p: p[1])
    said = zip(("at first", "at last", "least", "most"), (pairs[0], pairs[-1], low, high), strict=True)
    spoken = f"{what}: " + ", ".join(f"{y:.{digits}f} {place}" for place, (_, y) in said)
    return Curve(
        " ".join(f"{10 * x:.1f},{10 * y:.1f}" for x, y in spots),
        tuple((percent(x), percent(y)) for x, y in spots) if len(spots) <= 60 else (),
        across(total),
        tuple(Tick(percent(100 * (1 - value / top)), short(value, step, top)) for value in values),
        None if level is None else percent(100 * (1 - level / top)),
        spoken,
    )


def short(value: float, step: float, top: float) -> str:
    """A tick that fits beside the plot: large values in thousands (k) or millions (M), as the largest of the axis asks."""
    for size, unit in ((1_000_000, "M"), (10_000, "k")):
        if top >= size:
            return f"{value / (1_000_000 if unit == 'M' else 1000):g}{unit}" if value else "0"
    return tick_text(value, step)


def likeness(one: Generated) -> Curve | None:
    """Mean likeness of new instructions to the nearest one before, over all outcomes."""
    pairs = [(s.start + s.outcomes / 2, s.similarity) for s in one.stretches if s.similarity is not None]
    total = sum(s.outcomes for s in one.stretches)
    return curve(pairs, total, "ROUGE-L with the nearest", one.threshold)


def lengths(replies: Sequence[Replied]) -> Curve | None:
    """Mean tokens a reply, in the order in which replies came."""
    total = sum(one.replies for one in replies)
    return curve([(one.start + one.replies / 2, one.tokens) for one in replies], total, "tokens a reply", digits=0)


def taken(one: Asked) -> Curve | None:
    """Tokens read and written so far, over an LLM's requests."""
    return (
        curve([(0, 0.0), *((s.requests, float(s.input + s.output)) for s in one.spent)], last(one), "tokens", digits=0)
        if one.spent
        else None
    )


def paid(one: Asked) -> Curve | None:
    """Money spent so far, over an LLM's requests; None without prices."""
    known = [(float(s.requests), s.cost) for s in one.spent if s.cost is not None]
    return curve([(0.0, 0.0), *known], last(one), "money", digits=4) if known and known[-1][1] else None


def last(one: Asked) -> int:
    """The requests that an LLM's curves reach."""
    return one.spent[-1].requests


def mean_likeness(stretches: Sequence[Stretch]) -> float | None:
    """Over all instructions that were compared."""
    known = [(s.compared, s.similarity) for s in stretches if s.similarity is not None]
    return sum(n * like for n, like in known) / sum(n for n, _ in known) if known else None


def rules(one: Generated) -> list[tuple[str, int, Line, str]]:
    """(rule, refusals, bar, role in the columns), the commonest first; the many rare ones as one."""
    found = sorted(one.refused.items(), key=lambda item: -item[1])
    rest = found[RULES_SHOWN:]
    if rest:
        found = [*found[:RULES_SHOWN], (f"{len(rest):,} other rules", sum(n for _, n in rest))]
    top = max((n for _, n in found), default=0)
    return [(rule, n, line(n, None, top), f"rule{k}" if k < COLOURED else "other") for k, (rule, n) in enumerate(found)]


def by_operation(one: Generated) -> list[tuple[str, list[tuple[int, int] | None], int, int, Line]]:
    """(operation, (made, refused) in each round, both in all, bar of tried with made in front), the most tried first."""
    if not one.grown:
        return []
    numbers = rounds_of(one)
    cells = {(o.name, o.round): (o.made, o.refused) for o in one.grown.operations}
    totals = {name: (0, 0) for name, _ in cells}
    for (name, _), (made, refused) in cells.items():
        totals[name] = (totals[name][0] + made, totals[name][1] + refused)
    order = sorted(totals, key=lambda name: (-sum(totals[name]), name))
    most = max((sum(both) for both in totals.values()), default=0)
    found = []
    for name in order:
        made, refused = totals[name]
        found.append((name, [cells.get((name, number)) for number in numbers], made, refused, line(made + refused, made, most)))
    return found


def rounds_of(one: Generated) -> list[int]:
    """The rounds in which operations were tried."""
    return sorted({o.round for o in one.grown.operations}) if one.grown else []


def lanes(tree: Tree) -> Lanes:
    """The picture of a tree. A first child stands on its parent's line, every other on a new one."""
    numbers = sorted({twig.round for twig in tree.twigs[1:]} | {number for twig in tree.twigs for number, *_ in twig.lost})
    column = {number: place + 1 for place, number in enumerate(numbers)}
    width = 100 / (len(numbers) + 1)
    many = len(numbers) + 1 > LABELLED

    def at(place: int) -> str:
        return percent(width * (place + 0.5))

    lane: list[int] = []
    taken: set[int] = set()
    highest = 0
    tries, edges, dots, crosses = [], [], [], []
    for place, twig in enumerate(tree.twigs):
        if twig.of < 0:
            lane.append(0)
        elif twig.of not in taken:
            taken.add(twig.of)
            lane.append(lane[twig.of])
        else:
            highest += 1
            lane.append(highest)
        x, y = at(column.get(twig.round, 0) if place else 0), 40 + lane[place] * LANE
        if twig.of >= 0:
            parent = tree.twigs[twig.of]
            edges.append((at(column.get(parent.round, 0) if twig.of else 0), 40 + lane[twig.of] * LANE, x, y))
        label = "" if many or not place else words.name(twig.operation.replace("_", " "), 18)
        dots.append(Dot(x, y, label, words.name(twig.text, 160), f"+{twig.more:,}" if twig.more else ""))
        for number, operation, rule, text in twig.lost:
            said = f"given up in round {number}, {operation.replace('_', ' ')}: {rule}: {text}"
            tries.append((x, y, at(column[number]), y))
            crosses.append(Dot(at(column[number]), y, "" if many else words.name(rule, 18), words.name(said, 200), ""))
    heads = [Tick(at(0), "start"), *(Tick(at(place), f"{number:,}" if many else f"round {number:,}") for number, place in column.items())]
    every = -(-len(heads) // 22)
    return Lanes(40 + highest * LANE + 32, tuple(heads[::every]), tuple(tries), tuple(edges), tuple(dots), tuple(crosses), many)


def inset(twig: Twig) -> int:
    """The step by which a row is set in in the outline of its tree."""
    return min(twig.depth, INDENTED)


def level_lines(levels: Levels) -> list[tuple[str, str, str, str, str, str]]:
    """(level, rows, mean, median, longest, width of the mean's bar)."""
    top = max((one["mean"] for one in levels.values()), default=0.0) or 1.0
    return [
        (
            level,
            words.count(one["rows"]),
            f"{one['mean']:,.1f}",
            words.count(one["median"]),
            words.count(one["longest"]),
            percent(100 * one["mean"] / top),
        )
        for level, one in levels.items()
    ]


def refused_by_rule(one: Generated) -> list[tuple[str, int, list[Outcome]]]:
    """(rule, refusals in all, those shown), the commonest rule first."""
    shown: dict[str, list[Outcome]] = {}
    for outcome in one.refusals:
        shown.setdefault(outcome.rule, []).append(outcome)
    return [(rule, one.refused.get(rule, len(some)), some) for rule, some in shown.items()]


def sentence(one: Generated) -> str:
    """What became of a strategy, in one or two sentences."""
    tried = one.made + one.lost
    if not tried:
        return "Nothing was made, and nothing refused."
    said = f"{words.rows(one.made)} made; {one.lost:,} refused ({words.share(one.lost, tried)} of all)."
    if one.refused:
        rule, n = max(one.refused.items(), key=lambda item: item[1])
        said += (
            f" The commonest rule: “{words.name(rule, 60)}”, {n:,}." if len(one.refused) > 1 else f" The rule: “{words.name(rule, 60)}”."
        )
    return said


def spent(found: Generation) -> str:
    """What all LLMs cost, as far as it is known, or ""."""
    known = [one for one in found.llms if one.cost is not None]
    sums: dict[str, float] = {}
    for one in known:
        sums[one.currency] = sums.get(one.currency, 0.0) + (one.cost or 0.0)
    said = ", ".join(f"{total:,.4f} {words.name(unit, 12)}".strip() for unit, total in sums.items())
    lacking = [one for one in found.llms if one.cost is None and one.requests]
    return f"{said}, and what {len(lacking)} without prices cost" if said and lacking else said
