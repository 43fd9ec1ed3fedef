"""The report of a run: report.html (one self-contained page), report.md and results.json."""

from __future__ import annotations

from pathlib import Path

from etude import journal
from etude.reporting import answers_page
from etude.reporting.findings import Baseline, Example, Findings, Measure, Point, Probe, Source, Tokens, Tuning, results
from etude.reporting.markdown import markdown
from etude.reporting.page import page
from etude.reporting.words import sentence, visible

__all__ = [
    "Baseline",
    "Example",
    "Findings",
    "Measure",
    "Point",
    "Probe",
    "Source",
    "Tokens",
    "Tuning",
    "markdown",
    "page",
    "results",
    "sentence",
    "visible",
    "write",
]


def write(findings: Findings, folder: Path) -> None:
    """Write report.html, answers.html, report.md and results.json into `folder`; equal findings give equal bytes.

    Each file appears whole or not at all. Raises NoSpace when the disk is full or read-only.
    """
    html, text = page(findings), markdown(findings)
    journal.write_json(folder / "results.json", results(findings))
    journal.write_text(folder / "report.md", text)
    journal.write_text(folder / "report.html", html)
    answers_page.write(findings, folder)
