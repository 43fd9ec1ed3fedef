"""Mixing: which rows of which source are trained, how often and in which order, and what was really drawn.

`mix` is a pure function of rows, settings and seed: a row's place in the queue of its source is the hash of the
row, so that a source that grows leaves the draws of the others where they were. `stream` draws in the same
proportions from sources larger than memory.

How this goes together with a recipe's `Wording`: a mixture says *which* rows are drawn (and how many of those
that have reasoning), the wording says *how* each one is asked (zero-shot or few-shot, with options or without,
with its reasoning or without, inverted), by a lot of its own a row. The one thing that needs both is here too:
`even_phrasings` uses each phrasing of a template equally often, and `words_of` gives the shares of a preset.
"""

from etude.mixing.drawing import Drawn, Mixed, mix
from etude.mixing.phrasing import even_phrasings, words_of
from etude.mixing.rates import apportion, fill, rate, shares
from etude.mixing.settings import PRESETS, Balance, Mixture
from etude.mixing.streaming import stream
from etude.mixing.tables import Line, Report, realised

__all__ = [
    "PRESETS",
    "Balance",
    "Drawn",
    "Line",
    "Mixed",
    "Mixture",
    "Report",
    "apportion",
    "even_phrasings",
    "fill",
    "mix",
    "rate",
    "realised",
    "shares",
    "stream",
    "words_of",
]
