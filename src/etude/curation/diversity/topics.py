"""What the questions are about, as far as their words tell: groups of rows with words in common.

TF-IDF vectors (Salton and Buckley 1988) of unit length, grouped by k-means under the cosine (spherical k-means, Dhillon
and Modha 2001) with k-means++ seeding from the recipe's seed. What that is and is not: the number of groups is set and not found; a
group's name is the words it uses more than the others do; every row is in the group it is nearest to, however far that
is, and another seed gives somewhat other groups. Beside it stands a number that needs no groups, the mean cosine of
all pairs of rows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etude import seeds
from etude.curation.diversity.english import listed, singular
from etude.curation.material import material
from etude.curation.rows import Row
from etude.curation.texts import STOP_WORDS

WORD = re.compile(r"[a-z][a-z'+#-]*[a-z+#]|[^\W\d_a-z\u3040-\u30ff\u3400-\u9fff][^\W\d_]+|[\u3040-\u30ff\u3400-\u9fff]{2}")
"""A word of a topic: at least two letters; in Chinese and Japanese, two characters."""
READ = 2_000
"""Characters of a question that are read."""
VOCABULARY = 20_000
"""Words that are kept, those of most rows first."""
FEWEST = 3
"""Rows a word must be in."""
ROUNDS = 25
TERMS = 5
TASKS = listed(
    "write generate create give describe explain provide following list make find identify given using name suggest rewrite classify "
    "edit sentence statement come example input output question answer text word tell compare contrast summarize construct way type new "
    "two three four five six seven eight nine ten"
)
"""Words of the request rather than of its subject: they do not make topics."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One group: the words that mark it, its rows, how many of them stay (None where nobody said), how alike they are (mean
    cosine with the group's middle), and the instructions nearest to the middle."""

    terms: tuple[str, ...]
    rows: int
    kept: int | None
    alike: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topics:
    """The groups, the largest first. `unplaced`: rows without any of the words; `alike`: the mean cosine of all pairs of
    rows (0: no words in common; 1: all the same), `alike_kept` of those that stay."""

    rows: int
    unplaced: int
    topics: tuple[Topic, ...]
    alike: float
    alike_kept: float | None = None


def topics(rows: Sequence[Row], kept: frozenset[str] | set[str] | None = None, groups: int = 12, seed: int = 0) -> Topics:
    """The topics of the questions, a template's words left out. `kept`: ids of rows that stay, counted a topic. Fewer than `groups`
    where there are few rows. Linear in the words of the rows; about 60 microseconds a row."""
    import numpy as np

    vectors, names, places = vectorised([words_of(row) for row in rows])
    if not names or not len(places):
        return Topics(len(rows), len(rows), (), 0.0, None if kept is None else 0.0)
    count = max(1, min(groups, len(places) // 5))
    nearest, centres, cosines = spherical(vectors, count, seed)
    stays = np.array([kept is not None and rows[place].id in kept for place in places])
    overall = np.asarray(vectors.mean(axis=0)).ravel()
    found = []
    for group in range(len(centres)):
        own = np.flatnonzero(nearest == group)
        if not len(own):
            continue
        middle = np.asarray(vectors[own].mean(axis=0)).ravel()
        best = np.argsort(-(middle - overall), kind="stable")[:TERMS]
        shown = own[np.argsort(-cosines[own], kind="stable")]
        found.append(
            Topic(
                tuple(names[k] for k in best if middle[k] > 0),
                len(own),
                None if kept is None else int(stays[own].sum()),
                round(float(cosines[own].mean()), 3),
                tuple(dict.fromkeys(" ".join(rows[places[k]].instruction[:400].split())[:160] for k in shown[:20].tolist()))[:3],
            )
        )
    found.sort(key=lambda topic: (-topic.rows, topic.terms))
    alike_kept = None if kept is None else mean_cosine(vectors[np.flatnonzero(stays)])
    return Topics(len(rows), len(rows) - len(places), tuple(found), mean_cosine(vectors), alike_kept)


def words_of(row: Row) -> list[str]:
    """The words of a row's questions that may mark a topic, in the singular where they are English."""
    text = "\n".join(material(row).questions)[:READ].lower()
    return [singular(word) for word in WORD.findall(text) if word not in STOP_WORDS and word not in TASKS]


def vectorised(texts: Sequence[list[str]]) -> tuple[Any, list[str], Any]:
    """Unit TF-IDF vectors (a sparse matrix, rows by words) of the texts that have words, the words, and the texts' places.

    A word counts 1 + ln(times in the text), times ln(texts / texts with it) + 1.
    """
    import numpy as np
    from scipy import sparse

    in_rows = Counter(word for text in texts for word in set(text))
    common = sorted(((n, word) for word, n in in_rows.items() if n >= min(FEWEST, len(texts))), key=lambda item: (-item[0], item[1]))
    names = [word for _, word in common[:VOCABULARY]]
    index = {word: place for place, word in enumerate(names)}
    weight = [math.log(len(texts) / n) + 1 for n, _ in common[:VOCABULARY]]
    columns: list[int] = []
    values: list[float] = []
    ends, places = [0], []
    for place, text in enumerate(texts):
        counts = Counter(index[word] for word in text if word in index)
        if not counts:
            continue
        row = [(1 + math.log(n)) * weight[word] for word, n in counts.items()]
        length = math.sqrt(math.fsum(value * value for value in row))
        columns.extend(counts)
        values.extend(value / length for value in row)
        ends.append(len(columns))
        places.append(place)
    matrix = sparse.csr_matrix((np.array(values), np.array(columns, dtype=np.int32), np.array(ends)), shape=(len(places), len(names)))
    return matrix, names, np.array(places, dtype=np.int64)


def spherical(vectors: Any, count: int, seed: int) -> tuple[Any, Any, Any]:
    """(group of each row, unit centres, cosine of each row with its centre) of k-means under the cosine."""
    import numpy as np

    draws = seeds.stream(seed, "topics")
    size = vectors.shape[0]
    centres = np.zeros((count, vectors.shape[1]))
    far = np.ones(size)
    for group in range(count):  # k-means++: the next centre is drawn in proportion to the squared distance from those before
        chances = far / far.sum() if far.sum() > 0 else np.full(size, 1 / size)
        pick = int(np.searchsorted(np.cumsum(chances), draws.random()).clip(0, size - 1))
        centres[group] = vectors[pick].toarray().ravel()
        far = np.minimum(far, np.maximum(0.0, 1 - np.asarray(vectors @ centres[group]).ravel()))
    nearest = np.full(size, -1)
    for _ in range(ROUNDS):
        cosines = vectors @ centres.T
        found = cosines.argmax(axis=1)
        if (found == nearest).all():
            break
        nearest = found
        member = np.zeros((count, size))
        member[nearest, np.arange(size)] = 1
        sums = np.asarray((vectors.T @ member.T).T)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centres)
    cosines = vectors @ centres.T
    nearest = cosines.argmax(axis=1)
    return nearest, centres, cosines[np.arange(size), nearest]


def mean_cosine(vectors: Any) -> float:
    """The mean cosine of all pairs of different rows: from the length of their sum, without looking at a pair."""
    import numpy as np

    size = vectors.shape[0]
    if size < 2:
        return 0.0
    whole = np.asarray(vectors.sum(axis=0)).ravel()
    return round(float((whole @ whole - size) / (size * (size - 1))), 5)
