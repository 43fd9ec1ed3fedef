"""How long a row may be: in words, characters, or tokens, as a whole or by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed, count_words
from etude.failures import RecipeError

Count = Annotated[int, Field(ge=0)]


class Bounds(Settings):
    """The least and the most of a text; None bounds nothing."""

    least_words: Count | None = None
    """Words are what stands between spaces; in Chinese and Japanese, characters."""
    most_words: Count | None = None
    least_characters: Count | None = None
    most_characters: Count | None = None
    least_tokens: Count | None = None
    """Tokens of the recipe's model, of the words alone, without markup."""
    most_tokens: Count | None = None

    spellings: ClassVar[dict[str, str]] = {
        f"{old}_{unit}": f"{new}_{unit}" for old, new in (("min", "least"), ("max", "most")) for unit in ("words", "characters", "tokens")
    }

    @model_validator(mode="after")
    def ordered(self) -> Bounds:
        """Least is at most most."""
        for unit in ("words", "characters", "tokens"):
            least, most = getattr(self, f"least_{unit}"), getattr(self, f"most_{unit}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"least_{unit} is {least} and most_{unit} is {most}: no text is both")
        return self

    def limits(self) -> list[tuple[str, int | None, int | None]]:
        """(unit, least, most) of each unit that is bounded, the cheapest to count first."""
        found = [(unit, getattr(self, f"least_{unit}"), getattr(self, f"most_{unit}")) for unit in ("characters", "words", "tokens")]
        return [(unit, least, most) for unit, least, most in found if least is not None or most is not None]


class Length(Bounds):
    """Rows that are too short or too long. Bounds given here are of the whole row (all its turns).

    Least bounds of answers do not hold for tasks with a closed label set, whose answers are one word. With nothing given,
    every bound is open, and nothing is dropped.
    """

    instruction: Bounds = Bounds()
    """What the last user turn asks, without its material."""
    input: Bounds = Bounds()
    """The material; an empty one is never too short."""
    answer: Bounds = Bounds()
    """The last assistant turn."""

    @property
    def counts_tokens(self) -> bool:
        """Whether any bound is in tokens."""
        bounds = (self, self.instruction, self.input, self.answer)
        return any(one.least_tokens is not None or one.most_tokens is not None for one in bounds)

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows outside the bounds. Raises RecipeError for bounds in tokens where there is nothing to count them with."""
        parts = {"row": self.limits(), **{name: getattr(self, name).limits() for name in ("instruction", "input", "answer")}}
        if beside.count is None and any(unit == "tokens" for limits in parts.values() for unit, _, _ in limits):
            raise RecipeError(
                "length: bounds in tokens need the recipe's model to count with, and there is none here; use words or characters"
            )
        units: dict[str, Callable[[str], int]] = {"characters": len, "words": count_words, "tokens": beside.count or len}
        asked = [(name, limits) for name, limits in parts.items() if limits]

        def find(row: Row) -> Found | None:
            for name, limits in asked:
                text = " ".join([m.words() for m in row.conversation.messages]) if name == "row" else getattr(row, name)
                short = not (name == "input" and not text) and not (name in ("answer", "row") and closed(row, beside))
                for unit, least, most in limits:
                    number = units[unit](text)
                    if least is not None and number < least and short:
                        return Found(f"{name} shorter than {least} {unit}", f"{number} {unit}: {text}")
                    if most is not None and number > most:
                        return Found(f"{name} longer than {most} {unit}", f"{number} {unit}: {text}")
            return None

        return decide(rows, beside, find, **self.spread(rows))

    def spread(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Words of each part, as (least, median, most), over all rows."""
        found = {}
        for name in ("instruction", "input", "answer"):
            numbers = sorted(count_words(getattr(row, name)) for row in rows)
            if numbers:
                found[name] = {"least": numbers[0], "median": numbers[len(numbers) // 2], "most": numbers[-1]}
        return {"words": found}
