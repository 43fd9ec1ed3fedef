"""Which training rows stay, and why the others left. A Check gives every row a Fate; a Rewrite changes a row."""

from __future__ import annotations

from etude.catalog import Catalog
from etude.curation.rows import Beside, Check, Rewrite, Row, Verdicts

CHECKS = Catalog("check", {})

REWRITES = Catalog("rewrite", {})

__all__ = ["CHECKS", "REWRITES", "Beside", "Check", "Rewrite", "Row", "Verdicts"]
