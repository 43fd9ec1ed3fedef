"""Self-Instruct's filter over rows: an instruction that reads too much like one before it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.curation.keeping import Keep, Score, ranking, text_of, verdicts
from etude.curation.material import material
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import bare, closed
from etude.similarity import NoveltyIndex, numbered, rouge_l, words


class RougeDuplicate(Settings):
    """Drops a row whose ROUGE-L F1 with a row kept before it is over the threshold (Wang et al. 2023, Self-Instruct).

    Exact, as if every pair were scored by rouge-score without stemming. Rows are met in the order that `keep` says,
    so that of two alike the first, longest or best stays. ROUGE knows the letters a-z and digits only: a row
    without any is never dropped.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """A larger score is too near; an equal one is not."""
    of: Literal["instruction", "question", "answer", "all"] = "instruction"
    """What is compared: the instruction without its input (as Self-Instruct does), with it, the answer, or all. Rows that a
    template words have no instruction of their own: their question is compared."""
    answers: Annotated[float, Field(ge=0, le=1)] | None = None
    """A row leaves only where its answer, too, scores at least this with that row's (ROUGE-L F1): "string or percussion: kora, cajon?"
    and the same of two other instruments are asked alike, and teach different things. None: the question decides alone, as in
    Self-Instruct. Of tasks with a closed label set, only rows with the same label are ever compared."""
    keep: Keep = "first"
    score: Score = None

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """A Fate for every row, with the nearest row kept before it. About 0.2 ms a row at 50,000 rows."""
        index = NoveltyIndex(self.threshold)
        said: dict[int, list[int]] = {}
        known: dict[str, int] = {}

        def answer(place: int) -> list[int]:
            if place not in said:
                said[place] = numbered(words("\n".join(material(rows[place]).answers)), known)
            return said[place]

        def alike(place: int, other: int) -> bool:
            label = closed(rows[place], beside)
            if label and bare(rows[place].answer) != bare(rows[other].answer):
                return False
            return self.answers is None or label or rouge_l(answer(other), answer(place)) >= self.answers

        members: list[int] = []
        dropped: dict[int, int] = {}
        scores = []
        for done, place in enumerate(ranking(rows, self.keep, self.score), 1):
            row = rows[place]
            text = words(material(row).instruction if self.of == "instruction" else text_of(row, self.of))
            if self.answers is None and not closed(row, beside):
                near = index.above(text)
            else:
                near = next((one for one in index.every_above(text) if alike(place, members[one.id])), None)
            if near is None:
                index.add(text)
                members.append(place)
            else:
                dropped[place] = members[near.id]
                scores.append(near.score)
            if done % 1000 == 0:
                beside.progress(1000)
        mean = {"mean_score_of_dropped": round(sum(scores) / len(scores), 4)} if scores else {}
        return verdicts(rows, dropped, "rouge_duplicate", {"threshold": self.threshold, **mean})
