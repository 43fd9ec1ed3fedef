"""The novelty filter decides as rouge-score does, pair by pair; near duplicates are verified and found."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from etude.similarity import Bands, NoveltyIndex, UnionFind, jaccard, near_groups, near_pairs, rouge_l, shingles, tokens, words
from etude.similarity import novelty as layout

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)

KINDS = ("the", "of", "a", "to", "write", "list", "story", "about", "poem", "code", "sort", "Why?", "ten-10", "é", "漢", "-")
TEXTS = st.lists(st.sampled_from(KINDS), max_size=14).map(" ".join)
CLOSE = st.integers(1, 10).flatmap(  # texts of ten tokens with few kinds, where scores of exactly 0.7 are common
    lambda kinds: st.lists(
        st.lists(st.integers(0, kinds).map(lambda n: "abcdefghijk"[n]), min_size=10, max_size=10).map(" ".join), max_size=12
    )
)


def reference(texts, threshold):
    """Self-Instruct's loop over every pair: kept texts, and of the others the nearest kept and its score."""
    kept, found = [], []
    for text in texts:
        scores = [SCORER.score(text, other)["rougeL"].fmeasure for other in kept]
        if scores and max(scores) > threshold:
            found.append((scores.index(max(scores)), max(scores)))
        else:
            kept.append(text)
            found.append(None)
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@given(texts=st.one_of(CLOSE, st.lists(TEXTS, max_size=20)))
@settings(max_examples=60)
def test_every_decision_is_that_of_rouge_score(texts, threshold):
    index = NoveltyIndex(threshold)
    index.rebuild_at = 4  # so that few texts pass through several layouts
    assert [index.admit(words(text)) for text in texts] == reference(texts, threshold)


def test_a_score_of_exactly_the_threshold_is_kept_where_rouge_score_keeps_it():
    ties = 0
    for length in range(1, 40):
        for other in range(1, 40):
            for hits in range(1, min(length, other) + 1):
                if 20 * hits != 7 * (length + other):  # 2 * hits / (length + other) is 0.7
                    continue
                ties += 1
                one = [f"x{i}" for i in range(length)]
                two = one[:hits] + [f"y{i}" for i in range(other - hits)]
                index = NoveltyIndex()
                index.add(one)
                assert (index.above(two) is not None) == (SCORER.score(" ".join(one), " ".join(two))["rougeL"].fmeasure > 0.7)
    assert ties > 30


@given(pool=st.lists(TEXTS, min_size=1, max_size=20), text=TEXTS)
@settings(max_examples=100)
def test_the_nearest_and_the_neighbours_are_exact(pool, text):
    index = NoveltyIndex()
    index.rebuild_at = 3
    for one in pool:
        index.add(words(one))
    scores = [SCORER.score(one, text)["rougeL"].fmeasure for one in pool]
    ranked = sorted(((number, score) for number, score in enumerate(scores) if score > 0), key=lambda one: (-one[1], one[0]))
    assert index.neighbours(words(text), 3) == ranked[:3]
    assert index.nearest(words(text)) == (ranked[0] if ranked else (-1, 0.0))


def zipf(count, seed=0):
    """Texts of 5 to 40 words, common ones often, a third of them a changed copy of an earlier one."""
    draws = random.Random(seed)
    rows = []
    for _ in range(count):
        if rows and draws.random() < 0.3:
            row = list(draws.choice(rows))
            for _ in range(draws.randint(0, len(row) // 2)):
                row[draws.randrange(len(row))] = f"w{draws.randint(0, 300)}"
        else:
            row = [f"w{int(300 ** draws.random())}" for _ in range(draws.randint(5, 40))]
        rows.append(row)
    return rows


def test_a_pool_of_hundreds_is_pruned_without_changing_a_decision():
    rows = zipf(600)
    index, kept, compared = NoveltyIndex(), [], 0
    known: dict[str, int] = {}
    ids = [[known.setdefault(word, len(known)) for word in row] for row in rows]
    candidates = index.candidates
    for row, own in zip(rows, ids, strict=True):
        compared += len(candidates([index.known.get(word, 0) for word in row]))
        scores = [rouge_l(other, own) for other in kept]
        best = max(scores, default=0)
        near = index.admit(row)
        assert near == ((scores.index(best), best) if best > 0.7 else None)
        if near is None:
            kept.append(own)
    assert compared < len(rows) * len(kept) / 20  # nearly all pairs were never compared


def test_words_beyond_the_characters_compare_as_the_others_do(monkeypatch):
    rows = zipf(120)
    plain, wide = NoveltyIndex(), NoveltyIndex()
    before = [plain.admit(row) for row in rows]
    monkeypatch.setattr(layout, "LETTERS", 40)
    assert [wide.admit(row) for row in rows] == before
    assert [wide.nearest(row) for row in rows] == [plain.nearest(row) for row in rows]
    assert any(not isinstance(one, str) for one in wide.spelled)
    assert any(isinstance(one, str) for one in wide.spelled)


def test_a_threshold_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        NoveltyIndex(1.5)


# near duplicates


def changed(rows, draws, share):
    """Copies of the rows with a share of their words replaced."""
    copies = []
    for row in rows:
        row = list(row)
        for place in draws.sample(range(len(row)), round(share * len(row))):
            row[place] = f"new{draws.randint(0, 10**6)}"
        copies.append(row)
    return copies


def test_near_groups_are_those_of_all_pairs():
    draws = random.Random(1)
    originals = [[f"w{draws.randint(0, 2000)}" for _ in range(60)] for _ in range(150)]
    texts = [" ".join(row) for row in originals + changed(originals, draws, 0.02) + changed(originals, draws, 0.1)]
    draws.shuffle(texts)
    texts += ["", "...", ""]
    sets = [shingles(tokens(text), 3) for text in texts]
    expected = UnionFind(len(texts))
    for i, one in enumerate(sets):
        for j in range(i):
            if jaccard(one, sets[j]) >= 0.8:
                expected.join(i, j)
    groups = expected.groups()
    assert 100 < len(groups) < 160
    assert near_groups(texts) == groups
    half = len(texts) // 2
    pairs = [(i, j) for i in range(half) for j in range(len(texts) - half) if jaccard(sets[i], sets[half + j]) >= 0.8]
    assert near_pairs(texts[:half], texts[half:]) == pairs


def test_every_hit_is_verified(monkeypatch):
    """Were all keys equal, the groups would still be those of the sets."""
    from etude.similarity import minhash

    monkeypatch.setattr(minhash, "band_keys", lambda runs, starts, *rest: np.zeros((rest[-1].bands, len(starts)), dtype=np.uint32))
    texts = ["one two three four five", "one two three four five", "six seven eight nine ten", "one two three four nine", "two"]
    assert near_groups(texts) == [[0, 1]]
    assert near_groups(texts, threshold=0.5) == [[0, 1, 3]]


def test_found_as_often_as_the_bands_say():
    bands = Bands(4, 4)  # few bands, so that some pairs are missed
    draws = random.Random(3)
    found, expected = 0, 0.0
    from etude.similarity.minhash import hashed

    for _ in range(12):
        originals = [[f"w{draws.randint(0, 10**6)}" for _ in range(50)] for _ in range(100)]
        copies = changed(originals, draws, 0.06)
        keys = np.concatenate(
            [k for k, _ in hashed([" ".join(r) for r in originals + copies], 3, bands, seed=draws.randint(0, 99))], axis=1
        )
        found += int((keys[:, :100] == keys[:, 100:]).any(axis=0).sum())
        expected += sum(bands.recall(jaccard(shingles(a, 3), shingles(b, 3))) for a, b in zip(originals, copies, strict=True))
    assert abs(found - expected) < 4 * (1200 * 0.25) ** 0.5


def test_bands_find_a_pair_at_the_threshold():
    for threshold in (0.5, 0.8, 0.9):
        bands = Bands.fit(threshold)
        assert bands.recall(threshold) >= 0.999
        assert bands.bands * bands.rows <= 128
        assert Bands(128 // (bands.rows + 1), bands.rows + 1).recall(threshold) < 0.999
    assert Bands.fit(0.8) == Bands(25, 5)


def test_no_texts_and_no_words_are_no_groups():
    assert near_groups([]) == near_groups(["", " ."]) == []
    assert near_pairs([], ["a"]) == near_pairs(["a"], []) == []


def test_tokens_of_other_scripts():
    assert tokens("Ｆｕｌｌ Width, naïve_ÉTÉ; 漢字かな!") == ["full", "width", "naïve", "été", "漢", "字", "か", "な"]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=25))
def test_sets_merge_whatever_the_order(pairs):
    one, other = UnionFind(20), UnionFind(20)
    for left, right in pairs:
        one.join(left, right)
    for left, right in reversed(pairs):
        other.join(right, left)
    assert one.roots().tolist() == other.roots().tolist()
    assert one.groups() == other.groups()
    assert all(one.find(member) == group[0] for group in one.groups() for member in group)
