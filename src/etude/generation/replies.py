"""What a model replied, read strictly: texts that are none, verdicts that stand alone on the first line, and asking again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from etude.generation import Given
from etude.models import Answer, Sampling
from etude.records import Conversation, Message

T = TypeVar("T")

MARKS = "*_`\"'#.[]() \t"
"""What models put around a verdict."""
EQUALITY = re.compile(
    r"(?:(?:verdict|answer)\s*[:=]?[*_`\s]*)?(?:(?P<equal>equal|the same)|(?P<different>different|not[ _-]equal|unequal|not the same))"
)
CHOICE = re.compile(r"(?:(?:better|best|verdict|winner)\s*[:=]?[*_`\s]*)?(?:answer\s+)?(?P<choice>a|b|tie)")
SCORE = re.compile(r"(?:(?:score|grade|rating)\s*[:=]?[*_`\s]*)?(?P<n>\d{1,2}(?:\.\d{1,2})?)(?: ?/ ?10| out of 10)?")
ANY_SCORE = re.compile(r"\b(?:score|grade|rating)[*_`\s]*[:=][*_`\s]*(?P<n>-?\d+(?:\.\d+)?)", re.IGNORECASE)


def folded(text: str) -> str:
    """A text as it is compared: without case, and with one space wherever there is any."""
    return " ".join(text.casefold().split())


def said(answer: Answer) -> str:
    """The text of an answer, without space around it and without what stands before the last `</think>`, which is thought, not said."""
    return answer.text.rpartition("</think>")[2].strip()


def unusable(answer: Answer) -> tuple[str, dict[str, Any]] | None:
    """The rule by which an answer is none, with its facts: it failed, was cut off, or is empty; None for a usable one."""
    if answer.finish == "length" or answer.failure == "length":  # a server's answer that was cut off has no text
        return "cut off", {"tokens": answer.tokens}
    if answer.failure:
        return "no answer", {"failure": answer.failure}
    return None if said(answer) else ("no answer", {"failure": "empty"})


def lines(reply: str) -> list[str]:
    """The lines that say something, in lower case and without marks around them."""
    return [line for line in (one.strip(MARKS).casefold() for one in reply.splitlines()) if line]


def verdict(reply: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    """The first line where it is a verdict and nothing else, and no later line is another verdict."""
    found = [pattern.fullmatch(line) for line in lines(reply)]
    if not found or found[0] is None:
        return None
    return found[0] if all(other is None or other.groups() == found[0].groups() for other in found) else None


def equality(reply: str) -> bool | None:
    """Whether a reply says "equal"; None where its first line is no verdict. "Not Equal" says that two texts differ, though it
    holds the word."""
    found = verdict(reply, EQUALITY)
    return found["equal"] is not None if found else None


def choice(reply: str) -> str | None:
    """ "a", "b" or "tie"; None where the first line is none of them."""
    found = verdict(reply, CHOICE)
    return found["choice"] if found else None


def score(reply: str) -> float | None:
    """The score from 0 to 10 that the first line is; None for anything else, or where another score follows."""
    found = verdict(reply, SCORE)
    if found is None or float(found["n"]) > 10:
        return None
    value = float(found["n"])
    return value if all(float(other["n"]) == value for other in ANY_SCORE.finditer(reply)) else None


def until_read(
    given: Given,
    llm: str,
    questions: Sequence[Conversation],
    sampling: Sampling,
    read: Callable[[str], T | None],
    reminder: str,
    attempts: int,
) -> list[T | None]:
    """What `read` finds in the reply to each question. One in which it finds nothing is asked again, with that reply and the reminder,
    up to `attempts` times in all; None where nothing was ever found, or no reply came."""
    found: list[T | None] = [None] * len(questions)
    asked = list(questions)
    waiting = list(range(len(questions)))
    for attempt in range(1, attempts + 1):
        if not waiting:
            break
        again = []
        for place, answers in zip(waiting, given.ask(llm, [asked[place] for place in waiting], sampling), strict=True):
            reply = said(answers[0])
            if answers[0].failure:
                continue
            found[place] = read(reply)
            if found[place] is None:
                turns = (Message("assistant", reply or "(nothing)"), Message("user", reminder))
                first = questions[place]
                asked[place] = replace(first, id=f"{first.id}.{attempt + 1}", messages=(*first.messages, *turns))
                again.append(place)
        waiting = again
    return found
