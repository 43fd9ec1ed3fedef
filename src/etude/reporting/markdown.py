"""report.md: the same findings as text, for a pull request or a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from etude.reporting import words
from etude.reporting.findings import Findings, Measure, ends
from etude.reporting.page import BADGES, facts, groups, reasons

ACTIVE = re.compile(r"[\\`*_{}>#|~&$@!\[\]]|<(?! )|:(?=//)")
"""What Markdown, or HTML inside it, gives a meaning (a `<` before a space has none)."""

ACTIVE_IN_PROSE = re.compile(r"[\\*_>#|~&$@]|<(?! )|:(?=//)|!(?=\[)|\](?=[(\[:])")
"""The same without lone brackets, which intervals are written in."""


def inline(text: str) -> str:
    """A text as one line that Markdown shows literally, in a table too."""
    return ACTIVE.sub(r"\\\g<0>", " ".join(words.visible(text).split()))


def coded(text: str) -> str:
    """A sentence in which backticks mark names: those become code, the rest is shown literally."""
    parts = " ".join(words.visible(text).split()).split("`")
    if len(parts) % 2 == 0:
        return inline(text)
    prose = ACTIVE_IN_PROSE.sub
    return "".join(f"`{part.replace('|', '¦')}`" if index % 2 and part else prose(r"\\\g<0>", part) for index, part in enumerate(parts))


def fence(text: str, language: str = "") -> str:
    """A block that shows the text as it is: its fence is longer than any run of backticks inside."""
    shown = words.clip(words.visible(text), 2000)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{shown}\n{ticks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells that are numbers are set right where the head begins with `>`."""
    lines = ["| " + " | ".join(name.removeprefix(">") for name in head) + " |"]
    lines.append("|" + "|".join(" ---: " if name.startswith(">") else " --- " for name in head) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def scores(findings: Findings) -> list[str]:
    """The tables of measures, and how each number was made."""

    def row(measure: Measure) -> list[str]:
        scale = measure.scale
        pairs = ((measure.base, measure.base_interval), (measure.tuned, measure.tuned_interval))
        values = [f"{words.number(value, scale)} {words.span(interval, scale)}".strip() for value, interval in pairs]
        change = f"{words.signed(measure.difference, scale)} {words.span(measure.interval, scale)}".strip()
        chance = words.probability(measure.chance).removeprefix("p ").removeprefix("= ") or words.MISSING
        return [inline(words.metric_name(measure.metric)), *values, change, inline(chance), f"{measure.items:,}", BADGES[measure.kind]]

    def rivals(measure: Measure) -> list[list[str]]:
        names = ((inline(words.metric_name(measure.metric)), coded(words.baseline_name(key)), key) for key in measure.baselines)
        found = [(metric, shown, measure.baselines[key]) for metric, shown, key in names]
        scale = measure.scale
        return [[metric, shown, f"{words.number(b['value'], scale)} {words.span(ends(b), scale)}".strip()] for metric, shown, b in found]

    blocks = [f"## Scores\n\nBrackets are {100 * findings.level:g} % intervals."]
    for task, measures in findings.tasks.items():
        head = ["Metric", ">Start", ">Tuned", ">Difference", ">p", ">Rows", "Verdict"]
        blocks.append(f"### {inline(task)}\n\n{table(head, map(row, measures))}")
        known = [line for measure in measures for line in rivals(measure)]
        if known:
            blocks.append(table(["Metric", "Baseline", ">Value"], known))
        signed = [
            f"- {inline(words.metric_name(measure.metric))}: `{words.name(measure.signature, 400)}`"
            for measure in measures
            if measure.signature
        ]
        blocks += ["\n".join(signed)] if signed else []
    return blocks


def answers(findings: Findings) -> list[str]:
    """The first example of each group of each task, and the probes."""
    blocks = []
    for task, examples in findings.examples.items():
        found = groups(examples)
        if not found:
            continue
        counted = ", ".join(f"{group.total:,} {group.title.lower()}" for group in found)
        blocks.append(f"### {inline(task)}\n\n{counted}, of {words.rows(len(examples))}. The first of each in the order of the test set:")
        for group in found:
            example, scale = group.first[0], findings.leading()[task].scale if task in findings.leading() else 1.0
            marks = [words.number(score, scale) for score in (example.base_score, example.tuned_score)]
            blocks.append(f"**{group.title}** (row {inline(example.id)})\n\nQuestion\n\n{fence(example.question)}")
            blocks.append(f"Reference\n\n{fence(example.reference)}")
            blocks.append(f"Start ({marks[0]})\n\n{fence(example.base)}\n\nTuned ({marks[1]})\n\n{fence(example.tuned)}")
    for probe in findings.probes:
        blocks.append(f"### Probe\n\n{fence(probe.question)}\n\nStart\n\n{fence(probe.base)}\n\nTuned\n\n{fence(probe.tuned)}")
    return ["## Answers", *blocks] if blocks else []


def data(findings: Findings) -> list[str]:
    """Rows and tokens."""
    blocks = []
    if findings.sources:
        head = ["Source", ">Read", ">Bad", ">Dropped", ">Training", ">Validation", ">Test", "Licence"]
        rows = [
            [
                inline(s.name),
                *(words.count(n) for n in (s.read, s.bad, sum(s.dropped.values()), s.train, s.validation, s.test)),
                inline(s.licence) or words.MISSING,
            ]
            for s in findings.sources
        ]
        blocks.append(table(head, rows))
    if why := reasons(findings):
        blocks.append(
            table(["Dropped because", "Source", ">Rows"], [[inline(reason), inline(name), words.count(n)] for reason, name, n in why])
        )
    if len(findings.mixture) > 2:
        head = ["Source", ">Rows", ">Asked", ">Drawn", ">Repeats", ">Tokens", ">Trained tokens", ">Their share"]
        total = findings.mixture[-1].trained
        lines = [
            [
                inline(m.source),
                *(words.count(n) for n in (m.rows, m.asked, m.drawn, m.repeats, m.tokens, m.trained)),
                words.share(m.trained, total),
            ]
            for m in findings.mixture
        ]
        blocks.append(table(head, lines))
    if (found := findings.contamination) and found.sets:
        blocks.append(words.contaminated(found))
        for one in found.sets:
            pairs = [
                f"{words.metric_name(m.metric)} {words.number(m.base, m.scale)} -> {words.number(m.tuned, m.scale)}" for m in one.clean
            ]
            if pairs:
                blocks.append(inline(f"{one.name}: on the {one.rows - one.touched} rows that are not touched: {'; '.join(pairs)}"))
    if findings.levels:
        from etude.reporting import generation_page  # which writes with this module

        blocks += [f"{inline(name)}, by level of reasoning:\n\n{generation_page.leveled(one)}" for name, one in findings.levels.items()]
    if findings.tokens:
        t = findings.tokens
        trained = f"{words.count(t.trained)} trained ({words.share(t.trained, t.tokens)})"
        blocks.append(f"Training: {words.rows(t.rows)}, {words.count(t.tokens)} tokens, {trained}, {words.rows(t.truncated)} truncated.")
    return ["## Data", *blocks] if blocks else []


def made(findings: Findings) -> list[str]:
    """What models made of the data."""
    from etude.reporting import generation_page  # which writes with this module

    return ["## Made data", *generation_page.tables(findings.generated)] if findings.generated else []


def markdown(findings: Findings) -> str:
    """The whole report.md as text."""
    blocks = [f"# {inline(findings.name)}", coded(words.sentence(findings))]
    if len(findings.leading()) > 1:
        blocks.append("\n".join(f"- {coded(words.judged(task, measure))}" for task, measure in findings.leading().items()))
    blocks.append(f"Model {inline(findings.model)}; written {inline(findings.created)}.")
    if findings.notes:
        blocks.append("\n".join(f"- {coded(note)}" for note in findings.notes))
    blocks += scores(findings) if findings.tasks else []
    if findings.forgetting:
        head = ["Probe", ">Start", ">Tuned", ">Difference", "Verdict"]
        lines = [
            [
                inline(m.metric),
                *(words.number(v, m.scale) for v in (m.base, m.tuned)),
                f"{words.signed(m.difference, m.scale)} {words.span(m.interval, m.scale)}",
                BADGES[m.kind],
            ]
            for m in findings.forgetting
        ]
        blocks += ["## What tuning cost", inline(words.forgetting(findings.forgetting)), table(head, lines)]
    blocks += answers(findings) + data(findings) + made(findings)
    if findings.tuning:
        blocks += ["## Tuning", table(["", ""], [[inline(key), inline(value)] for key, value in facts(findings)])]
    if findings.seconds:
        rows = [
            [inline(stage) + (" (reused)" if stage in findings.reused else ""), words.duration(seconds)]
            for stage, seconds in findings.seconds.items()
        ]
        blocks += ["## Time", table(["Stage", ">Time"], rows)]
    if findings.recipe:
        blocks += ["## Recipe", fence(findings.recipe, "yaml")]
    if findings.manifest:
        blocks += ["## Manifest", fence(json.dumps(findings.manifest, indent=2, ensure_ascii=False, default=str), "json")]
    return "\n\n".join(blocks) + "\n"
