"""The two questions of back-translation, and how their replies are read: which request does a text answer, and how good is the row?"""

from __future__ import annotations

import re

from etude.generation.quoting import SAID, quoted
from etude.generation.replies import folded, verdict
from etude.records import Message
from etude.similarity.shingles import shingles, tokens

NOTHING = "NONE"
"""What the writer says of a text that answers no request."""
WRITE = (
    "Somebody asked an assistant for something, and the {what} between the marks is, word for word, the whole answer. "
    "Write what was asked.\n"
    "- Ask for all that the answer gives, and for its form where it has a special one; ask for nothing that is not in it.\n"
    "- The reader of your request sees nothing but your request. Name the things it is about; never speak of a text, a passage or "
    "code that is given, and do not repeat the answer.\n"
    "- Write in the language of the answer, as a person would who does not know the answer yet.\n"
    f"- If the {{what}} answers no request that makes sense alone (a list of links, a licence, a fragment), reply with {NOTHING}.\n"
    "Reply with the request and nothing else."
)
RUBRIC = (
    "Below are a request and an answer that is to serve as an example for an assistant. Score how good an example it is:\n"
    "1: the answer is about something else, is broken off, or is an advertisement, a list of links or the like.\n"
    "2: the answer touches the request but leaves most of it open, or most of it was not asked for.\n"
    "3: the answer helps, but one sees that it was written for another purpose: it speaks from the middle of a larger text, or of its "
    "author.\n"
    "4: the answer does what was asked, wholly and clearly, as an assistant would; small things could be better.\n"
    "5: the answer does exactly what was asked, is right and well ordered, and every part of it belongs there."
)
REPLY = "Reply with two lines. The first is `Score: N`, with N a whole number from 1 to 5. The second is `Reason:` and one sentence."
AGAIN = (
    "I could not read a score in that reply. Give it again: the first line must be `Score: N` and nothing else, with N a number "
    "from 1 to 5."
)

SCORE = re.compile(r"(?:(?:score|grade|rating)\s*[:=]?[*_`\s]*)?(?P<n>\d{1,2}(?:\.\d)?)(?: ?/ ?5| out of 5)?")
LABEL = re.compile(r"[*_#\s]*(?:request|instruction|prompt|question|task)[*_\s]*:[*_\s]*", re.IGNORECASE)
AWAY = re.compile(
    r"\b(?:(?:text|passage|paragraph|excerpt|snippet|document|section|code|function|answer|material|content|piece|article)s?"
    r" (?:above|below|between the marks|(?:that is |as )?(?:given|provided|shown|quoted))"
    r"|(?:given|provided|quoted|above|following|preceding) (?:text|passage|paragraph|excerpt|snippet|document|section|code|function|answer|"
    r"material|content|piece|article)s?"
    r"|this (?:text|passage|paragraph|excerpt|snippet|document|answer|piece)"
    r"|(?:according to|based on|mentioned in|described in|stated in) the "
    r"(?:text|passage|paragraph|excerpt|snippet|document|section|article)"
    r"|between the marks|word for word, the whole answer)\b",
    re.IGNORECASE,
)
"""An instruction that speaks of something its reader cannot see."""
RUN = 8
"""Words in a row that count as taken over."""
MOST_TAKEN = 0.25
"""An instruction that holds more of the answer's runs of words than this share gives it away."""


def writing(text: str, code: bool, place: str) -> tuple[Message, ...]:
    """The question what a text answers; `place` is where it stands (file and headings), "" for nowhere."""
    what = "code" if code else "text"
    said = [SAID, WRITE.format(what=what), quoted("answer", text)]
    if place:
        said.insert(2, f"Where it was found:\n{quoted('place', place)}")
    return (Message("user", "\n\n".join(said)),)


def grading(instruction: str, text: str) -> tuple[Message, ...]:
    """The question how good a row is."""
    return (Message("user", "\n\n".join([SAID, RUBRIC, quoted("request", instruction), quoted("answer", text), REPLY])),)


def written(reply: str) -> str:
    """The instruction in a reply: without a label before it, quotation marks or a fence around it; "" where the writer found none."""
    text = reply.strip()
    if fence := re.fullmatch(r"```\w*\n(.*?)\n?```", text, re.DOTALL):
        text = fence[1].strip()
    if label := LABEL.match(text):
        text = text[label.end() :].strip()
    for left, right in (('"', '"'), ("“", "”"), ("'", "'")):
        if len(text) > 1 and text.startswith(left) and text.endswith(right) and left not in text[1:-1]:
            text = text[1:-1].strip()
    return "" if text.strip("*_`\"'.[]()").casefold() == NOTHING.casefold() else text


def grade(reply: str) -> float | None:
    """The score from 1 to 5 that the first line is, where no later line is another; else None."""
    found = verdict(reply, SCORE)
    return float(found["n"]) if found and 1 <= float(found["n"]) <= 5 else None


def refers_away(instruction: str) -> str:
    """The words by which an instruction speaks of a text that is not there, "" for none."""
    found = AWAY.search(instruction)
    return found[0] if found else ""


def gives_away(instruction: str, text: str) -> bool:
    """Whether an instruction holds the answer: the whole of it, or many of its runs of words."""
    if folded(text) in folded(instruction):
        return True
    runs = shingles(tokens(text), RUN)
    return bool(runs) and len(runs & shingles(tokens(instruction), RUN)) > MOST_TAKEN * len(runs)
