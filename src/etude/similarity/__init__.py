"""How alike two texts are: ROUGE, the exact novelty filter over a pool, and near duplicates among millions."""

from __future__ import annotations

from etude.similarity.minhash import Bands, near_groups, near_pairs
from etude.similarity.novelty import Nearest, NoveltyIndex
from etude.similarity.rouge import WORD, f_measure, lcs_length, lcs_places, numbered, rouge_l, rouge_l_sum, rouge_n, words
from etude.similarity.shingles import jaccard, shingles, tokens
from etude.similarity.unions import UnionFind

__all__ = [
    "WORD",
    "Bands",
    "Nearest",
    "NoveltyIndex",
    "UnionFind",
    "f_measure",
    "jaccard",
    "lcs_length",
    "lcs_places",
    "near_groups",
    "near_pairs",
    "numbered",
    "rouge_l",
    "rouge_l_sum",
    "rouge_n",
    "shingles",
    "tokens",
    "words",
]
