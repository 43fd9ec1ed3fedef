"""ROUGE of many pairs at once: equal to rouge-score, to NLTK's stemmer and to the one-by-one functions."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etude
from etude.metrics import METRICS
from etude.records import Prediction
from etude.similarity import numbering, pairs, porter
from etude.similarity.porter import DERIVED, DROPPED, IRREGULAR, SHORTENED
from etude.similarity.rouge import numbered, rouge_l_sum, words

NAMES = ("rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum")
WORDS = [
    *("the", "a", "running", "runs", "relational", "flies", "dying", "happily", "2024", "3rd", "e.g.", "BIG", "don't", "x", ".", "--"),
    *("\n", "–", "naïve", "généralités", "übergrößen", "你好", "मेला", "İstanbul", "\u212aelvin"),
]


def texts(draws: random.Random, words: list[str], count: int, most: int = 40) -> list[str]:
    return [" ".join(draws.choices(words, k=draws.randrange(most))) for _ in range(count)]


def rows(references: list[str], outputs: list[str]) -> list[Prediction]:
    return [Prediction(str(i), (o,), (r,)) for i, (r, o) in enumerate(zip(references, outputs, strict=True))]


@pytest.mark.parametrize("stemmer", [False, True])
def test_equal_to_rouge_score(stemmer: bool) -> None:
    scorers = pytest.importorskip("rouge_score.rouge_scorer")
    draws = random.Random(7)
    long = ["".join(draws.choices("abcdefgh", k=k)) for k in (8, 9, 15, 16, 17, 18, 40) for _ in range(3)]
    theirs = [*texts(draws, WORDS, 50), *texts(draws, long, 20), "", "...", "the\ncat\n\nsat", "a\nb", "İ K ſ \ud800", "a" * 17]
    ours = [*texts(draws, WORDS, 50), *texts(draws, long, 20), "", "a", "cat\nthe\nsat the", "b\na b", "i k s", "a" * 16]
    names = [*NAMES, "rouge4", "rouge9"]
    scorer = scorers.RougeScorer(names, use_stemmer=stemmer)
    expected = [scorer.score(r.replace("\ud800", " "), o) for r, o in zip(theirs, ours, strict=True)]
    for name in names:
        n = int(name[-1]) if name[-1].isdigit() else 0
        metric = METRICS["rougeN"](n=n, stemmer=stemmer) if n > 3 else METRICS[name](stemmer=stemmer)
        found = metric.stats(rows(theirs, ours))
        np.testing.assert_allclose(found[:, 0], [e[name].fmeasure for e in expected], atol=1e-12, err_msg=name)
        assert (found[:, 1] == 1).all()


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_any_text_gets_the_words_it_has(drawn: list[tuple[str, str]]) -> None:
    flat = tuple(text for pair in drawn for text in pair)
    both = numbering.numbered_together(flat)
    assert both.sizes.tolist() == [len(words(text)) for text in flat]
    known: dict[str, int] = {}
    slow = [token for text in flat for token in numbered(words(text), known)]
    assert len(set(zip(slow, both.tokens.tolist(), strict=True))) == len(set(slow)) == len(set(both.tokens.tolist()))


def test_crowded_tables_keep_keys_apart() -> None:
    keys = np.random.default_rng(0).integers(0, 1 << 62, 5000).astype(np.uint64)
    keys = np.concatenate([keys, keys, np.array([0, 0], dtype=np.uint64)])
    for bits in (8, 13, 20):  # fewer slots than keys, about as many, many more
        for tail in (None, keys[::-1].copy()):
            found = numbering.slots(keys, tail, bits)
            whole = list(zip(keys.tolist(), (keys if tail is None else tail).tolist(), strict=True))
            assert len(set(zip(whole, found.tolist(), strict=True))) == len(set(whole)) == len(set(found.tolist()))


def test_blocks_and_single_pairs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = random.Random(3)
    theirs, ours = (["\n".join(texts(draws, WORDS, draws.randint(1, 5), 12)) for _ in range(60)] for _ in range(2))
    whole = [METRICS[name]().stats(rows(theirs, ours)) for name in NAMES]
    monkeypatch.setattr(pairs, "FEW", 0)
    assert all(np.array_equal(METRICS[name]().stats(rows(theirs, ours)), w) for name, w in zip(NAMES, whole, strict=True))
    monkeypatch.setattr(pairs, "PAIRS", 7)
    monkeypatch.setattr(pairs, "CELLS", 500)
    assert all(np.array_equal(METRICS[name]().stats(rows(theirs, ours)), w) for name, w in zip(NAMES, whole, strict=True))
    found = pairs.by_blocks(theirs, ours, lambda a, b: pairs.lines_together(a, b, None), lambda a, b: 0.0, 10**6)
    for place, (r, o) in enumerate(zip(theirs, ours, strict=True)):
        known: dict[str, int] = {}
        sentences = [[numbered(words(line), known) for line in text.split("\n")] for text in (r, o)]
        assert found[place] == pytest.approx(rouge_l_sum(*sentences), abs=1e-12)


def test_a_pair_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = ["the cat sat\non the mat " * 50, "a b c"], ["the mat sat\non a cat " * 60, "a c b"]
    whole = {name: METRICS[name]().stats(rows(theirs, ours)) for name in NAMES}
    for name in NAMES:
        split = pairs.by_blocks.__defaults__
        monkeypatch.setattr(pairs, "BLOCK", 100)
        monkeypatch.setattr(pairs.by_blocks, "__defaults__", (100,))
        np.testing.assert_allclose(METRICS[name]().stats(rows(theirs, ours)), whole[name], atol=1e-12)
        monkeypatch.setattr(pairs.by_blocks, "__defaults__", split)


def test_stems_are_nltks() -> None:
    stem = pytest.importorskip("nltk.stem.porter").PorterStemmer().stem
    draws = random.Random(5)
    ends = [*DERIVED, *SHORTENED, *DROPPED, "ies", "ied", "sses", "eed", "ed", "ing", "s", "y", "e", "ll", "logi", "ally", "fully"]
    made = {
        "".join(draws.choices("aeiouybcdlstwxz1", k=draws.randrange(6))) + "".join(draws.choices(ends, k=draws.randrange(3)))
        for _ in range(5000)
    }
    real = {w for p in Path(etude.__file__).parent.glob("*.py") for w in re.findall("[a-z0-9]+", p.read_text(encoding="utf-8").lower())}
    for word in made | real | set(IRREGULAR):
        assert porter(word) == stem(word), word
