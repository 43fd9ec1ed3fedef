"""Answers whose end is missing: cut off in the middle of a sentence, or inside a code fence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide, settle
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import DANGLING, FENCE, answers, closed, looks_like_code

LIST_ITEM = re.compile(r"^\s*(?:[-*•–+]|\(?\d{1,3}[.):]|\(?[A-Za-z][.)]|#{1,6}|[|>])\s*")
QUOTED_FROM = re.compile(r"[\"”’']\s*[-–—~]{1,2}\s*(?:\w+[.'’]?\s*){1,5}$")
"""The name behind a quotation."""
GREETING = re.compile(r"^(?:dear|hello|hi|hey|to whom)\b[^.!?]*,$", re.IGNORECASE)
INNER_END = re.compile(r"[a-z0-9)\"'][.!?][\"')\]]* +[A-Z\"'(]")
INLINE_ITEM = re.compile(r"(?:^|\s)\(?(?:\d{1,2}|[a-zA-Z])[.)] ?[A-Za-z]")
SIGNED = re.compile(r"\b(?:sincerely|regards|respect|yours|wishes|luck|love|hope)\b[^.?]*$", re.IGNORECASE)
"""The close of a letter, which ends with a name."""
OPEN_ENDED = "last sentence does not end"
LAST_WORD = re.compile(r"([A-Za-z']+)$")


class CutOff(Settings):
    """A prose answer that stops in the middle of a sentence.

    Two rules, both for English-like punctuation: the last character is a comma, a semicolon or an opening
    bracket, or the last word is one that no sentence ends with ("of", "the"); or the last line has earlier sentences
    that end in punctuation, and its own last one, of at least `least_words` words, does not. Code, lists, tables,
    verse, headings and short answers are not judged.
    """

    least_words: Annotated[int, Field(ge=1)] = 4
    """Words of an unfinished last sentence, and of an answer that is judged at all."""

    unfinished_sentences: bool = True
    """Hold the second rule."""
    habit: Annotated[float, Field(ge=0, le=1)] = 0.005
    """The second rule is not held where more than this share of the rows break it (and at least 5) and half of those are no longer
    than nine in ten of all answers: then the writers leave full stops out, and no limit cut anything. Dolly's answers, written by
    hand, have 37 such rows in 2,996, none of 20 read cut off; Alpaca's, written by a model, 3 in 9,229."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows whose answer is cut off; facts count those that are kept as their writers' habit."""
        found: list[Found | None] = []
        for row in rows:
            found.append(None if closed(row, beside) else self.find(row))
            beside.progress(1)
        open_ended = [place for place, finding in enumerate(found) if finding and finding.reason == OPEN_ENDED]
        if len(open_ended) >= 5 and len(open_ended) > self.habit * len(rows):
            sizes = sorted(len(row.answer) for row in rows)
            if sorted(len(rows[place].answer) for place in open_ended)[len(open_ended) // 2] <= sizes[int(0.9 * (len(sizes) - 1))]:
                found = [None if finding and finding.reason == OPEN_ENDED else finding for finding in found]
                return settle(rows, found, kept_as_habit=len(open_ended))
        return settle(rows, found, kept_as_habit=0)

    def find(self, row: Row) -> Found | None:
        """Where the last answer of one row stops."""
        text = row.answer.rstrip()
        if not text or text[-1] in ".!?…\"'”’)]}>`*_。！？」』：:" or text[-1].isdigit():
            return None
        line = text[text.rfind("\n") + 1 :]
        words = line.split()
        if len(words) < self.least_words or words[-1].startswith(("#", "@", "//")) or "://" in words[-1] or "@" in words[-1]:
            return None
        if not (line.isascii() or text[-1].isascii()):
            return None
        if GREETING.match(line) or QUOTED_FROM.search(line):
            return None
        reason = self.dangling(line, "\n" in text) or self.unfinished(line)
        if reason is None or looks_like_code(text):
            return None
        return Found(reason, f"… {text[-120:]}")

    def dangling(self, line: str, several: bool) -> str | None:
        """The reason where a line's last word or character promises more."""
        if line[-1] in ",;([{" and not (several and line[-1] in ",;"):
            return "cut off after a mark that promises more"
        last = LAST_WORD.search(line)
        if last and not INLINE_ITEM.search(line) and last.group().lower() in DANGLING and last.group().islower() and INNER_END.search(line):
            return "cut off after a word that promises more"
        return None

    def unfinished(self, line: str) -> str | None:
        """The reason where a line ends its earlier sentences and not its last."""
        if not self.unfinished_sentences or LIST_ITEM.match(line) or INLINE_ITEM.search(line) or SIGNED.search(line):
            return None
        ends = [m.end() for m in INNER_END.finditer(line)]
        if not ends or len(line[ends[-1] - 1 :].split()) < self.least_words or len(line) < 80:
            return None
        return OPEN_ENDED


class CodeFence(Settings):
    """A code fence that is opened and never closed, or closed and never opened, by CommonMark's rule: a fence of three or more
    backticks or tildes is closed by one at least as long and without words after it. Unlike there, a fence may be indented more
    than three spaces: models write them so, and readers take them."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows with an open fence in an answer."""
        return decide(rows, beside, self.find)

    def find(self, row: Row) -> Found | None:
        """The fence of one row that stays open."""
        for text in answers(row):
            if ("```" in text or "~~~" in text) and (opened := open_fence(text)):
                return Found("code fence not closed", opened)
        return None


def open_fence(text: str) -> str:
    """The line of the fence that a text leaves open, "" for none."""
    opened = ""
    for found in FENCE.finditer(text):
        mark, info = found.groups()
        if not opened:
            # CommonMark: backticks after a backtick fence make it inline code, as in ```word```
            if not (mark[0] == "`" and "`" in info):
                opened = found.group().strip()
        elif opened.startswith(mark[0] * 3) and len(mark) >= len(opened) - len(opened.lstrip(mark[0])) and not info.strip():
            opened = ""
    return opened
