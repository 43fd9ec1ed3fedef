"""Which language a text without a tag is in: signs counted, then a parse. A heuristic, with its confidence shown.

Each language has signs with weights (our own). Languages of one family (C and C++, JavaScript and TypeScript) back each
other. With s the score of the language and t that of the best other family, confidence = s / (s + t) * (1 - exp(-s / 1.5)).
A row that names the language elsewhere ("Write a Ruby method") adds NAMED to it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from etude.curation.comments.languages import LANGUAGES, Language
from etude.curation.comments.signs import SIGNS

LOOKED = 6000
"""Characters looked at."""
NAMED = 2.0
"""What the name of a language elsewhere in the row adds to a language that has signs of its own."""
LEAST = 1.0
"""A lower score is no sign of code at all."""
LOOSE = frozenset({"shell", "html", "ruby", "sql", "css"})
"""Languages whose grammars also take sentences: a line of prose counts against them."""
PROSE = re.compile(r"(?m)^[ \t]*(?:[-*\d.]+ )?[A-Z][a-z']+,?(?: [a-z',()0-9-]+){3,}.*[.:!?][ \t]*$")
PENALTY = 0.3
FAMILIES = ({"c", "cpp"}, {"javascript", "typescript"})


@functools.cache
def compiled() -> dict[str, tuple[tuple[float, re.Pattern[str], tuple[str, ...]], ...]]:
    """The signs, compiled when the first text without a tag is met: a recipe is read without them."""
    return {
        name: tuple((weight, re.compile(pattern, re.M), tuple(words.split())) for weight, pattern, words in signs)
        for name, signs in SIGNS.items()
    }


NAMES = {
    "python": r"\bpython\b|\bpandas\b|\bnumpy\b|\bdjango\b|\bflask\b",
    "javascript": r"\bjavascript\b|\bnode\.?js\b|\breact\b|\bjquery\b|\bjs\b",
    "typescript": r"\btypescript\b", "java": r"\bjava\b", "cpp": r"\bc\+\+|\bcpp\b", "csharp": r"\bc#|\.net\b",
    "c": r"\bC (?:program|code|function|language|snippet)|\bin C\b(?![+#])", "go": r"\bgolang\b|\bGo (?:program|code|function)|\bin Go\b",
    "rust": r"\bRust\b", "ruby": r"\bruby\b|\brails\b", "php": r"\bphp\b", "shell": r"\bbash\b|\bshell\b|\bunix command|\blinux command",
    "sql": r"\bsql\b|\bmysql\b|\bdatabase query", "html": r"\bhtml\b", "css": r"\bcss\b",
}  # fmt: skip
CASED = frozenset({"c", "go", "rust"})


@dataclass(frozen=True, slots=True)
class Guess:
    """The language a text seems to be in, and how sure that is (0 to 1); None: no code."""

    language: Language | None
    confidence: float


def told(text: str) -> frozenset[str]:
    """The languages that a text names."""
    return frozenset(name for name, pattern in NAMES.items() if re.search(pattern, text, 0 if name in CASED else re.I))


def guess(text: str, parses: Callable[[str, Language], bool], hints: frozenset[str] = frozenset()) -> Guess:
    """The language of a text without a tag. `parses` says whether a text parses as a language; `hints` are the
    languages its row names elsewhere. Of the candidates in the order of their scores (with at least half of the
    best one's), the first that parses is taken; where none does, the best."""
    scores = scored(text[:LOOKED], hints)
    best = max(scores.values(), default=0.0)
    if best < LEAST:
        return Guess(None, 0.0)
    ranked = sorted((name for name in scores if scores[name] >= max(LEAST, best / 2)), key=lambda name: -scores[name])
    chosen = next((name for name in ranked if parses(text, LANGUAGES[name])), ranked[0])
    return Guess(LANGUAGES[chosen], sure(chosen, scores))


def scored(text: str, hints: frozenset[str]) -> dict[str, float]:
    """The signs of each language, added up; families together."""
    own = {
        name: sum(
            weight
            for weight, pattern, words in signs
            if (not words or any(map(text.__contains__, words))) and pattern.search(text)
        )
        for name, signs in compiled().items()
    }  # fmt: skip
    if any(own[name] for name in LOOSE) and PROSE.search(text):
        own |= {name: own[name] * PENALTY for name in LOOSE}
    for name in hints:
        own[name] += NAMED if own[name] else 0.0
    together = {}
    for name, score in own.items():
        kin = next((family for family in FAMILIES if name in family), {name})
        others = sum(own[other] for other in kin if other != name)
        if score or (others and name in ("javascript", "c")):
            together[name] = score + others + (0.01 if score >= others else 0.0)
    return together


def sure(name: str, scores: dict[str, float]) -> float:
    """How sure a language is, against the best of another family."""
    kin = next((family for family in FAMILIES if name in family), {name})
    second = max((score for other, score in scores.items() if other not in kin), default=0.0)
    score = scores[name]
    return round(score / (score + second) * (1 - math.exp(-score / 1.5)), 3)
