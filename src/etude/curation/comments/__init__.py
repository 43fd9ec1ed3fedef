"""Comments, docstrings and trailing white space out of the code in a row, each program proved to be the same.

Python is proved by its tree, other languages by the syntax tree of a grammar (the extra `code`). A text that does
not parse, whose language is unsure, or that cannot be proved stays as it was, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, field_validator

from etude.catalog import Settings
from etude.curation.comments import python, trees
from etude.curation.comments.detection import guess, told
from etude.curation.comments.edits import FATES, Edit, Fate, What, Wish
from etude.curation.comments.fences import blocks, indented, outdented
from etude.curation.comments.languages import LANGUAGES, Language, by_tag
from etude.curation.comments.marks import Kind
from etude.curation.comments.texts import Place, Where, asked, changed, language_of
from etude.records import Record

__all__ = ["FATES", "LANGUAGES", "Fate", "Outcome", "Part", "RemoveComments", "Wish", "rewrite_code"]

How = Literal["fence", "field", "detected", "named", "extension"]
QUOTES = ('"', "'")
TAG = re.compile(r"[A-Za-z][\w+#.-]{0,19}")
"""What can be a fence's tag; anything else after a fence is a slip, and the block is looked at without one."""


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of code: its field, language ("" for none), how that was known and how surely (1 where it was
    said), what became of it and why, and the characters that went."""

    field: str
    language: str
    how: How
    confidence: float
    fate: Fate
    reason: str = ""
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row's fields afterwards and its pieces of code."""

    fields: dict[str, Any]
    parts: tuple[Part, ...]

    @property
    def fate(self) -> Fate:
        """The row's: of its pieces', the first in the order of FATES."""
        found = {part.fate for part in self.parts}
        return next((fate for fate in FATES if fate in found), "no_code")

    @property
    def reason(self) -> str:
        """Why the row's fate is so, in words; "" where it needs none."""
        return next((f"{part.language}: {part.reason}" for part in self.parts if part.fate == self.fate and part.reason), "")

    @property
    def removed(self) -> int:
        """Characters that went."""
        return sum(part.removed for part in self.parts)


class RemoveComments(Settings):
    """Take comments, docstrings or trailing white space out of the code of a row; the program stays the same."""

    what: What = "comments"
    """`comments`, `docstrings`, `both`, or `trailing_space` alone."""
    trailing_space: bool = False
    """Whether white space at the ends of lines goes too."""
    fields: tuple[str, ...] = ()
    """The fields that are code; empty: answers and inputs, and fenced blocks wherever they stand."""
    language: str | None = None
    """The language of code without a fence tag; null: the row's `language` field, else told from the text."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """A text whose language is less sure than this stays as it is."""
    keep: tuple[Kind, ...] = ("pragmas", "types")
    """Comments that stay: for tools (`# noqa`, `// eslint-`), types (`# type:`), licences. What runs always stays."""
    doc_comments: Literal["docstrings", "comments"] = "docstrings"
    """What Javadoc, JSDoc, rustdoc, Doxygen and `///` count as."""

    @field_validator("language")
    @classmethod
    def known_language(cls, value: str | None) -> str | None:
        """A language of ours, by any of its tags."""
        from etude.failures import nearest

        if value is None:
            return None
        found = by_tag(value)
        if found is None:
            raise ValueError(f"no language is called {value!r}{nearest(value.lower(), LANGUAGES)}")
        return found.name

    @property
    def wish(self) -> Wish:
        """What to take out of each piece of code."""
        return Wish(self.what, self.trailing_space, self.keep, self.doc_comments)

    def rewrite(self, record: Record) -> Record | str:
        """The Record with its id and without what was to go; the same Record where there was nothing; or why its
        text was kept. Raises RecipeError when the grammar of a language that occurs is not installed."""
        done = self.outcome(record.fields)
        if done.fate == "changed":
            return replace(record, fields=done.fields)
        if not FATES[done.fate].startswith("text kept"):
            return record
        return f"{FATES[done.fate].removeprefix('text kept: ')}{f' ({done.reason})' if done.reason else ''}"

    def outcome(self, fields: Mapping[str, Any]) -> Outcome:
        """A row's fields afterwards, and what became of each piece of code in them."""
        parts: list[Part] = []
        said = by_tag(self.language or "") or by_tag(language_of(fields))
        how: How = "named" if self.language else "field"
        hints: list[frozenset[str]] = []

        def change(text: str, name: str, place: Place) -> str:
            fenced = list(blocks(text)) if "```" in text or "~~~" in text else []
            if not fenced:
                if place == "fences" or not text.strip():
                    return text
                if said is None and not hints:
                    hints.append(told(asked(fields)))
                done, part = self.whole(text, name, said, how, hints[0] if hints else frozenset())
                parts.append(part)
                return done
            out, at = [], 0
            for block in fenced:
                done, part = self.fenced(text[block.start : block.end], block.tag, block.indent, name, said, how)
                parts.append(part)
                out += [text[at : block.start], done]
                at = block.end
            return "".join((*out, text[at:])) if any(part.removed for part in parts) else text

        return Outcome(changed(fields, Where(self.fields), change), tuple(parts))

    def fenced(self, code: str, tag: str, indent: str, name: str, said: Language | None, how: How) -> tuple[str, Part]:
        """One fenced block: its tag says the language, else the row, else the text."""
        language = by_tag(tag)
        if language is None and TAG.fullmatch(tag):
            return code, Part(name, tag.lower(), "fence", 1.0, "other_language")
        plain = outdented(code, indent)
        done, part = self.whole(code if plain is None else plain, name, language or said, "fence" if language else how, frozenset())
        if part.fate != "changed":
            return code, part
        return (done if plain is None else indented(done, indent)), part

    def whole(self, text: str, name: str, language: Language | None, how: How, hints: frozenset[str]) -> tuple[str, Part]:
        """A text that is code from end to end, if it is."""
        sure = 1.0
        if language is None:
            found = guess(text, self.reads, hints)
            if found.language is None:
                return text, Part(name, "", "detected", 0.0, "no_code")
            language, how, sure = found.language, "detected", found.confidence
            if sure < self.confidence and possible(text, language, self.wish):
                wanted = f"{sure:.2f} sure, {self.confidence:g} asked"
                return text, Part(name, language.name, how, sure, "low_confidence", wanted)
        done = rewrite_code(text, language, self.wish)
        return done.text, Part(name, language.name, how, sure, done.fate, done.reason, len(text) - len(done.text))

    def reads(self, text: str, language: Language) -> bool:
        """Whether a text parses as a language; not asked where there is nothing in it to take out."""
        return not possible(text, language, self.wish) or parses(text, language)


def parses(text: str, language: Language) -> bool:
    """Whether a text parses as a language."""
    if language.name == "python":
        try:
            python.parse((python.WRAP if text[:1] in (" ", "\t") else "") + text)
        except python.NOT_READ:
            return False
        return True
    return not isinstance(trees.parsed(text, language), str)


def rewrite_code(text: str, language: Language, wish: Wish) -> Edit:
    """A program without what the wish takes out, proved to be the same, or as it was with the reason.

    A text in which nothing of that kind can stand is unchanged without a parse. Raises RecipeError when the
    grammar of the language is not installed."""
    if not possible(text, language, wish):
        return Edit(text, "unchanged")
    return python.edit(text, wish) if language.name == "python" else trees.edit(text, language, wish)


def possible(text: str, language: Language, wish: Wish) -> bool:
    """Whether a text holds any mark of what the wish takes out."""
    if (wish.strips and any(space in text for space in (" \n", "\t\n", " \r", "\t\r"))) or (wish.strips and text[-1:] in (" ", "\t")):
        return True
    if language.name == "python":
        return (wish.comments and "#" in text) or (wish.docstrings and any(quote in text for quote in QUOTES))
    return wish.what != "trailing_space" and any(mark in text for mark in language.marks)
