"""The files that strategies left -> Generation: counts, curves, a few rows of each kind, and the trees worth drawing."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import generating, journal, preparing
from etude.generation import STRATEGIES
from etude.generation.evolve.lineage import Lineage, Node, asked, lineage
from etude.generation.pool import own_tasks
from etude.generation.requests import in_words
from etude.recipe import START, Recipe
from etude.records import Record
from etude.reporting.findings import finite
from etude.reporting.generated import (
    LOST,
    MADE_SHOWN,
    NODES,
    REFUSED_SHOWN,
    RULES_SHOWN,
    STRETCHES,
    TREES,
    Asked,
    Generated,
    Generation,
    Grown,
    Operation,
    Outcome,
    Replied,
    Spent,
    Stretch,
    Tree,
    Twig,
)
from etude.templates.levels import answer_field, lengths_by_level

Row = Mapping[str, Any]
Texts = Callable[[Iterable[str]], Mapping[str, str]]
"""Ids of rows that a strategy started from -> their texts, as far as they are known."""
MEASURED = 2000
"""Rows of a source whose lengths by level of reasoning are counted, spread over all of them."""
KEPT = 2000
"""Characters of a text that are taken along to be shown."""
OWN = ("id", "parents", "origin", "nearest", "similarity", "task", "request", "root", "operation", "round", "at", "rule", "text")
"""Notes of an outcome that are shown otherwise, or tell a reader nothing."""


def gather_generated(folder: Path, recipe: Recipe, facts: Mapping[str, Any]) -> Generation | None:
    """What the strategies of a run made, from `generated/`, with the replies in `asked/` where they are there; None where nothing was.

    `facts` are those of the generated stage: `strategies`, `llms`, and `levels` where rows have reasoning at levels. Raises DataError
    for a damaged file.
    """
    data = functools.cache(lambda: generating.with_made(preparing.stored(folder / "data", recipe), recipe, folder))
    found = []
    for name, strategy in recipe.generate.items():
        place = folder / "generated" / name
        if not (place / "rows.jsonl").is_file():
            continue

        def texts(ids: Iterable[str], of: Any = strategy) -> Mapping[str, str]:
            wanted = set(ids)
            if not wanted:
                return {}
            if not of.rows:
                return {task.id: task.instruction for task in own_tasks() if task.id in wanted}
            template = preparing.template_of(recipe, of.rows) if not of.keeps_fields else None
            rows = data().parts[of.rows].train
            return {row.id: asked_in(in_words(row, template).fields) for row in rows if row.id in wanted}

        told = facts.get("strategies", {}).get(name, {})
        found.append(
            generated(
                name,
                STRATEGIES.name_of(strategy),
                [*journal.read(place / "rows.jsonl")],
                [*journal.read(place / "refused.jsonl")] if (place / "refused.jsonl").is_file() else [],
                told,
                texts=texts,
                replies=tokens_of(folder / "asked" / f"generate-{name}.jsonl"),
                threshold=getattr(strategy, "most_similar", None),
                levels=facts.get("levels", {}).get(name, {}),
            )
        )
    return Generation(recipe.name, tuple(found), llms(folder, recipe, facts.get("llms", {}))) if found else None


def generated(
    name: str,
    strategy: str,
    rows: Sequence[Row],
    refused: Sequence[Row],
    told: Mapping[str, Any],
    *,
    texts: Texts = lambda ids: {},
    replies: Sequence[int] = (),
    threshold: float | None = None,
    levels: Mapping[str, Mapping[str, float]] | None = None,
) -> Generated:
    """One strategy from the lines of its two files and what the stage said of it (`asked`, `from_journal`, `tokens`)."""
    places = ordered(rows, refused)
    shown = [*spread(rows, MADE_SHOWN)], refusals(refused)
    near = {one for row in shown[0] if (one := row["made"].get("nearest"))} | {one for row in shown[1] if (one := row.get("nearest"))}
    grew = lineage(rows, refused)
    measured = [(tree, sized(tree)) for tree in grew.trees]
    trees = largest(measured)
    # texts of the machine-made rows themselves come first: they may be what a row is nearest to
    own = {key: asked_in(row) for row in rows for key in (row["made"].get("task"), row["made"]["id"]) if key in near}
    found = {**texts((near - own.keys()) | {tree.id for tree, _ in trees}), **own}
    numbers = {id(row): number for number, row in enumerate(places)}
    return Generated(
        name,
        strategy,
        made=len(rows),
        refused=dict(Counter(str(row["rule"]) for row in refused).most_common()),
        asked=int(told.get("asked", 0)),
        from_journal=int(told.get("from_journal", 0)),
        tokens=int(told.get("tokens", 0)),
        threshold=threshold,
        stretches=stretches(places),
        replies=replied(replies),
        examples=tuple(made(row, numbers[id(row)], found) for row in shown[0]),
        refusals=tuple(lost(row, numbers[id(row)], found) for row in shown[1]),
        grown=Grown(operations(grew), depths(measured), tuple(drawn(tree, sizes, found) for tree, sizes in trees)) if grew.trees else None,
        levels=levels or {},
    )


# ---- in the order of deciding ----------------------------------------------------------------------


def ordered(rows: Sequence[Row], refused: Sequence[Row]) -> list[Row]:
    """All outcomes in the order in which they were decided: a refusal says its place (`at`), and the made rows fill the others."""
    total = len(rows) + len(refused)
    places: dict[int, Row] = {}
    late: list[Row] = []
    for row in refused:
        at = row.get("at")
        if type(at) is int and 0 <= at < total and at not in places:
            places[at] = row
        else:
            late.append(row)
    rest = itertools.chain(rows, late)
    return [places[at] if at in places else next(rest) for at in range(total)]


def cut(total: int) -> list[tuple[int, int]]:
    """At most STRETCHES equal stretches of so many things, as (from, below)."""
    most = min(STRETCHES, total)
    return [(total * k // most, total * (k + 1) // most) for k in range(most)]


def stretches(outcomes: Sequence[Row]) -> tuple[Stretch, ...]:
    """What was decided, stretch by stretch; the instances of one instruction are compared once."""
    found = []
    before = None
    for start, stop in cut(len(outcomes)):
        rules: Counter[str] = Counter()
        likes = []
        for row in outcomes[start:stop]:
            if "made" not in row:
                rules[str(row["rule"])] += 1
                continue
            about = row["made"]
            like = finite(about["similarity"]) if isinstance(about.get("similarity"), int | float) else None
            if like is not None and (about.get("task") is None or about["task"] != before):
                likes.append(like)
            before = about.get("task")
        mean = sum(likes) / len(likes) if likes else None
        found.append(Stretch(start, stop - start - sum(rules.values()), dict(rules.most_common()), len(likes), mean))
    return tuple(found)


def replied(tokens: Sequence[int]) -> tuple[Replied, ...]:
    """Mean lengths of replies, stretch by stretch."""
    return tuple(Replied(start, stop - start, sum(tokens[start:stop]) / (stop - start)) for start, stop in cut(len(tokens)))


def tokens_of(path: Path) -> list[int]:
    """Tokens of each reply in a journal of replies, in the order they came; [] where it is not there."""
    lines = journal.read(path) if path.is_file() else ()
    return [sum(answer["tokens"] for answer in line["answers"]) for line in lines if "answers" in line]


# ---- rows to show ----------------------------------------------------------------------------------


def spread(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many of the rows, evenly spread, the first among them."""
    return [rows[len(rows) * k // min(most, len(rows))] for k in range(min(most, len(rows)))]


def refusals(refused: Sequence[Row]) -> list[Row]:
    """A few refusals of each of the commonest rules."""
    by_rule: dict[str, list[Row]] = {}
    for row in refused:
        by_rule.setdefault(str(row["rule"]), []).append(row)
    common = sorted(by_rule.values(), key=len, reverse=True)[:RULES_SHOWN]
    return [row for rows in common for row in spread(rows, REFUSED_SHOWN)]


def asked_in(fields: Row) -> str:
    """What a row asks: its instruction or first question, else its first text that is neither answer nor reasoning."""
    answer = answer_field(fields)
    own = (str(value) for name, value in fields.items() if isinstance(value, str) and name != answer and not name.startswith("rationale"))
    return (asked(fields) or next(own, ""))[:KEPT]


def answered_in(fields: Row) -> str:
    """What a row answers: of a conversation all that follows the first question."""
    turns = [turn for turn in fields.get("messages") or () if isinstance(turn, Mapping)]
    if turns:
        first = next((place for place, turn in enumerate(turns) if turn.get("role") == "user"), -1)
        later = turns[first + 1 :]
        said = [str(turn.get("content", "")) for turn in later]
        return said[0][:KEPT] if len(later) == 1 else "\n\n".join(f"{t.get('role')}: {s}" for t, s in zip(later, said, strict=True))[:KEPT]
    field = answer_field(fields)
    return str(fields[field])[:KEPT] if field else ""


def made(row: Row, number: int, texts: Mapping[str, str]) -> Outcome:
    """A made row to show."""
    about = row["made"]
    context = str(row.get("input") or "")[:KEPT] if "instruction" in row else ""
    nearest, like = nearby(about, texts)
    place = about.get("origin") or {}
    where = f"{place.get('path', '')}{':' + str(place['line']) if place.get('line') else ''}"
    return Outcome(
        str(about["id"]),
        number,
        asked_in({name: value for name, value in row.items() if name != "made"}),
        context=context,
        answer=answered_in(row),
        how=how(about),
        origin=where,
        nearest=nearest,
        similarity=like,
    )


def lost(row: Row, number: int, texts: Mapping[str, str]) -> Outcome:
    """A refused text to show."""
    nearest, like = nearby(row, texts)
    return Outcome("", number, str(row["text"])[:KEPT], str(row["rule"]), how=how(row), nearest=nearest, similarity=like)


def nearby(about: Row, texts: Mapping[str, str]) -> tuple[str, float | None]:
    """The text that something was nearest to (its id where that is not known), and how near."""
    key, like = about.get("nearest"), about.get("similarity")
    known = finite(like) if isinstance(like, int | float) else None
    return (texts.get(str(key), f"row {key}") if key else ""), known


def how(about: Row) -> str:
    """Operation, round, and the first plain notes, as a phrase."""
    said = [f"round {about['round']}"] if "round" in about else []
    said += [str(about["operation"]).replace("_", " ")] if "operation" in about else []
    plain = [(key, value) for key, value in about.items() if key not in OWN and isinstance(value, str | int | float) and value != ""]
    for key, value in plain[:4]:
        said.append(f"{key.replace('_', ' ')}: {str(value).lower() if isinstance(value, bool) else value}")
    return ", ".join(part[:80] for part in said)


# ---- lineage ---------------------------------------------------------------------------------------

Sizes = Mapping[int, tuple[int, int, int]]
"""A node's `id()` -> the longest line of rows made of it, all rows made of it at any distance, and the attempts given up."""


def walked(tree: Node) -> list[Node]:
    """All nodes of a tree, parents first, children in their order; no recursion, so that no depth is too much."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += reversed(node.children)
    return found


def sized(tree: Node) -> Sizes:
    """Depth, rows and attempts given up of each node and those below it."""
    found: dict[int, tuple[int, int, int]] = {}
    for node in reversed(walked(tree)):
        below = [found[id(child)] for child in node.children]
        found[id(node)] = (
            max((1 + depth for depth, _, _ in below), default=0),
            sum(1 + rows for _, rows, _ in below),
            len(node.given_up) + sum(lost for _, _, lost in below),
        )
    return found


def depths(trees: Sequence[tuple[Node, Sizes]]) -> dict[int, int]:
    """How many trees have which depth."""
    return dict(sorted(Counter(sizes[id(tree)][0] for tree, sizes in trees).items()))


def largest(trees: Sequence[tuple[Node, Sizes]]) -> list[tuple[Node, Sizes]]:
    """The trees to draw: in turn the deepest (of these the largest) and the one with most attempts given up that is left."""
    deep = sorted(trees, key=lambda one: [-n for n in one[1][id(one[0])]])
    lost = sorted(deep, key=lambda one: -one[1][id(one[0])][2])
    turns = {id(tree): (tree, sizes) for pair in zip(deep, lost, strict=True) for tree, sizes in pair}
    return list(turns.values())[:TREES]


def drawn(tree: Node, sizes: Sizes, texts: Mapping[str, str]) -> Tree:
    """A tree with at most NODES of its rows: the longest line first, then the others as they come."""
    nodes = walked(tree)
    chosen = {id(tree)}
    node = tree
    while node.children and len(chosen) < NODES:
        node = max(node.children, key=lambda child: sizes[id(child)][0])
        chosen.add(id(node))
    for node in nodes:
        if len(chosen) >= NODES:
            break
        chosen.add(id(node))
    places: dict[int, int] = {}
    parents = {id(child): node for node in nodes for child in node.children}
    twigs: list[Twig] = []
    room = LOST
    for node in nodes:
        if id(node) not in chosen:
            continue
        parent = parents.get(id(node))
        of = places[id(parent)] if parent is not None else -1
        more = sum(1 + sizes[id(child)][1] for child in node.children if id(child) not in chosen)
        given_up = tuple((number, name, rule, text[:KEPT]) for number, name, rule, text in node.given_up[:room])
        room -= len(given_up)
        text = node.text if of >= 0 else node.text or texts.get(node.id, "")
        places[id(node)] = len(twigs)
        depth = twigs[of].depth + 1 if of >= 0 else 0
        twigs.append(Twig(of, depth, node.id, text[:KEPT], node.operation, node.round, more, given_up))
    deep, rows, lost = sizes[id(tree)]
    return Tree(rows, lost, deep, tuple(twigs))


def operations(grew: Lineage) -> tuple[Operation, ...]:
    """What each operation made and lost, round by round."""
    return tuple(Operation(number, name, *counts) for number, one in grew.rounds.items() for name, counts in one.items())


# ---- models, lengths -------------------------------------------------------------------------------


def llms(folder: Path, recipe: Recipe, facts: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The LLMs that strategies name, in the order they are named, with what they said of themselves."""
    users: dict[str, list[str]] = {}
    for name, strategy in recipe.generate.items():
        for key in dict.fromkeys(getattr(strategy, role, "") for role in ("llm", "judge", "teacher")):
            if key:
                users.setdefault(key, []).append(name)
    found = []
    for name, used_by in users.items():
        one = facts.get(name, {})
        tokens = one.get("tokens", {})
        cost = one.get("cost")
        own = str(recipe.model) if name == START and name not in recipe.llms else str(getattr(recipe.llms.get(name), "model", ""))
        found.append(
            Asked(
                name,
                str(one.get("model") or own),
                one.get("requests"),
                tokens.get("input"),
                tokens.get("output"),
                float(cost) if isinstance(cost, int | float) else None,
                str(one.get("currency", "")),
                tuple(used_by),
                spent(folder / "llms" / name / "spent.jsonl", getattr(recipe.llms.get(name), "prices", None)),
            )
        )
    return tuple(found)


def spent(ledger: Path, prices: Any) -> tuple[Spent, ...]:
    """What an LLM had taken, request by request, at the ends of equal stretches; () where it kept no ledger."""
    from etude.models.servers.budgets import Budget, Spending, Usage

    lines = [*journal.read(ledger)] if ledger.is_file() else []
    ends, found = {stop for _, stop in cut(len(lines))}, []
    sums = Spending(Budget(), prices)
    for line in lines:
        sums.count(Usage(line["input"], line["output"], line["cached"]), line["assumed"])
        if sums.requests in ends:
            found.append(Spent(sums.requests, sums.input, sums.output, sums.cost()))
    return tuple(found)


def levels(parts: Mapping[str, Sequence[Record]], count: Callable[[str], int]) -> dict[str, dict[str, dict[str, float]]]:
    """Tokens an answer by level of reasoning, for each source with rows that have all levels (of at most MEASURED of its rows)."""
    found = {name: lengths_by_level(rows[:: -(-len(rows) // MEASURED) or 1], count) for name, rows in parts.items()}
    return {name: one for name, one in found.items() if one}
