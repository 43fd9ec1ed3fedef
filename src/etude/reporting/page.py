"""report.html: one file, no script, nothing loaded from anywhere.

What data and models wrote reaches the page only through the template engine's automatic escaping,
and before that through `visible`, which every printed value passes (`finalize`), so that neither
markup nor control characters nor direction overrides of a text can act.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.reporting import charts, curation_charts, generated_charts, words
from etude.reporting.findings import Example, Findings, Measure, finite

SHOWN, MORE = 3, 9
"""Examples of a group that stand open, and those behind "more"."""

GROUPS = {"improved": "Improved", "worse": "Worse", "unchanged": "Unchanged", "unscored": "Not scored one by one"}

BADGES = {"better": "Better", "worse": "Worse", "no difference": "No difference shown", "cannot test": "Cannot be tested"}

WHOLE = re.compile(r"\[\S+, \S+\]|p [<=] \.\d+")
"""Intervals and p-values inside a sentence, which no line should break."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One task's verdict as the page shows it; `tone` picks the colour."""

    task: str
    measure: Measure
    badge: str
    tone: str
    sentence: str
    others: tuple[Measure, ...]
    measures: tuple[Measure, ...]
    half: float


@dataclass(frozen=True, slots=True)
class Group:
    """The examples of one task that went one way: how many, the first ones, and the next."""

    title: str
    key: str
    total: int
    first: tuple[Example, ...]
    more: tuple[Example, ...]


def verdicts(findings: Findings) -> list[Verdict]:
    """One verdict a task, in the order of the tasks."""
    found = []
    for task, measure in findings.leading().items():
        beaten = measure.beaten()
        badge = BADGES[measure.kind] + (", below a baseline" if beaten else "")
        tone = "mixed" if beaten and measure.kind == "better" else measure.kind.split()[0]
        measures = (measure, *(other for other in findings.tasks[task] if other is not measure))
        sentence = WHOLE.sub(lambda found: found[0].replace(" ", "\u00a0"), words.judged(task, measure))
        found.append(Verdict(task, measure, badge, tone, sentence, measures[1:], measures, charts.reach(measures)))
    return found


def groups(examples: Sequence[Example]) -> list[Group]:
    """The examples by what tuning did to them, in their own order."""
    found = []
    for key, title in GROUPS.items():
        members = [example for example in examples if example.group == key]
        if members:
            found.append(Group(title, key, len(members), tuple(members[:SHOWN]), tuple(members[SHOWN : SHOWN + MORE])))
    return found


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False, default=str)


def facts(findings: Findings) -> list[tuple[str, str]]:
    """What tuning was, as (name, value)."""
    tuning = findings.tuning
    if tuning is None:
        return []
    trained = f"{words.count(tuning.trainable)} of {words.count(tuning.total)} ({words.share(tuning.trainable, tuning.total)})"
    steps = words.count(tuning.steps) + ("" if tuning.best_step is None else f", best at {tuning.best_step:,}")
    rows = [
        ("Method", tuning.method),
        ("Trained weights", trained),
        ("Steps", "" if tuning.steps is None and tuning.best_step is None else steps),
        ("Time", "" if tuning.seconds is None else words.duration(tuning.seconds)),
        ("Speed", "" if finite(tuning.tokens_per_second) is None else f"{words.count(tuning.tokens_per_second)} tokens/s"),
    ]
    rows += [(f"{key[:1].upper()}{key[1:]}", words.MISSING if value is None else str(value)) for key, value in tuning.details.items()]
    return [(key, value) for key, value in rows if value]


def reasons(findings: Findings) -> list[tuple[str, str, int]]:
    """Why rows were dropped: (reason, source, rows), the largest first."""
    found = [(reason, source.name, rows) for source in findings.sources for reason, rows in source.dropped.items()]
    return sorted(found, key=lambda row: (-row[2], row[0], row[1]))


@functools.cache
def environment() -> Any:
    """The template engine: escaping always on, every printed value made visible, no undefined names."""
    import jinja2
    import markupsafe

    def final(value: Any) -> Any:
        if value is None:
            return words.MISSING
        if isinstance(value, markupsafe.Markup) or not isinstance(value, str):
            return value
        return words.visible(value)

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=final,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(charts=charts, words=words, groups=groups, drawn=curation_charts, growth=generated_charts)
    made.filters.update(
        number=words.number,
        signed=words.signed,
        span=words.span,
        chance=words.probability,
        count=words.count,
        fixed=words.fixed,
        rate=words.rate,
        clip=words.clip,
        name=words.name,
    )
    return made


def page(findings: Findings) -> str:
    """The whole HTML page as text."""
    total = sum(value for seconds in findings.seconds.values() if (value := finite(seconds)) is not None)
    longest = max((value for seconds in findings.seconds.values() if (value := finite(seconds)) is not None), default=0.0)
    return str(
        environment()
        .get_template("page.html")
        .render(
            findings=findings,
            sentence=words.sentence(findings),
            verdicts=verdicts(findings),
            loss=charts.loss(findings.curve, findings.tuning.best_step if findings.tuning else None),
            facts=facts(findings),
            reasons=reasons(findings),
            manifest=list(flat(findings.manifest)),
            total=total,
            longest=longest,
            badges=BADGES,
            level=f"{100 * findings.level:g} %",
        )
    )
