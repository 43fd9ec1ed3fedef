"""The 25 kinds of verifiable instruction of IFEval (Zhou et al. 2023, arXiv 2311.07911), each a pure function of an answer.

`INSTRUCTIONS` says which function an id of the data set means; the keywords of a function are the keys of the instruction's
`kwargs`, read by `arguments.py`. The verdicts are the reference's (google-research's instruction_following_eval), corner
cases too, wherever it has one; the differences are listed in docs/ifeval.md.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence

from etude.metrics.ifeval.languages import language as language_of
from etude.metrics.ifeval.sentences import count_sentences

Check = Callable[..., bool]
"""(answer, *, the instruction's own arguments) -> whether the answer follows it."""

CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""The answers that `constrained_response` allows, as its prompts say them."""

AS_TWO_WORDS = re.compile(
    r"(?<=[^\s'])(?='(?:[sSmMdD]|ll|LL|re|RE|ve|VE)\b)|(?<=[^\s'])(?=(?:n't|N'T)\b)|(?<=\b[Cc][Aa][Nn])(?=[Nn][Oo][Tt]\b)"
)
"""Where a contraction is two words, as in the Penn Treebank."""
BETWEEN_WORDS = re.compile(r"[\s;@#$%&?!*()\[\]{}<>\"`«»“”‘’„]+|--+|\.{2,}|[:,](?!\d)")

MARK = re.compile(f"[{''.join(char for char in map(chr, range(0x300, 0x2000)) if unicodedata.category(char)[0] == 'M')}\u200c\u200d]")
"""Combining marks and joiners, which `\\w` takes for the end of a word: a Hindi word would be several."""


def compares(number: int, relation: str, bound: int) -> bool:
    """Whether a count is `less than` or `at least` a bound."""
    return number < bound if relation == "less than" else number >= bound


def existence(answer: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword stands in the answer, perhaps within a word, in any case."""
    return all(occurrences(keyword, answer) for keyword in keywords)


def frequency(answer: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword stands so often in the answer, perhaps within words, in any case."""
    return compares(occurrences(keyword, answer), relation, frequency)


def occurrences(keyword: str, answer: str) -> int:
    """How often a keyword stands in an answer, in any case, without overlap."""
    return len(re.findall(re.escape(keyword), answer, re.IGNORECASE))


def forbidden_words(answer: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words stands in the answer as a whole word, in any case."""
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(answer: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter (or another character) stands so often in the answer, in any case."""
    return compares(answer.lower().count(letter.lower()), let_relation, let_frequency)


def response_language(answer: str, *, language: str) -> bool:
    """The answer is in a language; one without a letter is in all."""
    return language_of(answer) in ("", language)


def number_sentences(answer: str, *, num_sentences: int, relation: str) -> bool:
    """The answer has so many sentences."""
    return compares(count_sentences(answer), relation, num_sentences)


def number_words(answer: str, *, num_words: int, relation: str) -> bool:
    """The answer has so many words: runs of letters (vowel signs and accents included), digits and underscores."""
    return compares(len(re.findall(r"\w+", MARK.sub("", answer) if not answer.isascii() else answer)), relation, num_words)


def number_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    """The answer has exactly so many paragraphs with `***` between them, none in the middle empty."""
    first, *others = [paragraph.strip() for paragraph in answer.split("***")]
    last = [others.pop()] if others else []
    return all(others) and bool(first) + len(others) + sum(map(bool, last)) == num_paragraphs


def nth_paragraph_first_word(answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """The answer has exactly so many paragraphs with an empty line between them, and the n-th (from 1) begins with a word, in any case.

    Empty paragraphs do not count, but have a place when the n-th is looked for, as in the reference.
    """
    paragraphs = [paragraph.strip() for paragraph in answer.split("\n\n")]
    if sum(map(bool, paragraphs)) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    words = paragraphs[nth_paragraph - 1].split()
    if not words:
        return False
    opening = words[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", opening)[0].lower() == first_word.lower()


def number_placeholders(answer: str, *, num_placeholders: int) -> bool:
    """The answer has at least so many `[placeholders]`."""
    return len(re.findall(r"\[[^\n\]]*\]", answer)) >= num_placeholders


def postscript(answer: str, *, postscript_marker: str) -> bool:
    """The answer has a postscript, with or without spaces in `P.S.` and `P.P.S`."""
    marks = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(marks.get(postscript_marker, re.escape(postscript_marker.lower())), answer.lower()) is not None


def number_bullet_lists(answer: str, *, num_bullets: int) -> bool:
    """Exactly so many lines begin with a bullet: `*` with no other behind it, or `-`."""
    lines = [line.lstrip() for line in answer.split("\n")]
    return sum(line.startswith("-") or (line[:1] == "*" and line[1:2] not in ("", "*")) for line in lines) == num_bullets


def constrained_response(answer: str) -> bool:
    """The answer has one of `CHOICES` in it."""
    return any(choice in answer for choice in CHOICES)


def number_highlighted_sections(answer: str, *, num_highlights: int) -> bool:
    """At least so many stretches stand in `*one*` or `**two**` asterisks; in `***three***` they count twice, as in the reference."""
    single = re.findall(r"\*([^*\n]*)\*", answer)
    double = re.findall(r"\*\*([^*\n]*)\*\*", answer)
    return sum(1 for stretch in (*single, *double) if stretch.strip()) >= num_highlights


def multiple_sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections begin, by a word and a number: `SECTION 1`."""
    return len(re.findall(rf"{re.escape(section_spliter)}\s?\d+", answer)) >= num_sections


def json_format(answer: str) -> bool:
    """The whole answer is JSON, perhaps in a fence."""
    inside = re.sub(r"\A```(?:json|Json|JSON)?", "", answer.strip()).removesuffix("```")
    try:
        json.loads(inside.strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(answer: str) -> bool:
    """The answer has a title in `<<double angle brackets>>` on one line."""
    return any(found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", answer))


def two_responses(answer: str) -> bool:
    """The answer is two different answers with `******` between them."""
    parts = [part.strip() for part in answer.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def repeat_prompt(answer: str, *, prompt_to_repeat: str) -> bool:
    """The answer begins with the question, word for word, in any case."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(answer: str, *, end_phrase: str) -> bool:
    """The answer ends with a phrase, in any case, perhaps in quotes."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(answer: str) -> bool:
    """The whole answer stands in double quotation marks."""
    whole = answer.strip()
    return len(whole) > 1 and whole[0] == whole[-1] == '"'


def capital_word_frequency(answer: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """So many words are in capitals: `A-B` is one, `IT'S` and `DON'T` are two, as the Penn Treebank splits them."""
    words = AS_TWO_WORDS.sub(" ", BETWEEN_WORDS.sub(" ", answer)).split()
    return compares(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def english_capital(answer: str) -> bool:
    """The answer is in English, and without a small letter."""
    return answer.isupper() and language_of(answer) in ("", "en")


def english_lowercase(answer: str) -> bool:
    """The answer is in English, and without a capital letter."""
    return answer.islower() and language_of(answer) in ("", "en")


def no_comma(answer: str) -> bool:
    """The answer has no comma."""
    return "," not in answer


INSTRUCTIONS: dict[str, Check] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
"""Id of the data set -> the check of an answer."""
