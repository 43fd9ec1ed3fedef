"""Exact match: the output is one of the references, letter for letter or nearly."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.catalog import Settings
from etude.metrics.classification import MARKER
from etude.metrics.items import described, mean, valued
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np


class ExactMatch(Settings):
    """The share of outputs that equal one of their references; space around both never counts."""

    scale: ClassVar[float] = 1.0

    ignore_case: bool = False
    """Compare without regard to case (Unicode case folding)."""
    ignore_whitespace: bool = False
    """Any run of white space equals one space."""
    ignore_punctuation: bool = False
    """Leave out punctuation and symbols (Unicode categories P and S), unless nothing else is there."""

    extract: Literal["none", "answer"] = "none"
    """answer: compare the rest of the line after the last "answer is", "answer:", "label:" or "####" of an output that has one."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): share of the item's outputs that match, and 1."""
        return valued(predictions, lambda output, references: float(self.plain(self.answer(output)) in map(self.plain, references)))

    def score(self, totals: np.ndarray) -> float:
        """The share of matches, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described(
            "exact_match",
            {
                "case": "lc" if self.ignore_case else "mixed",
                "space": not self.ignore_whitespace,
                "punct": not self.ignore_punctuation,
                **({"extract": self.extract} if self.extract != "none" else {}),
            },
            predictions,
        )

    def answer(self, output: str) -> str:
        """The part of an output that is its answer."""
        ends = [match.end() for match in MARKER.finditer(output)] if self.extract == "answer" else []
        return next((line for line in output[ends[-1] :].splitlines() if line.strip()), "") if ends else output

    def plain(self, text: str) -> str:
        """The text as it is compared."""
        if self.ignore_case:
            text = text.casefold()
        if self.ignore_punctuation:
            letters = "".join(c for c in text if unicodedata.category(c)[0] not in "PS")
            text = letters if letters.strip() else text
        return " ".join(text.split()) if self.ignore_whitespace else text.strip()
