"""Where answers fail, by simple features of the answer: a table for the answers page.

All features are heuristics, read off the question, the reference and the answer without a model (but for the language, which
py3langid tells where it is installed). They say where to look, not why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from etude.curation.language import Language, identifier, plainly_english
from etude.curation.refusal import IDENTITY, declines
from etude.curation.repetition import loop
from etude.curation.texts import WIDE
from etude.failures import RecipeError
from etude.reporting.findings import Example, finite

FEATURES = {
    "empty": ("Empty", "no answer but space"),
    "longer": ("Much longer", "over twice the reference, and 20 characters more"),
    "shorter": ("Much shorter", "under half the reference, and 20 characters less; not empty"),
    "language": ("Other language", "another script than the reference, or another language (of 60 characters or more)"),
    "repeats": ("Repeats itself", "a phrase four times in a row, or a line three times"),
    "copies": (
        "Copies the question",
        "four words or more, 70 % of their three-word runs from the question; not if the reference does so",
    ),
    "refuses": ("Refuses", "begins by declining or as an AI; not if the reference does so"),
    "cut": ("Cut off", "stopped by the limit on new tokens"),
    "digits": ("Numbers missing", "a number of the reference is not in the answer; not empty"),
}
"""Feature -> its name and its rule, as the page says them."""

SCRIPTS = {
    "Latin": r"a-zA-Z\u00c0-\u024f\u1e00-\u1eff",
    "Greek": r"\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": r"\u0400-\u052f",
    "Hebrew": r"\u0590-\u05ff",
    "Arabic": r"\u0600-\u077f\u08a0-\u08ff",
    "Devanagari": r"\u0900-\u097f",
    "Thai": r"\u0e00-\u0e7f",
    "Korean": r"\uac00-\ud7a3\u1100-\u11ff",
    "kana": r"\u3040-\u30ff",
    "Han": r"\u3400-\u9fff\uf900-\ufaff",
}
SCRIPT = {name: re.compile(f"[{characters}]") for name, characters in SCRIPTS.items()}
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
THOUSANDS = re.compile(r",(?=\d{3}(?:\D|$))")
WORDS = re.compile(rf"{WIDE.pattern}|[^\W_]+")

TELL = 60
"""Characters from which on a language is told."""
READ = 6000
"""Characters of a text that are looked at."""


@dataclass(frozen=True, slots=True)
class Share:
    """One feature over one model's answers: how many have it, and the mean score of rows with and without it (None where no row is)."""

    rows: int
    score_with: float | None
    score_without: float | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A feature that some answer has: its key in FEATURES, and both models' shares."""

    key: str
    start: Share
    tuned: Share

    @property
    def name(self) -> str:
        """The feature's name."""
        return FEATURES[self.key][0]

    @property
    def rule(self) -> str:
        """The feature's rule."""
        return FEATURES[self.key][1]


def features(question: str, reference: str, answer: str, cut: bool = False) -> frozenset[str]:
    """The features of one answer, keys of FEATURES; `cut`: the limit on new tokens ended it."""
    question, reference, answer = question[:READ], reference[:READ], answer[:READ]
    found = {"cut"} if cut else set()
    said, wanted = answer.strip(), reference.strip()
    if not said:
        return frozenset(found | {"empty"})
    if wanted and len(said) > 2 * len(wanted) and len(said) >= len(wanted) + 20:
        found.add("longer")
    if 2 * len(said) < len(wanted) and len(said) + 20 <= len(wanted):
        found.add("shorter")
    if wanted and elsewhere(said, wanted):
        found.add("language")
    if repeats(said):
        found.add("repeats")
    if copies(said, question) and not copies(wanted, question):
        found.add("copies")
    if refuses(said) and not refuses(wanted):
        found.add("refuses")
    if not numbers(wanted) <= numbers(said):
        found.add("digits")
    return frozenset(found)


def script(text: str) -> str:
    """The script of most letters; "" where there are none. A text with a tenth of kana is Japanese, whatever its Han characters."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else ""
    sizes = {name: len(pattern.findall(text)) for name, pattern in SCRIPT.items()}
    if sizes["kana"] * 10 >= sizes["kana"] + sizes["Han"] > 0:
        return "kana"
    name = max(sizes, key=lambda name: sizes[name])
    return name if sizes[name] else ""


def elsewhere(answer: str, reference: str) -> bool:
    """Whether the answer is in another script than the reference, or, where both are long enough to tell, in another language."""
    mine, wanted = script(answer), script(reference)
    if not mine or not wanted:
        return False
    if mine != wanted:
        return True
    if min(len(answer), len(reference)) < TELL or (plainly_english(answer) and plainly_english(reference)):
        return False
    try:
        rank = identifier()
    except RecipeError:
        return False
    judge = Language()
    codes = [judge.language(text, frozenset({"en"}), rank) for text in (reference, answer)]
    return all(codes) and judge.language(answer, frozenset({codes[0]}), rank) != codes[0]


def repeats(text: str) -> bool:
    """Whether a phrase follows itself four times (a word eight times), or a line of two words or more is there three times."""
    lines = [line.strip() for line in text.split("\n") if len(line.split()) > 1]
    return bool(loop(text.lower().split(), 4)) or (len(lines) > 2 and max(map(lines.count, set(lines))) > 2)


def copies(text: str, question: str) -> bool:
    """Whether most of a text's three-word runs stand in the question."""
    mine, theirs = (WORDS.findall(one.lower()) for one in (text, question))
    if len(mine) < 4:
        return False
    there = set(zip(theirs, theirs[1:], theirs[2:], strict=False))
    runs = list(zip(mine, mine[1:], mine[2:], strict=False))
    return 10 * sum(run in there for run in runs) >= 7 * len(runs)


def refuses(text: str) -> bool:
    """Whether a text begins by declining, or as an AI."""
    return declines(text[:100]) or IDENTITY.search(text[:100]) is not None


def numbers(text: str) -> set[str]:
    """The numbers of a text, without the marks of thousands."""
    return {THOUSANDS.sub("", found) if "," in found else found for found in NUMBER.findall(text)}


def clusters(rows: Sequence[tuple[Example, frozenset[str], frozenset[str]]]) -> list[Cluster]:
    """Each feature that some answer has, in the order of FEATURES; `rows`: (example, the start answer's features, the tuned one's)."""
    found = [Cluster(key, share(rows, key, False), share(rows, key, True)) for key in FEATURES]
    return [cluster for cluster in found if cluster.start.rows or cluster.tuned.rows]


def share(rows: Sequence[tuple[Example, frozenset[str], frozenset[str]]], key: str, tuned: bool) -> Share:
    """How many rows have a feature, and the mean scores of the two sides; rows without a score count, but have no part in a mean."""
    count = 0
    sides: dict[bool, list[float]] = {True: [], False: []}
    for example, start_has, tuned_has in rows:
        side = key in (tuned_has if tuned else start_has)
        count += side
        if (value := finite(example.tuned_score if tuned else example.base_score)) is not None:
            sides[side].append(value)
    with_it, without = (sum(side) / len(side) if side else None for side in (sides[True], sides[False]))
    return Share(count, with_it, without)
