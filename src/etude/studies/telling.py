"""What `etude study` and `etude plan STUDY` print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.reporting.studied import Studied
from etude.reporting.study_words import sentence
from etude.reporting.words import number, span


def as_text(found: Studied, folder: Path) -> str:
    """The verdict, a line an arm, and where the report is."""
    lines = [sentence(found), "", f"{found.task}.{found.metric} on {found.items} test rows, 95 % intervals, {len(found.seeds)} seeds"]
    for arm in found.arms:
        own = arm.reached.get(found.metric)
        if own is None:
            lines.append(f"  {arm.name:20} failed: {next(iter(arm.failed.values()), 'no run')[:100]}")
            continue
        verdict = "the baseline" if arm.name == found.baseline else "not tested"
        verdict = arm.against[found.metric].verdict if found.metric in arm.against else verdict
        between = span((own.interval.low, own.interval.high), found.scale)
        lines.append(f"  {arm.name:20} {number(own.value, found.scale):>7} {between:17}  {verdict}")
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])


def plan_text(found: Mapping[str, Any]) -> str:
    """A study's plan as lines."""
    reach, on = found["smallest visible difference"], f"{found['test rows']} test rows"
    on += f" in {found['groups of test rows']} groups" if found["groups of test rows"] else ""
    lines = [
        f"{found['name']}: {len(found['arms'])} arms x {len(found['seeds'])} seeds = {found['runs']} runs after {found['trials']} trials, "
        f"against {found['baseline']!r} in {found['primary']} on {on}"
    ]
    for arm, row in found["arms"].items():
        amounts = f"{row['rows']:>7,} rows, {row['steps']:>5,} steps, {row['tokens']:>9,} tokens"
        lines.append(f"  {arm:20} {amounts}, about {row['seconds']:,} s a run")
    if reach is not None:
        assumed = f"{found['assumed']}, seeds moving a score by {found['seed sd']:g}"
        lines.append(f"can show a difference of {reach:.3f} or more ({assumed})")
    else:
        lines.append(f"what it can show is not known: {found['assumed']}; item_sd says it")
    lines += [f"note: {note}" for note in found["notes"]]
    lines.append(f"in all about {found['seconds'] / 60:.0f} minutes one run at a time, {found['disk gb']:.1f} GB of disk")
    return "\n".join([*lines, f"money: {found['money']}"])
