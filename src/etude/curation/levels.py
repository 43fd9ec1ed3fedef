"""Which level of a row's reasoning is written; everything else of the row, its id among it, stays."""

from __future__ import annotations

from dataclasses import replace

from etude.catalog import Settings
from etude.records import Record
from etude.templates.levels import Level, at_level


class ReasoningLevel(Settings):
    """Writes a row's reasoning at one level: of rows that hold it at several (`rationale_simple`, `rationale_normal`,
    `rationale_complex`), as `execution_traces` and `chain_of_thought` make them. The answer stays the same."""

    level: Level
    """none: the answer alone; simple: a line or two; normal: the steps; complex: every step with its reason."""

    def rewrite(self, record: Record) -> Record | str:
        """The Record with `rationale` at the level (none: without it), or why it stays: it has no text of that level."""
        try:
            fields = at_level(record.fields, self.level)
        except KeyError as error:
            return f"no reasoning at the level {self.level} (field {error.args[0]!r})"
        return record if fields == record.fields else replace(record, fields=fields)
