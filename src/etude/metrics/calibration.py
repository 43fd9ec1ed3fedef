"""Whether a model's probabilities of labels can be believed: expected calibration error and Brier score. Smaller is better.

An item's field `label_logprobs` maps each label to its natural log-probability. The labels are taken as all there are: their
probabilities are divided by their sum. Where an item has several references, any of them is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.failures import nearest
from etude.metrics.items import RowError, check_references, described, field_of, logprob, mean
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np


def believed(prediction: Prediction) -> dict[str, float]:
    """The probability of each label, in sum 1; raises RowError where the item does not say, or lacks a reference's label."""
    check_references(prediction)
    given = field_of(prediction, "label_logprobs", "the log-probability of each label")
    if not isinstance(given, Mapping) or len(given) < 2:
        raise RowError(prediction.id, "'label_logprobs' must map two labels or more to their log-probabilities")
    logs = {str(label): logprob(prediction, "label_logprobs", value) for label, value in given.items()}
    for reference in prediction.references:
        if reference not in logs:
            raise RowError(prediction.id, f"'label_logprobs' says nothing of the reference {reference!r}{nearest(reference, logs)}")
    most = max(logs.values())
    if most == -math.inf:
        raise RowError(prediction.id, "'label_logprobs' gives every label the probability 0")
    weights = {label: math.exp(value - most) for label, value in logs.items()}
    total = math.fsum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


class Ece(Settings):
    """Expected calibration error (Guo et al. 2017): how far confidence and accuracy are apart, in bins of equal width."""

    scale: ClassVar[float] = 1.0
    lower_is_better: ClassVar[bool] = True
    reads_outputs: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("label_logprobs",)

    bins: Annotated[int, Field(ge=1, le=100)] = 15
    """Bins ((i - 1) / bins, i / bins] of the likeliest label's probability."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 3 * bins): in the item's bin a 1, its confidence, and whether the likeliest label (the
        first of several) is right. Raises DataError for an item without log-probabilities."""
        import numpy as np

        rows = np.zeros((len(predictions), 3, self.bins))
        for i, prediction in enumerate(predictions):
            chances = believed(prediction)
            label = max(chances, key=lambda name: chances[name])
            place = min(self.bins, max(1, math.ceil(chances[label] * self.bins - 1e-12))) - 1
            rows[i, :, place] = 1.0, chances[label], float(label in prediction.references)
        return rows.reshape(len(predictions), 3 * self.bins)

    def score(self, totals: np.ndarray) -> float:
        """The error, 0 to 1, from summed statistics, shape (3 * bins,)."""
        items, confidence, right = totals.reshape(3, self.bins)
        return float(abs(confidence - right).sum() / items.sum()) if items.sum() else float("nan")

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described("ece", {"bins": self.bins, "width": "equal", "of": "likeliest", "norm": "labels"}, predictions)


class Brier(Settings):
    """Brier score (1950): the mean squared distance of the labels' probabilities from 1 for the right one and 0 for the others."""

    scale: ClassVar[float] = 1.0
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)
    lower_is_better: ClassVar[bool] = True
    reads_outputs: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("label_logprobs",)

    scale_by_half: bool | Literal["auto"] = "auto"
    """Halve it, so that it is at most 1; `auto` halves it of two labels and not of more (scikit-learn's default)."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's score, and 1. Raises DataError for an item without log-probabilities."""
        import numpy as np

        rows = np.ones((len(predictions), 2))
        for i, prediction in enumerate(predictions):
            chances = believed(prediction)
            square = math.fsum(chance**2 for chance in chances.values())
            best = min(square - chances[name] ** 2 + (1 - chances[name]) ** 2 for name in prediction.references)
            rows[i, 0] = best / 2 if self.scale_by_half is True or (self.scale_by_half == "auto" and len(chances) == 2) else best
        return rows

    def score(self, totals: np.ndarray) -> float:
        """The mean, 0 to 2 (0 to 1 if halved), from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described("brier", {"half": self.scale_by_half, "norm": "labels"}, predictions)
