"""Other tools' names of chat formats, and of what is trained -> the formats there are here."""

from __future__ import annotations

from collections.abc import Sequence

from etude.formats import FORMATS
from etude.importing.rules import Left, Outcome, Put
from etude.recipe import Recipe
from etude.steps import Tune


def written(family: str | None, said: str) -> Put:
    """The format of a family, or the tokenizer's own where there is no written one; `said`: what stood there."""
    if family in FORMATS:
        return Put("format.type", family, f"{said}; etude preview shows the text")
    return Put("format.type", "auto", f"{said}; here the tokenizer's own chat template: compare with etude preview")


def everything_trained() -> Sequence[Outcome]:
    """Prompts are trained as well as answers."""
    return trained({"roles": ["system", "user", "assistant", "tool"]}, "only answers are trained")


def last_trained() -> Sequence[Outcome]:
    """Only the last answer of a conversation is trained."""
    return trained({"turns": "last"}, "every answer of a conversation is trained")


def trained(choice: dict[str, object], otherwise: str) -> Sequence[Outcome]:
    """What the loss counts, where the format can be told."""
    for section, kind in (("format", FORMATS["auto"]), ("tune", Tune), ("", Recipe)):
        if "train_on" in kind.model_fields:
            return [Put(f"{section}.train_on".removeprefix("."), choice)]
    return [Left(otherwise)]
