"""Rows by their ids: what a study trains where every arm must have the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etude import journal
from etude.catalog import Settings
from etude.curation.rows import Beside, Row, Verdicts
from etude.failures import RecipeError
from etude.records import Fate


class Listed(Settings):
    """Keeps the rows whose ids a file lists, one `{"id": ...}` a line."""

    path: str
    """The file."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop every row that is not listed. Raises RecipeError where the file is missing."""
        if not Path(self.path).is_file():
            raise RecipeError(f"listed: no file {self.path}")
        wanted = {str(line["id"]) for line in journal.read(Path(self.path))}
        fates = [Fate.keep(row.id) if row.id in wanted else Fate.drop(row.id, "not listed") for row in rows]
        return Verdicts(fates, {"listed": len(wanted), "found": len(wanted & {row.id for row in rows})})
