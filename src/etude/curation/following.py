"""Whether an answer does what its instruction plainly asks for, and speaks of what was asked. Heuristics, for English."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed, content_words, count_words, looks_like_code, question, sentences

Demand = Literal["items", "json", "one_word", "yes_no", "most_words"]

NUMBERS = {
    word: n for n, word in enumerate(["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 2)
}
NUMBER = rf"(?P<n>\d{{1,3}}|{'|'.join(NUMBERS)}|fifteen|twenty)"
ITEMS = re.compile(
    r"^\W*(?:please )?(?:list|name|give|provide|generate|suggest|identify|come up with|create|make|write|find|propose|brainstorm|offer|"
    r"recommend|mention|state|think of|share|produce|describe|explain|outline)(?: me| us| a list of| down| out| up| the| of| top)*"
    rf" (?:(?P<bound>at least|at most|up to|exactly|no more than) )?{NUMBER} (?!(?:-|or\b|to\b|and\b|x\b|by\b|"
    rf"of\b))(?P<what>(?:[a-z-]+ ){{0,3}}?[a-z-]+s)\b",
    re.IGNORECASE,
)
NOT_ITEMS = re.compile(
    r"\b(?:words?|sentences?|paragraphs?|lines?|stanzas?|minutes?|hours?|days?|weeks?|months?|years?|seconds?|characters?|letters?|"
    r"digits?|"
    r"percent|dollars|syllables?|pages?|times|points? scale|sided|variables?|verses?|numbers?|arguments?|parameters?|inputs?|"
    r"functions?|tables?|"
    r"dice|columns?|rows?|sides?|class|series|pros|cons|similarities|differences)\b",
    re.IGNORECASE,
)
"""Amounts that are not items of a list."""
MORE = re.compile(rf"\b(?:new|additional|more|other|another)\b|\band (?:\d+|{'|'.join(NUMBERS)})\b", re.IGNORECASE)
"""Requests for a second number of things, or for things beside those that are there."""
ITEM = re.compile(r"^[ \t]*(?:(?:\*\*)?\(?(\d{1,3}|[a-zA-Z])[.):]|[-*•–])[ \t]*\S", re.MULTILINE)
INLINE = re.compile(r"(?:^|\s)\(?\d{1,2}[.)] ?(?=[^\s\d])")
JSON_ASKED = re.compile(r"\b(?:in|as|into|to|valid|return|output|using) (?:an? |the )?(?:valid )?json\b(?! schema)", re.IGNORECASE)
ABOUT = re.compile(r"\W*(?:which|what|how|why|is|are|does|identify|explain|describe)\b", re.IGNORECASE)
"""Questions about a thing, which do not ask for it."""
ONE_WORD = re.compile(
    r"\b(?:in|with|using|answer with|only) (?:just |only |exactly )?(?:one|a single|1) word\b|\bone-word (?:answer|response)", re.IGNORECASE
)
YES_NO = re.compile(
    r"\b(?:answer|respond|reply)(?: only| just| simply)?(?: with| by)?(?: a)?(?: simple| either)? [\"'“]?yes[\"'”]? or [\"'“]?no\b",
    re.IGNORECASE,
)
MOST_WORDS = re.compile(
    r"\b(?:in|with|using|within|under|fewer than|less than|no more than|at most|up to|maximum(?: of)?|limit(?:ed)? (?:of|to)|"
    r"not exceed(?:ing)?)"
    r" (?:no more than |at most |under |less than |fewer than |up to |a maximum of |exactly |about |around |"
    r"approximately )?(?P<n>\d{1,4}) words\b(?! or more|:)",
    re.IGNORECASE,
)
SO_MANY = re.compile(r"\b(?:an?|one|your) (?:\w+ ){0,2}?(?P<n>\d{2,4})[- ]word (?!or more|minimum)", re.IGNORECASE)
"""A 100-word summary."""


class Follows(Settings):
    """Answers that miss a demand that can be counted: n items of a list, JSON that parses, one word, yes or no, at most n words.

    A demand that is not recognised is not judged, and neither is an answer whose items cannot be counted: numbered or
    bulleted lines, numbers in the line, or a single line with commas.
    """

    demands: tuple[Demand, ...] = ("items", "json", "one_word", "yes_no", "most_words")
    """The demands that are looked for."""
    slack: Annotated[float, Field(ge=1)] = 1.25
    """An answer may have this many times the words that it may have at most: people count loosely."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose answer misses a demand."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """The first demand that one row's answer misses."""
        asked, said = row.instruction, row.answer.strip()
        if not said:
            return None
        lowered = asked.lower()
        for demand in self.demands:
            # every pattern but that of items needs this word, which most instructions do not have
            if SIGN[demand] in lowered and (missed := MEET[demand](asked, said, self.slack)):
                return Found(missed[0], f"{asked} -> {missed[1]}")
        return None


def number(text: str) -> int:
    """A number in digits or in words."""
    return int(text) if text.isdigit() else NUMBERS.get(text.lower(), {"fifteen": 15, "twenty": 20}.get(text.lower(), 0))


def items_missed(asked: str, said: str, slack: float) -> tuple[str, str] | None:
    """Asks for n things, and the answer lists another number of them."""
    found = ITEMS.search(asked)
    if not found or NOT_ITEMS.search(found["what"]) or MORE.search(asked[found.start("n") :]) or looks_like_code(said):
        return None
    wanted, got = number(found["n"]), counts(said)
    if got is None:
        return None
    bound, (least, most) = (found["bound"] or "").lower(), got
    fine = most >= wanted if bound == "at least" else least <= wanted if bound in ("at most", "up to", "no more than") else False
    return None if fine or least <= wanted <= most else ("another number of items than asked", f"{least} for {wanted}")


def counts(text: str) -> tuple[int, int] | None:
    """The least and the most items that a text may be said to list, None where they cannot be counted: "macaroni and cheese" is one
    item or two, and what stands before "such as" or a colon may be the first or none."""
    if len(ITEM.findall(text)) > 1 or len(INLINE.findall(text)) > 1:
        return (exact, exact) if (exact := listed(text)) is not None else None
    most = listed(text)
    if most is None:
        return None
    bare = re.sub(r"\([^)]*\)|\"[^\"]*\"", "x", text.strip())
    least = min(len(SERIES.split(part)) for part in (bare, *(bare[lead.end() :] for lead in LEAD.finditer(bare))))
    return min(least, most), most


LEAD = re.compile(r"\b(?:such as|including|includes?|like|are|is|:)(?:\s|$)|:")
SERIES = re.compile(r",\s*(?:and\s+|or\s+|&\s*)?")


def listed(text: str) -> int | None:
    """The number of items that a text lists, None where they cannot be counted; of commas and "and", the most there can be."""
    asked = re.findall(r"^[ \t]*[Qq](?:uestion)?(?: ?\d+)?[.):]", text, re.MULTILINE)
    if len(asked) > 1:
        return len(asked)
    marks = list(ITEM.finditer(text))
    if len(marks) > 1:
        numbers = [int(m[1]) for m in marks if m[1] and m[1].isdigit()]
        # sub-points under numbered lines are not items of their own
        return len(numbers) if len(numbers) > 1 else len(marks) if not numbers else None
    inline = INLINE.findall(text)
    if len(inline) > 1:
        return len(inline)
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) == 1 and len(sentences(text)) == 1 and "," in text and count_words(text) <= 4 * (text.count(",") + 1):
        return len([part for part in re.split(r",\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+", text) if part.strip(" .")])
    return None


def json_missed(asked: str, said: str, slack: float) -> tuple[str, str] | None:
    """Asks for JSON, and no JSON object or list in the answer parses."""
    if (
        not JSON_ASKED.search(asked)
        or ABOUT.match(asked)
        or re.search(r"\b(?:function|script|program|code|method|class|convert json|parse|api|endpoint)\b", asked, re.IGNORECASE)
    ):
        return None
    decoder = json.JSONDecoder()
    for start in re.finditer(r"[\[{]", said):
        try:
            decoder.raw_decode(said, start.start())
        except ValueError:
            # what begins here is no JSON; an inner part that is would not be what was asked for
            return "JSON asked and not given", said[:80]
        return None
    return "JSON asked and not given", said[:80]


def one_word_missed(asked: str, said: str, slack: float) -> tuple[str, str] | None:
    """Asks for one word, and the answer has more."""
    missed = ONE_WORD.search(asked) and len(said.split()) > 1 and not re.search(r"replace|blank|missing|each|per ", asked, re.IGNORECASE)
    return ("more than the one word asked", said[:80]) if missed else None


def yes_no_missed(asked: str, said: str, slack: float) -> tuple[str, str] | None:
    """Asks for yes or no, and the answer begins with neither."""
    missed = YES_NO.search(asked) and not re.match(r"\W*(?:yes|no|true|false)\b", said, re.IGNORECASE)
    return ("yes or no asked and not given", said[:80]) if missed else None


def words_missed(asked: str, said: str, slack: float) -> tuple[str, str] | None:
    """Asks for at most n words, and the answer has more than `slack` times as many."""
    found = MOST_WORDS.search(asked) or SO_MANY.search(asked)
    if found and re.search(r"\b(?:no|not) (?:less|fewer) than|\bat least|\bminimum", asked, re.IGNORECASE):
        return None
    if not found or not 0 < int(found["n"]) < (got := count_words(said)) / slack:
        return None
    return "more words than asked", f"{got} for {found['n']}"


SIGN: dict[Demand, str] = {"items": "", "json": "json", "one_word": "word", "yes_no": "yes", "most_words": "word"}
MEET = {"items": items_missed, "json": json_missed, "one_word": one_word_missed, "yes_no": yes_no_missed, "most_words": words_missed}


class Relevance(Settings):
    """Long answers that share almost no word with their question: a heuristic, for questions and answers of one language.

    Words are compared by their first five letters, without words that say nothing. Translations, code, lists, parts that are played
    and answers in another script are not judged; a good short answer often repeats nothing of its question, so short ones are not
    either.
    """

    least: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The least share of the question's words that the answer must have; the default asks for one."""
    least_answer_words: Annotated[int, Field(ge=1)] = 60
    """Shorter answers are not judged."""
    least_question_words: Annotated[int, Field(ge=1)] = 8
    """Questions with fewer words that say something are not judged."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose answer is about something else."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """How far apart question and answer of one row are."""
        said = row.answer
        if count_words(said) < self.least_answer_words:
            return None
        share = overlap(question(row), said, self.least_question_words)
        if share is None or share >= self.least or ELSEWHERE.search(row.instruction) or looks_like_code(said):
            return None
        if len(ITEM.findall(said)) > 2 or len(INLINE.findall(said)) > 2:
            return None
        if said.isascii() != row.instruction.isascii() and sum(map(str.isascii, said)) < 0.9 * len(said):
            return None
        return Found(
            "answer shares no word with the question" if not share else "answer shares few words with the question",
            f"{row.instruction} -> {said}",
        )


ELSEWHERE = re.compile(
    r"\b(?:translat|write code|program|function|poem|haiku|lyrics|song|story|decode|encrypt|convert|scene|soliloquy|imagine|pretend|"
    r"role-?\s?play|take (?:on )?the role|act as)|^\W*you(?: are|['’]re)\b",
    re.IGNORECASE,
)
"""Requests whose good answers need not repeat their words."""


def overlap(asked: str, said: str, least_words: int = 1) -> float | None:
    """The share of the question's content words that the answer has too; None with fewer than `least_words` of them."""
    wanted = content_words(asked)
    return len(wanted & content_words(said)) / len(wanted) if len(wanted) >= max(1, least_words) else None
