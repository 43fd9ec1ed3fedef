"""What `etude run` prints at its end: start -> tuned, answers side by side, seconds, what to try next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from etude.reporting.findings import Findings
from etude.reporting.gathering import best
from etude.reporting.words import clip, metric_name, number, signed, span, visible

SHOWN = 3
"""Answers shown side by side."""


def summary(findings: Findings, folder: Path, sentence: str) -> str:
    """The closing text, control characters of data and models made visible."""
    lines = ["", sentence, ""]
    for task, measures in findings.tasks.items():
        lines.append(f"{task}: start -> tuned, 95 % intervals, {measures[0].items if measures else 0} held-out rows")
        for m in measures:
            row = f"  {metric_name(m.metric):14} {number(m.base, m.scale):>7} {span(m.base_interval, m.scale):17}"
            row += f" -> {number(m.tuned, m.scale):>7} {span(m.tuned_interval, m.scale):17}"
            lines.append(f"{row}  difference {signed(m.difference, m.scale)} {span(m.interval, m.scale)}")
            for name, baseline in m.baselines.items():
                lines.append(
                    f"  {'':14} {number(baseline['value'], m.scale):>7} {span(baseline['interval'], m.scale):17} {name.replace('_', '-')}"
                )
        lines.append("")
        for example in best(findings.examples.get(task, ()), SHOWN):
            lines += [f"  {example.id[:8]}  reference  {short(example.reference)}"]
            lines += [f"  {'':8}  start      {short(example.base)}", f"  {'':8}  tuned      {short(example.tuned)}", ""]
    if findings.seconds:
        parts = [f"{stage} {seconds:.1f}{' (reused)' if stage in findings.reused else ''}" for stage, seconds in findings.seconds.items()]
        lines.append(f"seconds: {', '.join(parts)}")
    row_id = next((e[0].id[:8] for e in findings.examples.values() if e), "")
    lines += ["", f"report: {folder / 'report.html'}", "try next:"]
    name = command()
    lines += [f"  {name} show {folder} --row {row_id}", f"  {name} new my-task --from sentiment", f"  {name} preview my-task.yaml"]
    return "\n".join(lines)


def command() -> str:
    """How this etude is called from here: by name where the shell finds it, else by its path."""
    own = Path(sys.executable).parent / "etude"
    found = shutil.which("etude")
    if not own.exists() or (found and Path(found).resolve() == own.resolve()):
        return "etude"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def short(text: str) -> str:
    """One line of at most 110 characters."""
    flat = visible(" ".join(text.split()))
    return clip(flat, 110) if flat else "(empty)"
