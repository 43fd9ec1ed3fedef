"""Rows that say the same: letter for letter after normalisation, or nearly (MinHash, verified exactly)."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from etude.catalog import Settings
from etude.curation.keeping import Keep, Part, Score, grouped, ranking, text_of, verdicts
from etude.curation.material import material, needs_template
from etude.curation.rows import Beside, Row, Verdicts
from etude.similarity import Bands, near_groups


class ExactDuplicate(Settings):
    """Drops rows whose text equals another's, up to letter case, white space and Unicode form (NFKC)."""

    of: Part = "all"
    """What is compared: the question (instruction and input), the answer, or all of the row."""
    keep: Keep = "first"
    score: Score = None
    case: bool = False
    """Whether letter case makes a difference (code: true)."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """A Fate for every row. Linear in the characters; 16 bytes and a number held a row. An empty text equals none."""
        groups: dict[bytes, list[int]] = {}
        for place, row in enumerate(rows):
            if text := normalised(text_of(row, self.of), self.case):
                groups.setdefault(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest(), []).append(place)
        several = [group for group in groups.values() if len(group) > 1]
        dropped = grouped(several, ranking(rows, self.keep, self.score)) if several else {}
        return verdicts(rows, dropped, "exact_duplicate")


class NearDuplicate(Settings):
    """Drops rows that share most of their word n-grams with another (MinHash LSH; every hit is verified exactly).

    A group is what verified pairs connect; one row of it stays. Of `all`, an input that several rows have word for word is left out:
    other questions about one passage are other rows, however long the passage.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Near is a Jaccard similarity of the sets of n-grams of at least this."""
    ngram: Annotated[int, Field(gt=0, le=32)] = 3
    """Words a gram; a shorter text is one gram."""
    of: Part = "all"
    """What is compared: the question (instruction and input), the answer, or all of the row."""
    keep: Keep = "first"
    score: Score = None
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128
    """Hash functions: more find pairs at the threshold more surely, and take longer."""
    seed: int = 0
    """Of the hash functions; changes only which of the pairs are missed (`facts.recall`)."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """A Fate for every row; `facts` hold the probability that a pair at the threshold is found, and the memory."""
        texts = without_shared_inputs(rows) if self.of == "all" else [text_of(row, self.of) for row in rows]
        groups = near_groups(texts, self.threshold, self.ngram, self.permutations, self.seed, beside.progress)
        dropped = grouped(groups, ranking(rows, self.keep, self.score)) if groups else {}
        bands = Bands.fit(self.threshold, self.permutations)
        facts: dict[str, object] = {
            "recall": round(bands.recall(self.threshold), 5),
            "bands": bands.bands,
            "rows_a_band": bands.rows,
            "bytes_a_row": bands.bytes_a_row,
        }
        return verdicts(rows, dropped, "near_duplicate", facts)


def without_shared_inputs(rows: Sequence[Row]) -> list[str]:
    """Each row's own words; without its input, where another row has the same beside another instruction. Rows that a
    template words keep theirs: it is all they ask."""
    inputs = ["" if needs_template(row) else " ".join(row.input.split()) for row in rows]
    asked: dict[str, set[str]] = {}
    for row, given in zip(rows, inputs, strict=True):
        if given:
            asked.setdefault(given, set()).add(row.instruction)
    return [
        text_of(row, "all")
        if not given or len(asked[given]) < 2
        else "\n".join([*sole(material(row).questions, row.input), *material(row).answers])
        for row, given in zip(rows, inputs, strict=True)
    ]


def sole(texts: Sequence[str], given: str) -> list[str]:
    """The texts without the last that is the given one."""
    at = max((place for place, text in enumerate(texts) if text == given), default=-1)
    return [text for place, text in enumerate(texts) if place != at]


def normalised(text: str, case: bool = False) -> str:
    """A text in Unicode form NFKC, its white space single spaces, and (unless `case`) its letters folded."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join((text if case else text.casefold()).split())
