"""Instructions that ask nothing in particular, or ask about material that is not there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import count_words

VERB_ONLY = re.compile(
    r"\W*(?:please )?(?:analy[sz]e|summari[sz]e|explain|describe|rewrite|translate|classify|fix|edit|evaluate|review|answer|"
    r"continue|complete|help|"
    r"do|check|improve|discuss|solve|process|respond|write|elaborate|paraphrase|correct|generate|create|tell me|go on|read|look at)"
    r"(?: (?:it|this|that|these|those|something|anything|me|them|the (?:following|above|input|text|data|given|content)|in detail|"
    r"briefly|please))*\W*",
    re.IGNORECASE,
)
MATERIAL_MISSING = re.compile(
    r"(?<!a )(?<!two )(?<!any )(?<!each )\b(?:(?:the )?following|given|provided|attached|above|below) (?:text|sentence|paragraph|passage|"
    r"article|data|words?|code|document|statement|input|"
    r"image|picture|e-?mail|review|dialogue|conversation|numbers|equation|quote|tweet|file|poem|list|essay|speech|lyrics|"
    r"chart|graph)s?\b",
    re.IGNORECASE,
)
POINTERS = ("following", "given", "provided", "attached", "above", "below")
CODE_ASKED = re.compile(r"\b(?:function|method|program|script|algorithm|class|query|procedure|routine|regex|expression)\b", re.IGNORECASE)
"""Before "the given list", these say that the list is what the code will be given."""


class VagueInstruction(Settings):
    """Instructions such as "Analyze this.": a bare verb with nothing, or hardly anything, to work on; and those that point to
    material ("the following text") where there is none in the row.

    "Summarize this." with a passage as its input is no vague instruction. Questions that follow earlier turns are not judged.
    """

    least_material_words: Annotated[int, Field(ge=0)] = 4
    """Words that the material of a bare verb must have; seed 1's bad example has two ("AAPL up")."""
    missing_material: bool = True
    """Also drop instructions that point to a text which is not there."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose question is vague."""
        return decide(rows, beside, self.find)

    def find(self, row: Row) -> Found | None:
        """What is vague in one row."""
        if sum(m.role == "user" for m in row.conversation.messages) > 1:
            return None
        asked = row.instruction.strip()
        if len(asked) < 80 and VERB_ONLY.fullmatch(asked) and count_words(row.input) < self.least_material_words:
            return Found("vague instruction", f"{asked} | {row.input}")
        if not self.missing_material or len(asked) >= 200 or row.input.strip():
            return None
        lowered = asked.lower()
        # the pattern needs one of these, which most instructions do not have
        if any(word in lowered for word in POINTERS) and (found := MATERIAL_MISSING.search(asked)):
            after = asked[found.end() :]
            # material can stand in the instruction itself: after a colon, in quotes, on further lines, or as numbers
            inside = re.search(r":\s*\S|[.?!]\s+(?:\S+\s+){2}\S|[\"“‘'(\[].{3,}|\n\s*\S|\d", after) or re.search(
                r"[\"“(\[:]|\n", asked[: found.start()]
            )
            parameter = found.group().lower().startswith(("given", "provided")) and CODE_ASKED.search(asked[: found.start()])
            if not inside and not parameter and len(after.split()) < 20:
                return Found("the material it points to is missing", asked)
        return None
