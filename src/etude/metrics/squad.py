"""Question answering as SQuAD counts it: exact match and token F1 after SQuAD's normalisation.

Rajpurkar et al. 2016 (v1.1) and 2018 (v2.0). Normalised: lower case, the 32 ASCII punctuation characters and the words a, an
and the left out, single spaces. Against several references the best counts. A reference that normalises to nothing
says that the question has no answer (v2.0 gives such questions the reference ""); then only an output that normalises
to nothing is right, and beside another reference it does not count. On questions with answers both versions agree.
On 0-1, where the official scripts print 0-100.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from etude.catalog import Settings
from etude.metrics.items import averaged, described, mean
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

ARTICLE = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """The text as SQuAD compares it."""
    return " ".join(ARTICLE.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def token_f1(reference: str, output: str) -> float:
    """F1 of the words of two normalised texts; of an empty one, whether both are empty."""
    theirs, ours = reference.split(), output.split()
    if not theirs or not ours:
        return float(theirs == ours)
    hits = (Counter(theirs) & Counter(ours)).total()
    return 2 * hits / (len(theirs) + len(ours))


def best(predictions: Sequence[Prediction], value: Callable[[str, str], float]) -> np.ndarray:
    """Rows (value, 1): each output against its best reference, averaged over the item's outputs."""

    def row(output: str, references: tuple[str, ...]) -> tuple[float, float]:
        answers = [plain for plain in map(normalised, references) if plain] or [""]
        said = normalised(output)
        return max(value(answer, said) for answer in answers), 1.0

    return averaged(predictions, 2, row)


class SquadEm(Settings):
    """The share of answers that equal a reference after SQuAD's normalisation; "" answers what has no answer."""

    scale: ClassVar[float] = 1.0

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): share of the item's outputs that match, and 1."""
        return best(predictions, lambda answer, said: float(answer == said))

    def score(self, totals: np.ndarray) -> float:
        """The share of matches, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described("squad_em", {"norm": "squad", "refs": "best", "none": "v2"}, predictions)


class SquadF1(Settings):
    """Mean F1 of the words that answer and reference share after SQuAD's normalisation."""

    scale: ClassVar[float] = 1.0
    item_sd: ClassVar[float] = 0.35  # most answers are right or wrong

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's F1, and 1."""
        return best(predictions, token_f1)

    def score(self, totals: np.ndarray) -> float:
        """Mean F1, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described("squad_f1", {"norm": "squad", "refs": "best", "none": "v2"}, predictions)
