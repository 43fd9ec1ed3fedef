"""How alike two texts are: ROUGE, the exact novelty filter over a pool, and near duplicates among millions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from etude.similarity.porter import porter
from etude.similarity.rouge import WORD, f_measure, lcs_length, lcs_places, numbered, rouge_l, rouge_l_sum, rouge_n, words
from etude.similarity.shingles import jaccard, shingles, tokens

if TYPE_CHECKING:
    from etude.similarity.minhash import Bands, near_groups, near_pairs
    from etude.similarity.novelty import Nearest, NoveltyIndex
    from etude.similarity.pairs import rouge_l_pairs, rouge_l_sum_pairs, rouge_n_pairs
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
    "porter",
    "rouge_l",
    "rouge_l_pairs",
    "rouge_l_sum",
    "rouge_l_sum_pairs",
    "rouge_n",
    "rouge_n_pairs",
    "shingles",
    "tokens",
    "words",
]

HOME = {
    "Bands": "minhash",
    "Nearest": "novelty",
    "NoveltyIndex": "novelty",
    "UnionFind": "unions",
    "near_groups": "minhash",
    "near_pairs": "minhash",
    "rouge_l_pairs": "pairs",
    "rouge_l_sum_pairs": "pairs",
    "rouge_n_pairs": "pairs",
}
"""Names whose modules need numpy: they are imported when first used, because a recipe is read without numpy."""


def __getattr__(name: str) -> Any:
    """A name of a module that is imported when first used."""
    if name not in HOME:
        raise AttributeError(f"module 'etude.similarity' has no attribute {name!r}")
    return getattr(importlib.import_module(f"etude.similarity.{HOME[name]}"), name)
