"""The generated stage: the recipe's strategies, one after the other, each with its rows, its refusals and its replies on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from etude.catalog import note
from etude.failures import DataError
from etude.generation import Given, Made, Refused
from etude.generation.asking import Asking
from etude.generation.requests import in_words
from etude.generation.running import Tally, generate, records
from etude.models import LLM
from etude.preparing import Data, template_of
from etude.recipe import Recipe
from etude.records import Record
from etude.screen import Watch
from etude.splitting import Parts

RULES = 3
"""Rules named on the progress line, the busiest first."""
RECENT = 50
"""Rows whose likeness to their nearest neighbour the progress line averages."""


def generated(
    recipe: Recipe,
    data: Data,
    folder: Path,
    model: Callable[[str], LLM],
    identity: Callable[[str], str],
    watch: Watch,
    spent: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Run every strategy over the training rows it names; its files go to `folder`/generated/NAME, replies to `folder`/asked.

    `model` gives an LLM by name, `identity` what decides its answers (a reply of another model is not taken for this one's), `spent`
    the LLMs' own facts. Returns what each strategy made and refused. Raises DataError where one makes no row, and what a strategy raises.
    """
    made: dict[str, list[Record]] = {}
    facts = {}
    for name, strategy in recipe.generate.items():
        rows = made[strategy.rows] if strategy.rows in made else data.parts[strategy.rows].train if strategy.rows else ()
        template = template_of(recipe, strategy.rows) if strategy.rows and not strategy.keeps_fields else None
        rows = [in_words(row, template) for row in rows]
        with (
            watch.bar(f"generate: {name}", strategy.count or len(rows), "rows") as told,
            Asking(model, folder / "asked" / f"generate-{name}.jsonl", identity) as asking,
        ):
            live = Live(told, spent)
            asking.told = live.replied
            tally = generate(strategy, Given(rows, asking, recipe.seed), folder / "generated" / name, live.decided)
        made[name] = records(folder / "generated" / name, name)
        facts[name] = tally.plain()
        refused = f"{sum(tally.refused.values()):,} refused{by_rule(tally)}"
        watch.say(f"  {name}: {tally.made:,} rows made, {refused}")
        if not made[name]:
            raise DataError(
                f"generate.{name} made no row: {refused}; {folder / 'generated' / name / 'refused.jsonl'} has each with its rule"
            )
    return {"strategies": facts}


def by_rule(tally: Tally) -> str:
    """The busiest rules in brackets."""
    found = ", ".join(f"{count:,} {rule}" for rule, count in tally.refused.most_common(RULES))
    return f" ({found})" if found else ""


class Live:
    """The progress line of one strategy: rows made, refusals by rule, replies, how new the newest rows are, money."""

    def __init__(self, told: Callable[[float, str], None], spent: Callable[[], Mapping[str, Any]]) -> None:
        self.told = told
        self.spent = spent
        self.tally = Tally()
        self.replies = 0
        self.alike: deque[float] = deque(maxlen=RECENT)

    def replied(self, replies: int) -> None:
        """Replies have come."""
        self.replies += replies
        self.show()

    def decided(self, tally: Tally, outcome: Made | Refused) -> None:
        """A row was made or refused."""
        self.tally = tally
        if isinstance(outcome, Made) and isinstance(like := outcome.notes.get("similarity"), float):
            self.alike.append(like)
        self.show()

    def show(self) -> None:
        """Write the line."""
        parts = [f"{sum(self.tally.refused.values()):,} refused{by_rule(self.tally)}", f"{self.replies:,} replies"]
        if self.alike:
            parts.append(f"newest rows {1 - sum(self.alike) / len(self.alike):.2f} new")
        money = [one["cost"] for one in self.spent().values() if isinstance(one.get("cost"), int | float)]
        if money:
            parts.append(f"{sum(money):.2f} spent")
        self.told(self.tally.made, ", ".join(parts))


def unmade(recipe: Recipe, folder: Path) -> list[str]:
    """The recipe's made data that is not in the run folder yet."""
    return [name for name in recipe.generate if not (folder / "generated" / name).is_dir()]


def with_made(data: Data, recipe: Recipe, folder: Path) -> Data:
    """The data with what models made of it, as training rows. Data that is not made yet (`unmade`) is left out, with a note.

    Raises DataError where nothing else is there.
    """
    if lacking := unmade(recipe, folder):
        said = f"{', '.join(lacking)}: not made yet (`etude generate`), and so left out here"
        if not data.parts and len(lacking) == len(recipe.generate):
            raise DataError(said)
        note(said)
    made = {name: place for name in recipe.generate if (place := folder / "generated" / name).is_dir()}
    parts = {name: Parts(tuple(records(place, name)), (), (), (), ()) for name, place in made.items()}
    return replace(data, parts={**data.parts, **parts})
