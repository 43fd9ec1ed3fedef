"""From predictions to one row of statistics an item: what every metric here shares.

The convention by which `etude.comparison` knows a mean over items: a row has two columns, the
item's value and a 1. Anything else is the sufficient statistics of a corpus metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from etude.failures import DataError, nearest
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

Row = Callable[[str, tuple[str, ...]], "Sequence[float] | np.ndarray"]
"""The statistics of one output against its references."""


class RowError(DataError):
    """One item cannot be scored: its id, and what is wrong with it."""

    def __init__(self, id: str, what: str) -> None:
        super().__init__(f"row {id}: {what}")
        self.id = id
        self.what = what


def averaged(predictions: Sequence[Prediction], width: int, row: Row) -> np.ndarray:
    """float64, shape (predictions, width): `row(output, references)` averaged over an item's outputs.

    An item without an output is one with an empty output: it stays in the mean. Raises DataError
    for an item without a reference.
    """
    import numpy as np

    table = np.zeros((len(predictions), width))
    for i, prediction in enumerate(predictions):
        check_references(prediction)
        outputs = prediction.outputs or ("",)
        table[i] = np.array([row(output, prediction.references) for output in outputs], dtype=np.float64).mean(axis=0)
    return table


def valued(predictions: Sequence[Prediction], value: Callable[[str, tuple[str, ...]], float]) -> np.ndarray:
    """Rows (value, 1) of a mean over items; an output that is empty or only space has the value 0."""
    return averaged(predictions, 2, lambda output, references: (value(output, references) if output.strip() else 0.0, 1.0))


def mean(totals: np.ndarray) -> float:
    """The mean of summed (value, 1) rows; NaN of no items."""
    return float(totals[0] / totals[1]) if totals[1] else float("nan")


def check_references(prediction: Prediction) -> None:
    """Raise DataError where there is nothing to compare with."""
    if not prediction.references:
        raise RowError(prediction.id, "there is no reference to score against; a question without one belongs under 'probes'")


def field_of(prediction: Prediction, key: str, what: str) -> Any:
    """The item's field; raises RowError, which says `what` it is, where there is none."""
    value = prediction.fields.get(key)
    if value is None:
        hint = nearest(key, prediction.fields) if prediction.fields else ""
        raise RowError(prediction.id, f"there is no field {key!r} ({what}){hint}")
    return value


def logprob(prediction: Prediction, key: str, value: Any) -> float:
    """A natural log-probability: at most 0, perhaps -inf; raises RowError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > 1e-6:
        raise RowError(prediction.id, f"{key}: {value!r} is not a log-probability (a natural logarithm, at most 0)")
    return min(0.0, float(value))


def described(name: str, parts: dict[str, object], predictions: Sequence[Prediction]) -> str:
    """The signature `name|nrefs:...|key:value|...`; without predictions it says nothing of nrefs."""
    counts = {len(prediction.references) for prediction in predictions}
    if counts:
        parts = {"nrefs": counts.pop() if len(counts) == 1 else "var", **parts}
    words = {True: "yes", False: "no"}
    return "|".join([name, *(f"{key}:{words[value] if isinstance(value, bool) else value}" for key, value in parts.items())])
