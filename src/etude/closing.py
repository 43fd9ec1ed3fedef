"""What `etude run` prints at its end: start -> tuned, answers side by side, seconds, what to try next."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import runs
from etude.curation.texts import shown as brief
from etude.grading import Graded
from etude.range_test import Curve
from etude.reporting.findings import Findings
from etude.reporting.gathering import best
from etude.reporting.words import clip, held_out, metric_name, number, signed, span, visible

SHOWN = 3
"""Answers shown side by side."""


def summary(findings: Findings, folder: Path, sentence: str) -> str:
    """The closing text, control characters of data and models made visible."""
    lines = ["", sentence, ""]
    for task, measures in findings.tasks.items():
        lines.append(f"{task}: start -> tuned, 95 % intervals, {held_out(measures[0]) if measures else 'no rows'}")
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
    lines += [f"  {name} show {folder} --row {row_id}", f"  {name} new my-task --from multitask", f"  {name} preview my-task.yaml"]
    return "\n".join(lines)


def curated(folder: Path) -> dict[str, Any]:
    """What curation did in a run folder, as plain data."""
    recipe, done = runs.recipe_of(folder), runs.record(folder, "curated")
    sources = done.facts["sources"] if done else []
    steps = json.loads((folder / "curated" / "steps.json").read_text(encoding="utf-8"))
    return {"name": recipe.name, "folder": str(folder), "sources": sources, "checks": steps}


def curated_text(found: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    kept, dropped = sum(row["train"] for row in found["sources"]), sum(step["dropped"] for step in found["checks"])
    lines = [f"{found['name']}: {kept + dropped:,} training rows, {kept:,} stay, {dropped:,} leave ({share(dropped, kept + dropped)})"]
    lines += table(found["checks"])
    return "\n".join([*lines, f"page: {found['folder']}/curation.html   rows that left: {found['folder']}/dropped.jsonl"])


def generated(folder: Path) -> dict[str, Any]:
    """What the strategies of a run made, as plain data."""
    done = runs.record(folder, "generated")
    return {
        "folder": str(folder),
        "strategies": dict(done.facts["strategies"]) if done else {},
        "llms": dict(done.facts["llms"]) if done else {},
    }


def generated_text(found: Mapping[str, Any]) -> str:
    """The same for a terminal: a line a strategy and a line a rule, and where the rows are."""
    lines = []
    for name, one in found["strategies"].items():
        refused = one["refused"]
        lines.append(
            f"{name}: {one['made']:,} rows made, {sum(refused.values()):,} refused; {one['asked'] + one['from_journal']:,} replies"
        )
        lines += [f"  {count:>7,}  {rule}" for rule, count in refused.items()]
        folder = Path(found["folder"]) / "generated" / name
        lines.append(f"rows: {folder / 'rows.jsonl'}   refused: {folder / 'refused.jsonl'}")
    for name, one in found["llms"].items():
        cost = one.get("cost", "unknown")
        lines.append(f"{name}: {one.get('requests', 0):,} requests, cost {cost if isinstance(cost, str) else format(cost, '.4f')}")
    if (page := Path(found["folder"]) / "generation.html").is_file():
        lines.append(f"page: {page}")
    return "\n".join(lines)


def cleaned_text(found: Mapping[str, Any], out: Path | None, left: Path | None) -> str:
    """What `etude curate DATA` did, for a terminal."""
    rows = found["rows"]
    lines = [f"{found['data']} ({found['format']['type']}): {rows['read']:,} rows, {rows['kept']:,} stay, {rows['dropped']:,} leave "
             f"({share(rows['dropped'], rows['read'])})" + (f", {rows['bad']:,} unreadable" if rows["bad"] else "")]  # fmt: skip
    lines += table(found["checks"])
    lines.append(f"kept: {out}   left: {left}" if out else "nothing was written; -o OUT.jsonl writes the rows that stay")
    return "\n".join(lines)


def table(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a check: rows seen, dropped (or changed), seconds, and the first example."""
    lines = [f"  {'check':18} {'rows':>9} {'leave':>8} {'changed':>8} {'seconds':>8}  for example"]
    for step in checks:
        examples = step["facts"].get("examples") or step["facts"].get("found") or [{}]
        first = examples[0]
        told = first.get("seen") or first.get("text") or first.get("after") or ""
        where = str(first.get("at") or first.get("origin") or first.get("id", ""))
        place = f"{where.rsplit('/', 1)[-1]}: " if where else ""
        numbers = f"{step['rows']:>9,} {step['dropped']:>8,} {step['changed']:>8,} {step['seconds']:>8.1f}"
        lines.append(f"  {step['name']:18} {numbers}  {brief(place + visible(told), 70) if told else ''}".rstrip())
    return lines


def plain_curve(curve: Curve) -> dict[str, Any]:
    """A learning-rate curve as plain data."""
    points = [{"rate": r, "loss": x, "smoothed": y} for r, x, y in zip(curve.rates, curve.losses, curve.smoothed, strict=True)]
    return {"suggestion": curve.suggestion, "diverged": curve.diverged, "curve": points}


def curve_text(curve: Curve) -> str:
    """The same for a terminal: a line every few rates, the loss as a bar."""
    low, high = min(curve.smoothed), max(curve.smoothed)
    lines = ["learning rate   loss (smoothed)"]
    for rate, loss in list(zip(curve.rates, curve.smoothed, strict=True))[:: max(1, len(curve.rates) // 20)]:
        lines.append(f"  {rate:9.1e}  {loss:8.4f}  {'#' * round(40 * (loss - low) / ((high - low) or 1))}")
    said = f"try tune.learning_rate={curve.suggestion:.1e}" if curve.suggestion else "no rate stands out: the loss never falls"
    return "\n".join([*lines, said])


def tuned_text(trained: Mapping[str, Any], folder: Path) -> str:
    """What tuning alone did."""
    best = f", best at {trained['best_step']}" if trained.get("best_step") else ""
    return f"{trained['steps']} steps{best}, {trained['tokens']:,} tokens, {trained['seconds']:.0f} s; the model is in {folder / 'model'}"


def scores_text(found: Mapping[str, Any], folder: Path) -> str:
    """What the arms reach, a table a task."""
    lines = []
    for task, arms in found.items():
        first = next(iter(arms.values()))
        lines.append(f"{task}: {first['answers']:,} rows; brackets are 95 % intervals")
        for arm, one in arms.items():
            if not one["metrics"]:
                lines.append(f"  {arm.replace('_', '-'):14} {one['answers']:,} answers; this task has no metric")
            for name, value in one["metrics"].items():
                numbers = f"{value['value']:.4f} [{value['interval'][0]:.4f}, {value['interval'][1]:.4f}]"
                lines.append(f"  {arm.replace('_', '-'):14} {name:18} {numbers}  {value['signature']}")
    return "\n".join([*lines, f"answers: {folder / 'predictions'}   numbers: {folder / 'scores.json'}"])


def graded_text(graded: Graded, metric: str) -> str:
    """One metric over a file of predictions."""
    low, high = graded.interval
    return f"{metric}: {graded.score:.4f} [{low:.4f}, {high:.4f}] over {graded.items:,} items\n{graded.signature}"


def share(part: int, whole: int) -> str:
    """A part of a whole in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


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
