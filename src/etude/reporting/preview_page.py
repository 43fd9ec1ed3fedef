"""The page of `etude preview --html`: one file, no script, nothing loaded from anywhere.

As in the report, what rows hold reaches the page only through the template engine's automatic escaping and through `visible`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from etude.previewing import Preview, Sample, Token
from etude.previewing.statistics import DataSet
from etude.previewing.text import quantile_names, state
from etude.reporting.charts import Column, percent
from etude.reporting.page import environment
from etude.reporting.words import count

RUN = 3000
"""Tokens shown of a run that is trained, untrained or cut as a whole: so many, half of them at each end."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens with one fate (`trained`, `cut` or ""): the first ones, how many are left out, the last ones."""

    state: str
    first: tuple[Token, ...]
    hidden: int
    last: tuple[Token, ...]


def runs(sample: Sample) -> list[Run]:
    """A sample's tokens by what becomes of them, the middle of very long runs left out."""
    found = []
    for kind, run in groupby(sample.tokens, key=state):
        tokens = tuple(run)
        hidden = max(len(tokens) - RUN, 0)
        found.append(Run(kind, tokens[: RUN // 2] if hidden else tokens, hidden, tokens[len(tokens) - RUN // 2 :] if hidden else ()))
    return found


def ids_of(sample: Sample, kind: str) -> int:
    """How many token ids of a sample are `trained`, `cut`, or only read ("")."""
    return sum(len(token.ids) for token in sample.tokens if state(token) == kind)


def columns(bars: Sequence[tuple[int, int, int]]) -> tuple[Column, ...]:
    """The columns of a histogram, equally wide, about eight of them labelled with where they begin."""
    most = max((n for _, _, n in bars), default=0)
    if most <= 0:
        return ()
    width, every = 100 / len(bars), math.ceil(len(bars) / 8)
    return tuple(
        Column(
            percent(index * width + width * 0.06),
            percent(width * 0.88),
            percent(100 * (1 - n / most)),
            percent(100 * n / most),
            count(low) if index % every == 0 else "",
            f"{count(low)} to {count(below - 1)} tokens: {count(n)} examples"
            if below > low + 1
            else f"{count(low)} tokens: {count(n)} examples",
        )
        for index, (low, below, n) in enumerate(bars)
    )


def spoken(one: DataSet) -> str:
    """A data set's histogram in one line, for those who cannot see it."""
    return "; ".join(column.title for column in columns(one.histogram))


def page(found: Preview, name: str, model: str) -> str:
    """The whole HTML page as text; `name` is the recipe's, `model` its start model's."""
    return str(
        environment()
        .get_template("preview.html")
        .render(
            found=found,
            name=name,
            model=model,
            runs=runs,
            columns=columns,
            spoken=spoken,
            quantiles=list(quantile_names()),
            ids_of=ids_of,
            broken=[check for check in found.checks if check.broken],
        )
    )
