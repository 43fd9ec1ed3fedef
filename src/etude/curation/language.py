"""Whether a row is in the languages that are wanted.

py3langid (a naive Bayes over byte n-grams, langid.py by Lui and Baldwin 2012, refreshed) was chosen by measurement on real
questions, paragraphs and answers: 0.06 to 0.7 ms a text where langdetect takes 2 to 5 and lingua 2 to 5 (and 955 MB of
memory, a wheel of 96 MB), a 4.6 MB model in its wheel, no randomness (langdetect draws), nothing beside numpy, and with the
two measures below the fewest errors: 0 of 600 short English questions dropped (langdetect 1.5 %, lingua 3 %), none of 600 German
ones taken for English, none of 600 Chinese ones for something else (langdetect 23 %).

The measures: only languages that many people write are candidates (Nigerian Pidgin, Luxembourgish or Wu otherwise win short
English, German and Chinese texts), and a row leaves only where the best unwanted language is likelier than every wanted one by a
`margin`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, field_validator

from etude.catalog import Settings
from etude.curation.deciding import Found, decide
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import WIDE, closed, looks_like_code, question
from etude.failures import RecipeError, nearest

CODES = (
    "ar bg bn ca cs da de el en es et fa fi fr gu he hi hr hu id it ja ka kn ko lt lv mk ml mr ms nl nn no pa pl pt ro ru sk sl sq sr "
    "sv sw ta te th tl tr uk ur vi zh"
)
CANDIDATES = tuple(CODES.split())
"""ISO 639-1 codes of the languages that are told apart."""

READ = 240
"""Characters of a text that are read: more change no decision worth having, and cost time."""


COMMON = (
    "the and of to that with this from which are you their have for your can these what how would should could has been more some many "
    "when where who following write between about each they should generate create list given using"
)
PLAIN = frozenset(COMMON.split())
"""Words of which English is full and no other candidate uses."""


class Language(Settings):
    """Rows in a language that is not wanted. Code, lists of names or single words, labels of closed tasks, and texts too short to tell
    are not judged."""

    allowed: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes of the languages wanted."""
    part: Literal["answer", "question", "both"] = "both"
    """What is judged; rows that ask for a translation, or about a language, are not."""
    least_characters: Annotated[int, Field(ge=1)] = 60
    """Shorter texts are not judged; a Chinese or Japanese character counts as five."""
    margin: Annotated[float, Field(ge=0)] = 6.0
    """How much likelier (difference of log-likelihoods, nats) the unwanted language must be than every wanted one. At 6, .4 % of
    Alpaca's answers of 20 words and more leave (lists of names), and no German or Chinese text stays as English."""

    @field_validator("allowed")
    @classmethod
    def known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse codes that are not told apart."""
        for code in codes:
            if code not in CANDIDATES:
                raise ValueError(f"no language {code!r} here{nearest(code, CANDIDATES)}")
        return codes

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows in other languages; facts count the languages found. Raises RecipeError where py3langid is not installed."""
        rank = identifier()
        found: Counter[str] = Counter()
        wanted = frozenset(self.allowed)

        def other(text: str, part: str) -> Found | None:
            code = self.language(text, wanted, rank)
            found[code or "too short or code"] += 1
            return Found(f"{part} in {code}, not in {'/'.join(self.allowed)}", text) if code and code not in wanted else None

        def find(row: Row) -> Found | None:
            said = None
            if TRANSLATES.search(row.instruction):
                return None
            if self.part != "answer":
                said = other(question(row), "question")
            if said is None and self.part != "question" and not closed(row, beside):
                said = other(row.answer, "answer")
            return said

        verdicts = decide(rows, beside, find)
        return Verdicts(verdicts.fates, {**verdicts.facts, "languages": dict(found.most_common())})

    def language(self, text: str, wanted: frozenset[str], rank: Callable[[str], list[tuple[str, float]]]) -> str:
        """The code of a text's language: a wanted one unless another is likelier by the margin; "" where it cannot be told."""
        text = text[:READ]
        if len(text) < self.least_characters and (text.isascii() or len(text) + 4 * len(WIDE.findall(text)) < self.least_characters):
            return ""
        if text.isascii() and plainly_english(text):
            return "en"
        if sum(map(str.isalpha, text)) * 2 < len(text) or looks_like_code(text):
            return ""
        if named(text) or short_items(text):
            return ""
        ranked = rank(text)
        best = ranked[0]
        if best[0] in wanted:
            return best[0]
        mine = next(pair for pair in ranked if pair[0] in wanted)
        return mine[0] if best[1] - mine[1] <= self.margin else best[0]


TRANSLATES = re.compile(
    r"translat|\b(?:in|to|into|from) (?:the )?(?:french|spanish|german|italian|latin|chinese|japanese|korean|russian|portuguese|"
    r"dutch|arabic|hindi)",
    re.IGNORECASE,
)


def named(text: str) -> bool:
    """Whether more than six in ten words are capitalised, as in lists of names: no language shows in those.

    German prose stays below five in ten.
    """
    words = [word for word in text.split() if word[0].isalpha()]
    if len(words) < 4 and text.isascii():
        return True
    return sum(word[0].isupper() for word in words) > 0.6 * len(words) > 0


def short_items(text: str) -> bool:
    """Whether a text is a list of one or two words each, as of cheeses or of words and their kinds: too little to tell by."""
    marks = len(re.findall(r"[,;:&|\n]", text))
    return marks > 2 and len(text.split()) < 2.5 * (marks + 1)


def plainly_english(text: str) -> bool:
    """Whether at least three different words of `PLAIN` are a sixth of the text's: that needs no model, which is slower."""
    words = text.lower().split()
    hits = [word for word in words if word in PLAIN]
    return len(hits) * 6 >= len(words) and len(set(hits)) > 2


@cache
def identifier() -> Callable[[str], list[tuple[str, float]]]:
    """py3langid over `CANDIDATES`: a text -> (code, log-likelihood), the likeliest first. Raises RecipeError without it."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise RecipeError("language: the package py3langid is not installed; `pip install 'etude[language]'`") from error
    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    model.set_languages(CANDIDATES)
    return model.rank  # type: ignore[no-any-return]
