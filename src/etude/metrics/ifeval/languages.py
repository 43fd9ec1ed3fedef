"""Which language a text is in: py3langid (the reference draws at random with langdetect, so its verdicts can change from run to run).

The candidates are the languages that langdetect tells apart, so that the question is the same one: the two Chinese scripts are one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache

from etude.failures import RecipeError

CODES = (
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl pt ro ru sk sl so sq sv "
    "sw ta te th tl tr uk ur vi zh"
)
LANGUAGES = tuple(CODES.split())
"""ISO 639-1 codes of the languages that are told apart."""

ADDRESS = re.compile(r"https?://\S+|\S+@\S+\.\S+")
"""Web and mail addresses, which are in no language."""


@lru_cache(maxsize=4096)
def language(text: str) -> str:
    """The code of the language a text is likeliest in, one of `LANGUAGES`; "" for a text without a letter.

    Of a text in several scripts the one with the most letters is read, or a line of Kannada (three bytes a letter) would outweigh
    a paragraph of English. Deterministic. Raises RecipeError where py3langid is not installed.
    """
    words = ADDRESS.sub(" ", text)
    counts = Counter(words)
    letters = Counter[str]()
    for char, count in counts.items():
        letters[script(char)] += count
    letters.pop("", None)
    if not letters:
        return ""
    if len(letters) > 1:
        main = letters.most_common(1)[0][0]
        words = words.translate({ord(char): " " for char in counts if script(char) not in ("", main)})
    return identifier()(words.lower() if words.isupper() else words)[0]  # its model has seen few capitals


@lru_cache(maxsize=4096)
def script(char: str) -> str:
    """The script of a letter, as the first word of its name in Unicode says it; Japanese kana and Chinese characters are one. "" for
    what is no letter."""
    if not char.isalpha():
        return ""
    first = unicodedata.name(char, "?").split()[0]
    return "CJK" if first in ("HIRAGANA", "KATAKANA") else first


@cache
def identifier() -> Callable[[str], tuple[str, float]]:
    """py3langid over `LANGUAGES`: a text -> (code, log-likelihood). Raises RecipeError without it."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        why = "ifeval: instructions about the answer's language (language:*, change_case:english_*) need the package py3langid"
        raise RecipeError(f"{why}; `pip install 'etude[language]'`") from error
    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    model.set_languages(LANGUAGES)
    return model.classify  # type: ignore[no-any-return]
