"""Exact match: the output is one of the references, letter for letter or nearly."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.catalog import Settings
from etude.metrics.items import described, mean, valued
from etude.records import Prediction
from etude.templates.reasoning import bare, marked_answer

if TYPE_CHECKING:
    import numpy as np


class ExactMatch(Settings):
    """The share of outputs that equal one of their references; space around both never counts."""

    scale: ClassVar[float] = 1.0
    name: ClassVar[str] = "exact_match"

    ignore_case: bool = False
    """Compare without regard to case (Unicode case folding)."""
    ignore_whitespace: bool = False
    """Any run of white space equals one space."""
    ignore_punctuation: bool = False
    """Leave out punctuation and symbols (Unicode categories P and S), unless nothing else is there."""

    extract: Literal["none", "answer"] = "none"
    r"""answer: compare final answers, what the last "answer is", "answer:", `\boxed{}` or last line with "####" says, in the output and in
    its references; a text without such a mark is its own answer. Quotes, asterisks and a full stop around an answer do not count."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): share of the item's outputs that match, and 1."""
        return valued(predictions, lambda output, references: float(self.shown(output) in map(self.shown, references)))

    def score(self, totals: np.ndarray) -> float:
        """The share of matches, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described(
            self.name,
            {
                "case": "lc" if self.ignore_case else "mixed",
                "space": not self.ignore_whitespace,
                "punct": not self.ignore_punctuation,
                **({"extract": self.extract} if self.extract != "none" else {}),
            },
            predictions,
        )

    def shown(self, text: str) -> str:
        """The part of a text that is its answer, as it is compared."""
        return self.plain(marked_answer(text) or bare(text) if self.extract == "answer" else text)

    def plain(self, text: str) -> str:
        """The text as it is compared."""
        if self.ignore_case:
            text = text.casefold()
        if self.ignore_punctuation:
            letters = "".join(c for c in text if unicodedata.category(c)[0] not in "PS")
            text = letters if letters.strip() else text
        return " ".join(text.split()) if self.ignore_whitespace else text.strip()


class FinalAnswer(ExactMatch):
    """The share of outputs whose final answer equals a reference's: `exact_match` with `extract: answer`, for answers with reasoning."""

    name: ClassVar[str] = "final_answer"

    extract: Literal["none", "answer"] = "answer"
    """Where the answer is in a text, as in `exact_match`."""
