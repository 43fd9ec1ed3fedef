"""All figures of one data set, and the same as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from etude.curation.diversity.coverage import SAMPLE, Novelty, novelty
from etude.curation.diversity.hardness import Hardness
from etude.curation.diversity.lengths import Length, lengths
from etude.curation.diversity.topics import Topics, topics
from etude.curation.diversity.variety import Variety, variety
from etude.curation.diversity.verbs import Pairs, verb_pairs
from etude.curation.rows import Row


@dataclass(frozen=True, slots=True)
class Figures:
    """What is in a data set, in numbers: see each part. `novelty`, `hardness` and `topics` are None where nobody asked for them."""

    rows: int
    pairs: Pairs
    lengths: tuple[Length, ...]
    variety: tuple[Variety, ...]
    topics: Topics | None = None
    novelty: Novelty | None = None
    hardness: Hardness | None = None

    def length(self, part: str, unit: str = "words") -> Length | None:
        """The lengths of a part in a unit, None where they were not measured."""
        return next((one for one in self.lengths if one.part == part and one.unit == unit), None)

    def plain(self) -> dict[str, Any]:
        """As plain data, without any row's text: for results.json."""
        whole = asdict(self)
        for part, named in (("novelty", ("nearest",)), ("pairs", ("missed",))):
            for key in named if whole[part] else ():
                del whole[part][key]
        for topic in whole["topics"]["topics"] if whole["topics"] else ():
            del topic["examples"]
        return jsonable(whole)  # type: ignore[no-any-return]


def figures(
    rows: Sequence[Row],
    *,
    kept: frozenset[str] | set[str] | None = None,
    count: Callable[[str], int] | None = None,
    hard: Hardness | None = None,
    looked: int | None = SAMPLE,
    with_topics: bool = True,
    seed: int = 0,
) -> Figures:
    """Every figure of some rows. `kept`: ids of rows that stay (their number a topic is shown); `count`: tokens of a text
    (`Beside.count`); `looked`: rows whose nearest neighbour is searched (0: none; None: all); `hard`: difficulty, where measured.

    52,000 rows of Alpaca's kind take about 12 seconds of one core without novelty, which has its own time (`novelty`).
    """
    return Figures(
        rows=len(rows),
        pairs=verb_pairs(rows),
        lengths=lengths(rows, count, seed),
        variety=variety(rows, seed),
        topics=topics(rows, kept, seed=seed) if with_topics else None,
        novelty=novelty(rows, looked, seed) if looked != 0 else None,
        hardness=hard,
    )


def jsonable(value: Any) -> Any:
    """Tuples as lists, and lone halves of characters replaced, since JSON files are UTF-8."""
    if isinstance(value, Mapping):
        return {jsonable(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
