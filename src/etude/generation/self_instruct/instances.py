"""A task's examples out of a reply, and the rules for them (`generate_instances.py`, `prepare_for_finetuning.py` of Self-Instruct).

| rule | which instance |
|---|---|
| `cut off` | the last one of a reply that ended by its length |
| `input is output` | input and output are the same |
| `no output` | the output is empty |
| `ends with a colon` | input or output do, so something is missing |
| `contradiction` | all instances of a task, where two have the same (not empty) input and different outputs |
| `duplicate` | the same input and output again |
| `over most` | what a draw of `most_instances` left out |

Their code took `list(set(...))` before the draw, so its rows depended on PYTHONHASHSEED; here order is that of the reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from etude.generation.numbering import EXAMPLE, Item, items
from etude.generation.pool import Instance

INPUT = re.compile(r"^[ \t>*_#-]*input[ \t]*\d*[ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
OUTPUT = re.compile(r"^[ \t>*_#-]*output[ \t]*\d*[ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
LABEL = re.compile(r"^[ \t>*_#-]*(?:class[ \t]+)?label[ \t]*\d*[ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
NOTHING = re.compile(r"[<(\[]?\s*(?:no\s?-?input|none|n/a|no input needed|not needed|empty)\s*[>)\]]?\.?", re.IGNORECASE)
"""What models write where there is no input."""
FIELD = re.compile(r"[A-Z][\w'-]*(?: [\w'-]+){0,2}:[ \t]+(?=\S)|[A-Z][\w'-]*(?: [\w'-]+){0,2}:[ \t]*\n(?=\S)")
"""The name of a field at the beginning of a line: up to three words and a colon, then a space or the end of the line."""


def parsed(reply: str, classification: bool) -> list[Instance]:
    """The instances of a reply, in order, whatever is wrong with them."""
    if not reply.strip():
        return []
    return labelled(reply) if classification else [exampled(one.text) for one in items(reply, 1, EXAMPLE) or [Item(1, reply)]]


def exampled(text: str) -> Instance:
    """An example of `Input:` and `Output:`; without an Output all of it is the output."""
    found = OUTPUT.search(text)
    if not found:
        return Instance("", INPUT.sub("", text, count=1).strip() if INPUT.match(text) else text.strip())
    given = text[: found.start()]
    marked = INPUT.search(given)
    return Instance(material(given[marked.end() :] if marked else given), text[found.end() :].strip())


def labelled(reply: str) -> list[Instance]:
    """The examples that begin with a class label; a reply without one is a label alone, as in the original."""
    starts = list(LABEL.finditer(reply))
    if not starts:
        return [exampled(reply)] if OUTPUT.search(reply) else [Instance("", reply.strip())]
    ends = [one.start() for one in starts[1:]] + [len(reply)]
    found = []
    for one, end in zip(starts, ends, strict=True):
        label, _, rest = EXAMPLE.sub("", reply[one.end() : end]).strip().partition("\n")
        marked = INPUT.search(rest)
        found.append(Instance(material(rest[marked.end() :] if marked else rest), label.strip().removesuffix("**").strip()))
    return found


def material(text: str) -> str:
    """An input, "" for a word that says there is none."""
    text = text.strip()
    return "" if NOTHING.fullmatch(text) else text


def sifted(instances: Sequence[Instance], cut: bool) -> tuple[list[Instance], list[tuple[str, Instance]]]:
    """What is kept, and what is refused by which rule; `cut`: the reply ended by its length, so its last instance is not whole."""
    kept: list[Instance] = []
    refused: list[tuple[str, Instance]] = []
    for place, one in enumerate(instances):
        rule = "cut off" if cut and place == len(instances) - 1 else broken(one)
        if rule:
            refused.append((rule, one))
        else:
            kept.append(one)
    if contradictory(kept):
        return [], [*refused, *(("contradiction", one) for one in kept)]
    different = list(dict.fromkeys(kept))
    again = list(kept)
    for one in different:
        again.remove(one)
    return different, [*refused, *(("duplicate", one) for one in again)]


def broken(one: Instance) -> str:
    """The rule that an instance breaks by itself, or ""."""
    if not one.output:
        return "no output"
    if one.input == one.output:
        return "input is output"
    return "ends with a colon" if one.input.endswith(":") or one.output.endswith(":") else ""


def contradictory(instances: Sequence[Instance]) -> bool:
    """Whether two instances share an input that is not empty and have different outputs."""
    outputs: dict[str, str] = {}
    return any(one.input and outputs.setdefault(one.input, one.output) != one.output for one in instances)


def without_field_name(text: str) -> str:
    """An input without its field's name, where it has exactly one at the beginning of a line, and without blank lines within."""
    found = list(lines_with_fields(text))
    if len(found) == 1 and found[0].start() == 0:
        text = text[found[0].end() :]
    return re.sub(r"\n\s*\n", "\n", text).strip()


def lines_with_fields(text: str) -> Iterator[re.Match[str]]:
    """The field names at the beginning of the lines of a text."""
    return (found for start in re.finditer(r"^", text, re.MULTILINE) if (found := FIELD.match(text, start.start())))
