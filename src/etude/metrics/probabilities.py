"""How likely the model finds the references: perplexity, bits per token and per byte. Smaller is better.

An item's field `token_logprobs` holds the natural log-probability of each token of its reference (its end of turn included,
if the model was asked for it): `Scores.logprobs` of `etude.models`. All tokens of a task count the same: these are numbers
of the corpus, not means over items. Bits per byte divides by the UTF-8 bytes of the first reference, so that models
with different tokenizers can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from etude.catalog import Settings
from etude.metrics.items import RowError, check_references, described, field_of, logprob
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np


def rows_of(predictions: Sequence[Prediction], size: Callable[[Prediction, int], int]) -> np.ndarray:
    """float64, shape (predictions, 3): nats, what they are spread over, and 1 (so that the rows are no mean over items)."""
    import numpy as np

    rows = np.ones((len(predictions), 3))
    for i, prediction in enumerate(predictions):
        check_references(prediction)
        values = field_of(prediction, "token_logprobs", "the log-probability of each token of the reference")
        if not isinstance(values, list | tuple) or not values:
            raise RowError(prediction.id, "'token_logprobs' must be a list of numbers, one a token, and not empty")
        rows[i, 0] = -math.fsum(logprob(prediction, "token_logprobs", value) for value in values)
        rows[i, 1] = size(prediction, len(values))
    return rows


def tokens(prediction: Prediction, count: int) -> int:
    """The number of tokens."""
    return count


def utf8(prediction: Prediction, count: int) -> int:
    """The bytes of the first reference; raises RowError where there are none."""
    size = len(prediction.references[0].encode("utf-8", "surrogatepass"))
    if not size:
        raise RowError(prediction.id, "the reference is empty, and bits per byte need bytes")
    return size


def rate(totals: np.ndarray) -> float:
    """Nats a token or byte; NaN of none."""
    return float(totals[0] / totals[1]) if totals[1] else float("nan")


class Surprise(Settings):
    """What perplexity and bits have in common: nats, spread over tokens or bytes."""

    scale: ClassVar[float] = 1.0
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    lower_is_better: ClassVar[bool] = True
    reads_outputs: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("token_logprobs",)
    name: ClassVar[str]
    per: ClassVar[str] = "token"
    log: ClassVar[str] = "2"

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 3): nats, tokens (or bytes), and 1. Raises DataError for an item without log-probabilities."""
        return rows_of(predictions, tokens if self.per == "token" else utf8)

    def score(self, totals: np.ndarray) -> float:
        """Bits a token or byte, 0 or more, from summed statistics, shape (3,)."""
        return rate(totals) / math.log(2)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described(self.name, {"per": self.per, "log": self.log, "over": "corpus"}, predictions)


class Perplexity(Surprise):
    """e to the mean negative log-probability of a reference token."""

    bounds = (1.0, math.inf)
    name = "perplexity"
    log = "e"

    def score(self, totals: np.ndarray) -> float:
        """The perplexity, 1 or more, from summed statistics, shape (3,)."""
        nats = rate(totals)
        return math.exp(nats) if not nats > 700 else math.inf


class BitsPerToken(Surprise):
    """Mean negative log2-probability of a reference token."""

    name = "bits_per_token"


class BitsPerByte(Surprise):
    """Negative log2-probability of the references, spread over their UTF-8 bytes."""

    name = "bits_per_byte"
    per = "byte"
