"""IFEval: whether an answer follows instructions that a program can check (Zhou et al. 2023, arXiv 2311.07911).

An item's fields are the data set's own: `instruction_id_list`, the ids of its instructions, and `kwargs`, the arguments of
each. The paper reports four numbers: prompts of which all instructions are followed, or instructions, each strictly and loosely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from etude.catalog import Settings
from etude.metrics.ifeval.arguments import Instruction, instructions
from etude.metrics.items import described, mean
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np


def loosened(answer: str) -> tuple[str, ...]:
    """The answer in the 8 forms of the loose measure: as it is, without its first line, its last, or both; each also without asterisks."""
    lines = answer.split("\n")
    forms = (answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])))
    return (*forms, *(form.replace("*", "") for form in forms))


def followed(asked: Sequence[Instruction], answer: str, loose: bool = False) -> tuple[bool, ...]:
    """Whether an answer follows each instruction; loosely, whether any of its forms does."""
    forms = loosened(answer) if loose else (answer,)
    return tuple(any(one.followed(form) for form in forms) for one in asked)


class IFEval(Settings):
    """The share of prompts whose instructions are all followed, or of instructions that are followed, as programs check them."""

    scale: ClassVar[float] = 1.0
    reads_references: ClassVar[bool] = False
    """The instructions say what is right."""

    level: Literal["prompt", "instruction"] = "prompt"
    """What is counted: prompts of which every instruction is followed, or the instructions of all prompts."""
    loose: bool = False
    """Whether an instruction also counts as followed where a form of the answer follows it: without its first line, its last line, or
    both, and each without asterisks."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): whether all are followed, and 1; by instruction, how many are followed, and how many there are.

        Several answers to one prompt are averaged. Raises RowError for an item whose instructions are not in order, before any
        answer is looked at, and RecipeError where a language must be told and py3langid is not installed.
        """
        import numpy as np

        asked = [instructions(prediction) for prediction in predictions]
        table = np.ones((len(predictions), 2))
        for row, prediction, own in zip(table, predictions, asked, strict=True):
            verdicts = np.array([followed(own, output, self.loose) for output in prediction.outputs or ("",)])
            if self.level == "prompt":
                row[0] = verdicts.all(axis=1).mean()
            else:
                row[:] = verdicts.sum(axis=1).mean(), len(own)
        return table

    def score(self, totals: np.ndarray) -> float:
        """The share that is followed, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described("ifeval", {"level": self.level, "loose": self.loose, "sentences": "rules-1", "languages": "py3langid"}, ())
