"""The page of `etude curate`: curation.html, one file without a script, and the same as curation.md.

As in the report, what rows hold reaches the page only through the template engine's automatic escaping and through `visible`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import journal
from etude.curation.diversity import Variety
from etude.reporting import curation_charts, words
from etude.reporting.curated import LISTED, Curated, Dropped
from etude.reporting.markdown import fence, inline, table
from etude.reporting.page import environment

if TYPE_CHECKING:
    from markupsafe import Markup

MARKS = {"pass": "✓ pass", "attention": "! attention", "unknown": "? unknown"}
REASONS = 4
"""Reasons of a check named in the table, the commonest first."""


def write(curated: Curated, folder: Path) -> None:
    """Write curation.html and curation.md into `folder`; equal findings give equal bytes.

    Each file appears whole or not at all. Raises NoSpace when the disk is full or read-only.
    """
    html, text = page(curated), markdown(curated)
    journal.write_text(folder / "curation.md", text)
    journal.write_text(folder / "curation.html", html)


def page(curated: Curated) -> str:
    """The whole HTML page as text."""
    came, stays = curated.rows
    return str(
        engine()
        .get_template("curation.html")
        .render(
            c=curated,
            came=came,
            stays=stays,
            changed=sum(one.changed for one in curated.checks),
            widest=max((one.before for one in curated.sources), default=0),
            sentence=sentence(curated),
            varieties=varieties(curated),
            marks=MARKS,
            listed=LISTED,
        )
    )


def fragments(curated: Curated, key: str = "curation") -> dict[str, Markup]:
    """Parts of the page for another page that includes `curation.css` after `page.css`: `steps` (the table of checks) and, where
    there is something to show, `lengths`, `verbs` (the ten commonest) and `mixture`. `key` begins every id."""
    import markupsafe

    parts = engine().get_template("curation_figures.html").module
    found: dict[str, Any] = {}
    if curated.checks:
        found["steps"] = parts.steps(curated.checks)
    if curated.before:
        mark = parts.legend(curated.after is not None)
        found["lengths"] = mark + parts.lengths(curated.before, curated.after, f"{key}-l")
        found["verbs"] = mark + parts.verbs(curated.before, curated.after, f"{key}-v", 10)
    if curated.mixture:
        found["mixture"] = parts.mixture(curated.mixture, curated.mixture_notes, f"{key}-m")
    return {name: markupsafe.Markup(part) for name, part in found.items()}


@lru_cache(maxsize=1)
def engine() -> Any:
    """The template engine with what the pictures need; kept, since compiling templates takes longer than filling them."""
    made = environment()
    made.globals.update(settings=settings, top=top)
    return made


def settings(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings of a check as (name, value) texts."""
    return [
        (str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)) for key, value in given.items()
    ]


def top(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """The commonest reasons, and how many rows have another."""
    found = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in found[REASONS:])
    return [*found[:REASONS], *([("other reasons", rest)] if rest else [])]


def varieties(curated: Curated) -> list[tuple[str, Variety]]:
    """(label, figures) of each side before and after."""
    found = []
    for name, side in (("came", curated.before), ("stay", curated.after)):
        for one in side.variety if side else ():
            whose = "Questions" if one.part == "question" else "Answers"
            found.append((f"{whose} that {name}" if curated.after else whose, one))
    return sorted(found, key=lambda item: item[1].part, reverse=True)


def sentence(curated: Curated) -> str:
    """What happened, in one or two sentences."""
    came, stays = curated.rows
    if not came:
        return "There were no rows."
    said = f"Of {words.rows(came)}, {stays:,} stay ({words.share(stays, came)})."
    most = max(curated.checks, key=lambda one: one.dropped, default=None)
    if most is not None and most.dropped:
        said += f" Most of the others left at {words.name(most.name, 60)}: {words.rows(most.dropped)}."
    attention = sum(one.reading == "attention" for one in curated.checklist)
    if attention:
        said += f" {attention} of {len(curated.checklist)} questions about what stays ask for attention."
    return said


# ---- Markdown ---------------------------------------------------------------------------------------


def markdown(curated: Curated) -> str:
    """The same as text, for a pull request or a terminal."""
    blocks = [f"# Curation: {inline(curated.name)}", inline(sentence(curated))]
    blocks += [f"Written {inline(curated.created)}."] if curated.created else []
    blocks += ["Not to be used:\n\n" + bullets(curated.failures)] if curated.failures else []
    blocks += [bullets(curated.notes)] if curated.notes else []
    rows = [[inline(one.source), f"{one.before:,}", f"{one.after:,}", words.share(one.after, one.before)] for one in curated.sources]
    blocks += [table(["Source", ">Came", ">Stay", ">Share"], rows)] if rows else []
    for one in curated.checklist:
        figures = "; ".join((*one.figures, one.rule)) + (f". {one.limits}" if one.limits else "")
        blocks.append(f"- **{MARKS[one.reading]}** {inline(one.question)} {inline(figures)}")
    blocks += checks(curated) + contamination(curated) + figures_of(curated) + rest(curated)
    return "\n\n".join(blocks) + "\n"


def bullets(texts: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {inline(words.clip(text, 1000))}" for text in texts)


def checks(curated: Curated) -> list[str]:
    """The table of checks and the first dropped row of each."""
    if not curated.checks:
        return []
    rows = []
    for one in curated.checks:
        asked = ", ".join(f"{key}={value}" for key, value in settings(one.settings))
        why = ", ".join(f"{inline(words.clip(reason, 160))} {n:,}" for reason, n in top(one.reasons))
        name = inline(one.name) + (f" ({inline(words.clip(asked, 200))})" if asked else "")
        rows.append([name, f"{one.rows:,}", f"{one.dropped:,}", words.share(one.dropped, one.rows), f"{one.changed:,}", why])
    blocks = ["## Checks", table(["Check", ">Rows", ">Dropped", ">Share", ">Changed", "Why"], rows)]
    return blocks + [block for one in curated.checks for block in first(one.name, one.examples)]


def first(name: str, examples: Sequence[Dropped]) -> list[str]:
    """The first dropped row of a check."""
    if not examples:
        return []
    one = examples[0]
    head = f"**{inline(name)}**: {inline(words.clip(one.reason, 300))} (row {inline(one.id)}, {inline(one.origin)})"
    return [f"{head}\n\n{fence(words.clip(one.question, 600))}\n\n{fence(words.clip(one.answer, 600))}"]


def contamination(curated: Curated) -> list[str]:
    """Rates, and the scores on the clean subset."""
    known = curated.contamination
    if known is None:
        return []
    blocks = [
        "## Contamination",
        f"{known.get('contaminated', 0):,} of {words.rows(known.get('rows', 0))} hold something of an evaluation set "
        f"({words.share(known.get('rate', 0.0), 1)}).",
    ]
    rows = [
        [inline(name), f"{one['rows']:,}", f"{len(one['touched']):,}", words.share(one["share"], 1), f"{one['clean']:,}"]
        for name, one in known.get("evaluation", {}).items()
    ]
    blocks += [table(["Evaluation set", ">Rows", ">Touched", ">Share", ">Clean"], rows)] if rows else []
    scores = [
        [inline(s.task), inline(words.metric_name(s.metric)), words.number(s.whole, s.scale), words.number(s.clean, s.scale)]
        for s in curated.clean_scores
    ]
    return blocks + ([table(["Task", "Metric", ">All rows", ">Clean rows"], scores)] if scores else [])


def figures_of(curated: Curated) -> list[str]:
    """Lengths, verbs, topics and words."""
    before, after = curated.before, curated.after
    if before is None:
        return []
    rows = []
    for was in before.lengths:
        now = after.length(was.part, was.unit) if after else None
        later = f"{now.median:,}" if now else words.MISSING
        rows.append(
            [f"{was.unit} an {was.part}", f"{was.median:,}", later, f"{was.mean:,.1f}", f"{now.mean:,.1f}" if now else words.MISSING]
        )
    blocks = ["## Figures", table(["Length", ">Median", ">after", ">Mean", ">after"], rows)]
    lines = curation_charts.verb_lines(before, after, 10)
    blocks.append(
        table(["Verb", ">Rows", ">Stay", "Objects"], [[inline(verb), bar.before, bar.after, inline(nouns)] for verb, nouns, bar in lines])
    )
    p = before.pairs
    blocks.append(
        f"By rule, a heuristic: a verb in {words.share(p.found, p.rows)} of the rows, with an object in {words.share(p.paired, p.rows)}; "
        f"{p.distinct_pairs:,} different pairs."
    )
    if before.topics:
        topics = [[inline(terms), bar.before, bar.after] for terms, _, bar in curation_charts.topic_lines(before.topics)]
        blocks.append(table(["Words in common", ">Rows", ">Stay"], topics))
    said = [
        [inline(label), f"{one.words:,}", f"{one.types:,}", *(words.number(value) for value in one.distinct)]
        for label, one in varieties(curated)
    ]
    blocks.append(table(["", ">Words", ">Different", ">Distinct-1", ">-2", ">-3"], said))
    for name, side in (("Of the rows that came", before), ("Of those that stay", after)):
        if side and side.novelty and side.novelty.looked:
            n = side.novelty
            blocks.append(f"{name}, {n.near:,} of {n.looked:,} looked at have a neighbour over ROUGE-L .7 (mean {words.number(n.mean)}).")
    return blocks


def rest(curated: Curated) -> list[str]:
    """Coverage, mixture and suspects."""
    blocks = []
    for one in curated.coverage:
        share = words.share(one.covered, one.looked)
        blocks.append(f"Covers {share} of {one.looked:,} instructions of {inline(one.of)} (neighbour of ROUGE-L .5 or more).")
    if blocks:
        blocks.insert(0, "## Coverage")
    if curated.mixture:
        head = ["Source", ">Rows", ">Asked", ">Drawn", ">Repeats", ">Tokens", ">Trained", ">Asked %", ">Drawn %", ">Trained %"]
        lines = curation_charts.mixture_lines(curated.mixture)
        blocks += ["## Mixture", table(head, [[inline(source), *cells] for source, cells, _, _ in lines])]
        blocks += [bullets(curated.mixture_notes)] if curated.mixture_notes else []
    if curated.suspects:
        rows = [
            [inline(s.origin), inline(words.clip(s.question, 160)), inline(words.clip(s.answer, 120)), f"{s.loss:.2f}", f"{s.median:.2f}"]
            for s in curated.suspects[:LISTED]
        ]
        blocks += ["## Suspects", table(["Row", "Question", "Answer", ">Loss", ">Median"], rows)]
    return blocks
