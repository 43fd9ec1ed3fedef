"""From predictions to one row of statistics an item: what every metric here shares.

The convention by which `etude.comparison` knows a mean over items: a row has two columns, the
item's value and a 1. Anything else is the sufficient statistics of a corpus metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from etude.failures import DataError
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

Row = Callable[[str, tuple[str, ...]], "Sequence[float] | np.ndarray"]
"""The statistics of one output against its references."""


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
        raise DataError(f"row {prediction.id} has no reference to score against; a question without one belongs under 'probes'")


def described(name: str, parts: dict[str, object], predictions: Sequence[Prediction]) -> str:
    """The signature `name|nrefs:...|key:value|...`; without predictions it says nothing of nrefs."""
    counts = {len(prediction.references) for prediction in predictions}
    if counts:
        parts = {"nrefs": counts.pop() if len(counts) == 1 else "var", **parts}
    words = {True: "yes", False: "no"}
    return "|".join([name, *(f"{key}:{words[value] if isinstance(value, bool) else value}" for key, value in parts.items())])
