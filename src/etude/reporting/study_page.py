"""A study's report.html, report.md and results.json."""

from __future__ import annotations

from pathlib import Path

from etude import journal
from etude.reporting.studied import Studied, results


def write(found: Studied, folder: Path) -> None:
    """Write the three files into the study's folder."""
    journal.write_json(folder / "results.json", results(found))
