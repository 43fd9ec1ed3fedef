"""Taking stretches out of a text so that no trace of them is left: no empty line, no trailing white space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BLANKS = " \t\f"
OPENERS, CLOSERS = "([{", ")]},;"
"""Beside these no white space need stand for a comment."""
TRAILING = re.compile(r"[ \t]+(?=\r?\n|\r|\Z)")


@dataclass(frozen=True, slots=True)
class Cut:
    """Characters [start, end) that go. `instead`: what takes their place. `swallow`: blank lines after it go too."""

    start: int
    end: int
    instead: str = ""
    swallow: bool = False


@dataclass(slots=True)
class Gap:
    """A range of the text to replace; `whole`: full lines, from the start of one to the start of another."""

    start: int
    end: int
    instead: str
    whole: bool
    swallow: bool


def cut(text: str, cuts: Sequence[Cut], joiner: str = " ", keep_breaks: bool = True) -> str:
    """The text without the cuts (sorted, apart). A cut that fills its lines takes them along, and blank lines that
    would stand twice; one at the end of a line takes the white space before it; one between two tokens that
    both touch it leaves `joiner`, or a line break where it held one and `keep_breaks`."""
    out = []
    at = 0
    for gap in spread(text, merged(gaps(text, cuts, joiner, keep_breaks))):
        out += [text[at : gap.start], gap.instead]
        at = max(at, gap.end)
    out.append(text[at:])
    return "".join(out)


def gaps(text: str, cuts: Sequence[Cut], joiner: str, keep_breaks: bool) -> list[Gap]:
    """What each cut (or run of cuts with only white space between them, in a line) takes out."""
    found: list[Gap] = []
    index = 0
    while index < len(cuts):
        start, end, swallow = cuts[index].start, cuts[index].end, cuts[index].swallow
        if cuts[index].instead:
            found.append(Gap(start, end, cuts[index].instead, False, False))
            index += 1
            continue
        index += 1
        while index < len(cuts) and not cuts[index].instead and not text[end : cuts[index].start].strip(BLANKS):
            end, swallow = cuts[index].end, swallow or cuts[index].swallow
            index += 1
        found.append(gap_of(text, start, end, swallow, joiner, keep_breaks))
    return found


def gap_of(text: str, start: int, end: int, swallow: bool, joiner: str, keep_breaks: bool) -> Gap:
    """What one cut takes out."""
    begin, finish = line_start(text, start), line_end(text, end)
    before, after = text[begin:start], text[end:finish]
    if not before.strip(BLANKS) and not after.strip(BLANKS):
        return Gap(begin, past_break(text, finish), "", True, swallow)
    if not after.strip(BLANKS):
        return Gap(begin + len(before.rstrip(BLANKS)), finish, "", False, False)
    if not before.strip(BLANKS):
        return Gap(start, end + len(after) - len(after.lstrip(BLANKS)), "", False, False)
    if keep_breaks and ("\n" in text[start:end] or "\r" in text[start:end]):
        broken = "\r\n" if "\r\n" in text[start:end] else "\n"
        return Gap(begin + len(before.rstrip(BLANKS)), end + len(after) - len(after.lstrip(BLANKS)), broken, False, False)
    left, right = before.rstrip(BLANKS), after.lstrip(BLANKS)
    near, far = begin + len(left), end + len(after) - len(right)
    if left[-1] in OPENERS or right[0] in CLOSERS:
        return Gap(near, far, "", False, False)
    if before[-1] in BLANKS:
        return Gap(start, far, "", False, False)
    return Gap(start, end, "" if after[0] in BLANKS else joiner, False, False)


def merged(found: list[Gap]) -> list[Gap]:
    """Full lines that follow each other as one range."""
    out: list[Gap] = []
    for gap in found:
        if out and gap.whole and out[-1].whole and gap.start <= out[-1].end:
            out[-1].end, out[-1].swallow = gap.end, out[-1].swallow or gap.swallow
        else:
            out.append(gap)
    return out


def spread(text: str, found: list[Gap]) -> list[Gap]:
    """Full-line ranges with the blank lines that would be left twice, or at the start or the end of the text."""
    floor = 0
    for number, gap in enumerate(found):
        if not gap.whole:
            floor = gap.end
            continue
        before, after = blank_before(text, gap.start, floor), blank_after(text, gap.end)
        limit = found[number + 1].start if number + 1 < len(found) else len(text)
        after = [end for end in after if end <= limit]
        if gap.end >= len(text):
            # nothing follows: what was the end of the text ends it again, with or without its line break
            ended = text[gap.start : gap.end].endswith(("\n", "\r"))
            gap.start = before[-1] if before else gap.start
            if not ended and gap.start > floor:
                gap.start = before_break(text, gap.start)
        elif gap.start == 0 or gap.swallow:
            gap.end = after[-1] if after else gap.end
        elif before and after:
            gap.end = after[min(len(before), len(after)) - 1]
        floor = gap.end
    return found


def blank_before(text: str, at: int, floor: int) -> list[int]:
    """Starts of the blank lines right before a line start, nearest first; none before `floor`."""
    out = []
    while at > floor:
        start = line_start(text, before_break(text, at))
        if start < floor or text[start:at].strip():
            break
        out.append(start)
        at = start
    return out


def blank_after(text: str, at: int) -> list[int]:
    """Ends (with their break) of the blank lines right after a line start, nearest first."""
    out = []
    while at < len(text):
        end = line_end(text, at)
        if text[at:end].strip() or end == len(text):
            break
        at = past_break(text, end)
        out.append(at)
    return out


def line_start(text: str, at: int) -> int:
    """The start of the line that holds a position."""
    start = text.rfind("\n", 0, at) + 1
    return max(start, text.rfind("\r", start, at) + 1)


def line_end(text: str, at: int) -> int:
    """The end of the line that holds a position, before its break."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    earlier = text.find("\r", at, end)
    return earlier if earlier >= 0 else end


def past_break(text: str, at: int) -> int:
    """The position after the line break that stands here, if one does."""
    if text.startswith("\r\n", at):
        return at + 2
    return at + 1 if at < len(text) else at


def before_break(text: str, at: int) -> int:
    """The position before the line break that ends here."""
    return at - 2 if text.endswith("\r\n", 0, at) else at - 1


def trailing(text: str) -> list[tuple[int, int]]:
    """The white space at the ends of lines."""
    return [match.span() for match in TRAILING.finditer(text)]
