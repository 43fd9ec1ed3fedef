"""Several seeds, groups and arms: against statsmodels and scipy, against simulation, and at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from etude.comparison import (
    Interval,
    benjamini_hochberg,
    compare,
    compare_arms,
    compare_slices,
    exploratory,
    holm,
    interval,
    smallest_difference,
)
from etude.comparison.crossed import residual, spread, values
from etude.metrics.classification import Accuracy
from etude.metrics.overlap import Bleu
from etude.metrics.probabilities import BitsPerToken
from etude.metrics.rouge import RougeL
from etude.records import Prediction


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etude.comparison.drawing.DRAWS", 200)
    monkeypatch.setattr("etude.comparison.drawing.RESAMPLES", 100)


def rows(scores: Any) -> np.ndarray:
    """Scores (..., items) as statistics (..., items, 2)."""
    scores = np.asarray(scores, dtype=np.float64)
    return np.stack([scores, np.ones_like(scores)], axis=-1)


def model(
    draw: np.random.Generator, repeats: int, items: int, seeds: tuple[int, int], *, effect: float = 0, seed_sd: float = 0.1, own: float = 0
) -> list[np.ndarray]:
    """Right and wrong answers of two arms, (repeats, seeds, items) each: ability of items (sd 2), of arm x item (`own`), of seeds and of
    item x seed (sd .5) add up on the logit scale. A seed_sd of .1 moves accuracy by 1.6 points, .2 by 2.8."""
    ability = draw.normal(0, 2, (repeats, 1, items))
    arms = []
    for count, shift in zip(seeds, (0, effect), strict=True):
        logit = ability + shift + draw.normal(0, own, (repeats, 1, items)) + draw.normal(0, seed_sd, (repeats, count, 1))
        logit = logit + draw.normal(0, 0.5, (repeats, count, items))
        arms.append((draw.random((repeats, count, items)) < 1 / (1 + np.exp(-logit))).astype(np.float64))
    return arms


def found(arms: list[np.ndarray], groups: Any = None) -> float:
    """The share of repeats in which a difference is found."""
    return float(np.mean([compare(rows(a), rows(b), Accuracy(), groups=groups).p < 0.05 for a, b in zip(*arms, strict=True)]))


@pytest.mark.parametrize(
    ("items", "seeds", "seed_sd", "own"),
    [(50, (3, 3), 0.1, 0), (200, (5, 5), 0.2, 0), (200, (3, 3), 0.1, 1.0), (200, (2, 5), 0.2, 0), (100, (3, 3), 0, 0)],
)
def test_methods_that_are_the_same_are_rarely_told_apart(items: int, seeds: tuple[int, int], seed_sd: float, own: float) -> None:
    """A/A. 200 repeats at 5 %: 10 expected at most, sd 3.1."""
    draw = np.random.default_rng(items + sum(seeds))
    assert found(model(draw, 200, items, seeds, seed_sd=seed_sd, own=own)) <= 0.05 + 3 * 0.0154


def test_two_checkpoints_are_told_apart_too_often_to_speak_of_methods() -> None:
    """Why one seed is labelled: at 500 items and seeds that move accuracy by 2.8 points, equal methods differ in every fourth pair."""
    arms = model(np.random.default_rng(1), 80, 500, (3, 3), seed_sd=0.2)
    assert found([arm[:, :1] for arm in arms]) > 0.15
    assert found(arms) < 0.12


def test_what_is_planted_is_found_with_more_seeds() -> None:
    """A true difference of 8.7 points on 100 items."""
    arms = model(np.random.default_rng(2), 80, 100, (5, 5), effect=0.6)
    assert found([arm[:, :1] for arm in arms]) < 0.5
    assert found(arms) > 0.65
    one = compare(rows(arms[0][0]), rows(arms[1][0]), Accuracy())
    assert one.label == "5 and 5 seeds"
    assert one.method.startswith("items x seeds standard error, Satterthwaite t")
    assert one.difference == pytest.approx(arms[1][0].mean() - arms[0][0].mean())
    far = compare(rows(arms[0][0]), rows(np.maximum(arms[0][0], arms[1][0])), Accuracy())
    assert far.verdict.startswith("better: +")


def test_the_error_is_the_one_of_simple_cases() -> None:
    draw = np.random.default_rng(3)
    # seeds alone: every item tells the same, and the test is Welch's on seed means
    first, second = draw.normal(0, 1, (4, 1)) + np.zeros((4, 30)), draw.normal(0.5, 2, (6, 1)) + np.zeros((6, 30))
    welch = oracle.ttest_ind(second[:, 0], first[:, 0], equal_var=False)
    got = spread([first, second])
    assert (got.df, (second.mean() - first.mean()) / got.error) == (pytest.approx(welch.df), pytest.approx(welch.statistic))
    assert compare(rows(first), rows(second), RougeL()).p == pytest.approx(welch.pvalue)
    # items alone: every seed tells the same, and the test is the paired t test
    base, gain = np.tile(draw.random(30), (3, 1)), np.tile(draw.normal(0.1, 0.2, 30), (3, 1))
    paired = oracle.ttest_rel((base + gain)[0], base[0])
    same = compare(rows(base), rows(base + gain), RougeL())
    low, high = paired.confidence_interval()
    assert (same.p, same.interval) == (pytest.approx(paired.pvalue), Interval(pytest.approx(low), pytest.approx(high)))


def test_the_residual_is_what_least_squares_leaves() -> None:
    table = np.random.default_rng(4).normal(size=(3, 8)) + np.arange(8)
    design = np.array([[*np.eye(3)[s], *np.eye(8)[i]] for s in range(3) for i in range(8)])
    left = np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
    assert residual(table) == pytest.approx(((table.ravel() - design @ left) ** 2).sum() / (24 - 3 - 8 + 1))


def test_clustered_errors_are_statsmodels() -> None:
    models = pytest.importorskip("statsmodels.regression.linear_model")
    draw = np.random.default_rng(5)
    groups = np.sort(draw.integers(0, 12, 90))
    gain = draw.normal(0, 0.3, 90) + draw.normal(0.1, 0.4, 12)[groups]
    base = draw.random(90)
    told = models.OLS(gain, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    got = compare(rows(base), rows(base + gain), RougeL(), groups=groups.tolist())
    low, high = told.conf_int()[0]
    assert got.interval == Interval(pytest.approx(low), pytest.approx(high))
    assert got.groups == 12
    assert got.method.startswith("group sign-flip")
    several = spread([np.tile(base, (2, 1)), np.tile(base + gain, (2, 1))], groups)
    assert (several.error, several.df) == (pytest.approx(told.bse[0]), pytest.approx(11))


def grouped(draw: np.random.Generator, repeats: int, groups: int, each: int) -> list[np.ndarray]:
    """A/A with an effect of arm x passage: 0 and 1, (repeats, 1, items)."""
    ability = np.repeat(draw.normal(0, 1.5, (repeats, groups)), each, axis=1) + draw.normal(0, 1, (repeats, groups * each))
    logits = [ability + np.repeat(draw.normal(0, 0.7, (repeats, groups)), each, axis=1) for _ in range(2)]
    return [(draw.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float64)[:, None] for logit in logits]


def test_groups_keep_the_level_where_items_alone_do_not() -> None:
    arms = grouped(np.random.default_rng(6), 100, 10, 20)
    names = np.repeat(np.arange(10), 20).tolist()
    assert found(arms) > 0.1
    assert found(arms, names) <= 0.05 + 3 * 0.0218


def test_groups_of_a_corpus_metric_are_swapped_and_drawn_whole() -> None:
    draw = np.random.default_rng(7)
    base, tuned = sentences(draw, 24, 0.7), sentences(draw, 24, 0.75)
    names = ["a", "b", "c", "d", "e", "f"] * 4
    got = compare(base, tuned, Bleu(), groups=names)
    sums = [np.stack([arm[place::6].sum(axis=0) for place in range(6)]) for arm in (base, tuned)]
    alone = compare(*sums, Bleu())
    assert (got.p, got.interval, got.difference) == (alone.p, alone.interval, pytest.approx(alone.difference))
    assert got.method.startswith("group approximate randomisation")
    assert compare(base, tuned, Bleu(), groups=list(range(24))) == compare(base, tuned, Bleu()), "groups of one item are none"


def sentences(draw: np.random.Generator, count: int, keep: float) -> np.ndarray:
    """BLEU statistics of outputs that keep a share of their reference's words."""
    told = []
    for i in range(count):
        reference = [f"w{n}" for n in draw.integers(0, 50, size=12)]
        told.append(Prediction(str(i), (" ".join(w if draw.random() < keep else "x" for w in reference),), (" ".join(reference),)))
    return Bleu().stats(told)


def test_jackknife_values_of_a_mean_are_the_values() -> None:
    scores = np.random.default_rng(8).random((2, 9))
    assert values(rows(scores), RougeL(), True) == pytest.approx(scores)


class Ratio:
    """A corpus score that is quick: what is right by what was asked, each item of its own weight."""

    scale = 1.0

    def stats(self, predictions: Any) -> np.ndarray:
        raise NotImplementedError

    def score(self, totals: np.ndarray) -> float:
        return float(totals[0] / totals[1])

    def signature(self, predictions: Any = ()) -> str:
        return "ratio"


def test_corpus_scores_of_several_seeds_keep_the_level() -> None:
    """A/A, seeds that move the score by 3 points: randomising the items alone finds far too much. 80 repeats at 5 %: 4, sd 2."""
    draw, both, items_alone = np.random.default_rng(9), 0, 0
    for _ in range(80):
        weight, share = draw.integers(2, 12, 150), draw.beta(3, 2, 150)
        arms = [
            np.stack([np.stack([draw.binomial(weight, np.clip(share + draw.normal(0, 0.03), 0, 1)), weight], axis=1) for _ in range(3)])
            for _ in range(2)
        ]
        both += compare(*(arm.astype(float) for arm in arms), Ratio()).p < 0.05
        items_alone += compare(*(arm[0].astype(float) for arm in arms), Ratio()).p < 0.05
    assert both <= 10
    assert items_alone >= 16


def test_corpus_scores_of_several_seeds() -> None:
    draw, metric = np.random.default_rng(15), Bleu()
    base, tuned = (np.stack([sentences(np.random.default_rng(place), 30, keep) for place in range(3)]) for keep in (0.6, 0.85))
    told = compare(base, tuned, metric)
    assert told.verdict.startswith("better: +")
    assert "jackknife" in told.method
    means = [np.mean([metric.score(one.sum(axis=0)) for one in arm]) for arm in (base, tuned)]
    assert told.difference == pytest.approx(means[1] - means[0])
    assert told.interval.low < told.difference < told.interval.high
    alone = interval(base, metric)
    assert alone.low < means[0] < alone.high
    assert compare(base, base[:, draw.permutation(30)], metric).verdict.startswith("no difference shown")


def test_one_arms_interval_over_seeds_covers() -> None:
    draw = np.random.default_rng(10)
    truth = model(draw, 1, 40_000, (30, 2))[0].mean()
    arms = model(draw, 200, 100, (3, 2), seed_sd=0.2)[0]
    inside = [(one := interval(rows(arm), Accuracy())).low <= truth <= one.high for arm in arms]
    assert np.mean(inside) >= 0.92
    flat = interval(rows(np.ones((3, 40))), Accuracy())
    assert (flat.high, flat.low) == (pytest.approx(1), pytest.approx(oracle.binomtest(40, 40).proportion_ci(method="wilson").low))
    assert interval(rows(np.zeros((3, 1))), Accuracy()) == Interval(0, 1)
    clustered = interval(rows(arms[0][0]), Accuracy(), groups=[i // 10 for i in range(100)])
    assert clustered.low < arms[0][0].mean() < clustered.high


# ---- many arms, equivalence, words -----------------------------------------------------------------


def test_corrections_are_statsmodels() -> None:
    tests = pytest.importorskip("statsmodels.stats.multitest")
    draw = np.random.default_rng(11)
    for size in (1, 2, 7):
        ps = (draw.random(size) ** 3).tolist()
        assert holm(ps) == pytest.approx(tests.multipletests(ps, method="holm")[1])
        assert benjamini_hochberg(ps) == pytest.approx(tests.multipletests(ps, method="fdr_bh")[1])
    assert holm([]) == benjamini_hochberg([]) == []


def test_arms_against_one_baseline_share_the_level() -> None:
    base = np.tile([1.0, 0.0], 50)
    near, far = base.copy(), base.copy()
    near[1:28:2], near[0:10:2] = 1, 0  # 14 won, 5 lost: p .041
    far[1::2] = 1
    alone = compare(rows(base), rows(near), Accuracy())
    assert alone.p < 0.05
    assert alone.verdict.startswith("better")
    told = compare_arms(rows(base), {"near": rows(near), "far": rows(far), "same": rows(base)}, Accuracy())
    assert told["far"].verdict.startswith("better: +0.500")
    assert told["far"].verdict.endswith("adjusted p < .001")
    assert told["near"].p == alone.p < told["near"].adjusted == pytest.approx(2 * alone.p)
    assert told["near"].verdict.startswith("no difference shown after the correction for 3 comparisons; could have seen >= 0.")
    assert told["near"].smallest > alone.smallest
    assert told["same"].verdict == "cannot test: all 100 items are ties"


def test_slices_are_exploratory() -> None:
    base = np.tile([1.0, 0.0], 60)
    tuned = base.copy()
    tuned[1:40:2] = 1
    names = ["short"] * 40 + ["long"] * 80
    found = compare_slices(rows(base), {"tuned": rows(tuned), "same": rows(base)}, Accuracy(), names)
    assert {one.family for one in found.values()} == {4}  # arms x slices are one family
    told = {name: one for (arm, name), one in found.items() if arm == "tuned"}
    assert told["short"].verdict.startswith("better: +0.500")
    assert "q < .001" in told["short"].verdict
    assert told["short"].label == "exploratory; these checkpoints only"
    assert told["long"].verdict.startswith("cannot test")
    one = compare(rows(base[:40]), rows(np.where(np.arange(40) < 14, 1, base[:40])), Accuracy())
    assert exploratory({"a": one})["a"].adjusted == one.p
    assert exploratory(exploratory({"a": one}))["a"].label == "exploratory; these checkpoints only"


def test_slices_know_of_groups() -> None:
    draw = np.random.default_rng(3)
    pages = [f"page {n // 5}" for n in range(120)]
    base, tuned = draw.integers(0, 2, 120).astype(float), np.repeat(draw.integers(0, 2, 24), 5).astype(float)
    found = compare_slices(rows(base), {"a": rows(tuned)}, Accuracy(), ["x"] * 60 + ["y"] * 60, groups=pages)
    assert {name: one.groups for (_, name), one in found.items()} == {"x": 12, "y": 12}


def test_equivalence_needs_a_margin_and_a_narrow_interval() -> None:
    tost = pytest.importorskip("statsmodels.stats.weightstats")
    draw = np.random.default_rng(12)
    base = draw.random(200)
    tuned = base + draw.normal(0.002, 0.05, 200)
    p = tost.ttost_paired(tuned, base, -0.01, 0.01)[0]
    for margin in (0.004, 0.008, 0.01, 0.02):
        expected = tost.ttost_paired(tuned, base, -margin, margin)[0] < 0.05
        told = compare(rows(base), rows(tuned), RougeL(), margin=margin)
        assert told.equivalent == expected
        assert (told.verdict == f"equivalent within +-{margin:g}") == expected
    assert 0.001 < p < 0.5
    assert compare(rows(base), rows(tuned), RougeL()).equivalent is None
    sure = compare(rows(base), rows(base + draw.normal(0.004, 0.01, 200)), RougeL(), margin=0.02)
    assert sure.verdict.startswith("better: +0.00")
    assert sure.verdict.endswith("yet equivalent within +-0.02")
    # just narrow enough alone, and no longer for one of twenty arms
    just = next(m for m in np.arange(0.002, 0.03, 0.0002) if 0.01 < tost.ttost_paired(tuned, base, -m, m)[0] < 0.04)
    assert compare(rows(base), rows(tuned), RougeL(), margin=float(just)).equivalent
    arms = {str(i): rows(tuned) for i in range(20)}
    assert not compare_arms(rows(base), arms, RougeL(), margin=float(just))["0"].equivalent
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin"):
            compare(rows(base), rows(tuned), RougeL(), margin=wrong)


def test_different_methods_are_rarely_called_equivalent() -> None:
    """Truly apart by exactly the margin: at most 5 % may be called equivalent."""
    draw, called = np.random.default_rng(13), 0
    for _ in range(300):
        ability = draw.random((1, 60)) + draw.normal(0, 0.1, (1, 60))
        base, tuned = (ability + shift + draw.normal(0, 0.01, (3, 1)) + draw.normal(0, 0.05, (3, 60)) for shift in (0, 0.05))
        called += bool(compare(rows(base), rows(tuned), RougeL(), margin=0.05).equivalent)
    assert called <= 15 + 3 * 3.8


def test_less_is_better_where_the_metric_says_so() -> None:
    draw = np.random.default_rng(14)
    base = np.stack([np.stack([draw.random(40) * 20 + 20, np.full(40, 10.0)], axis=1)] * 3)
    tuned = base - [2.0, 0.0] + np.stack([draw.normal(0, 0.2, (3, 40)), np.zeros((3, 40))], axis=-1)
    assert compare(base, tuned, BitsPerToken()).verdict.startswith("better: -")


@pytest.mark.parametrize(
    ("base", "tuned", "why"),
    [
        (np.zeros((3, 0)), np.zeros((3, 0)), "there are no items"),
        (np.zeros((3, 1)), np.ones((3, 1)), "1 item,"),
        (np.zeros((3, 20)), np.zeros((3, 20)), "all 20 items are ties"),
        (np.zeros((3, 20)), np.ones((3, 20)), "nothing varies"),
        (np.zeros((1, 20)), np.ones((3, 20)), "one arm has 1 seed and the other 3"),
        (np.ones((2, 20)), np.full((2, 20), np.nan), "20 of 20 items"),
    ],
)
def test_what_cannot_be_tested_says_why(base: np.ndarray, tuned: np.ndarray, why: str) -> None:
    told = compare(rows(base), rows(tuned), Accuracy(), margin=0.5)
    assert told.verdict.startswith(f"cannot test: {why}")
    assert told.p == 1
    assert not told.equivalent
    assert np.isfinite([told.interval.low, told.interval.high]).all()
    corpus = [np.concatenate([rows(arm), rows(arm)[..., :1]], axis=-1) for arm in (base, tuned)]
    assert compare(*corpus, Accuracy()).verdict.startswith("cannot test")
    few = compare(rows([0.0, 1] * 10), rows([1.0, 1] * 10), Accuracy(), groups=[1, 2, 3, 4] * 5)
    assert few.verdict.startswith("cannot test: 4 groups")
    assert compare(rows([0.0, 1] * 10), rows([1.0, 1] * 10), Accuracy(), groups=[1] * 20).verdict.startswith("cannot test: 1 group of")


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        compare(rows(np.zeros((2, 5))), rows(np.zeros((2, 6))), Accuracy())
    with pytest.raises(ValueError, match="3 groups for 5 items"):
        compare(rows(np.zeros(5)), rows(np.zeros(5)), Accuracy(), groups=[1, 2, 3])
    with pytest.raises(ValueError, match="statistics are"):
        compare(np.zeros((1, 1, 5, 2)), np.zeros((1, 1, 5, 2)), Accuracy())


# ---- power ---------------------------------------------------------------------------------------------


def test_the_smallest_difference_is_the_tables() -> None:
    """Points of accuracy at 80 % power: items alone, seeds alone (many of them: the normal law), both in quadrature."""
    for items, disagreement, points in ((50, 0.1, 12.5), (164, 0.2, 9.8), (500, 0.3, 6.9), (1319, 0.2, 3.5)):
        assert 100 * smallest_difference(items, disagreement) == pytest.approx(points, abs=0.06)
    assert smallest_difference(10**9, seeds=10_000, seed_sd=0.15) == pytest.approx(2.8016 * 0.15 * (2 / 10_000) ** 0.5, rel=1e-3)
    parts = smallest_difference(400, seeds=1, seed_sd=0), smallest_difference(10**9, seeds=1, seed_sd=0.015)
    assert smallest_difference(400, seeds=1, seed_sd=0.015) == pytest.approx(np.hypot(*parts), rel=1e-3)
    assert smallest_difference(10**6, seeds=3, seed_sd=0.015) > 1.25 * 2.8016 * 0.015 * (2 / 3) ** 0.5, (
        "few seeds have few degrees of freedom"
    )
    assert smallest_difference(100, family=3) > smallest_difference(100)
    assert smallest_difference(100, groups=25) == smallest_difference(25)
    assert smallest_difference(100, item_sd=20.0) == pytest.approx(2.8016 * 2, rel=1e-3)
    for wrong in ({"seeds": 0}, {"seed_sd": -1}, {"item_sd": -1}, {"family": 0}, {"groups": 0}, {"groups": 101}):
        with pytest.raises(ValueError, match="need at least one"):
            smallest_difference(100, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("items", "seeds"), [(200, 3), (2000, 3), (200, 5)])
def test_it_is_seen_about_four_times_in_five(items: int, seeds: int) -> None:
    draw, seen = np.random.default_rng(items + seeds), 0
    away = smallest_difference(items, seeds=seeds, seed_sd=0.015, item_sd=0.4)
    for _ in range(300):
        gain = draw.normal(away, 0.4, items)
        base, tuned = (draw.normal(0, 0.015, (seeds, 1)) + shift for shift in (np.zeros(items), gain))
        error = spread([base, tuned])
        seen += abs(tuned.mean() - base.mean()) > error.error * oracle.t.ppf(0.975, error.df)
    assert 0.68 <= seen / 300 <= 0.88


# ---- properties ------------------------------------------------------------------------------------------

SCORES = st.lists(
    st.tuples(st.lists(st.floats(0, 1, width=16), min_size=5, max_size=5), st.sampled_from("abcdefgh")), min_size=6, max_size=30
)


@settings(max_examples=25, deadline=None)
@given(SCORES, st.sampled_from(["one", "several"]), st.booleans(), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_sides_only_turn_signs(found: Any, seeds: str, grouped: bool, shuffle: Any) -> None:
    table = np.array([scores for scores, _ in found]).T
    base, tuned = (table[:1], table[2:3]) if seeds == "one" else (table[:2], table[2:])
    names = [name for _, name in found] if grouped else None
    told = compare(rows(base), rows(tuned), RougeL(), groups=names)
    back = compare(rows(tuned), rows(base), RougeL(), groups=names)
    assert back.difference == pytest.approx(-told.difference)
    assert (back.p, back.why, back.won, back.lost) == (pytest.approx(told.p, abs=1e-9), told.why, told.lost, told.won)
    assert (back.interval.low, back.interval.high) == (pytest.approx(-told.interval.high), pytest.approx(-told.interval.low))
    order = list(range(len(found)))
    shuffle.shuffle(order)
    moved = [names[place] for place in order] if names else None
    again = compare(rows(base[:, order]), rows(tuned[:, order]), RougeL(), groups=moved)
    assert (again.p, again.difference) == (pytest.approx(told.p, abs=1e-9), pytest.approx(told.difference))
    assert again.verdict.split(":")[0] == told.verdict.split(":")[0]
    assert 0 <= told.p <= 1
