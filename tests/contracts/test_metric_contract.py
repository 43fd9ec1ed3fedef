"""What every metric of the catalog promises; a new line in METRICS is enrolled by itself."""

import subprocess
import sys
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from etude.failures import DataError
from etude.metrics import METRICS, bounds, lower_is_better, needs, reads_outputs, reads_references
from etude.records import Prediction

LINES = ["the cat sat on the mat", "a dog ran after a ball", "two birds sing in the tree"]


OTHER = "somewhere else entirely different"
DOUBTFUL = -30.0


def fields(truth: str, right: bool) -> dict[str, Any]:
    """What metrics of log-probabilities read: a model that is sure of the truth, or of anything else."""
    labels = dict.fromkeys((*LINES, OTHER), DOUBTFUL) | {truth if right else next(line for line in LINES if line != truth): -1e-9}
    asked = {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": [truth]}]}
    return {"label_logprobs": labels, "choices": [*LINES, OTHER], "token_logprobs": [-1e-9 if right else DOUBTFUL] * 3, **asked}


def predictions(*outputs: str, references: tuple[str, ...] = ()) -> list[Prediction]:
    return [
        Prediction(f"row-{i}", (output,), (LINES[i % 3], *references), fields=fields(LINES[i % 3], output == LINES[i % 3]))
        for i, output in enumerate(outputs)
    ]


def best(metric: Any) -> float:
    """The number of an arm that is all right."""
    low, high = bounds(metric)
    return low if lower_is_better(metric) else high


def better(metric: Any, first: float, second: float) -> bool:
    return first < second if lower_is_better(metric) else first > second


def score(metric: Any, rows: list[Prediction]) -> float:
    return float(metric.score(metric.stats(rows).sum(axis=0)))


RUNS_CODE = {"pass_at_k", "pass_at_10"}
"""Their outputs are programs; tests/test_pass_at_k.py keeps them to the same promises."""


@pytest.fixture(params=[name for name in METRICS if name not in RUNS_CODE])
def metric(request: pytest.FixtureRequest) -> Any:
    return METRICS[request.param]()


@pytest.fixture(params=[name for name in METRICS if reads_outputs(METRICS[name]()) and name not in RUNS_CODE])
def reader(request: pytest.FixtureRequest) -> Any:
    """A metric that looks at outputs."""
    return METRICS[request.param]()


def test_rows_are_float64_one_an_example(metric: Any) -> None:
    rows = predictions(*LINES, "the cat sat on a mat", "", "no")
    stats = metric.stats(rows)
    assert stats.dtype == np.float64
    assert stats.ndim == 2
    assert len(stats) == len(rows)
    assert np.isfinite(stats).all()
    np.testing.assert_array_equal(stats, metric.stats(rows))
    np.testing.assert_array_equal(stats[::-1], metric.stats(rows[::-1]))


def test_all_right_is_best_and_all_wrong_is_not(metric: Any) -> None:
    assert score(metric, predictions(*LINES)) == pytest.approx(best(metric), abs=1e-6)
    for wrong in ("", "§§"):
        assert better(metric, score(metric, predictions(*LINES)), score(metric, predictions(wrong, wrong, wrong)))
        if not lower_is_better(metric):
            assert score(metric, predictions(wrong, wrong, wrong)) == 0
    assert metric.scale in (1.0, 100.0)


def test_an_empty_output_counts_as_wrong_and_stays(reader: Any) -> None:
    full, one_empty, one_blank = predictions(*LINES), predictions(*LINES[:2], ""), predictions(*LINES[:2], " \n ")
    none = [*full[:2], Prediction("row-2", (), (LINES[2],), fields=full[2].fields)]
    assert better(reader, score(reader, full), score(reader, one_empty))
    assert better(reader, score(reader, one_empty), score(reader, predictions("", "", "")))
    assert score(reader, one_empty) == score(reader, one_blank) == score(reader, none)


def test_outputs_of_an_item_are_averaged_first(reader: Any) -> None:
    outputs = ("the cat sat on the mat", "the cat", "", "a dog ran after a ball")
    first, *others = predictions(*LINES)
    one = np.mean([reader.stats([*predictions(o), *others])[0] for o in outputs], axis=0)
    many = reader.stats([Prediction("row-0", outputs, (LINES[0],), fields=first.fields), *others])
    np.testing.assert_allclose(many[0], one, rtol=1e-12)
    drawn = predictions("the cat sat on a mat", *LINES[1:])
    thrice = [Prediction(p.id, p.outputs * 3, p.references, fields=p.fields) for p in drawn]
    assert score(reader, thrice) == pytest.approx(score(reader, drawn))


def test_any_reference_may_be_met(metric: Any) -> None:
    name = METRICS.name_of(metric)
    # the other reference is a fourth label, which nobody was asked for and whose F1 is 0; TER divides by the mean length of both
    expected = 0.75 if name in ("f1", "precision", "recall") else best(metric)
    rows = predictions(*LINES, references=(OTHER,))
    assert score(metric, rows) == pytest.approx(expected, abs=1e-6)
    rows = [Prediction(p.id, p.outputs, p.references[::-1], fields=p.fields) for p in rows]
    assert score(metric, rows) == pytest.approx(expected, abs=1e-6)


def test_what_a_metric_needs_is_named_where_it_is_missing(metric: Any) -> None:
    for key in needs(metric):
        rows = predictions(*LINES)
        bare = Prediction("bare", ("x",), (LINES[0],), fields={k: v for k, v in rows[0].fields.items() if k != key})
        with pytest.raises(DataError, match=f"bare.*{key}"):
            metric.stats([*rows, bare])


def test_no_reference_is_named(metric: Any) -> None:
    with pytest.raises(DataError, match="lonely"):
        metric.stats([Prediction("lonely", ("x",), ())])


def test_columns_do_not_depend_on_outputs(metric: Any) -> None:
    assert metric.stats(predictions("a", "b", "c")).shape == metric.stats(predictions(*LINES)).shape
    assert metric.stats([]).shape[0] == 0


def test_signature_says_how(metric: Any) -> None:
    rows = predictions(*LINES, references=("other",))
    name, *parts = metric.signature(rows).split("|")
    assert name == METRICS.name_of(metric)
    assert ("nrefs:2" in parts) == reads_references(metric)
    assert all(part.count(":") >= 1 for part in parts)
    assert "nrefs" not in metric.signature()
    assert metric.signature().split("|")[0] == name


def test_settings_are_frozen_and_named_by_a_recipe(metric: Any) -> None:
    adapter = TypeAdapter(Annotated[Any, METRICS])
    name = METRICS.name_of(metric)
    assert adapter.validate_python(name) == metric
    assert adapter.validate_python(adapter.dump_python(metric)) == metric
    with pytest.raises(ValidationError, match="unknown key"):
        adapter.validate_python({"type": name, "colour": "red"})
    with pytest.raises(ValidationError):
        setattr(metric, next(iter(type(metric).model_fields), "colour"), None)
    assert adapter.json_schema()


def test_validation_loads_nothing_heavy() -> None:
    code = (
        "import sys; from etude.metrics import METRICS; from etude import comparison; [m() for m in METRICS.values()];"
        "heavy = {'torch', 'transformers', 'scipy', 'sacrebleu', 'sklearn', 'nltk', 'pyarrow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
