"""What row checks ask of a text: its words and sentences, whether it is code, how to show it in a report."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from etude.curation.rows import Beside, Row

WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Characters of scripts without spaces between words: each counts as a word (as sacrebleu's `zh` tokenizer has it)."""

TOKEN = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*")
"""A word: letters and digits, with an apostrophe inside."""

SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]|\n+")

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)

CODE_MARK = re.compile(
    r"[{};]\s*$|^\s*(?:def|class|import|from|return|public|private|static|func|fn|let|const|var|void|int|if|for|while|else|elif|"
    r"print|printf|cout|echo|SELECT|INSERT|UPDATE|DELETE|CREATE|FROM|WHERE|JOIN|ORDER BY|GROUP BY)\b.*[(){};:=,*\w]\s*$"
    r"|^\s*#include\b|^\s*</?[a-zA-Z][^>]*>|=>|->|:=|==|!=|\w+\([^)]*\)\s*[;{:]?\s*$|^\s*[\w.\[\]]+\s*[-+*/]?=\s*\S",
    re.MULTILINE,
)

STOPS = (
    "a about above after again against all also am an and any are as at be because been before being below between both but "
    "by can could did do does doing down during each else even few for from further get had has have having he her here hers "
    "him his how i if in into is it its itself just let like made make many may me might more most much must my no nor not "
    "now of off on once one only or other our ours out over own per please same she should so some such than that the their "
    "theirs them then there these they this those through to too under until up upon us use used using very was we were what "
    "when where which while who whom whose why will with within without would yes yet you your yours"
)
STOP_WORDS = frozenset(STOPS.split())
"""English words that say nothing about a topic."""

DANGLERS = (
    "a an and as at because but by for from if in into is its my of on or our than that the their these this those to was "
    "were when where which while whose with your such including via per between about"
)
DANGLING = frozenset(DANGLERS.split())
"""English words that a sentence does not end with."""


def compiles(pattern: str) -> str:
    """A regular expression as given; ValueError says what is wrong with it."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Expression = Annotated[str, AfterValidator(compiles)]


def closed(row: Row, beside: Beside) -> bool:
    """Whether the row's task has a closed label set: its answers are labels, and no check of prose is for them."""
    return row.record.task in beside.labels or row.conversation.task in beside.labels


def answers(row: Row) -> list[str]:
    """Every assistant turn that the loss may count."""
    return [m.content for m in row.conversation.messages if m.role == "assistant" and m.trained is not False]


def questions(row: Row) -> list[str]:
    """Every user turn, material included."""
    return [m.words() for m in row.conversation.messages if m.role == "user"]


def everything(row: Row) -> str:
    """All turns as one text."""
    return "\n\n".join([m.words() for m in row.conversation.messages])


def question(row: Row) -> str:
    """The last user turn, material included."""
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def count_words(text: str) -> int:
    """Words between spaces; in Chinese and Japanese, characters."""
    if text.isascii():
        return len(text.split())
    spaced, wide = WIDE.subn(" ", text)
    return len(spaced.split()) + wide


def normalised(text: str) -> str:
    """A text without its case and spacing: what a person would call the same answer."""
    return " ".join(text.casefold().split())


def bare(text: str) -> str:
    """A text without case, spacing, and punctuation at its ends."""
    return normalised(text).strip(" .,:;!?\"'`*“”‘’()[]")


def content_words(text: str) -> set[str]:
    """The words of a text that carry its topic, each cut to five letters so that `test` and `testing` nearly meet.

    The cut is a truncation stemmer, a heuristic; Chinese and Japanese give one word a character.
    """
    lowered = text.lower()
    found = {word[:5] for word in TOKEN.findall(lowered) if word not in STOP_WORDS and (len(word) > 2 or word.isdigit())}
    return found if text.isascii() else found | set(WIDE.findall(lowered))


def sentences(text: str) -> list[str]:
    """A text cut after sentence ends and at line ends; a heuristic (abbreviations end sentences too)."""
    return [part for part in (piece.strip() for piece in SENTENCE_END.split(text)) if part]


@lru_cache(maxsize=64)
def looks_like_code(text: str) -> bool:
    """Whether a text is code, or half of it: a fence, or marks of code on at least a third of its lines."""
    if "```" in text or "~~~" in text:
        return True
    # prose has none of these, or nearly, and the pattern is slow
    if not any(mark in text for mark in ("{", "}", ";", "=", "<", "(", "->", ":\n", "import ", "SELECT ", "echo ")):
        return False
    lines = [line for line in text.split("\n") if line.strip()]
    marked = sum(1 for line in lines if CODE_MARK.search(line))
    return marked * 3 >= len(lines) > 0 and marked > 0


def shown(text: str, most: int = 160) -> str:
    """A text on one line, cut for a report."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
