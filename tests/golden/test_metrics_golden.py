"""Our numbers against the programs whose numbers people publish: rouge-score, sacrebleu, scikit-learn."""

import random

import numpy as np
import pytest

from etude.metrics.classification import Accuracy
from etude.metrics.confusion import F1
from etude.metrics.overlap import Bleu, Chrf
from etude.metrics.rouge import Rouge1, Rouge2, RougeL, RougeLsum
from etude.records import Prediction
from etude.similarity import lcs_length, lcs_places

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
sacrebleu = pytest.importorskip("sacrebleu")
sklearn = pytest.importorskip("sklearn.metrics")

ODD = [
    "", " ", "\n", "\n\n", "...", "?!;", "a", "A", "a a a a", "a b a b\nb a b a", "naïve café", "Straße İstanbul", "日本語 text 123",
    "\ud800 lone", "😀 smile 😀", "the cat\n\n\nsat", "\n the cat \n", "don't re-use e-mail", "x_y_z", "１２３ full width", "K Kelvin K",
    "running runner runs ran easily flying caresses ponies relational", "tabs\tand\x0bother\x85lines\u2028here", "a\r\nb\r\na", "0 00 000",
    "its was has bus", "it wa ha bu", "one two\rthree", "three\u2028one two",
]  # fmt: skip


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Odd texts with each other, then generated ones of few words (many ties) and of more."""
    draw = random.Random(seed)
    found = [(left, right) for left in ODD for right in ODD]

    def text() -> str:
        words = draw.choice(
            [["a", "b"], ["a", "b", "c", "the"], ["running", "runs", "Run!", "cat,", "sat", "on", "the", "mats", "é", "--"]]
        )
        return "".join(draw.choice(words) + draw.choice([" ", " ", " ", "\n", ". ", ".\n"]) for _ in range(draw.randint(0, 25)))

    while len(found) < count:
        left = text()
        right = text() if draw.random() < 0.6 else " ".join(w for w in left.split(" ") if draw.random() < 0.8)
        found.append((left, right))
    return found


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_equals_rouge_score(stemmer: bool) -> None:
    metrics = {"rouge1": Rouge1, "rouge2": Rouge2, "rougeL": RougeL, "rougeLsum": RougeLsum}
    oracle = rouge_scorer.RougeScorer(list(metrics), use_stemmer=stemmer)
    rows = pairs(3000, seed=1)
    predictions = [Prediction(str(i), (output,), (reference,)) for i, (reference, output) in enumerate(rows)]
    expected = [oracle.score(reference, output) for reference, output in rows]
    for name, metric in metrics.items():
        stats = metric(stemmer=stemmer).stats(predictions)
        np.testing.assert_allclose(stats[:, 0], [e[name].fmeasure for e in expected], rtol=0, atol=1e-9, err_msg=name)
        assert metric(stemmer=stemmer).score(stats.sum(axis=0)) == pytest.approx(np.mean([e[name].fmeasure for e in expected]), abs=1e-9)


def test_rouge_takes_the_best_reference() -> None:
    metrics = {"rouge1": Rouge1, "rouge2": Rouge2, "rougeL": RougeL, "rougeLsum": RougeLsum}
    oracle = rouge_scorer.RougeScorer(list(metrics))
    rows = pairs(1200, seed=2)[700:]
    many = [Prediction(str(i), (rows[i][1],), tuple(r for r, _ in rows[i : i + 3])) for i in range(len(rows) - 3)]
    for name, metric in metrics.items():
        expected = [oracle.score_multi(p.references, p.outputs[0])[name].fmeasure for p in many]
        np.testing.assert_allclose(metric().stats(many)[:, 0], expected, rtol=0, atol=1e-9)


def test_lcs_places_are_those_of_rouge_score() -> None:
    draw = random.Random(3)
    for _ in range(2000):
        left, right = ([draw.randint(0, 4) for _ in range(draw.randint(0, 30))] for _ in range(2))
        places = lcs_places(left, right)
        assert places[::-1] == rouge_scorer.lcs_ind(left, right)
        assert len(places) == lcs_length(left, right)


def texts(count: int, references: int, seed: int) -> list[Prediction]:
    draw = random.Random(seed)
    rows = pairs(700 + count * (references + 1), seed)[700:]
    odd = [(o, r) for o in ODD for r in ODD if "\ud800" not in o + r]
    rows = [*draw.sample(odd, count // 3), *rows]
    return [
        Prediction(str(i), (rows[i][1],), (rows[i][0], *(rows[i + k][0] for k in range(1, references)))) for i in range(count)
    ]  # fmt: skip


BLEUS = [
    {},
    {"tokenize": "intl"},
    {"tokenize": "char"},
    {"tokenize": "none"},
    {"tokenize": "zh"},
    {"lowercase": True},
    {"smooth_method": "floor"},
    {"smooth_method": "add-k"},
    {"smooth_method": "add-k", "smooth_value": 0.5},
    {"smooth_method": "none"},
    {"effective_order": True},
    {"max_ngram_order": 2},
]
CHRFS = [{}, {"word_order": 2}, {"char_order": 4}, {"beta": 1}, {"lowercase": True}, {"whitespace": True}, {"eps_smoothing": True}]


@pytest.mark.parametrize(("metric", "engine"), [(Bleu, "BLEU"), (Chrf, "CHRF")])
@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_corpus_scores_equal_sacrebleu(metric: type, engine: str, references: int, count: int) -> None:
    predictions = texts(count, references, seed=count + references)
    outputs = [p.outputs[0] for p in predictions]
    streams = [[p.references[k] for p in predictions] for k in range(references)]
    for options in BLEUS if engine == "BLEU" else CHRFS:
        ours, theirs = metric(**options), getattr(sacrebleu, engine)(**options)
        stats = ours.stats(predictions)
        assert ours.score(stats.sum(axis=0)) == theirs.corpus_score(outputs, streams).score, options
        assert ours.signature(predictions).split("|", 1)[1] == str(theirs.get_signature()), options


def test_corpus_scores_equal_the_plain_functions() -> None:
    predictions = texts(150, 2, seed=9)
    outputs = [p.outputs[0] for p in predictions]
    streams = [[p.references[k] for p in predictions] for k in range(2)]
    assert Bleu().score(Bleu().stats(predictions).sum(axis=0)) == sacrebleu.corpus_bleu(outputs, streams).score > 0
    assert Chrf().score(Chrf().stats(predictions).sum(axis=0)) == sacrebleu.corpus_chrf(outputs, streams).score > 0


def test_a_varying_number_of_references_is_sacrebleus_none() -> None:
    predictions = texts(60, 3, seed=4)
    cut = [Prediction(p.id, p.outputs, p.references[: 1 + i % 3]) for i, p in enumerate(predictions)]
    streams = [[p.references[k] if k < len(p.references) else None for p in cut] for k in range(3)]
    for ours, theirs in ((Bleu(), sacrebleu.BLEU()), (Chrf(), sacrebleu.CHRF())):
        assert ours.score(ours.stats(cut).sum(axis=0)) == theirs.corpus_score([p.outputs[0] for p in cut], streams).score
        assert "nrefs:var" in ours.signature(cut)


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("given", [False, True])
def test_f1_equals_scikit_learn(average: str, given: bool) -> None:
    draw = random.Random(5)
    for names in (["yes", "no"], ["positive", "negative", "neutral", "mixed"], ["only"]):
        for _ in range(40):
            labels = (*names, "unused") if given else tuple(sorted(names))
            true = [draw.choice(names) for _ in range(draw.randint(2, 60))]
            said = [t if draw.random() < 0.5 else draw.choice([*names, "something else", ""]) for t in true]
            predictions = [Prediction(str(i), (s,), (t,)) for i, (s, t) in enumerate(zip(said, true, strict=True))]
            metric = F1(average=average, labels=labels if given else ())
            stats = metric.stats(predictions)
            present = labels if given else tuple(sorted(set(true)))
            expected = sklearn.f1_score(true, said, labels=list(present), average=average, zero_division=0)
            assert metric.score(stats.sum(axis=0)) == pytest.approx(expected, abs=1e-12)
            accuracy = Accuracy(labels=labels if given else ())
            assert accuracy.score(accuracy.stats(predictions).sum(axis=0)) == pytest.approx(sklearn.accuracy_score(true, said))
