"""Scoring a predictions file: the number a run gives, the number the reference programs give, and every bad file named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude import comparison, scoring
from etude.failures import DataError, RecipeError
from etude.grading import Graded, grade, metric_of
from etude.metrics import METRICS
from etude.records import Conversation, Message

ROWS: list[dict[str, Any]] = [
    {"id": "a", "output": "the cats sat on a mat", "references": ["the cat sat on the mat", "a cat sits"]},
    {"id": "b", "output": "", "references": ["nothing to say"]},
    {"id": 3, "output": "two birds sing", "reference": "two birds sing in the tree"},
]


def written(folder: Path, rows: list[Any], name: str = "p.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_and_a_metric_give_a_number(tmp_path: Path) -> None:
    scorers = pytest.importorskip("rouge_score.rouge_scorer")
    found = grade(written(tmp_path, ROWS), "rouge1", {"stemmer": "true"})
    scorer = scorers.RougeScorer(["rouge1"], use_stemmer=True)
    references = [row.get("references") or [row["reference"]] for row in ROWS]
    expected = [scorer.score_multi(r, row["output"])["rouge1"].fmeasure for row, r in zip(ROWS, references, strict=True)]
    assert found.score == pytest.approx(np.mean(expected), abs=1e-9)
    assert [value for _, value in found.values] == pytest.approx(expected)
    shown = found.as_json()
    assert list(shown) == ["score", "signature", "interval", "items"]
    assert shown["items"] == 3
    assert "stem:yes" in shown["signature"]
    assert "nrefs:var" in shown["signature"]
    assert shown["interval"][0] <= shown["score"] <= shown["interval"][1]
    assert found.as_json(values=True)["values"] == dict(zip(["a", "b", "3"], [v for _, v in found.values], strict=True))
    json.dumps(shown, allow_nan=False)


def test_corpus_metrics_are_sacrebleus(tmp_path: Path) -> None:
    sacrebleu = pytest.importorskip("sacrebleu.metrics")
    rows = [
        {"id": i, "output": f"the cat {i % 3} sat on the mat .", "references": ["the cat 1 sat on a mat .", f"cat {i} sits"]}
        for i in range(8)
    ]
    outputs, streams = [r["output"] for r in rows], [list(refs) for refs in zip(*(r["references"] for r in rows), strict=True)]
    path = written(tmp_path, rows)
    found = grade(path, "bleu", {"smooth_method": "floor", "smooth_value": "0.2", "lowercase": "true", "tokenize": "intl", "force": "true"})
    expected = sacrebleu.BLEU(smooth_method="floor", smooth_value=0.2, lowercase=True, tokenize="intl", force=True).corpus_score(
        outputs, streams
    )
    assert found.score == pytest.approx(expected.score)
    assert grade(path, "chrf", {"word_order": "2"}).score == pytest.approx(
        sacrebleu.CHRF(word_order=2).corpus_score(outputs, streams).score
    )
    assert grade(path, "ter").score == pytest.approx(sacrebleu.TER().corpus_score(outputs, streams).score)


def test_a_runs_predictions_give_the_runs_numbers(tmp_path: Path) -> None:
    talks = [
        Conversation(str(i), (Message("user", "which?"), Message("assistant", label)))
        for i, label in enumerate(["yes", "no", "no", "yes", "no"])
    ]
    rows = [scoring.answered(talk, [said], ["stop"]) for talk, said in zip(talks, ["yes", "No.", "maybe", "", "no way"], strict=True)]
    path = written(tmp_path, rows)
    names = ("accuracy", "f1", "matthews", "exact_match", "squad_f1", "rougeL", "bleu")
    measured = scoring.measure(rows, [METRICS[name]() for name in names], "t")
    for name in names:
        found, metric = grade(path, name), METRICS[name]()
        assert (found.score, found.signature) == (measured[name].value, measured[name].signature)
        interval = comparison.interval(measured[name].stats, metric)
        assert found.interval == (interval.low, interval.high)


def test_several_outputs_are_averaged_and_none_is_wrong(tmp_path: Path) -> None:
    rows = [{"id": "a", "outputs": ["x", "y"], "references": ["x"]}, {"id": "b", "outputs": [], "references": ["x"]}]
    found = grade(written(tmp_path, rows), "exact_match")
    assert (found.score, found.items) == (0.25, 2)


def test_further_keys_reach_the_metric(tmp_path: Path) -> None:
    rows = [{"id": "a", "references": ["B"], "choices": ["one", "two"], "choice_logprobs": [-2, -1.5]}]
    assert grade(written(tmp_path, rows), "multiple_choice", {"by": "loglikelihood"}).score == 1
    rows = [{"id": "a", "reference": "x", "token_logprobs": [float("-inf")]}]
    shown = grade(written(tmp_path, [json.dumps(rows[0]).replace("-Infinity", "-1e999")]), "perplexity").as_json()
    assert shown["score"] is None
    assert shown["interval"] == [1.0, None]


def test_labels_and_other_settings_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path, [{"id": i, "output": o, "reference": r} for i, (o, r) in enumerate([("yes", "yes"), ("no", "yes"), ("1", "no")])]
    )
    for labels in ("yes,no,1", "[yes, 'no', 1]", "yes, no, 1"):
        assert "labels:yes,no,1" in grade(path, "accuracy", {"labels": labels}).signature
    assert grade(path, "f1", {"label": "yes"}).score == pytest.approx(2 / 3)
    assert grade(path, "recall", {"average": "micro"}).score == pytest.approx(1 / 3)
    for text, said in (("auto", "half:auto"), ("true", "half:yes"), ("no", "half:no")):
        assert said in metric_of("brier", {"scale_by_half": text}).signature()
    assert metric_of("bleu", {"smooth_value": "null", "tokenize": "none"}) == METRICS["bleu"](tokenize="none")


def test_compressed_files_and_marks(tmp_path: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    plain = grade(written(tmp_path, ROWS), "rougeL")
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "mark.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\n").encode())
    assert grade(tmp_path / "p.jsonl.gz", "rougeL") == grade(tmp_path / "mark.jsonl", "rougeL") == plain
    assert isinstance(plain, Graded)


GOOD = {"id": "x", "output": "o", "references": ["r"]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{broken\n"], r"p\.jsonl:1: not JSON"),
        ([GOOD, "[1]\n"], r"p\.jsonl:2: .*not an object"),
        ([GOOD, '{"id": "y", "output": "\0", "references": ["r"]}\n'], r"p\.jsonl:2: not JSON \(the row holds 1 zero byte"),
        ([GOOD, '{"id": "y", "id": "z"}\n'], r"p\.jsonl:2: a key stands twice"),
        ([GOOD, GOOD], r"p\.jsonl:2: the id 'x' stands in line 1 already"),
        ([{"output": "o", "references": ["r"]}], r"p\.jsonl:1: 'id' must be .*'output', 'references'"),
        ([{**GOOD, "id": None}], r":1: 'id' must be a text or whole number, not None"),
        ([{**GOOD, "id": True}], r":1: 'id' must be"),
        (
            [{"id": "x", "response": "o", "references": ["r"]}],
            r":1: neither 'output' nor 'outputs' is there; the keys are 'id', 'response'",
        ),
        ([{"id": "x", "output": "o"}], r":1: neither 'reference' nor 'references'"),
        ([{**GOOD, "references": []}], r":1: 'references' is empty"),
        ([{**GOOD, "references": "r"}], r":1: 'references' must be a list of texts, not the text 'r'; a single one goes under 'reference'"),
        ([{**GOOD, "references": [1]}], r":1: 'references' must hold text, not the number 1; write it as text, in quotes"),
        ([{**GOOD, "output": 7}], r":1: 'output' must hold text, not the number 7; write it as text, in quotes"),
        ([{**GOOD, "output": None}], r":1: 'output' must hold text, not null; write \"\" for none"),
        ([json.dumps({**GOOD, "output": float("nan")}) + "\n"], r":1: 'output' must hold text, not the number nan"),
        ([{**GOOD, "output": ["o"]}], r":1: 'output' must hold text, not the list"),
        ([{**GOOD, "outputs": ["o"]}], r":1: both 'output' and 'outputs' are given"),
        ([{**GOOD, "reference": "r"}], r":1: both 'reference' and 'references' are given"),
        ([GOOD, {"id": "y", "outputs": ["a", "b"], "references": ["r"]}], r":2: 2 outputs here, 1 output in line 1"),
        ([], r"p\.jsonl has no predictions: it is empty"),
        (["\n\n"], r"p\.jsonl has no predictions"),
        (["[" + json.dumps(GOOD) + "]\n"], r"p\.jsonl:1: this is one JSON list"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        grade(written(tmp_path, rows), "exact_match")


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "y", "output": "caf\xe9", "reference": "r"}\n')
    with pytest.raises(DataError, match=r"latin\.jsonl:2: byte 0xe9 is not utf-8"):
        grade(tmp_path / "latin.jsonl", "bleu")
    with pytest.raises(DataError, match=r"there is no file .*latn\.jsonl; did you mean 'latin\.jsonl'"):
        grade(tmp_path / "latn.jsonl", "bleu")
    with pytest.raises(DataError, match="is a folder"):
        grade(tmp_path, "bleu")
    (tmp_path / "p.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(DataError, match=r"cut off|damaged"):
        grade(tmp_path / "p.gz", "bleu")


def test_rows_that_do_not_fit_the_metric_are_named_with_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, ["\n", GOOD, {**GOOD, "id": "y", "references": ["maybe"]}])
    with pytest.raises(DataError, match=r"p\.jsonl:2: the reference 'r' is not one of the labels.*metric accuracy, row x"):
        grade(path, "accuracy", {"labels": "yes,no"})
    with pytest.raises(DataError, match=r"p\.jsonl:2: there is no field 'token_logprobs'.*metric perplexity, row x"):
        grade(path, "perplexity")
    many = written(tmp_path, [{**GOOD, "id": i, "references": [f"free text {i}"]} for i in range(250)], "many.jsonl")
    with pytest.raises(DataError, match=r"many\.jsonl: 250 different references.*use exact_match"):
        grade(many, "f1")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("rogue1", {}, r"--metric: no metric named 'rogue1'; did you mean 'rouge1'"),
        ("nowhere:Thing", {}, r"--metric: cannot load 'nowhere:Thing'"),
        ("rouge1", {"stemer": "true"}, r"--set stemer=true: rouge1 has no setting 'stemer'; did you mean 'stemmer'"),
        ("squad_em", {"x": "1"}, r"squad_em has no setting 'x'; it has none"),
        ("rouge1", {"stemmer": "perhaps"}, r"--set stemmer=perhaps: .*boolean"),
        ("bleu", {"max_ngram_order": "0"}, r"--set max_ngram_order=0: .*greater than or equal to 1"),
        ("bleu", {"max_ngram_order": "four"}, r"--set max_ngram_order=four: .*integer"),
        ("bleu", {"tokenize": "13b"}, r"--set tokenize=13b: .*'13a'"),
        ("rougeN", {"n": "10"}, r"--set n=10: .*less than or equal to 9"),
        ("math", {"tolerance": "nan"}, r"--set tolerance=nan"),
    ],
)
def test_wrong_metrics_and_settings_are_named(tmp_path: Path, name: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        grade(written(tmp_path, [GOOD]), name, settings)
