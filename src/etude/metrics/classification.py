"""Answers that name a label: how they are read, and accuracy. F1 and its kin are in `etude.metrics.confusion`.

How an output becomes a label, by the setting `read`:

`first_line` (the default)
1. take the first line that is not blank, fold its case, make every run of white space one space,
   and strip punctuation and space from both ends;
2. if that is a label (treated alike), it is that label;
3. if it begins with a label and the label ends at a word's end there, it is that label (the
   longest, if several fit): "Positive, because ..." is positive, "positively" is not;
4. else it is none of them, and wrong.
`exact`: steps 1 and 2, with the whole output in the place of its first line.
`answer`: what stands after the last "answer is", "answer:", "label:" or "####" is read as `first_line` does; an output
without any of them is read as a whole.
`only`: labels are looked for everywhere, as whole words, longer ones first; if one and no other is found, it is that label.

Punctuation stays where labels differ in nothing else ("C" and "C++").

The label set is `labels`, else the set of all references of the batch. The columns of F1 depend on
it and on nothing else, so give `stats` all items of a task at once; rows may then be resampled, and
two models' rows paired, because their references are the same. A label that a resample happens to
lack counts as F1 0, as scikit-learn counts it under `labels=..., zero_division=0`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator

from etude.catalog import Settings
from etude.failures import DataError, nearest
from etude.metrics.items import RowError, check_references, described, mean, valued
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

Reading = Literal["first_line", "exact", "answer", "only"]
"""How an output becomes a label."""
MARKER = re.compile(r"(?:\banswer\s+is\b|\banswer\s*:|\blabel\s*:|####)\s*:?", re.IGNORECASE)
"""What announces an answer."""
MOST_LABELS = 200
"""More different references than this are taken for free text, not labels (F1 keeps labels squared numbers an item)."""


def folded(text: str) -> str:
    """The first line that is not blank, case folded, with single spaces."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return " ".join(line.casefold().split())


def bare(line: str) -> str:
    """The line without punctuation, symbols and space at both ends; the line itself if nothing else is there."""
    inside = [i for i, c in enumerate(line) if unicodedata.category(c)[0] not in "PSZ"]
    return line[inside[0] : inside[-1] + 1] if inside else line


class Labels:
    """A label set in its order, and how an output is read as one of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        whole = [folded(name) for name in names]
        stripped = [bare(name) for name in whole]
        self.strips = len(set(stripped)) == len(stripped)
        keys = stripped if self.strips else whole
        self.places = {key: place for place, key in enumerate(keys)}
        self.longest_first = sorted(self.places, key=len, reverse=True)

    def __len__(self) -> int:
        return len(self.names)

    def exactly(self, text: str) -> int | None:
        """The place of the label that the text is, or None."""
        line = folded(text)
        return self.places.get(bare(line) if self.strips else line)

    def read(self, output: str, rule: Reading = "first_line") -> int | None:
        """The place of the label that the output names by the rule, or None for none of them."""
        if rule == "exact":
            return self.exactly(" ".join(output.split()))
        if rule == "only":
            return self.named_alone(output)
        if rule == "answer":
            output = output[max((match.end() for match in MARKER.finditer(output)), default=0) :]
        place = self.exactly(output)
        if place is not None:
            return place
        line = folded(output)
        for start in (line, line.lstrip("".join(c for c in set(line) if unicodedata.category(c)[0] in "PSZ"))):
            for key in self.longest_first:
                if start.startswith(key) and ends_word(start, len(key)):
                    return self.places[key]
        return None

    def named_alone(self, output: str) -> int | None:
        """The place of the one label that the text names as a whole word, or None for none or several."""
        text, found = " ".join(output.casefold().split()), set()
        for key in self.longest_first:
            start = text.find(key)
            while key and start >= 0:
                end = start + len(key)
                if ends_word(text, end) and begins_word(text, start):
                    found.add(self.places[key])
                    text = f"{text[:start]}\n{text[end:]}"  # so that a label inside it is not found again
                    end = start + 1
                start = text.find(key, end)
        return found.pop() if len(found) == 1 else None


def begins_word(line: str, start: int) -> bool:
    """Whether no word goes on over the place `start`, seen from its right."""
    return start == 0 or not (line[start - 1].isalnum() or line[start - 1] == "_") or not (line[start].isalnum() or line[start] == "_")


def ends_word(line: str, end: int) -> bool:
    """Whether no word goes on over the place `end`: a letter, digit or underscore on both sides of it."""

    def inside(c: str) -> bool:
        return c.isalnum() or c == "_"

    return end >= len(line) or not (inside(line[end - 1]) and inside(line[end]))


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if no two of them are the same label and none is blank."""
    seen: dict[str, str] = {}
    for name in names:
        key = folded(name)
        if not key:
            raise ValueError("a label is blank")
        if key in seen:
            raise ValueError(f"{seen[key]!r} and {name!r} are the same label")
        seen[key] = name
    return names


LabelSet = Annotated[tuple[str, ...], AfterValidator(distinct)]


def label_set(given: tuple[str, ...], predictions: Sequence[Prediction]) -> Labels:
    """The given labels, else the batch's references in sorted order; raises DataError where a
    reference is not a label, is blank or missing, or there are too many for labels."""
    known = Labels(given)
    seen: dict[str, str] = {}
    for prediction in predictions:
        check_references(prediction)
        for reference in prediction.references:
            key = folded(reference)
            if not key:
                raise RowError(prediction.id, "the reference is blank; a label is needed")
            if given and known.exactly(reference) is None:
                raise RowError(prediction.id, f"the reference {reference!r} is not one of the labels{nearest(reference, given)}")
            seen[key] = min(reference.strip(), seen.get(key, reference.strip()))
    if given:
        return known
    if len(seen) > MOST_LABELS:
        raise DataError(
            f"{len(seen)} different references among {len(predictions)} rows are too many for labels (at most {MOST_LABELS}); "
            f"name them under 'labels', or use exact_match, squad_f1 or rougeL for free text"
        )
    return Labels([seen[key] for key in sorted(seen)])


class Accuracy(Settings):
    """The share of outputs that name the right label (any of several references)."""

    scale: ClassVar[float] = 1.0

    labels: LabelSet = ()
    """The labels there are; if none are given, all that occur as references."""
    read: Reading = "first_line"
    """How an output becomes a label: the first line names it (the default), the whole output is it, it follows "the answer
    is", or it is the only one named anywhere."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): share of the item's outputs that are right, and 1.

        Raises DataError for a reference that is no label.
        """
        labels = label_set(self.labels, predictions)

        def right(output: str, references: tuple[str, ...]) -> float:
            place = labels.read(output, self.read)
            return float(place is not None and place in map(labels.exactly, references))

        return valued(predictions, right)

    def score(self, totals: np.ndarray) -> float:
        """The share that is right, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made; with the predictions, their labels too."""
        return described("accuracy", {"labels": named(self.labels, predictions), "read": self.read.replace("_", "-")}, predictions)


def named(given: tuple[str, ...], predictions: Sequence[Prediction]) -> str:
    """The labels as a signature says them: each, or, of very many, how many and a digest."""
    names = given or (label_set(given, predictions).names if predictions else ())
    if len(names) > 12:
        return f"{len(names)}-{hashlib.sha256(chr(31).join(names).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return ",".join(names) or "references"
