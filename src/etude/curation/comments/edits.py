"""What is asked of a piece of code, and what came of it; the same for every language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from etude.curation.comments.marks import Kind

What = Literal["comments", "docstrings", "both", "trailing_space"]
Fate = Literal[
    "changed", "unchanged", "only_comments", "unproved", "does_not_parse", "low_confidence", "other_language", "no_code"
]  # fmt: skip
FATES: dict[Fate, str] = {
    "changed": "changed",
    "does_not_parse": "text kept: does not parse",
    "unproved": "text kept: not proved to be the same program",
    "only_comments": "text kept: nothing but comments",
    "low_confidence": "text kept: language unsure",
    "unchanged": "unchanged: nothing to remove",
    "other_language": "unchanged: code of another language",
    "no_code": "unchanged: no code",
}
"""What can become of a row, the most telling first: a row of several pieces of code has the first that holds of any."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to take out. `doc_comments`: whether Javadoc, rustdoc, `///` and the like count as docstrings."""

    what: What
    trailing_space: bool = False
    keep: tuple[Kind, ...] = ("pragmas", "types")
    doc_comments: Literal["docstrings", "comments"] = "docstrings"
    may_be_empty: bool = False

    @property
    def comments(self) -> bool:
        """Whether comments go."""
        return self.what in ("comments", "both")

    @property
    def docstrings(self) -> bool:
        """Whether docstrings go."""
        return self.what in ("docstrings", "both")

    @property
    def strips(self) -> bool:
        """Whether white space at the ends of lines goes."""
        return self.trailing_space or self.what == "trailing_space"

    def takes(self, is_doc: bool) -> bool:
        """Whether a comment, of documentation or not, goes."""
        return self.docstrings if is_doc and self.doc_comments == "docstrings" else self.comments


@dataclass(frozen=True, slots=True)
class Edit:
    """The text afterwards (the given one unless `changed`), and why it is so."""

    text: str
    fate: Fate
    reason: str = ""


def judged(before: str, after: str, wish: Wish) -> Edit:
    """A proved text as an edit: none, where nothing changed or nothing would be left."""
    if after == before:
        return Edit(before, "unchanged")
    if not after.strip() and not wish.may_be_empty:
        return Edit(before, "only_comments")
    return Edit(after, "changed")
