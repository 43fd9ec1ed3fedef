"""Which label was taken for which: precision, recall and F1 of labels, Matthews' correlation, the matrix itself.

Outputs become labels as `etude.metrics.classification` says. The label set, and so the columns of the statistics, is
`labels` or else the set of all references of the batch: give `stats` all items of a task at once. The numbers equal
scikit-learn's with `labels=` that set and `zero_division=0`, an output that names no label counting as one more prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.catalog import Settings
from etude.failures import DataError, nearest
from etude.metrics.classification import Labels, LabelSet, Reading, label_set, named
from etude.metrics.items import averaged, described
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

Average = Literal["macro", "micro", "weighted"]
Ratio = Callable[["np.ndarray", "np.ndarray", "np.ndarray"], "np.ndarray"]
"""Hits, how often said, how often true -> a number a label."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a task: how often it was true (`support`), and how well it was told from the others."""

    label: str
    precision: float
    recall: float
    f1: float
    support: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix for a report: `cells[i][j]` counts items of true label i answered with label j; the last column
    is "none of them". Several outputs of an item count for parts of one."""

    labels: tuple[str, ...]
    cells: tuple[tuple[float, ...], ...]
    by_label: tuple[Label, ...]


def confusion(predictions: Sequence[Prediction], labels: tuple[str, ...] = (), read: Reading = "first_line") -> Confusion:
    """The facts behind F1 and accuracy of these predictions; raises DataError for a reference that is no label."""
    known = label_set(labels, predictions)
    cells = matrix(cells_of(predictions, known, read).sum(axis=0))
    hits, said, true = counts(cells)
    numbers = [ratio(hits, said, true).tolist() for ratio in (precision, recall, f1)]
    by_label = tuple(Label(*row) for row in zip(known.names, *numbers, true.tolist(), strict=True))
    return Confusion(known.names, tuple(tuple(row) for row in cells.tolist()), by_label)


def cells_of(predictions: Sequence[Prediction], labels: Labels, read: Reading) -> np.ndarray:
    """float64, shape (predictions, L * (L + 1)): a 1 in the item's cell of the confusion matrix. Where an item has several
    references, the one named counts as true, else the first."""
    import numpy as np

    width = len(labels) + 1

    def cell(output: str, references: tuple[str, ...]) -> np.ndarray:
        truths = [place for place in map(labels.exactly, references) if place is not None]
        said = labels.read(output, read)
        cells = np.zeros((len(labels), width))
        cells[said if said is not None and said in truths else truths[0], -1 if said is None else said] = 1.0
        return cells.ravel()

    return averaged(predictions, len(labels) * width, cell)


def matrix(totals: np.ndarray) -> np.ndarray:
    """The confusion matrix, shape (L, L + 1), of summed statistics; the last column is "none of them"."""
    size = (math.isqrt(4 * len(totals) + 1) - 1) // 2
    return totals.reshape(size, size + 1)


def counts(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, how often said and how often true, a label each."""
    return cells.diagonal(), cells[:, :-1].sum(axis=0), cells.sum(axis=1)


def divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The quotient, 0 where nothing is to be divided by."""
    import numpy as np

    return above / np.where(below > 0, below, 1.0)


def precision(hits: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The share of a label's answers that are right."""
    return divided(hits, said)


def recall(hits: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The share of a label's items that are found."""
    return divided(hits, true)


def f1(hits: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The harmonic mean of both."""
    return divided(2 * hits, said + true)


def rows_of(predictions: Sequence[Prediction], given: tuple[str, ...], read: Reading, label: str | None) -> np.ndarray:
    """The statistics of F1 and its kin: the matrix's cells, or for one label (hits, said, true, 1)."""
    import numpy as np

    labels = label_set(given, predictions)
    place = labels.exactly(label) if label is not None else None
    if label is not None and place is None and predictions:
        raise DataError(f"label: {label!r} is not one of the labels{nearest(label, labels.names)}")
    cells = cells_of(predictions, labels, read)
    if label is None:
        return cells
    if place is None:
        return np.zeros((0, 4))
    each = cells.reshape(len(cells), len(labels), len(labels) + 1)
    return np.stack([each[:, place, place], each[:, :, place].sum(axis=1), each[:, place].sum(axis=1), np.ones(len(cells))], axis=1)


def scored(totals: np.ndarray, ratio: Ratio, average: Average, one: bool) -> float:
    """The number of summed `rows_of`; NaN of no items."""
    if one:
        return float(ratio(*totals[:3, None])[0]) if totals[3] else float("nan")
    cells = matrix(totals)
    hits, said, true = counts(cells)
    if not true.sum():
        return float("nan")
    if average == "micro":
        return float(ratio(*(part.sum(keepdims=True) for part in (hits, said, true)))[0])
    values = ratio(hits, said, true)
    return float(values.sum()) / len(values) if average == "macro" else float(values @ true / true.sum())


RATIOS: dict[str, Ratio] = {"f1": f1, "precision": precision, "recall": recall}


class Averaged(Settings):
    """What F1, precision and recall have in common: a number a label, averaged over labels."""

    scale: ClassVar[float] = 1.0
    name: ClassVar[str]

    average: Average = "macro"
    """macro: every label counts the same; weighted: as often as it is a reference; micro: all items together."""
    label: str | None = None
    """Only this label's number, instead of an average."""
    labels: LabelSet = ()
    """The labels there are; if none are given, all that occur as references."""
    read: Reading = "first_line"
    """How an output becomes a label; see `accuracy`."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, L * (L + 1)): a 1 in the item's cell of the confusion matrix, rows the true labels,
        columns the labels and "none of them"; with `label`, shape (predictions, 4): hit, said, true, 1."""
        return rows_of(predictions, self.labels, self.read, self.label)

    def score(self, totals: np.ndarray) -> float:
        """The number, 0 to 1, from summed statistics."""
        return scored(totals, RATIOS[self.name], self.average, self.label is not None)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made; with the predictions, their labels too."""
        which = {"average": self.average} if self.label is None else {"label": self.label}
        parts: dict[str, object] = {**which, "labels": named(self.labels, predictions), "read": self.read.replace("_", "-"), "zero": 0}
        return described(self.name, parts, predictions)


class F1(Averaged):
    """The harmonic mean of precision and recall of each label, averaged over labels."""

    name = "f1"


class Precision(Averaged):
    """The share of each label's answers that are right, averaged over labels."""

    name = "precision"


class Recall(Averaged):
    """The share of each label's items that are found, averaged over labels."""

    name = "recall"


class Matthews(Settings):
    """Matthews' correlation of answers and references, for any number of labels (R_K, Gorodkin 2004): 1 all right, 0 no better
    than chance, below 0 worse."""

    scale: ClassVar[float] = 1.0
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    labels: LabelSet = ()
    """The labels there are; if none are given, all that occur as references."""
    read: Reading = "first_line"
    """How an output becomes a label; see `accuracy`."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, L * (L + 1)): the item's cell of the confusion matrix, as F1's."""
        return rows_of(predictions, self.labels, self.read, None)

    def score(self, totals: np.ndarray) -> float:
        """The correlation, -1 to 1; 0 where all references, or all answers, are one label."""
        cells = matrix(totals)
        items, said, true = cells.sum(), cells.sum(axis=0), cells.sum(axis=1)
        if not items:
            return float("nan")
        spread = (items**2 - (said**2).sum()) * (items**2 - (true**2).sum())
        return float((cells.diagonal().sum() * items - said[:-1] @ true) / math.sqrt(spread)) if spread > 0 else 0.0

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made; with the predictions, their labels too."""
        return described("matthews", {"labels": named(self.labels, predictions), "read": self.read.replace("_", "-")}, predictions)
