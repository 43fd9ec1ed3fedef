"""The statistics against scipy and sacrebleu, against simulation, and at their edges."""

import time
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as oracle

from etude.comparison import Interval, compare, interval, mid_p, smallest_difference, tango, wilson
from etude.metrics.classification import Accuracy
from etude.metrics.confusion import F1
from etude.metrics.overlap import Bleu, Chrf
from etude.metrics.probabilities import BitsPerToken
from etude.metrics.rouge import RougeL
from etude.records import Prediction


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer draws, where the test is not about them."""
    monkeypatch.setattr("etude.comparison.drawing.DRAWS", 400)
    monkeypatch.setattr("etude.comparison.drawing.RESAMPLES", 200)


def items(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.stack([values, np.ones_like(values)], axis=1)


def sentences(draw: np.random.Generator, count: int, keep: float) -> np.ndarray:
    """BLEU statistics of outputs that keep a share of their reference's words."""
    rows = []
    for i in range(count):
        reference = [f"w{n}" for n in draw.integers(0, 50, size=12)]
        output = [w if draw.random() < keep else "x" for w in reference]
        rows.append(Prediction(str(i), (" ".join(output),), (" ".join(reference),)))
    return Bleu().stats(rows)


def test_mid_p_is_the_binomial_test_less_half_of_what_was_seen() -> None:
    for won in range(15):
        for lost in range(15):
            if won == lost:
                assert mid_p(won, lost) == 1
                continue
            exact = oracle.binomtest(won, won + lost, 0.5).pvalue
            assert mid_p(won, lost) == pytest.approx(exact - oracle.binom.pmf(won, won + lost, 0.5), abs=1e-12)


def test_wilson_is_scipys() -> None:
    for items_ in (1, 7, 60, 500):
        for right in {0, 1, items_ // 3, items_}:
            low, high = oracle.binomtest(right, items_).proportion_ci(method="wilson")
            assert wilson(right, items_) == Interval(pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def most_likely_lost(won: int, lost: int, total: int, difference: float) -> float:
    """The share lost under a given difference, by plain maximisation of the trinomial likelihood."""

    def against(q: float) -> float:
        tied = 1 - 2 * q - difference
        return -sum(n * np.log(max(p, 1e-300)) for n, p in ((won, q + difference), (lost, q), (total - won - lost, tied)) if n)

    low, high = max(0.0, -difference), (1 - difference) / 2
    return float(optimize.minimize_scalar(against, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x)


@pytest.mark.parametrize(("won", "lost", "total"), [(12, 2, 50), (30, 25, 200), (5, 0, 200), (3, 3, 40), (40, 60, 100)])
def test_the_ends_of_tangos_interval_are_refused_at_exactly_5_percent(won: int, lost: int, total: int) -> None:
    found = tango(won, lost, total)
    assert found.low < (won - lost) / total < found.high
    for end in (found.low, found.high):
        q = most_likely_lost(won, lost, total, end)
        z = (won - lost - total * end) / np.sqrt(total * (2 * q + end * (1 - end)))
        assert abs(z) == pytest.approx(1.959964, abs=2e-3)
    assert (found.low > 0 or found.high < 0) == (abs(won - lost) > 1.959964 * np.sqrt(won + lost))


def test_tango_holds_at_the_edges() -> None:
    z2 = 1.959964**2
    assert tango(0, 0, 100).high == pytest.approx(z2 / (100 + z2), abs=1e-6)
    assert tango(0, 0, 100).low == pytest.approx(-z2 / (100 + z2), abs=1e-6)
    assert tango(20, 0, 20).high == pytest.approx(1)
    assert 0.5 < tango(20, 0, 20).low < 1
    assert -1 <= tango(0, 1, 1).low < tango(0, 1, 1).high <= 1


def test_tango_covers() -> None:
    draw = np.random.default_rng(0)
    for won, lost, total in ((0.2, 0.1, 60), (0.05, 0.02, 200), (0.6, 0.02, 60)):
        seen = draw.multinomial(total, [won, lost, 1 - won - lost], size=400)
        inside = [(f := tango(w, lo, total)).low <= won - lost <= f.high for w, lo, _ in seen]
        assert 0.92 <= np.mean(inside) <= 0.99


def test_the_mean_interval_is_the_t_interval() -> None:
    values = np.random.default_rng(1).beta(2, 3, size=80)
    low, high = oracle.t.interval(0.95, 79, values.mean(), oracle.sem(values))
    assert interval(items(values), RougeL()) == Interval(pytest.approx(low), pytest.approx(high))


def test_sign_flips_agree_with_scipys_permutation_test() -> None:
    draw = np.random.default_rng(2)
    base = draw.beta(2, 3, size=(3, 40))
    tuned = np.clip(base + draw.normal([[0.0], [0.04], [0.08]], 0.15, size=(3, 40)), 0, 1)
    for b, t in zip(base, tuned, strict=True):
        expected = oracle.permutation_test((t, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=3)
        found = compare(items(b), items(t), RougeL(), seed=4)
        assert found.p == pytest.approx(expected.pvalue, abs=0.015)
        assert found.difference == pytest.approx((t - b).mean())
        low, high = oracle.ttest_rel(t, b).confidence_interval()
        assert found.interval == Interval(pytest.approx(low), pytest.approx(high))


def test_swaps_agree_with_sacrebleu() -> None:
    significance = pytest.importorskip("sacrebleu.significance")
    draw = np.random.default_rng(5)
    vocabulary = [f"w{n}" for n in range(30)]
    references = [" ".join(draw.choice(vocabulary, size=12)) for _ in range(60)]

    def outputs(keep: float) -> list[str]:
        return [" ".join(w if draw.random() < keep else "x" for w in reference.split()) for reference in references]

    systems = {"base": outputs(0.76), **{f"keep {keep}": outputs(keep) for keep in (0.74, 0.78, 0.9)}}
    rows = {
        name: Bleu().stats([Prediction(str(i), (o,), (r,)) for i, (o, r) in enumerate(zip(system, references, strict=True))])
        for name, system in systems.items()
    }
    import sacrebleu

    test = significance.PairedTest(list(systems.items()), {"BLEU": sacrebleu.BLEU(references=[references])}, None, test_type="ar")
    expected = dict(zip(systems, test()[1]["BLEU"], strict=True))
    assert sum(0.02 < (result.p_value or 0) < 0.9 for result in expected.values()) >= 2
    for name in list(systems)[1:]:
        found = compare(rows["base"], rows[name], Bleu())
        assert found.p == pytest.approx(expected[name].p_value, abs=0.015)
        assert found.difference == pytest.approx(expected[name].score - expected["base"].score)
        assert found.interval.low < found.difference < found.interval.high
    assert compare(rows["base"], rows["keep 0.9"], Bleu()).verdict.startswith("better: +")


def test_nothing_planted_is_rarely_found() -> None:
    """A/A: two draws of one model. 200 repetitions at 5 %: 10 expected, sd 3.1."""
    draw = np.random.default_rng(6)
    binary = values = 0
    for _ in range(200):
        ability = 1 / (1 + np.exp(-draw.normal(0, 2, size=100)))
        base, tuned = (draw.random(100) < ability for _ in range(2))
        binary += compare(items(base), items(tuned), Accuracy()).p < 0.05
        centre = draw.beta(2, 2, size=30)
        base, tuned = (np.clip(centre + draw.normal(0, 0.2, size=30), 0, 1) for _ in range(2))
        values += compare(items(base), items(tuned), RougeL()).p < 0.05
    assert 2 <= binary <= 20
    assert 2 <= values <= 20


@pytest.mark.usefixtures("quick")
def test_nothing_planted_is_rarely_found_in_a_corpus_score() -> None:
    draw = np.random.default_rng(7)
    labels = ("a", "b", "c")
    found = 0
    for _ in range(60):
        true = draw.choice(labels, size=40)
        arms = [
            F1(labels=labels).stats([Prediction(str(i), (str(draw.choice([t, "a", "b", "c"])),), (str(t),)) for i, t in enumerate(true)])
            for _ in range(2)
        ]
        found += compare(*arms, F1(labels=labels)).p < 0.05
    assert found <= 8


def test_what_is_planted_is_found() -> None:
    draw = np.random.default_rng(8)
    base = draw.random(200) < 0.4
    tuned = base | (draw.random(200) < 0.3)
    found = compare(items(base), items(tuned), Accuracy())
    assert found.verdict == f"better: {found.difference:+.3f} [{found.interval.low:+.3f}, {found.interval.high:+.3f}], p < .001"
    assert found.method.startswith("McNemar mid-p")
    assert found.items == 200
    assert found.label == "these checkpoints only"
    back = compare(items(tuned), items(base), Accuracy())
    assert back.verdict.startswith("worse: -")
    assert back.p == found.p
    assert back.interval == Interval(pytest.approx(-found.interval.high, abs=1e-9), pytest.approx(-found.interval.low, abs=1e-9))
    centre = draw.beta(2, 4, size=100)
    assert compare(items(centre), items(centre + draw.normal(0.1, 0.1, 100)), RougeL()).verdict.startswith("better")
    assert compare(sentences(draw, 50, 0.9), sentences(draw, 50, 0.5), Bleu()).verdict.startswith("worse")


def test_what_is_not_shown_says_what_could_have_been() -> None:
    base = np.tile([1.0, 0.0], 100)
    tuned = base.copy()
    tuned[:40] = 1 - tuned[:40]
    found = compare(items(base), items(tuned), Accuracy())
    assert found.verdict == "no difference shown; could have seen >= 0.089"
    assert smallest_difference(200) == pytest.approx(0.0886, abs=1e-4)
    assert smallest_difference(200, 0.3) == pytest.approx(0.1085, abs=1e-4)
    assert smallest_difference(1) == 1
    for wrong in ((0, 0.2), (10, 0), (10, 1.5)):
        with pytest.raises(ValueError, match="at least one item"):
            smallest_difference(*wrong)


def test_the_smallest_difference_is_seen_four_times_in_five() -> None:
    draw = np.random.default_rng(9)
    for total, disagreement in ((200, 0.2), (400, 0.3)):
        difference = smallest_difference(total, disagreement)
        shares = [(disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement]
        seen = np.mean([mid_p(w, lost) < 0.05 for w, lost, _ in draw.multinomial(total, shares, size=1000)])
        assert 0.75 <= seen <= 0.87


@pytest.mark.usefixtures("quick")
def test_the_bootstrap_interval_covers() -> None:
    draw = np.random.default_rng(10)
    truth = Bleu().score(sentences(draw, 2000, 0.8).sum(axis=0))
    inside = 0
    for seed in range(40):
        found = interval(sentences(draw, 60, 0.8), Bleu(), seed)
        inside += found.low <= truth <= found.high
    assert inside >= 33


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_numbers() -> None:
    draw = np.random.default_rng(11)
    base, tuned = sentences(draw, 30, 0.7), sentences(draw, 30, 0.75)
    assert compare(base, tuned, Bleu(), 1) == compare(base, tuned, Bleu(), 1)
    assert compare(base, tuned, Bleu(), 1).interval != compare(base, tuned, Bleu(), 2).interval
    assert interval(base, Bleu()) == interval(base, Bleu())


@pytest.mark.parametrize(
    ("base", "tuned", "why"),
    [
        ([], [], "there are no items"),
        ([0.3], [0.9], "1 item,"),
        ([0], [1], "1 item,"),
        ([0, 0, 0, 0], [1, 1, 1, 1], "4 items,"),
        ([0.1] * 5, [0.2] * 5, "5 items,"),
        ([0, 1] * 10, [0, 1] * 10, "all 20 items are ties"),
        ([0.5] * 20, [0.5] * 20, "all 20 items are ties"),
        ([0.5] * 20, [0.5] * 19 + [float("nan")], "1 of 20 items"),
        ([0.5] * 20, [0.5] * 19 + [float("inf")], "1 of 20 items"),
    ],
)
def test_what_cannot_be_tested_says_why(base: list[float], tuned: list[float], why: str) -> None:
    found = compare(items(base), items(tuned), RougeL())
    assert found.verdict.startswith(f"cannot test: {why}")
    assert 0.05 < found.p <= 1
    assert np.isfinite([found.interval.low, found.interval.high]).all()
    assert np.isnan(found.difference) == ("NaN" in found.verdict or not base)
    for arm in (base, tuned):
        alone = interval(items(arm), RougeL())
        assert 0 <= alone.low <= alone.high <= 1


@pytest.mark.usefixtures("quick")
def test_corpus_scores_that_cannot_be_tested() -> None:
    draw = np.random.default_rng(12)
    stats = sentences(draw, 20, 0.7)
    assert compare(stats, stats, Bleu()).verdict == "cannot test: all 20 items are ties"
    assert compare(stats, stats, Bleu()).p == 1
    one = compare(stats[:1], stats[1:2], Bleu())
    assert one.verdict.startswith("cannot test: 1 item,")
    assert one.interval == Interval(-100, 100)
    assert interval(stats[:1], Bleu()) == Interval(0, 100)
    assert compare(stats[:0], stats[:0], Bleu()).verdict == "cannot test: there are no items"


@pytest.mark.usefixtures("quick")
def test_a_score_that_is_no_number_is_no_verdict() -> None:
    draw = np.random.default_rng(5)
    some = np.c_[draw.random(20) * 10, draw.integers(3, 9, 20)].astype(float)
    none = np.zeros((20, 2))
    for base, tuned in ((none, some), (some, none), (none, np.where(np.arange(20)[:, None] < 1, some, 0.0))):
        for arms in ((base, tuned), (np.stack([base, base]), np.stack([tuned, tuned + 0.1]))):
            assert compare(*arms, BitsPerToken()).verdict.startswith("cannot test: the metric has no finite value"), "no tokens at all"
        assert not np.isnan(interval(base, BitsPerToken()).low)
    few = np.where(np.arange(20)[:, None] < 2, some, 0.0)
    assert compare(few, few * [1.5, 1], BitsPerToken()).verdict == "cannot test: the metric has no finite value for some draws of the items"


@pytest.mark.usefixtures("quick")
def test_where_no_draw_moves_a_score_nothing_is_equivalent() -> None:
    def told(words: str) -> np.ndarray:
        return Bleu().stats([Prediction(str(n), (words,), ("one two three four five",)) for n in range(20)])

    found = compare(told("six seven"), told("eight nine ten"), Bleu(), margin=1)
    assert found.verdict == "cannot test: nothing varies: no draw of the items moves the difference"
    assert found.equivalent is False
    sure = compare(told("six seven"), told("one two three four five"), Bleu())
    assert sure.verdict.startswith("better: +100.00")
    assert np.isnan(sure.smallest)
    alike = compare(items([0.1] * 20), items([0.3] * 20), RougeL())
    assert alike.verdict.startswith("better: +0.200")
    assert np.isnan(alike.smallest)


def test_no_difference_larger_than_there_can_be_is_promised() -> None:
    draw = np.random.default_rng(1)
    base, tuned = (items(draw.random(8))[None].repeat(2, 0) for _ in "ab")
    base[1, :, 0] -= 0.4
    tuned[1, :, 0] += 0.4
    found = compare(base, tuned, RougeL())
    assert found.smallest == np.inf
    assert found.verdict == "no difference shown; too little to have seen one"


def test_all_right_in_few_groups_is_less_sure_than_in_many_items() -> None:
    right = items([1] * 100)
    assert interval(right, Accuracy(), groups=[n // 20 for n in range(100)]) == wilson(5, 5)
    assert interval(np.stack([right, right]), Accuracy()) == wilson(100, 100)


def test_arms_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        compare(items([0, 1]), items([0, 1, 1]), Accuracy())


def test_item_means_are_known_by_their_column_of_ones() -> None:
    draw = np.random.default_rng(13)
    weighted = np.stack([draw.integers(0, 4, 30), np.full(30, 4)], axis=1).astype(float)
    assert compare(weighted, np.roll(weighted, 1, axis=0), Accuracy()).method.startswith("approximate randomisation")
    assert compare(items(draw.random(30)), items(draw.random(30)), RougeL()).method.startswith("sign-flip")
    # one arm of 0 and 1 does not make the pair binary
    assert compare(items([0] * 30), items(draw.random(30)), RougeL()).method.startswith("sign-flip")


def test_200_items_take_well_under_a_second() -> None:
    draw = np.random.default_rng(14)
    rows = [Prediction(str(i), ("the cat sat on a mat today",), ("the cat sat on the mat",)) for i in range(200)]
    corpus = {Bleu(): Bleu().stats(rows), Chrf(): Chrf().stats(rows)}
    for metric, stats in corpus.items():
        other = np.roll(stats, 1, axis=0) + draw.integers(0, 2, size=stats.shape)
        started = time.process_time()
        compare(stats, other, metric)
        assert time.process_time() - started < 2
    started = time.process_time()
    compare(items(draw.random(200)), items(draw.random(200)), RougeL())
    assert time.process_time() - started < 1
