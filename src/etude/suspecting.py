"""`etude curate --from-run RUN`: training rows whose loss stays high after tuning, which are worth a look (a label may be wrong)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etude import curating, journal, preparing, runs
from etude.curation import Row
from etude.curation.suspects import Suspect, suspects
from etude.failures import DataError
from etude.models import weights
from etude.models.local import Local
from etude.records import Conversation
from etude.screen import Silent, Watch, counting
from etude.working import Student

CHUNK = 256
"""Rows scored between two writes of the journal."""


def listed(folder: Path, most: int = 100, watch: Watch | None = None) -> list[tuple[Suspect, Row]]:
    """The suspects among a finished run's training rows, the worst first, each with its row.

    Every training row is scored by the tuned model and by the start model; the losses (nats a trained token) are kept in
    suspects/<arm>.jsonl as they come, so a killed command goes on where it was. Writes suspects.jsonl. Raises
    DataError for a run that has not been tuned.
    """
    told = watch or Silent()
    recipe = runs.recipe_of(folder)
    done = runs.record(folder, "tune")
    if done is None:
        raise DataError(f"{folder} has not been tuned yet; `etude run` goes on from there")
    data = preparing.stored(folder / "curated", recipe)
    rows = [row for name, parts in data.parts.items() for row in curating.rows_of(recipe, name, parts.train)]
    worded = [conversation for name, parts in data.parts.items() for conversation in preparing.worded(recipe, name, parts.train)]
    student = Student(weights.locate(recipe.model, told.say), recipe)
    with journal.locked(folder):
        before = losses(student.answering(), worded, folder / "suspects" / "start.jsonl", told, "start")
        tuned = recipe.tune.method.load(student.loaded[0], folder / "model")
        after = losses(student.answering(tuned), worded, folder / "suspects" / f"tuned-{done.digest[:12]}.jsonl", told, "tuned")
        used = [preparing.template_of(recipe, name) for name in data.parts]
        labels = {template.task: template.labels for template in used if template and template.labels}
        by_id = {row.id: row for row in rows}
        found = [(one, by_id[one.id]) for one in suspects(after, rows, labels=labels, before=before, most=most)]
        journal.write_rows(folder / "suspects.jsonl", (plain(one, row) for one, row in found))
    return found


def losses(model: Local, rows: Sequence[Conversation], path: Path, watch: Watch, arm: str) -> dict[str, float]:
    """Row id -> mean loss of its trained tokens, what the journal at `path` already has read from there."""
    path.parent.mkdir(exist_ok=True)
    with journal.Journal(path) as lines, counting(watch, f"losses: {arm}", len(rows)) as progress:
        known = {line["id"]: line["loss"] for line in journal.read(path)}
        missing = list({row.id: row for row in rows if row.id not in known}.values())
        progress(len(rows) - len(missing))
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            for row, values in zip(chunk, model.logprobs(chunk), strict=True):
                known[row.id] = -float(values.mean()) if len(values) else 0.0
                lines.append({"id": row.id, "loss": known[row.id]})
            progress(len(chunk))
    return known


def plain(one: Suspect, row: Row) -> dict[str, Any]:
    """A suspect as plain data."""
    return {
        "id": one.id,
        "at": str(row.record.origin),
        "group": one.group,
        "loss": round(one.loss, 4),
        "median": round(one.median, 4),
        "spreads": round(one.spreads, 2),
        "reason": one.reason,
        "question": "\n\n".join(text for text in (row.instruction, row.input) if text),
        "answer": row.answer,
    }


def as_text(found: Sequence[tuple[Suspect, Row]], folder: Path) -> str:
    """The list for a terminal."""
    from etude.curation.texts import shown

    lines = [f"{len(found)} training rows to look at (suspects.jsonl in {folder} has them whole)"]
    for one, row in found[:20]:
        lines += [
            f"  {one.id[:8]}  {row.record.origin}  {one.reason}",
            f"            {shown(row.instruction + ' ' + row.input, 100)} -> {shown(row.answer, 60)}",
        ]
    return "\n".join(lines)
