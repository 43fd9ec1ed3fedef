"""Answers that decline, and that speak of being a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import Expression, answers, closed

IDENTITY = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|machine learning model|virtual assistant|chatbot|text-based)\b"
    r"|\bi(?: am|['’]m) (?:just |only |merely )?an? (?:ai|artificial intelligence|(?:large )?language model|chatbot)\b"
    r"|\b(?:gpt|chatgpt|openai)[- ]?\d* (?:cannot|can't|can not|is (?:not able|unable)|does not|was trained)"
    r"|作为(?:一个|一名)?(?:人工智能|AI|语言模型)",
    re.IGNORECASE,
)
CANNOT = (
    r"(?:can ?not|can['’]t|am unable to|['’]m unable to|am not able to|['’]m not able to|won['’]t be able to|will not be able to"
    r"|don['’]t have (?:the ability|the capability|access|enough information)|do not have (?:the ability|the capability|access|"
    r"enough information)"
    r"|am afraid i can)"
)
VERBS = (
    r"(?:assist|help(?! but)|provide|answer|fulfil|complete|generate|comply|do (?:that|this)|access|browse|perform|create|write|engage|"
    r"support|"
    r"give|offer|determine|process|view|open|display|produce|translate|play|send|execute|run|fulfill|respond|tell you|"
    r"recommend|share|discuss|draw|edit|insert|attach|watch|listen)"
)
REFUSAL = re.compile(
    rf"(?<!if )(?<!\")\bi {CANNOT}(?: \w+){{0,2}}? {VERBS}\b|\bi {CANNOT},? (?:to|as|because|without)\b"
    r"|\b(?:i(?: am|['’]m) )?sorry,? (?:but )?(?:i|this|that|there|we|it|no|your|the) (?:\w+ ){0,3}?(?:can ?not|can['’]t|unable|"
    r"not able|don['’]t|do not|is not|isn['’]t|not)\b"
    r"|\bi apologi[sz]e,? but\b|\bunfortunately,? (?:i|as an ai)\b[^.]{0,60}?(?:can ?not|can['’]t|unable|not able|do not have|"
    r"don['’]t have)"
    r"|\bthis (?:type of )?(?:instruction|task|request|prompt|question|input) (?:can ?not|can['’]t|is not (?:possible|able|"
    r"suitable)|is unable|does not make sense)"
    r"|\b(?:it is|it['’]s) not possible (?:for me )?to (?:answer|complete|provide|generate|fulfil|perform)"
    r"|\bno (?:input|context|text|article|image|information) (?:was |has been |is )?(?:provided|given|supplied)"
    r"|对不起，我(?:无法|不能)|抱歉，我(?:无法|不能)",
    re.IGNORECASE,
)


HINTS = (
    "as a",
    "i am",
    "i'm",
    "i’m",
    "gpt",
    "openai",
    "can",
    "unable",
    "able to",
    "n't",
    "n’t",
    "not ",
    "sorry",
    "apologi",
    "no ",
    "作为",
    "无法",
    "不能",
)
"""Something of every pattern: a beginning with none of them is not read again."""


class Refusal(Settings):
    """An answer that begins by declining, or by saying that it comes from an AI.

    Only the first characters are read, and "I cannot" needs a verb of helping after it, so "I cannot wait to see you" and a
    letter that begins "I'm sorry for" stay. Drop these from data that teaches a task; keep them where declining is the lesson.
    """

    within: Annotated[int, Field(ge=20)] = 100
    """Characters of the answer that are read."""
    identity: bool = True
    """Also drop "As an AI ..." where nothing is declined."""
    also: tuple[Expression, ...] = ()
    """Further beginnings of an answer that decline (regular expressions, case does not count)."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows of which an answer declines."""
        return decide(rows, beside, lambda row: None if closed(row, beside) else self.find(row))

    def find(self, row: Row) -> Found | None:
        """Whether one row's answers decline."""
        for text in answers(row):
            start = text[: self.within]
            lowered = start.lower()
            if not self.also and not any(hint in lowered for hint in HINTS):
                continue
            if self.identity and IDENTITY.search(start) and not ABOUT_AI.search(row.instruction):
                return Found("speaks as an AI", text)
            if declines(start) or any(re.match(pattern, start.lstrip(), re.IGNORECASE) for pattern in self.also):
                return Found("refusal", text)
        return None


ABOUT_AI = re.compile(
    r"\b(?:ai|artificial intelligence|chatbot|robot|assistant|language model|pretend|imagine|role-?play|story|poem)\b", re.IGNORECASE
)
"""Requests whose answer may speak of an AI, or as one."""


def declines(start: str) -> bool:
    """Whether the beginning of an answer declines to give one."""
    return REFUSAL.search(start) is not None
