"""What is in a data set, in numbers: verbs and their objects, lengths, words, topics, novelty, difficulty; what one set covers
of another; and the quality checklist answered with them. Pure functions of rows; every figure says what it was counted on."""

from etude.curation.diversity.checklist import Answered, checklist
from etude.curation.diversity.coverage import Coverage, Neighbour, Novelty, coverage, novelty
from etude.curation.diversity.figures import Figures, figures
from etude.curation.diversity.hardness import Hardness, hardness, hardness_of_facts
from etude.curation.diversity.lengths import Length, lengths
from etude.curation.diversity.topics import Topic, Topics, topics
from etude.curation.diversity.variety import Variety, variety
from etude.curation.diversity.verbs import Pair, Pairs, Verb, pair_of, verb_pairs

__all__ = [
    "Answered",
    "Coverage",
    "Figures",
    "Hardness",
    "Length",
    "Neighbour",
    "Novelty",
    "Pair",
    "Pairs",
    "Topic",
    "Topics",
    "Variety",
    "Verb",
    "checklist",
    "coverage",
    "figures",
    "hardness",
    "hardness_of_facts",
    "lengths",
    "novelty",
    "pair_of",
    "topics",
    "variety",
    "verb_pairs",
]
