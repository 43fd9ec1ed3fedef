"""Templates: how the fields of a row become an instruction and an answer, in words.

A template is data, a YAML file: a task's fields, its label set if it has one, and several phrasings
(after FLAN, Wei et al. 2021), each a Jinja text for the instruction, for the material it is about and
for the answer. The instruction of a phrasing is the same for every row and comes first, the material
after it, so that all rows share a prefix. `write` is used in mixing, scoring and previewing alike;
`wording` says, from a seed and a recipe's `Wording`, what a row's words will be.
"""

from etude.templates.choices import Choices, Phrasings, Shots, Wording, wording
from etude.templates.exemplars import Count, Pool, draw, gather, pick_exemplars
from etude.templates.options import texts
from etude.templates.reasoning import answer_of
from etude.templates.rows import ROLES, message, worded
from etude.templates.template import Phrasing, Template, TemplateName, digest, load, names, parse
from etude.templates.writing import write, write_all

__all__ = [
    "ROLES",
    "Choices",
    "Count",
    "Phrasing",
    "Phrasings",
    "Pool",
    "Shots",
    "Template",
    "TemplateName",
    "Wording",
    "answer_of",
    "digest",
    "draw",
    "gather",
    "load",
    "message",
    "names",
    "parse",
    "pick_exemplars",
    "texts",
    "worded",
    "wording",
    "write",
    "write_all",
]
