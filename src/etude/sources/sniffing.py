"""Which data set format a file is of, told by its first rows; never guessed: none or several fitting is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.failures import DataError
from etude.records import BadRow
from etude.sources import hub
from etude.sources.encodings import text
from etude.sources.foreign import INDEX
from etude.sources.inputs_targets import NAMED as TARGETS
from etude.sources.json_lists import Window, keys, skip
from etude.sources.messages import CONVERSATIONS, MESSAGES
from etude.sources.prompt_completion import NAMED as PROMPTS
from etude.sources.tables import PEEK, Container, Table, files, find, kind, opened
from etude.sources.turns import CONTENT_KEYS, ROLE_KEYS, ROLES
from etude.templates import load

Cells = Mapping[str, Any]
SHOWN = 12
"""Most columns that a message lists."""
LONG = 40
"""Characters of a column's name that a message shows; a longer one is a row that stands where the header should."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one format finds in the rows: `seen` where they fit, else the keys it `lacks` (none: nothing near)."""

    seen: str = ""
    lacks: tuple[str, ...] = ()


def sniff(path: str, container: Container | None = None, encoding: str = "utf-8", template: str | None = None) -> tuple[str, str]:
    """(the name of a source type, what was seen) of the rows of a file, folder, glob or hub data set.

    A template whose fields are all columns makes a table `columns`. Raises DataError when no format fits, with the
    columns and what each near one lacks, and when several do.
    """
    table = Table(path, container, encoding)
    named = object_keys(table)
    if {"Definition", "Instances"} <= set(named):
        return "natural_instructions", f"an object with {', '.join(named[:SHOWN])}: a task of Natural Instructions"
    if Path(path).name == INDEX:
        raise DataError(f"{path} is LLaMA-Factory's index of data sets; use type: dataset_info with the name of one of them")
    rows, columns = opened(table)
    head = list(itertools.islice(rows, PEEK))
    good = [row.cells for row in head if not isinstance(row, BadRow)]
    if not good:
        first = next(row for row in head if isinstance(row, BadRow))
        raise DataError(f"{path}: none of the first {len(head)} rows can be read; the first, {first.origin}: {first.reason}")
    if template and set(load(template).fields) <= set(columns):
        return "columns", f"columns {shown(columns)}: the fields of template {template!r}"
    looks = {name: look(good, columns) for name, look in LOOKS.items()}
    fitting = {name: look.seen for name, look in looks.items() if look.seen}
    if not fitting and "text" in columns and mostly(good, lambda cells: isinstance(cells.get("text"), str)):
        fitting = {"text": f"columns {shown(columns)}: plain text"}
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    if fitting:
        several = "; or ".join(f"type: {name} ({seen})" for name, seen in fitting.items())
        raise DataError(f"{path} could be of several formats; say which: {several}")
    if named and any(role in columns for role in ROLE_KEYS) and any(key in columns for key in CONTENT_KEYS):
        raise DataError(f"{path} is one object that holds one conversation; make it a list of such objects, a row each")
    raise DataError(refusal(path, columns, looks))


def refusal(path: str, columns: Sequence[str], looks: Mapping[str, Look]) -> str:
    """Why no format fits, with what each near one lacks."""
    near = "; ".join(f"{name} lacks {' and '.join(map(repr, look.lacks))}" for name, look in looks.items() if look.lacks)
    pairs = " Pairs of chosen and rejected answers are for preference training, which is out of scope." if "chosen" in columns else ""
    return (
        f"{path}: the rows are of no format that is known; the columns are {shown(columns)}{f'; {near}' if near else ''}. "
        f"`type: columns` with a template words any table; `type: prompt_completion` reads any two columns.{pairs}"
    )


def object_keys(table: Table) -> list[str]:
    """The keys of the one JSON object that the (first) file holds; nothing for other files. Streamed."""
    if table.path.startswith(hub.SCHEME):
        return []
    first = files(table.path, table.container)[0]
    if (table.container or kind(first)) != "json":
        return []
    window = Window(text(find(first), table))
    if window.peek() != "{":
        return []
    found = []
    for key in keys(window, table):
        found.append(key)
        skip(window, table)
    return found


def mostly(rows: Sequence[Cells], test: Callable[[Cells], bool]) -> bool:
    """Whether more than half of the rows pass."""
    return 2 * sum(map(test, rows)) > len(rows)


def shown(columns: Sequence[str]) -> str:
    """Columns in a row, the first of many."""
    names = (name if len(name) <= LONG else f"{name[:LONG]}..." for name in columns[:SHOWN])
    return ", ".join(names) + (" ..." if len(columns) > SHOWN else "")


def texts(*names: str) -> Callable[[Cells], bool]:
    """A test: these keys hold text."""
    return lambda cells: all(isinstance(cells.get(name), str) for name in names)


def keyed(rows: Sequence[Cells], columns: Sequence[str], needed: Sequence[str], words: str) -> Look:
    """The look of a format that is known by keys which hold text."""
    if mostly(rows, texts(*needed)):
        return Look(f"columns {shown(columns)}: {words}")
    missing = tuple(name for name in needed if name not in columns)
    return Look(lacks=missing if 0 < len(missing) < len(needed) else ())


def turn_keys(rows: Sequence[Cells], key: str) -> tuple[str, ...]:
    """The keys of most first turns in the lists under a key, or nothing where these are no turns."""
    firsts = [cells[key][0] for cells in rows if isinstance(cells.get(key), list) and cells[key] and isinstance(cells[key][0], Mapping)]
    if 2 * len(firsts) <= len(rows):
        return ()
    return tuple(name for name in firsts[0] if 2 * sum(name in one for one in firsts) > len(firsts))


def looks_like_turns(rows: Sequence[Cells], columns: Sequence[str], usual: Sequence[str], roles: Sequence[str]) -> Look:
    """The look of conversations whose turns say who speaks under one of `roles`."""
    for key in usual:
        found = turn_keys(rows, key)
        speaker = next((role for role in roles if role in found), None)
        if speaker and any(name in found for name in (*CONTENT_KEYS, "tool_calls")):
            format_ = "ShareGPT conversations" if "from" in roles else "messages"
            return Look(f"columns {key}[{', '.join(found)}]: {format_}")
        if "from" in roles and {"user", "assistant"} <= {ROLES.get(name.lower(), "") for name in found}:
            return Look(f"columns {key}[{', '.join(found)}]: conversations as pairs")
    return Look()


def messages(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """OpenAI's: turns with a `role`."""
    return looks_like_turns(rows, columns, MESSAGES, ("role",))


def sharegpt(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """ShareGPT's: turns with a `from`, pairs, or any turns under `items`."""
    found = looks_like_turns(rows, columns, CONVERSATIONS, ("from",))
    return found if found.seen else looks_like_turns(rows, columns, ("items",), ("role", "from"))


def alpaca(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """Alpaca's: instruction and output."""
    return keyed(rows, columns, ("instruction", "output"), "instructions (Alpaca)")


def prompt_completion(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """A pair of keys with texts or lists of messages; `input` and `output` beside an instruction are Alpaca's."""
    lacks: tuple[str, ...] = ()
    for prompt, completion in PROMPTS:
        if prompt in ("input", "context") and "instruction" in columns:
            continue
        if mostly(rows, lambda cells, pair=(prompt, completion): all(said(cells.get(key)) for key in pair)):  # type: ignore[misc]
            return Look(f"columns {shown(columns)}: {prompt} and {completion}")
        if prompt in columns and prompt in ("prompt", "question", "query") and not lacks:
            lacks = (completion,)
    return Look(lacks=lacks)


def said(value: Any) -> bool:
    """Whether a value is a text or a list of messages."""
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value))


def inputs_targets(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """T0's and FLAN's pairs of keys; targets may be a list."""
    for asked, answered in TARGETS:

        def fits(cells: Cells, asked: str = asked, answered: str = answered) -> bool:
            targets = cells.get(answered)
            several = isinstance(targets, list) and bool(targets) and all(isinstance(one, str) for one in targets)
            return isinstance(cells.get(asked), str) and (isinstance(targets, str) or several)

        if mostly(rows, fits):
            return Look(f"columns {shown(columns)}: {asked} and {answered} (T0, FLAN)")
    return Look(lacks=("targets",) if "inputs" in columns and "targets" not in columns else ())


def oasst(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """Trees with `replies`, or flat messages with a parent."""
    if mostly(rows, lambda cells: isinstance(cells.get("prompt"), Mapping) and "replies" in cells["prompt"]):
        return Look(f"columns {shown(columns)}: OpenAssistant trees")
    if mostly(rows, lambda cells: isinstance(cells.get("replies"), list) and texts("role", "text")(cells)):
        return Look(f"columns {shown(columns)}: OpenAssistant trees")
    if mostly(rows, lambda cells: texts("role", "text")(cells) and ("parent_id" in cells or "parent_message_id" in cells)):
        return Look(f"columns {shown(columns)}: OpenAssistant messages with their parents")
    return Look()


def squad(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """Articles of paragraphs, or flat rows of context, question and answers."""
    if mostly(rows, lambda cells: isinstance(cells.get("paragraphs"), list)):
        return Look(f"columns {shown(columns)}: articles of SQuAD")
    if mostly(rows, lambda cells: texts("context", "question")(cells) and isinstance(cells.get("answers"), list | Mapping)):
        return Look(f"columns {shown(columns)}: questions of SQuAD")
    missing = tuple(name for name in ("context", "question", "answers") if name not in columns)
    return Look(lacks=missing if len(missing) == 1 else ())


def code_tasks(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """HumanEval's keys, or MBPP's."""
    if mostly(rows, lambda cells: isinstance(cells.get("test_list"), list) and isinstance(cells.get("code"), str)):
        return Look(f"columns {shown(columns)}: programming tasks (MBPP)")
    if "canonical_solution" in columns:
        return keyed(rows, columns, ("prompt", "test"), "programming tasks (HumanEval)")
    return Look()


def instances(rows: Sequence[Cells], columns: Sequence[str]) -> Look:
    """Self-Instruct's tasks with their instances."""
    found = turn_keys(rows, "instances")
    if "output" in found and mostly(rows, texts("instruction")):
        return Look(f"columns {shown(columns)}: tasks with instances (Self-Instruct)")
    return Look()


LOOKS: dict[str, Callable[[Sequence[Cells], Sequence[str]], Look]] = {
    "alpaca": alpaca,
    "messages": messages,
    "sharegpt": sharegpt,
    "prompt_completion": prompt_completion,
    "inputs_targets": inputs_targets,
    "instances": instances,
    "oasst": oasst,
    "squad": squad,
    "code_tasks": code_tasks,
}
"""Source type -> what it finds in the first rows. `columns` and `text` fit anything and are asked last."""
