"""Answers that say nothing: empty, a placeholder, only punctuation, or the question again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import bare, closed, looks_like_code, normalised

PLACEHOLDER = re.compile(
    r"(?:no ?-?_?(?:out|in)put|no (?:answer|response|result)s?(?: (?:needed|required|provided|given|available|found))?"
    r"|(?:out|in)put|answer|response|n/?\.?a|n\.a|not (?:applicable|available|provided)|null|nan|todo|tbd|tba|fixme|placeholder|empty|"
    r"blank"
    r"|x{3,}|lorem ipsum\b.*|(?:enter |insert |add |your |the )+(?:answer|response|output|text|content)s?(?: goes)?(?: here)?)",
    re.DOTALL,
)
WRAPPING = " \t\n<>[](){}.\"'`*_-#:|/\\!?"


class EmptyAnswer(Settings):
    """No answer, or one of spaces only, in any assistant turn that is trained. A turn that calls a tool is not empty."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with an empty answer, or with none."""
        return decide(rows, beside, self.find)

    def find(self, row: Row) -> Found | None:
        """What is empty in one row."""
        there = [m for m in row.conversation.messages if m.role == "assistant" and m.trained is not False]
        if not there:
            return Found("no answer", row.instruction)
        if any(not m.content.strip() and not m.tool_calls for m in there):
            return Found("empty answer", row.instruction)
        return None


class Placeholder(Settings):
    """Text that stands where an answer should be: `<nooutput>`, `N/A`, `TODO`, `[your answer here]`, `nan`.

    The whole text must be the placeholder, so "N/A means not applicable." is an answer; so is one of a task's labels,
    and `None`, which is what some questions ask for.
    """

    parts: tuple[Literal["answer", "input", "instruction"], ...] = ("answer",)
    """Where to look. `<noinput>` as an input is dropped only where "input" is named here."""
    also: tuple[str, ...] = ()
    """Further placeholders; case, spacing and brackets around do not count."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows of which a part is a placeholder."""
        return decide(rows, beside, lambda row: self.find(row, beside))

    def find(self, row: Row, beside: Beside) -> Found | None:
        """The placeholder of one row."""
        for part in self.parts:
            text: str = getattr(row, part)
            if len(text) > 400 or not text:
                continue
            core = normalised(text).strip(WRAPPING)
            known = PLACEHOLDER.fullmatch(core) or any(core == normalised(other).strip(WRAPPING) for other in self.also)
            if core and known and not (part == "answer" and closed(row, beside)):
                return Found(f"placeholder as {part}", text)
        return None


class OnlyPunctuation(Settings):
    """An answer without a letter, a digit or a symbol. Emoji and `>` or `=` are symbols, and can be answers."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose answer is punctuation only; empty answers are `empty_answer`'s."""
        return decide(rows, beside, lambda row: self.find(row, beside))

    def find(self, row: Row, beside: Beside) -> Found | None:
        """What is wrong with one row."""
        text = row.answer
        if not text.strip() or any(map(str.isalnum, text[:200])) or closed(row, beside):
            return None
        if any(unicodedata.category(c)[0] in "LNSC" and not c.isspace() for c in set(text)):
            return None
        return Found("only punctuation", text)


class Echo(Settings):
    """An answer that only says its question again: equal to the input, to the instruction, or to both together, when
    case, spacing and punctuation at the ends are left out.

    A question that allows "no change" (correct this if needed, sort, format) can have its input as the right answer. Code is
    compared as it stands: another indentation, or a capital, can be all that was asked for.
    """

    of: tuple[Literal["input", "instruction"], ...] = ("input", "instruction")
    """What the answer is compared with."""
    allow_unchanged: bool = True
    """Let an answer equal its input where the instruction asks to correct, edit, sort, check, copy or extract."""
    least_characters: Annotated[int, Field(ge=1)] = 2
    """Shorter answers are not judged: a one-letter answer may well be the input."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose answer is their question."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """What is said again in one row."""
        said, asked, given = row.answer, row.instruction, row.input
        # equal texts differ in length by spacing and punctuation only, which spares most rows the rest
        if len(said) > 2 * (len(asked) + len(given)) + 40:
            return None
        answer = bare(said)
        if len(answer) < self.least_characters:
            return None
        if "input" in self.of and given and answer == bare(given):
            allowed = self.allow_unchanged and UNCHANGED.search(asked)
            return None if allowed or (said.strip() != given.strip() and looks_like_code(said)) else Found("answer equals the input", said)
        if "instruction" in self.of and answer in (bare(asked), bare(f"{asked} {given}")):
            return Found("answer equals the instruction", said)
        return None


UNCHANGED = re.compile(
    r"\b(?:correct|fix|edit|proof-?read|grammar|grammatical|spell|error|mistake|revise|sort|order|arrange|rearrange|format|check|copy|"
    r"repeat|extract|identify|find|select|choose|pick|if (?:needed|necessary|required)|remove|replace|punctuat|capitali[sz]e|convert|"
    r"round|simplif|lower ?case|upper ?case|palindrome|insert|append|capital (?:letter|case)|quotation|quotes?\b|"
    r"add (?:\w+ ){0,3}?(?:period|full stop|comma|colon|semicolon|exclamation|question|hyphen|bracket|parenthes))",
    re.IGNORECASE,
)
"""Requests whose right answer can be the input as it is, or with other marks only."""
