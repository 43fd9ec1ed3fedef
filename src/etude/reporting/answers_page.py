"""answers.html: every scored row of a run, the start model's answer beside the tuned one and the reference.

One file that loads nothing. Filters are radio buttons that the style sheet reads; only the search is a script, a few lines that the
page's policy allows by their hash, and without them everything can still be read. As in the report, what data and models wrote reaches
the page only through the template engine's automatic escaping and through `visible`.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from etude import journal
from etude.curation.texts import count_words
from etude.reporting import words
from etude.reporting.diffing import Budget, Piece, alike, diff
from etude.reporting.failures_by_feature import FEATURES, Cluster, clusters, features
from etude.reporting.findings import Example, Findings
from etude.reporting.page import GROUPS, environment

LISTED = 2000
"""Rows of a task on the page, the first in the order of the test set."""
READ = 3000
"""Characters shown of a text."""
PAIRS = 30_000_000
"""Pairs of words that are compared for one page, about six seconds; a row over it stands without marks."""
LITTLE = 0.25
"""Two texts that have less than this share in common are not marked: nearly every word would be."""

LENGTHS = (("l1", "to 10 words", 10), ("l2", "11 to 50", 50), ("l3", "51 to 200", 200), ("l4", "over 200", None))
"""Lengths of the tuned answer: class, name, most words."""

SCRIPT = """
"use strict";
const field = document.getElementById("search"), said = document.getElementById("found");
const rows = [...document.querySelectorAll("article.row")].map(row => [row, row.textContent.toLowerCase()]);
let waiting = 0;
function look() {
  const wanted = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
  for (const [row, text] of rows) row.classList.toggle("missed", !wanted.every(word => text.includes(word)));
  count();
}
function count() {
  const shown = rows.filter(([row]) => row.getClientRects().length).length;
  said.textContent = shown.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " rows shown";
}
field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(look, 150); });
document.addEventListener("change", count);
field.closest("label").hidden = false;
look();
"""
"""The search: rows that hold every word typed, wherever it stands."""

POLICY = (
    f"default-src 'none'; script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""What the page may do: its own style, its own icon, and this one script."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with its words marked against another; without `pieces`, `why` says why it is not."""

    pieces: tuple[Piece, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One scored row as the page shows it: the texts cut to READ characters, the tuned answer marked against the start model's and
    against the reference, and its classes for the filters (group, length, features of both answers)."""

    example: Example
    question: str
    reference: str
    base: str
    tuned: str
    from_start: Marked
    from_reference: Marked
    start_features: tuple[str, ...]
    tuned_features: tuple[str, ...]
    classes: str


@dataclass(frozen=True, slots=True)
class Part:
    """One task: its rows, those not shown, rows by group, and what failing answers have in common (over all rows)."""

    task: str
    metric: str
    scale: float
    rows: tuple[Row, ...]
    total: int
    groups: tuple[tuple[str, str, int], ...]
    clusters: tuple[Cluster, ...]


def write(findings: Findings, folder: Path) -> None:
    """Write answers.html into `folder`, whole or not at all; equal findings give equal bytes. Raises NoSpace when the disk is full."""
    journal.write_text(folder / "answers.html", page(findings))


def page(findings: Findings) -> str:
    """The whole HTML page as text."""
    import markupsafe

    found = parts(findings)
    used = {cluster.key for part in found for cluster in part.clusters if cluster.tuned.rows}
    return str(
        template().render(
            findings=findings,
            parts=found,
            groups=[(key, title, sum(n for part in found for k, _, n in part.groups if k == key)) for key, title in GROUPS.items()],
            lengths=[(key, name, sum(key in row.classes.split() for part in found for row in part.rows)) for key, name, _ in LENGTHS],
            features=[(key, name) for key, (name, _) in FEATURES.items() if key in used],
            names={key: name for key, (name, _) in FEATURES.items()},
            total=sum(part.total for part in found),
            shown=sum(len(part.rows) for part in found),
            unmarked=sum(row.from_start.why == OVER or row.from_reference.why == OVER for part in found for row in part.rows),
            script=markupsafe.Markup(SCRIPT),
            policy=markupsafe.Markup(POLICY),  # our own text; its quotes stand inside double ones
        )
    )


@lru_cache(maxsize=1)
def template() -> Any:
    """The compiled template."""
    return environment().get_template("answers.html")


def parts(findings: Findings) -> list[Part]:
    """Every task with its rows."""
    leading, budget = findings.leading(), Budget(PAIRS)
    found = []
    for task, examples in findings.examples.items():
        if not examples:
            continue
        measure = leading.get(task)
        known = [
            (e, features(e.question, e.reference, e.base, e.base_cut), features(e.question, e.reference, e.tuned, e.tuned_cut))
            for e in examples
        ]
        sizes = [(key, title, sum(example.group == key for example in examples)) for key, title in GROUPS.items()]
        found.append(
            Part(
                task=task,
                metric=words.metric_name(measure.metric) if measure else "",
                scale=measure.scale if measure else 1.0,
                rows=tuple(row(*one, budget) for one in known[:LISTED]),
                total=len(examples),
                groups=tuple(size for size in sizes if size[2]),
                clusters=tuple(clusters(known)),
            )
        )
    return found


def row(example: Example, start_has: frozenset[str], tuned_has: frozenset[str], budget: Budget) -> Row:
    """One row for the page."""
    reference, base, tuned = (words.clip(text, READ) for text in (example.reference, example.base, example.tuned))
    count = count_words(example.tuned)
    length = next(key for key, _, most in LENGTHS if most is None or count <= most)
    start_features, tuned_features = (tuple(key for key in FEATURES if key in has) for has in (start_has, tuned_has))
    return Row(
        example=example,
        question=words.clip(example.question, READ),
        reference=reference,
        base=base,
        tuned=tuned,
        from_start=marked(base, tuned, "the start model's answer", budget),
        from_reference=marked(reference, tuned, "the reference", budget),
        start_features=start_features,
        tuned_features=tuned_features,
        classes=" ".join((example.group, length, *(f"f-{key}" for key in tuned_features))),
    )


OVER = "Not compared: the page has enough to compare."


def marked(before: str, after: str, name: str, budget: Budget) -> Marked:
    """The later text marked against the earlier, or why not."""
    if not before.strip() or not after.strip():
        return Marked(why=f"Nothing to compare with {name}." if not before.strip() else "")
    if before.split() == after.split():
        return Marked(why=f"The same as {name}.")
    if not budget.take(before, after):
        return Marked(why=OVER)
    pieces = diff(before, after)
    if alike(pieces) < LITTLE:
        return Marked(why=f"Little in common with {name}.")
    return Marked(pieces)
