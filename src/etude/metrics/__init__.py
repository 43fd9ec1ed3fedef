"""What a metric is: statistics an example, then one number from their sum.

So intervals and paired tests work for corpus metrics (BLEU, chrF, macro F1) without touching the
texts again, and per-item statistics are always kept. After sacrebleu's design.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from etude.catalog import Catalog
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np


class Metric(Protocol):
    """A measure of predictions against references; a frozen settings class."""

    scale: ClassVar[float]
    """1 for numbers on 0-1, 100 for BLEU and chrF."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, k): one row an example; an empty output counts as wrong.

        Several outputs of one example are averaged. Rows (value, 1) mean: the score is the mean of the
        values, and comparisons test it as such. All rows of a task at once: the columns may depend
        on the references (F1's labels), never on the outputs. Raises DataError for a row without
        a usable reference.
        """
        ...

    def score(self, totals: np.ndarray) -> float:
        """The number of the summed statistics, shape (k,)."""
        ...

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made: `name|key:value|...`; with the predictions it also says what
        only they tell (number of references, labels)."""
        ...


METRICS = Catalog(
    "metric",
    {
        "accuracy": "etude.metrics.classification:Accuracy",
        "f1": "etude.metrics.classification:F1",
        "exact_match": "etude.metrics.exact:ExactMatch",
        "rouge1": "etude.metrics.overlap:Rouge1",
        "rouge2": "etude.metrics.overlap:Rouge2",
        "rougeL": "etude.metrics.overlap:RougeL",
        "rougeLsum": "etude.metrics.overlap:RougeLsum",
        "bleu": "etude.metrics.overlap:Bleu",
        "chrf": "etude.metrics.overlap:Chrf",
    },
)
