"""What models made of the data, as its page takes it: frozen, bounded, and filled from the files that the strategies left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.curation.diversity.figures import jsonable

STRETCHES = 40
"""Parts into which the order of deciding is cut: each is a column, or a point of a line."""
MADE_SHOWN = 6
"""Made rows shown, spread over the order in which they were made."""
REFUSED_SHOWN = 2
"""Refused texts shown of a rule, spread over their order."""
RULES_SHOWN = 24
"""Rules with a line of their own, the commonest first; the others are summed up."""
TREES = 6
"""Trees drawn: in turn the deepest, and those in which most was given up."""
NODES = 40
"""Rows of a tree that are drawn: its longest line, then the first others."""
LOST = 40
"""Attempts given up that are drawn in a tree."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring outcomes: how many came before them, rows made and refusals by rule among them, and of the new instructions that
    were compared how many there are and the mean ROUGE-L F1 with the nearest one before (0 to 1; None where none was)."""

    start: int
    made: int
    refused: Mapping[str, int] = field(default_factory=dict)
    compared: int = 0
    similarity: float | None = None

    @property
    def outcomes(self) -> int:
        """Rows made and refused."""
        return self.made + sum(self.refused.values())


@dataclass(frozen=True, slots=True)
class Replied:
    """Neighbouring replies: how many came before them, how many they are, their mean length in tokens."""

    start: int
    replies: int
    tokens: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A made row (`rule` is "") or a refused text. `number`: its place among all outcomes, from 0; `how`: operation, round and the like;
    `nearest`: the text it was nearest to, with its ROUGE-L F1."""

    id: str
    number: int
    text: str
    rule: str = ""
    context: str = ""
    answer: str = ""
    how: str = ""
    origin: str = ""
    nearest: str = ""
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operation made and lost in a round."""

    round: int
    name: str
    made: int
    refused: int


@dataclass(frozen=True, slots=True)
class Twig:
    """A row in a drawn tree. `of`: the place of its parent among the tree's twigs (-1 for the root); `more`: rows made of it, at any
    distance, that are not drawn; `lost`: (round, operation, rule, text) of attempts on it that were given up, as far as drawn."""

    of: int
    depth: int
    id: str
    text: str
    operation: str = ""
    round: int = 0
    more: int = 0
    lost: tuple[tuple[int, str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A row and what was made of it: `rows` made and `lost` attempts in all, `depth` of the longest line, and the `twigs` drawn, parents
    before children, the root first."""

    rows: int
    lost: int
    depth: int
    twigs: tuple[Twig, ...]


@dataclass(frozen=True, slots=True)
class Grown:
    """The lineage of a strategy: its operations by round, how many trees have which depth, and the trees drawn."""

    operations: tuple[Operation, ...] = ()
    depths: Mapping[int, int] = field(default_factory=dict)
    trees: tuple[Tree, ...] = ()


@dataclass(frozen=True, slots=True)
class Spent:
    """What an LLM had taken after so many requests: tokens read and written, and money where its prices are known."""

    requests: int
    input: int
    output: int
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An LLM that was asked, in all its work for the run: what it was not counted for is None. `cost` is in `currency`; `used_by`: the
    strategies that name it; `spent`: the sums at STRETCHES points at most, in the order of its requests."""

    name: str
    model: str = ""
    requests: int | None = None
    input: int | None = None
    output: int | None = None
    cost: float | None = None
    currency: str = ""
    used_by: tuple[str, ...] = ()
    spent: tuple[Spent, ...] = ()


Levels = Mapping[str, Mapping[str, float]]
"""`templates.levels.lengths_by_level`: level -> rows, mean, median, longest, in tokens."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One strategy. `asked`: replies that its last run waited for, `from_journal`: those it had already, `tokens`: of the former.
    `threshold`: the likeness above which a text is refused as not novel (None where it compares nothing)."""

    name: str
    strategy: str = ""
    made: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    asked: int = 0
    from_journal: int = 0
    tokens: int = 0
    threshold: float | None = None
    stretches: tuple[Stretch, ...] = ()
    replies: tuple[Replied, ...] = ()
    examples: tuple[Outcome, ...] = ()
    refusals: tuple[Outcome, ...] = ()
    grown: Grown | None = None
    levels: Levels = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Texts refused."""
        return sum(self.refused.values())


@dataclass(frozen=True, slots=True)
class Generation:
    """All that the page shows: the recipe's name, its strategies in order, and the LLMs they asked."""

    name: str
    strategies: tuple[Generated, ...] = ()
    llms: tuple[Asked, ...] = ()


def results(found: Generation) -> dict[str, Any]:
    """The numbers for other programs (results.json's `generated`): no text of a row in it.

    `{"strategies": {name: {"strategy", "made", "refused", "replies", "tokens", "stretches", "operations", "depths", "levels"}},
    "llms": {name: {"model", "requests", "input_tokens", "output_tokens", "cost", "currency"}}}`; null is "not counted".
    """
    strategies = {
        one.name: {
            "strategy": one.strategy,
            "made": one.made,
            "refused": dict(one.refused),
            "replies": {"asked": one.asked, "from_journal": one.from_journal},
            "tokens": one.tokens,
            "stretches": [
                {"start": s.start, "made": s.made, "refused": dict(s.refused), "compared": s.compared, "similarity": s.similarity}
                for s in one.stretches
            ],
            "operations": [{"round": o.round, "operation": o.name, "made": o.made, "refused": o.refused} for o in one.grown.operations]
            if one.grown
            else [],
            "depths": {str(depth): trees for depth, trees in one.grown.depths.items()} if one.grown else {},
            "levels": {level: dict(figures) for level, figures in one.levels.items()},
        }
        for one in found.strategies
    }
    llms = {
        one.name: {
            "model": one.model,
            "requests": one.requests,
            "input_tokens": one.input,
            "output_tokens": one.output,
            "cost": one.cost,
            "currency": one.currency,
        }
        for one in found.llms
    }
    return dict(jsonable({"strategies": strategies, "llms": llms}))
