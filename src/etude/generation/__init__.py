"""New rows out of seeds and an LLM. A Strategy is a plain, deterministic program around the questions it asks: every reply is kept
(`asking`), so a killed run is the same program run again, with the old replies read instead of asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from etude import seeds
from etude.catalog import Catalog
from etude.records import Origin, Record

if TYPE_CHECKING:
    import numpy as np

    from etude.generation.asking import Asking


@dataclass(frozen=True, slots=True)
class Made:
    """A new row. `parents` are the ids of the rows it came from; `notes` say how (operation, round, and of what was compared the
    `nearest` row's id and its `similarity`); `id` is given where the row keeps the id of the one it was made of."""

    fields: Mapping[str, Any]
    origin: Origin
    parents: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """What did not become a row: the rule that refused it, its text, and as for Made where it came from and what it was nearest to."""

    rule: str
    text: str
    parents: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """What a strategy is handed: the rows to start from (training rows only), how to ask, and the seed of its choices."""

    rows: Sequence[Record]
    ask: Asking
    seed: int = 0

    def stream(self, *names: object) -> np.random.Generator:
        """A random stream of its own for `names` (a round's number among them)."""
        return seeds.stream(self.seed, "generate", *names)


class Strategy(Protocol):
    """A way to make rows, as a recipe names it; a frozen settings class."""

    @property
    def rows(self) -> str:
        """The recipe's source whose training rows it starts from; "" for the strategy's own (or none)."""
        ...

    @property
    def keeps_fields(self) -> bool:
        """Whether its rows have the fields of the rows given, and so their template; else they are worded already."""
        ...

    @property
    def count(self) -> int | None:
        """The rows wanted; None where the rows given decide."""
        ...

    def generate(self, given: Given) -> Iterator[Made | Refused]:
        """New rows and what was refused, in an order that depends on settings, rows, seed and replies alone.

        Raises RecipeError for settings that cannot work with the rows given, and what the LLM raises.
        """
        ...


STRATEGIES = Catalog(
    "strategy",
    {
        "self_instruct": "etude.generation.self_instruct:SelfInstruct",
        "alpaca_batch": "etude.generation.alpaca_batch:AlpacaBatch",
        "back_translation": "etude.generation.back_translation:BackTranslation",
        "evolve": "etude.generation.evolve:Evolve",
        "chain_of_thought": "etude.generation.chain_of_thought:ChainOfThought",
        "responses": "etude.generation.responses:Responses",
        "more_turns": "etude.generation.more_turns:MoreTurns",
        "paraphrases": "etude.generation.paraphrases:Paraphrases",
    },
)
