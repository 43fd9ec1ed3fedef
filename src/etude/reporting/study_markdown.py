"""A study's report.md: the same as the page, for a pull request or a terminal; and the lists that both show."""

from __future__ import annotations

import json
from typing import NamedTuple

from etude.comparison import Comparison
from etude.reporting import study_curves, words
from etude.reporting import study_words as study
from etude.reporting.markdown import coded, fence, inline, table
from etude.reporting.studied import Arm, Reached, Studied


class Other(NamedTuple):
    """A metric that does not decide, of one arm."""

    metric: str
    arm: Arm
    reached: Reached | None
    against: Comparison | None
    scale: float


def others(found: Studied) -> dict[str, list[Other]]:
    """Every metric but the primary one, the arms of each in their order."""
    names = dict.fromkeys(metric for arm in found.arms for metric in (*arm.reached, *arm.against) if metric != found.metric)
    rows = {}
    for metric in names:
        scale = next((arm.against[metric].scale for arm in found.arms if metric in arm.against), found.scale)
        rows[metric] = [
            Other(metric, arm, arm.reached.get(metric), arm.against.get(metric), scale)
            for arm in found.arms
            if metric in arm.reached or metric in arm.against
        ]
    return rows


def remarks(found: Studied) -> list[str]:
    """The notes, without those that the table of what is missing holds."""
    shown = tuple(f"{arm.name}: {len(arm.failed)} of {len(found.seeds)} runs failed" for arm in found.arms if arm.failed)
    return [note for note in found.notes if not note.startswith(shown)] if shown else list(found.notes)


def plan(found: Studied) -> list[tuple[str, str]]:
    """What was announced before the first step, as (name, value)."""
    known, asked = found.manifest, found.manifest.get("study") or {}
    smallest = found.smallest if found.smallest is not None else known.get("smallest visible difference")
    assumed, items = known.get("seed sd", asked.get("seed_sd")), known.get("assumed", "80 % power")
    reach = words.number(smallest, found.scale) if isinstance(smallest, int | float) else ""
    thought = f" ({items}, seeds moving a score by {assumed:g})" if isinstance(assumed, float) else ""
    versions = known.get("versions") or {}
    rows = [
        ("Announced", str(known.get("announced", ""))),
        ("Primary metric", str(known.get("primary", f"{found.task}.{found.metric}")) + (", less is better" if found.lower else "")),
        ("Baseline", str(known.get("baseline", found.baseline))),
        ("Training seeds", ", ".join(map(str, found.seeds))),
        ("Test rows", f"{known.get('test rows', found.items):,}" if isinstance(known.get("test rows", found.items), int) else ""),
        ("Smallest difference it can show", f"{reach}{thought}" if reach else ""),
        ("Equivalence margin", f"±{words.number(found.margin, found.scale)}" if found.margin is not None else ""),
        ("Trials an arm", str(known.get("trials an arm", ""))),
        ("Same for all arms", str(asked.get("same") or "")),
        ("Test rows grouped by", found.group),
        ("Start model", found.model),
        ("Software", ", ".join(f"{key} {value}" for key, value in versions.items() if value != "not installed")),
    ]
    return [(key, value) for key, value in rows if value]


def markdown(found: Studied) -> str:
    """The whole report.md as text."""
    blocks = [f"# {inline(found.name)}", coded(study.sentence(found))]
    blocks.append(f"Model {inline(found.model)}; written {inline(found.created)}. Brackets are 95 % intervals.")
    blocks += ["**Not strictly comparable, forced:**\n\n" + bullets(found.forced)] if found.forced else []
    blocks += arms(found) + cost(found) + learning(found) + trials(found) + exploratory(found) + forgetting(found)
    blocks += ["## What was the same in all arms", bullets(found.same)] if found.same else []
    lacking = [[inline(arm.name), str(seed), inline(words.clip(why, 400))] for arm in found.arms for seed, why in arm.failed.items()]
    blocks += ["## What is missing", table(["Arm", ">Seed", "Why"], lacking)] if lacking else []
    blocks += more_data(found)
    if kept := remarks(found):
        blocks += ["## Notes", bullets(kept)]
    blocks += ["## For a paper", inline(study.paragraph(found))]
    blocks += [
        "## The plan, announced before the first step",
        table(["", ""], [[inline(key), inline(value)] for key, value in plan(found)]),
    ]
    changes = [[inline(arm.name), inline(json.dumps(dict(arm.changes), ensure_ascii=False, default=str))] for arm in found.arms]
    blocks.append(table(["Arm", "Changes to the recipe"], changes))
    blocks += ["### The study", fence(found.study, "json")] if found.study else []
    blocks.append("The same numbers for other programs: [results.json](results.json).")
    return "\n\n".join(blocks) + "\n"


def bullets(texts: tuple[str, ...] | list[str]) -> str:
    """A list."""
    return "\n".join(f"- {coded(words.clip(text, 1000))}" for text in texts)


def value_of(reached: Reached | None, scale: float) -> str:
    """A score and its interval."""
    if reached is None:
        return words.MISSING
    return f"{words.number(reached.value, scale)} {words.span((reached.interval.low, reached.interval.high), scale)}".strip()


def gap_of(one: Comparison | None) -> str:
    """A difference and its interval."""
    return words.MISSING if one is None else f"{words.signed(one.difference, one.scale)} {study.between(one)}".strip()


def verdict_of(one: Comparison) -> str:
    """A badge and what stands beside it."""
    more = study.detail(one)
    return study.BADGES[study.kind(one)] + (f": {inline(more)}" if more else "")


def arms(found: Studied) -> list[str]:
    """The table of the primary metric."""
    head = [
        "Arm",
        f">{inline(words.metric_name(found.metric))}",
        ">Difference",
        ">p",
        ">Adjusted p",
        "Verdict",
        ">Could have seen",
        ">Won",
        ">Lost",
    ]
    rows, seeds = [], []
    for arm in found.arms:
        one, own = arm.against.get(found.metric), arm.reached.get(found.metric)
        cells = [inline(arm.name), value_of(own, found.scale), gap_of(one)]
        if one is None:
            cells += [words.MISSING, words.MISSING, study.BADGES[study.state(arm, found)], *[words.MISSING] * 3]
        else:
            seen = words.MISSING if one.why else words.number(one.smallest, one.scale)
            counted = [f"{one.won:,}", f"{one.lost:,}"] if one.won or one.lost else [words.MISSING] * 2
            cells += [inline(study.chance(one)), inline(study.chance(one, adjusted=True)), verdict_of(one), seen, *counted]
        rows.append(cells)
        seeds.append(
            [inline(arm.name), *(words.number(own.seeds.get(seed), found.scale) if own else words.MISSING for seed in found.seeds)]
        )
    return ["## Arms", table(head, rows), study.explained(found), table(["Arm", *(f">Seed {seed}" for seed in found.seeds)], seeds)]


def cost(found: Studied) -> list[str]:
    """What every arm took."""
    head = [
        "Arm",
        ">Rows",
        ">Drawn",
        ">Trained parameters",
        ">Share",
        ">Time",
        ">Tokens/s",
        ">Peak memory GiB",
        ">Steps",
        ">Tokens",
        "Chosen",
    ]
    rows = []
    for arm in found.arms:
        c = arm.cost
        share = words.share(c.trainable, c.parameters) if c.trainable is not None and c.parameters else words.MISSING
        numbers = [words.count(n) for n in (arm.rows, arm.drawn, c.trainable)]
        rest = [words.count(c.tokens_per_second), words.fixed(c.memory_gb, 2), words.count(c.steps), words.count(c.tokens)]
        rows.append([inline(arm.name), *numbers, share, words.duration(c.seconds), *rest, inline(study.chosen(arm)) or words.MISSING])
    return ["## Cost", "Means over an arm's seeds.", table(head, rows)]


def learning(found: Studied) -> list[str]:
    """The first and last losses of every arm."""
    rows = []
    for arm in found.arms:
        train = [point.loss for point in arm.curve if point.loss is not None]
        checked = [point.validation for point in arm.curve if point.validation is not None]
        if train or checked:
            ends = [*((line[0], line[-1]) if line else (None, None) for line in (train, checked))]
            least = words.fixed(min(checked), 3) if checked else words.MISSING
            rows.append([inline(arm.name), *(words.fixed(value, 3) for pair in ends for value in pair), least])
    head = ["Arm", ">First training loss", ">last", ">First validation loss", ">last", ">least"]
    return ["## Learning", table(head, rows)] if rows else []


def trials(found: Studied) -> list[str]:
    """What every arm tried."""
    blocks = ["## Trials", coded(study.tried(found))]
    if study.searched(found):
        rows = [
            [
                inline(arm.name),
                inline(study.setting(trial.changes)) or "the recipe's own",
                f"{trial.share:.0%}".replace("%", " %"),
                study.measured(trial.value),
                "chosen" if trial.chosen else inline(words.clip(trial.why, 200)),
            ]
            for arm in found.arms
            for trial in arm.trials
        ]
        blocks.append(table(["Arm", "Tried", ">Of the training", ">On validation rows", ""], rows))
    return blocks


def exploratory(found: Studied) -> list[str]:
    """Secondary metrics and slices."""
    blocks = []
    if rows := others(found):
        head = ["Metric", "Arm", ">Value", ">Difference", ">q", "Verdict"]
        lines = [
            [
                inline(words.metric_name(o.metric)),
                inline(o.arm.name),
                value_of(o.reached, o.scale),
                gap_of(o.against),
                inline(study.chance(o.against, adjusted=True)) if o.against else words.MISSING,
                verdict_of(o.against) if o.against else words.MISSING,
            ]
            for of_metric in rows.values()
            for o in of_metric
        ]
        blocks += ["## Other metrics, exploratory", study.EXPLORED, table(head, lines)]
    if found.slices:
        lines = [
            [inline(s.name), inline(s.arm), f"{s.items:,}", gap_of(s.comparison), inline(study.chance(s.comparison, adjusted=True)),
             verdict_of(s.comparison)]
            for s in found.slices
        ]  # fmt: skip
        blocks += ["## Slices, exploratory", study.EXPLORED, table(["Slice", "Arm", ">Rows", ">Difference", ">q", "Verdict"], lines)]
    return blocks


def forgetting(found: Studied) -> list[str]:
    """What tuning cost elsewhere."""
    probes = list(dict.fromkeys(probe for arm in found.arms for probe in arm.cost.forgetting))
    if not probes:
        return []
    rows = [[inline(arm.name), *(words.signed(arm.cost.forgetting.get(probe)) for probe in probes)] for arm in found.arms]
    return ["## What tuning cost elsewhere", study.LOST, table(["Arm", *(f">{inline(probe)}" for probe in probes)], rows)]


def more_data(found: Studied) -> list[str]:
    """Score against rows."""
    rows = study_curves.ordered(found)
    if len(rows) < 2:
        return []
    lines = [[inline(arm), f"{count:,}", value_of(found.arm(arm).reached.get(found.metric), found.scale)] for arm, count, _ in rows]
    table_of = table(["Arm", ">Training rows", f">{inline(words.metric_name(found.metric))}"], lines)
    return ["## Would more data help?", study.more_data(rows, found), table_of]
