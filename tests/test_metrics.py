"""The metrics' own rules: how text becomes a label, what exact means, what is refused."""

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etude import similarity
from etude.failures import DataError, RecipeError
from etude.metrics.classification import Accuracy, Labels
from etude.metrics.confusion import F1, matrix
from etude.metrics.exact import ExactMatch
from etude.metrics.overlap import Bleu
from etude.metrics.rouge import Rouge1, RougeL
from etude.records import Prediction

SENTIMENT = ("negative", "neutral", "positive")


def one(output: str, *references: str) -> list[Prediction]:
    return [Prediction("r1", (output,), references)]


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ("positive", "positive"),
        ("  Positive.\n", "positive"),
        ("\n\nPOSITIVE\nbecause it rose", "positive"),
        ("**Positive**: it rose", "positive"),
        ('"positive" — it rose', "positive"),
        ("positive, not negative", "positive"),
        ("positive/negative", "positive"),
        ("positively", None),
        ("positive_ish", None),
        ("positive2", None),
        ("The answer is positive", None),
        ("not positive", None),
        ("posit", None),
        ("", None),
        (" \n ", None),
        ("...", None),
    ],
)
def test_an_output_is_read_as_one_label(output: str, label: str | None) -> None:
    place = Labels(SENTIMENT).read(output)
    assert (None if place is None else SENTIMENT[place]) == label


@pytest.mark.parametrize(
    ("labels", "output", "label"),
    [
        (("not", "not entailment"), "Not  entailment, I think", "not entailment"),
        (("not", "not entailment"), "not so", "not"),
        (("C", "C++", "C#"), "C++.", "C++"),
        (("C", "C++", "C#"), "`C#`", "C#"),
        (("C", "C++", "C#"), "c.", "C"),
        (("+", "-"), "+", "+"),
        (("+", "-"), "- because", "-"),
        (("1", "10"), "10", "10"),
        (("1", "10"), "1) first", "1"),
        (("Straße", "Weg"), "STRASSE", "Straße"),
        (("好", "坏"), "好。", "好"),
    ],
)
def test_labels_that_look_alike(labels: tuple[str, ...], output: str, label: str) -> None:
    place = Labels(labels).read(output)
    assert place is not None
    assert labels[place] == label


def test_labels_come_from_the_references_in_order() -> None:
    rows = [Prediction(str(i), (o,), (r,)) for i, (o, r) in enumerate([("a", "b"), ("B", "b"), ("zzz", "A"), ("a", "a")])]
    stats = F1().stats(rows)
    assert matrix(stats.sum(axis=0)).tolist() == [[1, 0, 1], [1, 1, 0]]
    assert "labels:A,b" in F1().signature(rows)
    assert Accuracy().stats(rows)[:, 0].tolist() == [0, 1, 0, 1]


def test_many_labels_are_counted_in_the_signature() -> None:
    rows = [Prediction(str(i), ("x",), (f"intent {i}",)) for i in range(77)]
    assert "|labels:77-" in F1().signature(rows)
    assert F1().signature(rows) != F1().signature([*rows[:-1], Prediction("z", ("x",), ("another",))])


def test_an_unknown_reference_is_named_with_the_nearest_label() -> None:
    for metric in (Accuracy(labels=SENTIMENT), F1(labels=SENTIMENT)):
        with pytest.raises(DataError, match=r"r1.*'positiv'.*did you mean 'positive'"):
            metric.stats(one("positive", "positiv"))
        with pytest.raises(DataError, match="blank"):
            metric.stats(one("positive", " "))


def test_free_text_is_not_taken_for_labels() -> None:
    rows = [Prediction(str(i), ("x",), (f"answer {i}",)) for i in range(300)]
    for metric in (Accuracy(), F1()):
        with pytest.raises(DataError, match="300 different references"):
            metric.stats(rows)
    assert Accuracy(labels=tuple(f"answer {i}" for i in range(300))).stats(rows).shape == (300, 2)


def test_labels_must_differ() -> None:
    with pytest.raises(ValidationError, match="same label"):
        F1(labels=("Yes", "yes "))
    with pytest.raises(ValidationError, match="blank"):
        Accuracy(labels=("",))


@given(st.lists(st.tuples(st.text(max_size=12), st.sampled_from(SENTIMENT)), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_any_text_can_be_an_output(rows: list[tuple[str, str]]) -> None:
    predictions = [Prediction(str(i), (o,), (r,)) for i, (o, r) in enumerate(rows)]
    stats = F1(labels=SENTIMENT).stats(predictions)
    np.testing.assert_array_equal(stats.sum(axis=1), 1)
    # accuracy is the diagonal of F1's confusion matrix
    assert matrix(stats.sum(axis=0))[:, :-1].trace() == Accuracy(labels=SENTIMENT).stats(predictions)[:, 0].sum()


@pytest.mark.parametrize(
    ("options", "output", "reference", "equal"),
    [
        ({}, " Paris\n", "Paris", True),
        ({}, "paris", "Paris", False),
        ({}, "Paris.", "Paris", False),
        ({}, "New  York", "New York", False),
        ({}, "", "", False),
        ({"ignore_case": True}, "STRASSE", "Straße", True),
        ({"ignore_whitespace": True}, "New \n York ", "New York", True),
        ({"ignore_whitespace": True}, "NewYork", "New York", False),
        ({"ignore_punctuation": True}, "«Paris!»", "Paris", True),
        ({"ignore_punctuation": True}, "+", "-", False),
        ({"ignore_punctuation": True, "ignore_whitespace": True}, "a , b", "a b", True),
        ({"ignore_case": True, "ignore_punctuation": True}, "Yes.", "yes", True),
    ],
)
def test_exact_match(options: dict[str, Any], output: str, reference: str, equal: bool) -> None:
    assert ExactMatch(**options).stats(one(output, "another", reference)).tolist() == [[float(equal), 1.0]]


def test_a_missing_stemmer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("nltk", "MeCab") else find(name))
    with pytest.raises(RecipeError, match=r"ja-mecab.*sacrebleu\[ja\]"):
        Bleu(tokenize="ja-mecab")
    assert RougeL().stemmer is False


def test_the_mean_of_nothing_is_not_a_number() -> None:
    for metric in (ExactMatch(), Accuracy(), F1(), Rouge1()):
        assert np.isnan(metric.score(metric.stats([]).sum(axis=0)))


def test_lcs_and_rouge_l_on_numbers() -> None:
    assert similarity.lcs_length([1, 2, 3, 4], [2, 4, 9]) == 2
    assert similarity.rouge_l([1, 2, 3, 4], [2, 4]) == pytest.approx(2 / 3)
    assert similarity.rouge_l([], [1]) == similarity.rouge_l([1], []) == 0
    known: dict[str, int] = {}
    assert similarity.numbered(["a", "b", "a"], known) + similarity.numbered(["b", "c"], known) == [0, 1, 0, 1, 2]


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40))
@settings(max_examples=200, deadline=None)
def test_lcs_length_is_the_textbook_one(left: list[int], right: list[int]) -> None:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    assert similarity.lcs_length(left, right) == table[-1][-1] == len(similarity.lcs_places(left, right))
