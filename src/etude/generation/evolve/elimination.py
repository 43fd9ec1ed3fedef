"""The rules by which Evol-Instruct gives an evolved instruction up (Xu et al. 2023, section 3.3): it says no more than the one before
(a judge decides), its answer is an apology, its answer says nothing, or it speaks of the prompt that made it."""

from __future__ import annotations

import re

from etude.generation.evolve.operations import LEAKS
from etude.generation.replies import folded

APOLOGY = re.compile(r"\bsorry\b", re.IGNORECASE)
SHORT = 80
"""Words below which an answer with "sorry" in it is an apology (the paper's number)."""
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
STOPS = (
    "a about above after again against all also am an and any are aren't as at be because been before being below between both but by "
    "can can't could couldn't did didn't do does doesn't doing don't down during each even few for from further had hadn't has hasn't "
    "have haven't having he her here hers herself him himself his how i i'd i'll i'm i've if in into is isn't it it's its itself just "
    "let's me might more most must my myself nor not now of off on once only or other our ours ourselves out over own same shall she "
    "should shouldn't so some such than that that's the their theirs them themselves then there there's these they they're this those "
    "through to too under until up us very was wasn't we we're were weren't what when where which while who whom whose why will with "
    "won't would wouldn't you you're your yours yourself yourselves"
)
STOP_WORDS = frozenset(STOPS.split())
"""English words that say nothing by themselves; "yes" and "no" are answers."""


def leaks(text: str, before: str) -> str:
    """The words of the prompt that a text took over; "" where there are none. What its source had already is no leak."""
    new, old = folded(text), folded(before)
    return next((words.strip() for words in LEAKS if words in new and words not in old), "")


def apologises(response: str) -> bool:
    """Whether a response is a short one that says "sorry"."""
    return APOLOGY.search(response) is not None and len(response.split()) < SHORT


def says_nothing(response: str) -> bool:
    """Whether a response has no word but stop words: punctuation alone, too."""
    return all(word.casefold().replace("’", "'") in STOP_WORDS for word in WORD.findall(response))


def dismissed(response: str) -> str:
    """The rule that gives an instruction up for its response; "" for none."""
    return "sorry" if apologises(response) else "only stop words" if says_nothing(response) else ""
