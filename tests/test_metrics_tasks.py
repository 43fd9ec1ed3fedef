"""Metrics of tasks against what published programs and papers say: SQuAD, mathematics, choices, labels, probabilities."""

from __future__ import annotations

import collections
import math
import random
import re
import string
import warnings
from typing import Any

import numpy as np
import pytest

from etude import comparison
from etude.failures import DataError
from etude.metrics import METRICS
from etude.metrics.classification import Labels
from etude.metrics.confusion import confusion
from etude.metrics.math import final_answer, number
from etude.metrics.multiple_choice import read_choice
from etude.records import Prediction


def row(output: str | tuple[str, ...], *references: str, **fields: Any) -> Prediction:
    return Prediction("r1", (output,) if isinstance(output, str) else output, references, fields=fields)


def score(name: str, rows: list[Prediction], **settings: Any) -> float:
    metric = METRICS[name](**settings)
    return float(metric.score(metric.stats(rows).sum(axis=0)))


def plain(text: str) -> str:
    """SQuAD's normalisation, as its scripts describe it: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad(output: str, references: list[str]) -> tuple[float, float]:
    """Exact match and F1 as the v2.0 script counts them."""
    golds = [r for r in references if plain(r)] or [""]
    exact, best = 0.0, 0.0
    for gold in golds:
        ours, theirs = plain(output).split(), plain(gold).split()
        exact = max(exact, float(plain(output) == plain(gold)))
        if not ours or not theirs:
            best = max(best, float(ours == theirs))
            continue
        same = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
        precision, recall = same / len(ours), same / len(theirs)
        best = max(best, 2 * precision * recall / (precision + recall) if same else 0.0)
    return exact, best


def test_squad_counts_as_the_scripts_do() -> None:
    draws = random.Random(1)
    words = ["The", "a", "an", "cat's", "cat", "U.S.", "1,000", "mat", "THE", "—", "«mat»", "answer", "theatre", "."]
    rows = []
    for i in range(400):
        outputs, references = ([" ".join(draws.choices(words, k=draws.randrange(5))) for _ in range(k)] for k in (1, draws.randint(1, 3)))
        rows.append(Prediction(str(i), tuple(outputs), tuple(references)))
    rows += [row("", ""), row("the", ""), row("cat", ""), row("", "cat"), row("cat", "the cat", ""), row("", "the cat", "")]
    expected = [squad(p.outputs[0], list(p.references)) for p in rows]
    for place, name in enumerate(("squad_em", "squad_f1")):
        np.testing.assert_allclose(METRICS[name]().stats(rows)[:, 0], [e[place] for e in expected], atol=1e-12)
    assert score("squad_f1", [row("the Cat sat", "a cat")]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So 3 + 4 = 7, and\n#### 1,234", "1234"),
        ("The answer is 42.", "42"),
        ("the answer is: $1,000.50. Thanks for 3 of them", "2001/2"),
        ("The answer is 3 + 4 = 7.", "7"),
        (r"thus \boxed{\frac{3}{4}} and 9 more", "3/4"),
        (r"\boxed{12} no wait, \boxed{-\dfrac{1}{2}}", "-1/2"),
        (r"the answer is $\boxed{2\frac{1}{2}}$.", "5/2"),
        (r"**The answer is \(5\)**", "5"),
        ("I have 3 apples and 5 pears, 8 in all", "8"),
        ("It fell to −12", "-12"),
        ("about 20%", "20"),
        (r"it is 20\%", "20"),
        ("a third is 1/3", "1/3"),
        ("one and a half: 1 1/2", "3/2"),
        ("5-3=2", "2"),
        ("$-5", "-5"),
        ("-$5", "-5"),
        ("€ 7", "7"),
        ("1,2345", "2345"),
        ("6.02e23", str(602 * 10**21)),
        ("#### 3\nThe answer is 4", "4"),
        ("Answer:\n\n  9", "9"),
        ("9" * 5000, None),
        ("1/0", None),
        (" " * 5000 + "4", "4"),
        ("\\boxed{" * 50 + "6", "6"),
        ("no number", None),
        ("", None),
    ],
)
def test_final_numbers(text: str, answer: str | None) -> None:
    found = number(final_answer(text))
    assert (None if found is None else str(found)) == answer


@pytest.mark.parametrize(
    ("output", "reference", "right"),
    [
        ("#### 72", "48/2 = <<48/2=24>>24 clips\n#### 72", True),
        ("She sold 72.0 clips", "#### 72", True),
        ("#### 72 clips", "72", True),
        ("#### $72", "72", True),
        ("27", "72", False),
        (r"\boxed{x^{2}+1}", r"\boxed{x^{ 2 } + 1}", True),
        (r"\boxed{x^2}", "2", False),
        (r"\boxed{\text{Evelyn}}", "Evelyn", True),
        (r"\boxed{(1, 2)}", r"$\left(1,2\right)$", True),
        (r"\boxed{0.75}", r"\frac{3}{4}", True),
        (r"\boxed{\sqrt{3}}", "3", False),
        ("", "0", False),
        ("x", "0", False),
        (r"(1,2)", "(1,2)", True),
        (r"2", "(1,2)", False),
        (r"\boxed{2x}", "2", False),
        ("12 and 3, in sum fifteen", "15", False),
    ],
)
def test_right_answers_in_mathematics(output: str, reference: str, right: bool) -> None:
    assert score("math", [row(output, reference)]) == float(right)


def test_where_mathematics_looks() -> None:
    text = r"The answer is 1. \boxed{2} #### 3" + "\nof 4"
    for extract, answer in (("phrase", "1"), ("boxed", "2"), ("hash", "3"), ("number", "4"), ("auto", "3")):
        assert score("math", [row(text, answer)], extract=extract) == 1
    assert score("math", [row("4", "4")], extract="boxed") == 0
    assert score("math", [row("3.14", "3.14159")]) == 0
    assert score("math", [row("3.14", "3.14159")], tolerance=0.001) == 1


CHOICES = ("Paris", "London", "A city", "Rome")


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("B", 1), ("b", 1), ("(B)", 1), ("B.", 1), ("B) London", 1), ("**B**", 1), ("B: London, since", 1), ("B - London", 1),
        (" \n[C]", 2),
        ("The answer is (D).", 3), ("A long story. Answer: C", 2), ("I think the best option is D", 3), ("London", 1), ("london.", 1),
        ("The answer is Rome.", 3), ("A city", 2), ("A train leaves", None), ("Because of rain (C), we stay", 2),
        ("(A) or (B)? unclear, said (C)", 0),
        ("It is (A) or perhaps (B)", None), ("E", None), ("", None), ("Banana", None), ("I", None), ("Paris and London", None),
    ],
)  # fmt: skip
def test_a_choice_is_read(output: str, place: int | None) -> None:
    assert read_choice(output, CHOICES, 4) == place


def test_likeliest_choices_as_lm_evaluation_harness_counts_them() -> None:
    choices = ["é", "two words", "x"]
    fields = {"choices": choices, "choice_logprobs": [[-3.0], [-4.0, -4.5], [-4.0]]}
    # raw -3, -8.5, -4; by characters -3, -.94, -4; by bytes -1.5, -.94, -4; by tokens -3, -4.25, -4
    for normalize, best in (("none", 0), ("characters", 1), ("bytes", 1), ("tokens", 0)):
        for reference in (choices[best], "ABC"[best]):
            assert score("multiple_choice", [row((), reference, **fields)], by="loglikelihood", normalize=normalize) == 1
    assert score("multiple_choice", [row((), "B", choice_logprobs=[-1.0, -1.0])], by="loglikelihood") == 0  # the first of a tie
    for bad, said in (
        ([-1.0, float("nan")], "nan"),
        ([0.5, -1.0], "0.5"),
        (["x", -1.0], "'x'"),
        ([], "one entry"),
        (None, "choice_logprobs"),
    ):
        with pytest.raises(DataError, match=f"r1.*{said}"):
            score("multiple_choice", [row((), "A", choice_logprobs=bad)], by="loglikelihood")
    with pytest.raises(DataError, match=r"r1.*neither.*did you mean 'Paris'"):
        score("multiple_choice", [row("A", "Pariss", choices=CHOICES)])


@pytest.mark.parametrize(
    ("rule", "output", "label"),
    [
        ("first_line", "positive, I think", "positive"),
        ("exact", "positive, I think", None),
        ("exact", " Positive.\n", "positive"),
        ("exact", "positive\nbut", None),
        ("answer", "Let me see. It rose.\nSo the answer is: Positive.", "positive"),
        ("answer", "negative", "negative"),
        ("answer", "Label: neutral", "neutral"),
        ("first_line", "The sentiment is positive", None),
        ("only", "The sentiment is positive", "positive"),
        ("only", "positive rather than negative", None),
        ("only", "positive, very positive", "positive"),
        ("only", "positively", None),
        ("only", "", None),
    ],
)
def test_reading_rules(rule: Any, output: str, label: str | None) -> None:
    names = ("negative", "neutral", "positive")
    place = Labels(names).read(output, rule)
    assert (None if place is None else names[place]) == label


def test_a_label_inside_another_is_not_named() -> None:
    assert Labels(("not", "not entailment")).read("it is not entailment", "only") == 1
    assert Labels(("entailment", "not entailment")).read("clearly not entailment", "only") == 1


def labelled(items: int, seed: int) -> tuple[list[Prediction], list[str], list[str]]:
    draws = random.Random(seed)
    true = [draws.choice("aabbbc") for _ in range(items)]
    said = [t if draws.random() < 0.6 else draws.choice("abcz") for t in true]
    return [Prediction(str(i), (s,), (t,)) for i, (t, s) in enumerate(zip(true, said, strict=True))], true, said


def test_labels_equal_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for seed in range(2):
        rows, true, said = labelled(60, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for average in ("macro", "micro", "weighted"):
                for name, function in (("f1", sklearn.f1_score), ("precision", sklearn.precision_score), ("recall", sklearn.recall_score)):
                    expected = function(true, said, labels=["a", "b", "c"], average=average, zero_division=0)
                    assert score(name, rows, average=average) == pytest.approx(expected, abs=1e-12)
            assert score("matthews", rows) == pytest.approx(sklearn.matthews_corrcoef(true, said), abs=1e-12)
            facts = confusion(rows)
            by_class = sklearn.precision_recall_fscore_support(true, said, labels=["a", "b", "c"], zero_division=0)
        np.testing.assert_allclose([(f.precision, f.recall, f.f1, f.support) for f in facts.by_label], np.array(by_class).T, atol=1e-12)
        assert [score(name, rows, label="b") for name in ("precision", "recall", "f1")] == pytest.approx([by_class[i][1] for i in range(3)])
        assert np.array(facts.cells)[:, :3].tolist() == sklearn.confusion_matrix(true, said, labels=["a", "b", "c", "z"])[:3, :3].tolist()
        assert np.array(facts.cells).sum() == 60
    with pytest.raises(DataError, match=r"label: 'd'.*there is a, b, c"):
        score("f1", rows, label="d")
    assert score("matthews", [row("a", "a")] * 3) == 0


def test_calibration_equals_the_definitions() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    draws = np.random.default_rng(0)
    labels, rows = ["a", "b", "c"], []
    chances = draws.dirichlet([1, 1, 1], 200)
    truth = draws.integers(3, size=200)
    for i, (p, t) in enumerate(zip(chances, truth, strict=True)):
        rows.append(
            Prediction(str(i), (), (labels[t],), fields={"label_logprobs": dict(zip(labels, (np.log(p) - 2).tolist(), strict=True))})
        )
    top, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    for bins in (1, 10, 15):
        place = np.ceil(top * bins).astype(int)
        expected = sum(abs(top[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in set(place))
        assert score("ece", rows, bins=bins) == pytest.approx(expected, abs=1e-9)
    assert score("brier", rows) == pytest.approx(sklearn.brier_score_loss(truth, chances, labels=[0, 1, 2]), abs=1e-9)
    two = [Prediction(p.id, (), ("a",), fields={"label_logprobs": {"a": math.log(0.7), "b": math.log(0.3)}}) for p in rows[:3]]
    assert score("brier", two) == pytest.approx(0.09)
    assert score("brier", two, scale_by_half=False) == pytest.approx(0.18)
    for bad, said in (
        ({"a": -1.0}, "two labels"),
        ({"b": -1.0, "c": -1.0}, "'a'"),
        ({"a": "x", "b": -1}, "'x'"),
        ({"a": -math.inf, "b": -math.inf}, "probability 0"),
    ):
        for name in ("ece", "brier"):
            with pytest.raises(DataError, match=f"r1.*{said}"):
                score(name, [row((), "a", label_logprobs=bad)])


def test_perplexity_and_bits() -> None:
    rows = [row((), "né", token_logprobs=[math.log(0.5), math.log(0.25)]), row((), "x", token_logprobs=[0.0])]
    assert score("perplexity", rows) == pytest.approx(2.0)  # 3 bits over 3 tokens
    assert score("bits_per_token", rows) == pytest.approx(1.0)
    assert score("bits_per_byte", rows) == pytest.approx(3 / 4)
    assert score("perplexity", [row((), "x", token_logprobs=[-math.inf])]) == math.inf
    for bad, said in (([], "not empty"), (None, "token_logprobs"), ([float("nan")], "nan"), ([True], "True"), ("no", "list")):
        with pytest.raises(DataError, match=f"r1.*{said}"):
            score("perplexity", [row((), "x", token_logprobs=bad)])
    stats = METRICS["perplexity"]().stats(rows * 10)
    found = comparison.interval(stats, METRICS["perplexity"]())
    assert 1 <= found.low < 2 < found.high


def test_smaller_is_better_in_a_comparison() -> None:
    metric = METRICS["bits_per_token"]()
    draws = random.Random(0)
    start = metric.stats([row((), "x", token_logprobs=[-3 - draws.random()] * 2) for _ in range(30)])
    tuned = metric.stats([row((), "x", token_logprobs=[-1 - draws.random()] * 2) for _ in range(30)])
    assert comparison.compare(start, tuned, metric).verdict.startswith("better: -")
    assert comparison.compare(tuned, start, metric).verdict.startswith("worse: +")


def test_ter_and_chrf_are_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu.metrics")
    draws = random.Random(2)
    words = ["the", "cat", "sat", "on", "a", "mat", ".", "The", "Cat", ",", "dogs"]
    outputs = [" ".join(draws.choices(words, k=draws.randint(0, 12))) for _ in range(60)]
    references = [[" ".join(draws.choices(words, k=draws.randint(1, 12))) for _ in range(2)] for _ in range(60)]
    rows = [Prediction(str(i), (o,), tuple(r)) for i, (o, r) in enumerate(zip(outputs, references, strict=True))]
    streams = [list(refs) for refs in zip(*references, strict=True)]
    for settings in ({}, {"case_sensitive": True}, {"normalized": True, "no_punct": True}):
        assert score("ter", rows, **settings) == pytest.approx(sacrebleu.TER(**settings).corpus_score(outputs, streams).score, abs=1e-9)
    assert score("chrf", rows, word_order=2) == pytest.approx(sacrebleu.CHRF(word_order=2).corpus_score(outputs, streams).score, abs=1e-9)
    for settings in (
        {},
        {"lowercase": True, "force": True},
        {"smooth_method": "add-k", "smooth_value": 0.5},
        {"trg_lang": "zh"},
        {"max_ngram_order": 2, "effective_order": True},
    ):
        assert score("bleu", rows, **settings) == pytest.approx(sacrebleu.BLEU(**settings).corpus_score(outputs, streams).score, abs=1e-9)
    one = [row("a", "b"), row("c", "c"), row("", "b")]  # references of one word: the rows are still no mean over items
    metric = METRICS["ter"]()
    assert comparison.interval(metric.stats(one * 4), metric).high > 1


def test_exact_match_of_an_announced_answer() -> None:
    text = "It stands on the Seine.\nSo the answer is: Paris\nThat is all."
    assert score("exact_match", [row(text, "Paris")]) == 0
    assert score("exact_match", [row(text, "Paris")], extract="answer") == 1
    assert score("exact_match", [row("Paris", "Paris")], extract="answer") == 1
