"""Where evolved rows come from: trees and counts out of `rows.jsonl` and `refused.jsonl`, for whoever draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude import journal
from etude.records import Record


@dataclass(slots=True)
class Node:
    """A row in its tree. A root has operation "" and round 0, and text only where its row was given; `given_up` are the attempts on
    this row that a rule refused, as (round, operation, rule, text)."""

    id: str
    text: str = ""
    operation: str = ""
    round: int = 0
    children: list[Node] = field(default_factory=list)
    given_up: list[tuple[int, str, str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The rows made of it, at any distance."""
        return sum(1 + child.size for child in self.children)

    @property
    def depth(self) -> int:
        """The longest line of rows made of it, one of another."""
        return max((1 + child.depth for child in self.children), default=0)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        lost = [{"round": number, "operation": operation, "rule": rule, "text": text} for number, operation, rule, text in self.given_up]
        about = {"id": self.id, "text": self.text, "operation": self.operation, "round": self.round}
        return {**about, "given_up": lost, "children": [child.plain() for child in self.children]}


@dataclass(frozen=True, slots=True)
class Lineage:
    """Trees in the order of their first line in the files. `rounds`: for each round and operation the rows made and refused. `rules`:
    for each round the refusals by rule."""

    trees: tuple[Node, ...]
    rounds: Mapping[int, Mapping[str, tuple[int, int]]]
    rules: Mapping[int, Mapping[str, int]]

    @property
    def depths(self) -> dict[int, int]:
        """How many trees have which depth."""
        return dict(sorted(Counter(tree.depth for tree in self.trees).items()))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        rounds = {
            str(number): {operation: {"made": made, "refused": refused} for operation, (made, refused) in counts.items()}
            for number, counts in self.rounds.items()
        }
        rules = {str(number): dict(counts) for number, counts in self.rules.items()}
        depths = {str(depth): count for depth, count in self.depths.items()}
        return {"trees": [tree.plain() for tree in self.trees], "rounds": rounds, "rules": rules, "depths": depths}


def read(folder: Path, records: Iterable[Record] = ()) -> Lineage:
    """The lineage of the rows that a strategy left in `folder`; `records`, the rows it started from, give the roots their texts."""
    texts = {record.id: asked(record.fields) for record in records}
    rows, refused = folder / "rows.jsonl", folder / "refused.jsonl"
    return lineage(journal.read(rows) if rows.exists() else (), journal.read(refused) if refused.exists() else (), texts)


def lineage(rows: Iterable[Mapping[str, Any]], refused: Iterable[Mapping[str, Any]], texts: Mapping[str, str] | None = None) -> Lineage:
    """Trees and counts from the lines of the two files. Lines without an operation (rows that were never evolved) are left out; a row
    whose parent is not there hangs from its root."""
    texts = texts or {}
    nodes: dict[tuple[str, str], Node] = {}
    trees: dict[str, Node] = {}
    made: Counter[tuple[int, str]] = Counter()
    lost: Counter[tuple[int, str]] = Counter()
    rules: dict[int, Counter[str]] = {}

    def parent_of(about: Mapping[str, Any]) -> Node:
        root = about["root"]
        tree = trees.setdefault(root, Node(root, texts.get(root, "")))
        parents = about.get("parents") or [root]
        return nodes.get((root, parents[0]), tree)

    for row in rows:
        about = row["made"]
        if "operation" not in about:
            continue
        node = Node(about["id"], asked(row), about["operation"], about["round"])
        parent_of(about).children.append(node)
        nodes[about["root"], node.id] = node
        made[node.round, node.operation] += 1
    for row in refused:
        if "operation" not in row:
            continue
        parent_of(row).given_up.append((row["round"], row["operation"], row["rule"], row["text"]))
        lost[row["round"], row["operation"]] += 1
        rules.setdefault(row["round"], Counter())[row["rule"]] += 1
    rounds: dict[int, dict[str, tuple[int, int]]] = {}
    for number, operation in sorted(made | lost):
        rounds.setdefault(number, {})[operation] = (made[number, operation], lost[number, operation])
    return Lineage(tuple(trees.values()), rounds, {number: dict(counts.most_common()) for number, counts in sorted(rules.items())})


def asked(fields: Mapping[str, Any]) -> str:
    """The instruction of a row, or its first question."""
    if isinstance(fields.get("instruction"), str):
        return str(fields["instruction"])
    turns = fields.get("messages") or ()
    return next((str(turn["content"]) for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user"), "")
