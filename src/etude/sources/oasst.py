"""Conversation trees of OpenAssistant (Koepf et al. 2023): every path from a root to a leaf is a conversation.

Both the released trees (a row a tree, `replies` inside `replies`) and the flat rows of hubs (a row a message
with its `parent_id`). Trees are read one at a time: flat rows of a tree must stand together, as they do in
the released files, and memory holds one tree and the ids of those read; `scattered` holds the whole file.
A Record has the field `tree` beside its messages: split with `group: tree`, since paths share their beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from etude.catalog import Settings, note
from etude.records import BadRow, Origin, Record
from etude.sources.keys import DataPath, FileEncoding, FileKind, Keep, Licence, Limit, Task, Where, Worded
from etude.sources.mending import Mend, Mended
from etude.sources.messages import worded
from etude.sources.reading import inputs_of, read_file
from etude.sources.rows import SHOWN, Row, count
from etude.sources.turns import Spelling, turns
from etude.sources.where import kind_of

COLUMNS = ("messages", "tree", "lang", "tree_state")
ID = ("message_id", "user_message_id")
PARENT = ("parent_id", "parent_message_id")


@dataclass(slots=True)
class Node:
    """A message of a tree, its replies, and where it stands."""

    cells: Mapping[str, Any]
    origin: Origin
    replies: list[Node] = field(default_factory=list)

    def answers(self) -> bool:
        """Whether the assistant wrote it."""
        return self.cells.get("role") == "assistant"


class Oasst(Settings):
    """Trees of messages by prompter and assistant."""

    path: DataPath
    answers: Annotated[int, Field(gt=0)] | None = 1
    """How many of the answers to a question are followed, best rank first; null: all. The user's replies are all followed."""
    lang: str | None = None
    """Take only messages in this language (`en`), and what hangs on them."""
    reviewed: bool = True
    """Leave out messages that the reviewers refused (`review_result: false`), and what hangs on them."""
    states: tuple[str, ...] = ("ready_for_export",)
    """Take trees in these states only, where they say one; empty: all."""
    scattered: bool = False
    """Flat rows of a tree do not stand together: hold the whole file in memory."""
    mend: Mend = ()
    template: Worded = None
    where: Where = None
    limit: Limit = None
    keep: Keep = ()
    container: FileKind = None
    encoding: FileEncoding = "utf-8"
    licence: Licence = ""
    task: Task = None

    def read(self, name: str) -> Iterator[Record | BadRow]:
        """Every path in file order. Raises DataError for an unusable file, RecipeError for a key no row has."""
        mended, left = Mended(name), [0]
        try:
            yield from read_file(self, name, lambda _: partial(self.build, mended), expand=partial(self.expand, left), expanded=COLUMNS)
        finally:
            mended.tell()
            if left[0]:
                why = "deleted, refused by reviewers, of another language or in another state"
                note(f"sources.{name}: {count(left[0], 'tree')} left out ({why})")

    def inputs(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return inputs_of(self)

    def build(self, mended: Mended, cells: dict[str, Any]) -> dict[str, Any]:
        """The fields of one path; raises Unusable with the reason."""
        found = turns(cells["messages"], Spelling(content="text", blank="drop_empty" in self.mend), "'messages'")
        fields = worded(found, self.mend, mended, [])
        return fields | {"tree": cells["tree"]} if cells.get("tree") else fields

    def expand(self, left: list[int], rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """One row a path; counts the trees that the settings leave out."""
        for tree in trees(rows, self.scattered):
            if isinstance(tree, BadRow):
                yield tree
                continue
            root, facts = tree
            state = facts.get("tree_state")
            if state is not None and self.states and state not in self.states:
                left[0] += 1
                continue
            paths = list(self.paths(root))
            if not paths and any_answer(root):
                left[0] += 1
            elif not paths:
                yield BadRow(root.origin, "the tree holds no answer", str(root.cells)[:SHOWN])
            for path in paths:
                shared = {"tree": facts.get("tree"), "lang": root.cells.get("lang"), "tree_state": state}
                spoken = [{"role": node.cells.get("role"), "text": node.cells.get("text")} for node in path]
                yield Row(path[-1].origin, {**path[-1].cells, **shared, "messages": spoken})

    def paths(self, root: Node) -> Iterator[list[Node]]:
        """Every path of kept messages from the root to an answer that no further answer follows, best rank first."""
        waiting = [[root]] if self.kept(root) else []
        while waiting:
            path = waiting.pop()
            after = self.following(path[-1])
            if not after and path[-1].answers():
                yield path
            waiting += [[*path, one] for one in reversed(after)]

    def following(self, node: Node) -> list[Node]:
        """The replies that a path goes on with."""
        kept = [one for one in node.replies if self.kept(one)]
        if node.answers():
            return [one for one in kept if any(self.kept(reply) for reply in one.replies)]
        ranked = sorted((one for one in kept if one.answers()), key=rank)
        return [*ranked[: self.answers], *(one for one in kept if not one.answers())]

    def kept(self, node: Node) -> bool:
        """Whether a message is taken."""
        cells = node.cells
        if cells.get("deleted") or (self.reviewed and cells.get("review_result") is False):
            return False
        return self.lang is None or cells.get("lang") in (None, self.lang)


def rank(node: Node) -> float:
    """A reply's rank, 0 the best; unranked ones come last, in file order."""
    value = node.cells.get("rank")
    return value if isinstance(value, int | float) else float("inf")


def any_answer(root: Node) -> bool:
    """Whether anyone answered in a tree."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.answers():
            return True
        waiting += node.replies
    return False


Tree = tuple[Node, dict[str, Any]]


def trees(rows: Iterator[Row | BadRow], scattered: bool) -> Iterator[Tree | BadRow]:
    """The trees of a file, (root, facts of the tree) each; rows that belong to none as BadRows."""
    held: list[Row] = []
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, BadRow):
            yield row
        elif isinstance(row.cells.get("prompt"), Mapping) or isinstance(row.cells.get("replies"), list):
            yield nested(row)
        elif (parent := key_of(row.cells, PARENT)) is None or (own := key_of(row.cells, ID)) is None:
            yield bad(row, f"neither a tree (`prompt`, `replies`) nor a message with {' and '.join((ID[0], PARENT[0]))}")
        elif scattered:
            held.append(row)
        else:
            if held and begins(row, held[-1], parent):
                yield from grown(held)
                seen.add(tree_of(held[0]))
                held = []
            if not held and tree_of(row, own) in seen:
                yield bad(row, "its tree ended further above; scattered: true reads a file in any order")
                continue
            held.append(row)
    yield from grown(held)


def key_of(cells: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of the keys that a row has."""
    return next((key for key in keys if key in cells), None)


def tree_of(row: Row, own: str | None = None) -> str:
    """The id of a flat row's tree: as it says, else the id of its root."""
    own = own or key_of(row.cells, ID) or ID[0]
    return str(row.cells.get("message_tree_id") or row.cells.get(own))


def begins(row: Row, last: Row, parent: str) -> bool:
    """Whether a flat row is of another tree than the one before it."""
    if row.cells.get("message_tree_id"):
        return bool(row.cells["message_tree_id"] != last.cells.get("message_tree_id"))
    return row.cells[parent] is None


def grown(held: list[Row]) -> Iterator[Tree | BadRow]:
    """The trees of flat rows, in the order of their roots; a message whose parent is not there is a BadRow."""
    nodes = {str(row.cells[key_of(row.cells, ID) or ""]): Node(row.cells, row.origin) for row in held}
    roots = []
    for row in held:
        parent = row.cells[key_of(row.cells, PARENT) or ""]
        node = nodes[str(row.cells[key_of(row.cells, ID) or ""])]
        if parent is None:
            roots.append(node)
        elif str(parent) in nodes:
            nodes[str(parent)].replies.append(node)
        else:
            yield bad(row, f"its parent {str(parent)[:40]!r} is not in its tree")
    for node in roots:
        yield node, {"tree": tree_id(node.cells), "tree_state": node.cells.get("tree_state")}


def tree_id(cells: Mapping[str, Any]) -> str:
    """The id of a root's tree."""
    return str(cells.get("message_tree_id") or cells.get(key_of(cells, ID) or "") or "")


def nested(row: Row) -> Tree | BadRow:
    """The tree of a row that holds it whole, or a BadRow for another shape."""
    given = row.cells["prompt"] if isinstance(row.cells.get("prompt"), Mapping) else row.cells
    root = Node({key: value for key, value in given.items() if key != "replies"}, row.origin)
    waiting = [(root, given.get("replies"))]
    while waiting:
        node, replies = waiting.pop()
        if replies is not None and not isinstance(replies, list):
            return bad(row, f"'replies' is {kind_of(replies)}, not a list")
        for one in replies or ():
            if not isinstance(one, Mapping):
                return bad(row, f"a reply is {kind_of(one)}, not an object")
            node.replies.append(Node({key: value for key, value in one.items() if key != "replies"}, row.origin))
            waiting.append((node.replies[-1], one.get("replies")))
    facts = {"tree": str(row.cells.get("message_tree_id") or tree_id(given)), "tree_state": row.cells.get("tree_state")}
    return root, facts


def bad(row: Row, reason: str) -> BadRow:
    """A row that belongs to no tree."""
    return BadRow(row.origin, reason, str(row.cells)[:SHOWN])
