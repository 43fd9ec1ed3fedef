"""A recipe as a commented YAML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etude.importing.rules import Given
from etude.recipe import Recipe
from etude.splitting import Split
from etude.steps import Tune

SHOWN = 100
"""Characters of a value in a comment."""
WIDTH = 120
"""Characters of a line, where it can be broken."""


def page(
    values: Mapping[str, Any],
    comments: Mapping[str, str],
    left: Mapping[str, str],
    same: Mapping[str, str],
    given: Given,
    tool: str,
) -> str:
    """The recipe in the order of its own keys; then every key of the other tool that has no line in it."""
    lines = [f"# Made by etude import-config from {clean(given.path.name)}, a configuration of {tool}."]
    tree = nested(values)
    tree.setdefault("tune", {})
    for key in [key for key in Recipe.model_fields if key in tree]:
        lines += block(key, tree[key], (key,), comments)
    if left:
        lines.append("")
    for key, why in left.items():
        lines += wrapped(f"# not carried over: {clean(key)}:", [*shown(given.keys[key]).split(" "), "-", *clean(why).split(" ")])
    idle = ("not set", "off")
    groups = {"as etude does anyway, or part of a line above": [key for key, why in same.items() if why not in idle]}
    groups["not set, or off"] = [key for key, why in same.items() if why in idle]
    for head, keys in groups.items():
        if keys:
            lines += wrapped(f"# {head}:", [*(f"{clean(key)}," for key in keys[:-1]), clean(keys[-1])])
    return "\n".join(lines) + "\n"


ORDERS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("split",): tuple(Split.model_fields),
    ("tune",): tuple(Tune.model_fields),
    ("tune", "method"): ("type",),
    ("format",): ("type",),
}
"""Section -> its keys in the order of the schema."""


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted places as a tree; the name of a source may have dots of its own."""
    tree: dict[str, Any] = {}
    for place, value in values.items():
        parts = place.split(".", 1) if place.startswith("sources.") else place.split(".")
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return tree


def block(key: str, value: Any, place: tuple[str, ...], comments: Mapping[str, str]) -> Iterator[str]:
    """A key and its value as lines; a mapping inside a section that is not the recipe's own stands on one line."""
    indent = "  " * (len(place) - 1)
    remark = comments.get(".".join(place), "")
    if isinstance(value, Mapping) and set(value) == {"type"} and place in ORDERS:
        value, remark = value["type"], comments.get(".".join((*place, "type")), "")
    if isinstance(value, Mapping) and (place in ORDERS or place == ("sources",)):
        if not value:
            return
        yield f"{indent}{scalar(key)}:"
        order = ORDERS.get(place, ())
        for inner in sorted(value, key=lambda name: order.index(name) if name in order else len(order)):
            yield from block(inner, value[inner], (*place, inner), comments)
        return
    line = f"{indent}{scalar(key)}: {scalar(value)}"
    if remark and len(line) + len(clean(remark)) + 4 > WIDTH:
        yield from (indent + text for text in wrapped("#", clean(remark).split(" ")))
        remark = ""
    yield line + (f"  # {clean(remark)}" if remark else "")


def scalar(value: Any) -> str:
    """A value on one line of YAML."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text.removesuffix("...\n").strip()


def shown(value: Any) -> str:
    """A value in a comment: one line, not too long."""
    text = clean(scalar(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def clean(text: str) -> str:
    """Text that stays inside its comment."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def wrapped(head: str, words: Sequence[str]) -> Iterator[str]:
    """A comment of many words on lines of at most WIDTH characters."""
    line = head
    for word in words:
        if len(line) + 1 + len(word) > WIDTH and line != head:
            yield line
            line = "#  "
        line += f" {word}"
    yield line
