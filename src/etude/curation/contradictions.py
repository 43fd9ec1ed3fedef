"""Rows that ask the same and answer differently."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, settle
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import bare, closed, count_words, normalised, shown

SEVERAL = re.compile(
    r"\b(?:one of|some|any|an? (?:\w+ )?(?:examples?|ideas?|synonyms?|antonyms?|titles?|names?|slogans?|jokes?|riddles?|quotes?|facts?|"
    r"sentences?)|another|random\w*|creative|original)\b|^\W*(?:please )?(?:suggest|generate|create|compose|write|come up|think of|"
    r"invent|make up|tell me a|give me a|name an? (?!\w+ of\b)|paraphrase|rephrase|rewrite|reword|recommend)\b",
    re.IGNORECASE,
)
"""Requests that have several right answers."""


class Contradictions(Settings):
    """The same question (every turn before the answer, without case and spacing) with different answers (also without punctuation
    at the ends). Rows with the same question and the same answer are duplicates, not contradictions, and stay.

    Two long answers to one open question can both be right, so open answers are compared only up to `most_words`, and not where the
    question asks for one of many (`several`); the label of a task with a closed label set always is. Self-Instruct drops all of them
    (`keep: none`, `several: true`). Linear in the rows.
    """

    keep: Literal["majority", "first", "none"] = "majority"
    """Which rows stay: those with the answer that more rows have than any other (without one, none), those that agree
    with the first, or none."""
    most_words: Annotated[int, Field(ge=1)] | None = 12
    """Answers with more words contradict nothing; None compares all."""
    several: bool = False
    """Also compare answers to requests that have several right ones (give me one of, an example, suggest, write)."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop contradicting rows; a Fate's `of` is the first row that asks the same and answers otherwise."""
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            beside.progress(1)
            if row.answer and (closed(row, beside) or self.comparable(row)):
                before = row.conversation.question().messages
                groups[tuple(part for m in before for part in (m.role, normalised(m.words())))].append(place)
        found: list[Found | None] = [None] * len(rows)
        of = [""] * len(rows)
        contradicting = 0
        for places in groups.values():
            if len(places) < 2 or len(answers := Counter(bare(rows[place].answer) for place in places)) < 2:
                continue
            contradicting += 1
            stays = self.stays(answers, bare(rows[places[0]].answer))
            for place in places:
                answer = bare(rows[place].answer)
                if answer != stays:
                    other = next(p for p in places if bare(rows[p].answer) == stays or (stays is None and bare(rows[p].answer) != answer))
                    of[place] = rows[other].id
                    asked, said, others = (
                        shown(t, 50) for t in (rows[place].input or rows[place].instruction, rows[place].answer, rows[other].answer)
                    )
                    found[place] = Found("contradicts another row", f"{asked} -> {said} | {others}")
        return settle(rows, found, of, questions=contradicting)

    def comparable(self, row: Row) -> bool:
        """Whether another answer to an open question contradicts this one."""
        if not self.several and SEVERAL.search(row.instruction):
            return False
        return self.most_words is None or count_words(row.answer) <= self.most_words

    def stays(self, answers: Counter[str], first: str) -> str | None:
        """The answer whose rows stay, None for none."""
        if self.keep == "first":
            return first
        top = answers.most_common(2)
        return top[0][0] if self.keep == "majority" and top[0][1] > top[1][1] else None
