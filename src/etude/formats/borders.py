"""Trained stretches of a rendering, and what is left of one when it is trained no more: its border.

Where an answer begins, tokens begin, in training and when the same answer is history in a later prompt.
An empty plain segment says so where no trained flag does; else `[assistant] ` and `Hello` would be
tokenised apart in one place and together in the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from etude.records import Segment

BORDER = Segment("")
"""Plain text before it and after it is tokenised apart."""


def stretches(rendered: Sequence[Segment]) -> list[tuple[str, str]]:
    """For each trained stretch, the text before it and its own. A border between two makes them two."""
    found: list[tuple[str, str]] = []
    before, trained = "", False
    for segment in rendered:
        if segment.trained:
            start, own = found.pop() if trained else (before, "")
            found.append((start, own + segment.text))
        trained = segment.trained
        before += segment.text
    return found


def untrained(rendered: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same segments with nothing trained, and a border where each trained stretch began, and where one
    ended between plain texts."""
    out: list[Segment] = []
    trained = plain = False
    for segment in rendered:
        begins = segment.trained and not trained
        ends = trained and not segment.trained and plain and not segment.special
        if (begins or ends) and segment.text and out[-1:] != [BORDER]:
            out.append(BORDER)
        out.append(Segment(segment.text, special=segment.special))
        trained, plain = segment.trained, not segment.special
    return tuple(out)


def only_last_trained(rendered: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same segments with only the last trained stretch still trained, and borders for the others."""
    end = max((i for i, s in enumerate(rendered) if s.trained), default=-1)
    start = end
    while start > 0 and rendered[start - 1].trained:
        start -= 1
    return (*untrained(rendered[:start]), *rendered[start:]) if end >= 0 else tuple(rendered)
