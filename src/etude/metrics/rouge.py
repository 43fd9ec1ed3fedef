"""ROUGE on 0-1: how many of the reference's words, word pairs or word sequences an output has, as F1.

Lin (2004), with the choices of Google's `rouge-score` 0.1.2, whose numbers these are (F1; of several references the one
with the best F1). The stemmer is Porter's with NLTK's departures, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from etude.catalog import Settings
from etude.metrics.items import check_references, described, mean
from etude.records import Prediction
from etude.similarity import porter

if TYPE_CHECKING:
    import numpy as np

Stem = Callable[[str], str]


def best(predictions: Sequence[Prediction], stemmer: bool, f1: Callable[[list[str], list[str], Stem | None], np.ndarray]) -> np.ndarray:
    """Rows (value, 1): each output against its most similar reference, averaged over the item's outputs.

    `f1` takes references and candidates, one pair a place. Raises DataError for an item without a reference.
    """
    import numpy as np

    theirs, ours = list[str](), list[str]()
    first, outputs = list[int](), list[int]()
    for item, prediction in enumerate(predictions):
        check_references(prediction)
        for output in prediction.outputs or ("",):
            first.append(len(theirs))
            outputs.append(item)
            theirs += prediction.references
            ours += [output] * len(prediction.references)
    rows = np.ones((len(predictions), 2))
    if len(predictions):
        values = np.maximum.reduceat(f1(theirs, ours, porter if stemmer else None), first)
        rows[:, 0] = np.bincount(outputs, weights=values) / np.bincount(outputs)
    return rows


def grams(predictions: Sequence[Prediction], n: int, stemmer: bool) -> np.ndarray:
    """Rows (ROUGE-N F1, 1)."""
    from etude.similarity import rouge_n_pairs

    return best(predictions, stemmer, lambda theirs, ours, stem: rouge_n_pairs(theirs, ours, n, stem))


def rouge_signature(name: str, stemmer: bool, predictions: Sequence[Prediction], **more: object) -> str:
    """The signature of a ROUGE."""
    parts = {**more, "score": "f1", "refs": "best", "stem": stemmer, "tok": "a-z0-9", "as": "rouge-score-0.1.2"}
    return described(name, parts, predictions)


ITEM_SD = 0.15
"""Between models tuned by different methods or seeds ROUGE-L of one docstring differs by .10 to .16 (standard deviation; docs/log.md)."""


class Rouge1(Settings):
    """Mean F1 of words in common (ROUGE-1)."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = ITEM_SD

    stemmer: bool = False
    """Compare Porter stems instead of words."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return grams(predictions, 1, self.stemmer)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rouge1", self.stemmer, predictions)


class Rouge2(Settings):
    """Mean F1 of pairs of neighbouring words in common (ROUGE-2)."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = ITEM_SD

    stemmer: bool = False
    """Compare Porter stems instead of words."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return grams(predictions, 2, self.stemmer)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rouge2", self.stemmer, predictions)


class Rouge3(Settings):
    """Mean F1 of three neighbouring words in common (ROUGE-3)."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = ITEM_SD

    stemmer: bool = False
    """Compare Porter stems instead of words."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return grams(predictions, 3, self.stemmer)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rouge3", self.stemmer, predictions)


class RougeN(Settings):
    """Mean F1 of n neighbouring words in common (ROUGE-N), for the n without a name of their own."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = ITEM_SD

    n: Annotated[int, Field(ge=1, le=9)] = 4
    """How many neighbouring words."""
    stemmer: bool = False
    """Compare Porter stems instead of words."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return grams(predictions, self.n, self.stemmer)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rougeN", self.stemmer, predictions, n=self.n)


class RougeL(Settings):
    """Mean F1 of the longest common subsequence of words (ROUGE-L)."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = ITEM_SD

    stemmer: bool = False
    """Compare Porter stems instead of words."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        from etude.similarity import rouge_l_pairs

        return best(predictions, self.stemmer, rouge_l_pairs)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rougeL", self.stemmer, predictions)


class RougeLsum(Settings):
    """Mean F1 of the longest common subsequences line by line (ROUGE-Lsum, for summaries)."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = ITEM_SD

    stemmer: bool = False
    """Compare Porter stems instead of words."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        from etude.similarity import rouge_l_sum_pairs

        return best(predictions, self.stemmer, rouge_l_sum_pairs)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return rouge_signature("rougeLsum", self.stemmer, predictions)
