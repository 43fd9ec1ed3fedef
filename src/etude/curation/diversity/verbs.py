"""What instructions ask for: the root verb and its direct object, found by rule.

Self-Instruct (Wang et al. 2023, figure 3) draws the twenty commonest root verbs of its instructions with their four
commonest direct objects, from a parser. There is no parser here: the verb is the first one of an imperative or the main
one of a question, its object the last word of the noun phrase after it. A heuristic, for English; how many
rows it finds a verb and a pair in is stated beside the figure. "What is the capital of France?" gives (be, capital),
where a parser finds no direct object.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude.curation.diversity import english
from etude.curation.rows import Row
from etude.curation.texts import sentences

TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s\"“”'‘’*`_]")
READ = 1200
"""Characters read at the beginning of an instruction, and as many at its end where it is longer."""
SENTENCES = 4
"""Sentences looked into before the last one."""
POLITE = english.listed(
    "please kindly now then also finally next first firstly second secondly hi hello hey ok okay so and but just simply"
)
LEADS = english.listed(
    "given using based for in on with from at to if when as after before according considering assuming by without while once during "
    "under between among here like since because unless suppose consider imagine"
)
"""Words that begin a clause before the request, which a comma ends."""
MODALS = english.listed("can could would will")
FRAMES = tuple(
    tuple(frame.split())
    for frame in re.split(
        r"\|",
        "your task is to|your job is to|your goal is to|your role is to|your objective is to|your mission is to|the task is to|"
        "the goal is to|you are asked to|you are required to|you are expected to|you are supposed to|you are tasked to|you need to|"
        "you have to|you must|you should|you will be asked to|you will need to|you will|you can|i want you to|i need you to|"
        "i would like you to|i'd like you to|i want to|i need to|i would like to|i'd like to|i wish to|i am trying to|i'm trying to|"
        "help me to|help me|try to|let's|let us|be sure to|make sure to|feel free to|do your best to|go ahead and|do not|don't|always|"
        "never|we need to|we want to|we have to|in this task you are asked to|in this task you need to|in this task you will",
    )
)
"""Openings after which the request itself comes."""
PHRASAL = {
    "think": ("of", "about"),
    "come": ("up",),
    "talk": ("about",),
    "tell": ("about",),
    "respond": ("to",),
    "reply": ("to",),
    "act": ("as",),
    "search": ("for",),
    "look": ("at", "up", "for"),
    "fill": ("in",),
    "ask": ("about",),
    "refer": ("to",),
    "listen": ("to",),
    "elaborate": ("on",),
    "focus": ("on",),
}
"""Verbs whose object stands behind a word of their own."""
PARTICLES = english.listed("up out down off")


class Pair(NamedTuple):
    """A verb in its base form and its object in the singular; either may be "". `form`: imperative or question."""

    verb: str
    noun: str
    form: str


NONE = Pair("", "", "")


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: rows, and its commonest objects with theirs."""

    verb: str
    rows: int
    nouns: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The verbs of a data set. `rows`: looked at; `found`: with a verb; `paired`: with a verb and an object; `verbs`: the
    commonest ones; `distinct_verbs`, `distinct_pairs`: different ones; `top`: rows of the commonest pair; `forms`:
    imperative, question -> rows; `missed`: instructions in which the rule found no verb."""

    rows: int
    found: int
    paired: int
    verbs: tuple[Verb, ...]
    distinct_verbs: int
    distinct_pairs: int
    top: int
    forms: tuple[tuple[str, int], ...]
    missed: tuple[str, ...] = ()


def verb_pairs(rows: Sequence[Row], verbs: int = 60, nouns: int = 4) -> Pairs:
    """The root verbs and direct objects of the instructions, each row's words as the model will read them (a template's
    words where one words the row). About 40 microseconds an instruction."""
    known: dict[str, Pair] = {}
    found: Counter[Pair] = Counter()
    missed: list[str] = []
    for row in rows:
        text = row.instruction
        pair = known.get(text)
        if pair is None:
            pair = known[text] = pair_of(text)
        found[pair] += 1
        if not pair.verb and len(missed) < 5 and text.strip():
            missed.append(" ".join(text[:400].split())[:160])
    by_verb: Counter[str] = Counter()
    objects: dict[str, Counter[str]] = {}
    both: Counter[tuple[str, str]] = Counter()
    forms: Counter[str] = Counter()
    for pair, count in found.items():
        if not pair.verb:
            continue
        by_verb[pair.verb] += count
        forms[pair.form] += count
        if pair.noun:
            objects.setdefault(pair.verb, Counter())[pair.noun] += count
            both[pair.verb, pair.noun] += count
    return Pairs(
        rows=len(rows),
        found=by_verb.total(),
        paired=both.total(),
        verbs=tuple(Verb(verb, count, tuple(ranked(objects.get(verb, Counter()))[:nouns])) for verb, count in ranked(by_verb)[:verbs]),
        distinct_verbs=len(by_verb),
        distinct_pairs=len(both),
        top=max(both.values(), default=0),
        forms=tuple(ranked(forms)),
        missed=tuple(missed),
    )


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Counts, the largest first, equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def pair_of(text: str) -> Pair:
    """The verb and object of one instruction: of the first of its sentences that has both, else of the first with a verb."""
    best = NONE
    for sentence in parts_of(text):
        pair = read(TOKEN.findall(sentence.lower().replace("’", "'")))
        if pair.verb and pair.noun:
            return pair
        best = best if best.verb else pair
    return best


def parts_of(text: str) -> Iterator[str]:
    """The first sentences of an instruction, then its last."""
    first = sentences(text[:READ])
    yield from first[:SENTENCES]
    if len(text) > READ:
        first = sentences(text[-READ:])
        yield from first[-1:]
    else:
        yield from first[SENTENCES:][-1:]


def read(words: list[str], depth: int = 0) -> Pair:
    """The pair of one sentence as lower-case words and marks; NONE for a sentence that asks nothing."""
    words = opened(words)
    if not words or depth > 4:
        return NONE
    first, second = words[0], words[1] if len(words) > 1 else ""
    for frame in FRAMES:
        if words[: len(frame)] == list(frame):
            return read(words[len(frame) :], depth + 1)
    if words[:2] in (["i", "need"], ["i", "want"], ["we", "need"]) and words[2:3] and words[2] in english.DETERMINERS:
        return Pair(second, noun_of(words[2:]), "imperative")
    if first in MODALS and second in ("you", "someone", "anyone"):
        return read(words[2:], depth + 1)
    if first in ("to", "in", "at", "for", "on", "from", "with", "by", "of") and second in english.QUESTIONS:
        return asked(words[1:])
    if first in english.QUESTIONS:
        return asked(words)
    if first in english.AUXILIARIES and not (first in ("do", "have") and second in english.DETERMINERS):
        return yes_or_no(words)
    imperative = ordered(words)
    if imperative.verb and not (first in LEADS and "," in words[:40]):
        return imperative
    if first in LEADS and "," in words[:40]:
        return read(words[words.index(",") + 1 :], depth + 1)
    if first.endswith("ly") and len(words) > 1:
        return read(words[1:], depth + 1)
    return late(words) if first in LEADS else imperative


def opened(words: list[str]) -> list[str]:
    """A sentence without list marks, labels ("Question:") and words of politeness before it."""
    at = 0
    while at < len(words):
        word = words[at]
        label = at + 1 < len(words) and words[at + 1] == ":" and word not in english.VERBS
        if label or word == "q" or not word[0].isalpha() or (word in POLITE and at + 1 < len(words)):
            at += 2 if label else 1
        else:
            break
    return words[at:]


def ordered(words: list[str]) -> Pair:
    """An imperative: a listed verb, or any word in front of a determiner that can be one."""
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first in english.VERBS:
        if second in (":", "of") and first not in PHRASAL:
            return NONE
        verb = "come up with" if words[:3] == ["come", "up", "with"] else first
        return Pair(verb, object_of(first, words, 1), "imperative")
    closed = english.DETERMINERS | english.PRONOUNS | english.PREPOSITIONS | english.CLAUSES | english.AUXILIARIES | english.QUESTIONS
    plain = first.isascii() and not first.endswith(("ed", "ing", "ly", "'s")) and (first.endswith("ss") or not first.endswith("s"))
    if (second in english.DETERMINERS or second in ("me", "us")) and first not in closed and plain and len(first) > 2:
        return Pair(first, object_of(first, words, 1), "imperative")
    return NONE


def late(words: list[str]) -> Pair:
    """An imperative behind an opening clause that no comma ends: "In two sentences explain ..."."""
    for place in range(3, min(len(words), 12)):
        before = words[place - 1]
        nominal = before in english.DETERMINERS or before in english.PREPOSITIONS or before in english.PRONOUNS or describes(before)
        if words[place] in english.VERBS and not nominal and before.isalpha():
            return ordered(words[place:])
    return NONE


def asked(words: list[str]) -> Pair:
    """A question that begins with what, which, who, how ..."""
    rest = words[1:]
    fronted = ""
    if words[0] in ("what", "which", "whose", "how") and rest and rest[0] not in english.AUXILIARIES and rest[0] not in ("to", "'s"):
        if words[0] == "how" and rest[0] not in ("many", "much"):
            rest = rest[1:] if len(rest) > 1 and rest[1] in english.AUXILIARIES else rest
        else:
            place = next((k for k, word in enumerate(rest[:8]) if word in english.AUXILIARIES or (k and english.base(word))), None)
            if place:
                fronted = noun_of(rest[:place])
                rest = rest[place:]
    if not rest:
        return NONE
    if rest[0] == "to":
        found = ordered(rest[1:]) if len(rest) > 1 else NONE
        return Pair(found.verb, found.noun, "question") if found.verb else NONE
    if rest[0] in english.BE:
        own = noun_of(rest[1:]) if words[0] in ("what", "which", "who") and not fronted else fronted
        return Pair("be", own, "question")
    if rest[0] in english.AUXILIARIES:
        found = yes_or_no(rest, subject=words[0] in ("what", "who", "which", "how"))
        if rest[0] in ("has", "have", "had") and not found.noun:
            found = Pair(found.verb, noun_of(rest[1:]), "question")
        return Pair(found.verb, fronted or found.noun, "question") if found.verb else NONE
    verb = english.base(rest[0])
    return Pair(verb, object_of(verb, rest, 1), "question") if verb else NONE


def yes_or_no(words: list[str], subject: bool = False) -> Pair:
    """A question that begins with an auxiliary: its main verb is the first one after the subject."""
    first = words[0]
    if first in english.BE:
        return Pair("be", "", "question")
    if subject and len(words) > 1 and words[1] in english.VERBS:  # "What could cause ...": the subject stood before
        return Pair(words[1], object_of(words[1], words, 2), "question")
    for place in range(2, min(len(words), 14)):
        word, before = words[place], words[place - 1]
        if word in ("have", "do"):
            return Pair(word, object_of(word, words, place + 1), "question")
        if word not in english.VERBS or before in english.DETERMINERS or before in english.PREPOSITIONS:
            continue
        if words[place + 1 : place + 2] == ["of"] and word not in PHRASAL:
            continue
        return Pair(word, object_of(word, words, place + 1), "question")
    return Pair("have", "", "question") if first in ("has", "have", "had") else NONE


def object_of(verb: str, words: list[str], at: int) -> str:
    """The head noun of the phrase after a verb, "" for none ("Explain why ...")."""
    rest = words[at : at + 14]
    if rest[:1] == ["and"] and len(rest) > 1 and rest[1] in english.VERBS:  # "Compare and contrast X"
        return object_of(rest[1], words, at + 2)
    if len(rest) > 1 and rest[0] in english.PRONOUNS and rest[0] not in english.DETERMINERS:
        rest = rest[1:]
    if rest[:1] == ["her"] and len(rest) > 1 and rest[1] in english.DETERMINERS:
        rest = rest[1:]
    if rest and rest[0] in PHRASAL.get(verb, ()):
        rest = rest[2:] if rest[:2] == ["up", "with"] else rest[1:]
    elif len(rest) > 1 and rest[0] in PARTICLES:
        rest = rest[1:]
    return noun_of(rest)


def noun_of(words: Sequence[str]) -> str:
    """The head of the noun phrase that these words begin with: its last word, in the singular; "" where there is none."""
    phrase: list[str] = []
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else ""
        if word in (",", "and", "or", "/", "&") and phrase and describes(phrase[-1]) and after[:1].isalpha():
            continue  # "a clear and concise summary"
        if word == "(" and not phrase:
            continue
        if word[0].isdigit() or (word == "to" and not phrase and after[:1].isdigit()):
            continue
        if not word[0].isalpha() or (word in english.CLAUSES and word != "given") or word in english.PREPOSITIONS:
            break
        if word == "given" and phrase:
            break
        if word.endswith(("ing", "ed")) and phrase and phrase[-1] not in english.DETERMINERS and closes(after):
            break
        phrase.append(word)
        if len(phrase) > 9:
            break
    while phrase and (phrase[-1] in english.TRAILING or (phrase[-1].endswith("ly") and len(phrase) > 1)):
        phrase.pop()
    if not phrase or phrase[-1] in english.DETERMINERS or phrase[-1] in english.PRONOUNS:
        return ""
    head = phrase[-1].removesuffix("'s")
    return english.singular(head)


def describes(word: str) -> bool:
    """Whether a word reads as an adjective."""
    return word in english.ADJECTIVES or word.endswith(english.SUFFIXES)


def closes(word: str) -> bool:
    """Whether a word shows that the participle before it belongs to a clause of its own."""
    return not word or not word[0].isalpha() or word in english.DETERMINERS or word in english.PREPOSITIONS or word in english.PRONOUNS
