"""The Porter stemmer that rouge-score uses: Porter (1980) with the later departures that NLTK makes by default.

The rules are a table of endings; the first ending of a step that fits decides, whether or not its condition holds.
Words are lower-case letters and digits (`etude.similarity.words`); a digit counts as a consonant. That every stem equals
NLTK's `PorterStemmer().stem` is tested against it; NLTK itself is not needed.
"""

from __future__ import annotations

import functools
import re

IRREGULAR = {
    "skies": "sky",
    "sky": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}
"""Words that the rules would get wrong."""

DERIVED = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "fulli": "ful",
}
"""Step 2: endings after a stem of measure above 0."""

SHORTENED = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
"""Step 3: endings after a stem of measure above 0."""

DROPPED = (
    "al",
    "ance",
    "ence",
    "er",
    "ic",
    "able",
    "ible",
    "ant",
    "ement",
    "ment",
    "ent",
    "ion",
    "ou",
    "ism",
    "ate",
    "iti",
    "ous",
    "ive",
    "ize",
)
"""Step 4: endings that leave after a stem of measure above 1 (`ion` after s or t only)."""

VOWEL_RUN = re.compile("v+c")


def shape(word: str) -> str:
    """A "v" or "c" a letter: vowels are a, e, i, o, u, and y after a consonant."""
    letters = list[str]()
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and bool(letters) and letters[-1] == "c")
        letters.append("v" if vowel else "c")
    return "".join(letters)


def measure(stem: str) -> int:
    """Porter's m: how often a vowel run is followed by a consonant."""
    return len(VOWEL_RUN.findall(shape(stem)))


def short(stem: str) -> bool:
    """Ends consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant."""
    form = shape(stem)
    return form == "vc" or (form.endswith("cvc") and stem[-1] not in "wxy")


def ending(word: str, endings: dict[str, str] | tuple[str, ...]) -> str:
    """The first of the endings that the word has, or ""."""
    return next((end for end in endings if word.endswith(end)), "")


@functools.lru_cache(maxsize=200_000)
def porter(word: str) -> str:
    """The stem of a lower-case word."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = without_past(without_plural(word))
    if word.endswith("y") and len(word) > 2 and shape(word)[-2] == "c":
        word = word[:-1] + "i"
    word = replaced(derived(word), SHORTENED)
    end = ending(word, DROPPED)
    stem = word.removesuffix(end)
    if end and measure(stem) > 1 and (end != "ion" or stem[-1] in "st"):
        word = stem
    return tidied(word)


def without_plural(word: str) -> str:
    """Step 1a."""
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def without_past(word: str) -> str:
    """Step 1b."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if measure(word[:-3]) > 0 else word
    end = ending(word, ("ed", "ing"))
    stem = word.removesuffix(end)
    if not end or "v" not in shape(stem):
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and shape(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if measure(stem) == 1 and short(stem) else stem


def derived(word: str) -> str:
    """Step 2, with `alli` taken again and `logi`, whose stem includes its l."""
    if word.endswith("alli") and measure(word[:-4]) > 0:
        return derived(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if measure(word[:-3]) > 0 else word
    return replaced(word, DERIVED)


def replaced(word: str, endings: dict[str, str]) -> str:
    """The word with its ending replaced, where the stem has a measure above 0."""
    end = ending(word, endings)
    stem = word.removesuffix(end)
    return stem + endings[end] if end and measure(stem) > 0 else word


def tidied(word: str) -> str:
    """Step 5: a last e, and one of two last l's."""
    if word.endswith("e"):
        stem = word[:-1]
        much = measure(stem)
        if much > 1 or (much == 1 and not short(stem)):
            word = stem
    return word[:-1] if word.endswith("ll") and measure(word[:-1]) > 1 else word
