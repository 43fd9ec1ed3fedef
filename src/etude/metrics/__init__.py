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
    """A measure of predictions against references; a frozen settings class.

    It may also say (see the functions below) `lower_is_better: ClassVar[bool]`, `bounds: ClassVar[tuple[float, float]]`
    where they are not 0 and `scale`, `needs: ClassVar[tuple[str, ...]]`, the keys of `Prediction.fields` without which it cannot
    score, `reads_outputs`, False for a metric of log-probabilities, `reads_references`, False for one that scores without, and
    `item_sd`, how far two models' numbers for one row usually are apart, where they are shares and not right or wrong.
    """

    scale: ClassVar[float]
    """1 for numbers on 0-1, 100 for BLEU, chrF and TER: the unit a report writes in."""

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


def lower_is_better(metric: Metric) -> bool:
    """Whether a smaller number is the better one (TER, perplexity, calibration error)."""
    return bool(getattr(metric, "lower_is_better", False))


def item_sd(metric: Metric) -> float | None:
    """The usual standard deviation of the difference of two models on a row, for plans; None where rows are right or wrong."""
    return getattr(metric, "item_sd", None)


def right_or_wrong(metric: Metric) -> bool:
    """Whether rows are right or wrong (or shares of right ones), as far as a plan can tell: numbers of 0 to 1, the more the better, whose
    rows have no usual standard deviation of their own."""
    return item_sd(metric) is None and bounds(metric) == (0.0, 1.0) and not lower_is_better(metric)


def bounds(metric: Metric) -> tuple[float, float]:
    """The least and the largest number the metric can give; infinity where there is none."""
    low, high = getattr(metric, "bounds", (0.0, metric.scale))
    return float(low), float(high)


def needs(metric: Metric) -> tuple[str, ...]:
    """The keys of `Prediction.fields` without which the metric cannot score an item."""
    return tuple(getattr(metric, "needs", ()))


def reads_outputs(metric: Metric) -> bool:
    """Whether the metric looks at outputs at all; those of log-probabilities do not."""
    return bool(getattr(metric, "reads_outputs", True))


def reads_references(metric: Metric) -> bool:
    """Whether the metric compares with references; tests that are run, or instructions that are checked, need none."""
    return bool(getattr(metric, "reads_references", True))


METRICS = Catalog(
    "metric",
    {
        "accuracy": "etude.metrics.classification:Accuracy",
        "f1": "etude.metrics.confusion:F1",
        "precision": "etude.metrics.confusion:Precision",
        "recall": "etude.metrics.confusion:Recall",
        "matthews": "etude.metrics.confusion:Matthews",
        "exact_match": "etude.metrics.exact:ExactMatch",
        "final_answer": "etude.metrics.exact:FinalAnswer",
        "squad_em": "etude.metrics.squad:SquadEm",
        "squad_f1": "etude.metrics.squad:SquadF1",
        "math": "etude.metrics.math:Math",
        "multiple_choice": "etude.metrics.multiple_choice:MultipleChoice",
        "rouge1": "etude.metrics.rouge:Rouge1",
        "rouge2": "etude.metrics.rouge:Rouge2",
        "rouge3": "etude.metrics.rouge:Rouge3",
        "rougeN": "etude.metrics.rouge:RougeN",
        "rougeL": "etude.metrics.rouge:RougeL",
        "rougeLsum": "etude.metrics.rouge:RougeLsum",
        "bleu": "etude.metrics.overlap:Bleu",
        "chrf": "etude.metrics.overlap:Chrf",
        "ter": "etude.metrics.overlap:Ter",
        "perplexity": "etude.metrics.probabilities:Perplexity",
        "bits_per_token": "etude.metrics.probabilities:BitsPerToken",
        "bits_per_byte": "etude.metrics.probabilities:BitsPerByte",
        "ece": "etude.metrics.calibration:Ece",
        "brier": "etude.metrics.calibration:Brier",
        "pass_at_k": "etude.metrics.pass_at_k:PassAtK",
        "pass_at_10": "etude.metrics.pass_at_k:PassAt10",
        "ifeval": "etude.metrics.ifeval:IFEval",
    },
)
