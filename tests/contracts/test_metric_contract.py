"""What every metric of the catalog promises; a new line in METRICS is enrolled by itself."""

import subprocess
import sys
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from etude.failures import DataError
from etude.metrics import METRICS
from etude.records import Prediction

LINES = ["the cat sat on the mat", "a dog ran after a ball", "two birds sing in the tree"]


def predictions(*outputs: str, references: tuple[str, ...] = ()) -> list[Prediction]:
    return [Prediction(f"row-{i}", (output,), (LINES[i % 3], *references)) for i, output in enumerate(outputs)]


def score(metric: Any, rows: list[Prediction]) -> float:
    return float(metric.score(metric.stats(rows).sum(axis=0)))


@pytest.fixture(params=list(METRICS))
def metric(request: pytest.FixtureRequest) -> Any:
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


def test_all_right_is_the_scale_and_all_wrong_is_nothing(metric: Any) -> None:
    assert score(metric, predictions(*LINES)) == pytest.approx(metric.scale)
    assert score(metric, predictions("", "", "")) == 0
    assert score(metric, predictions("§§", "§§", "§§")) == 0
    assert metric.scale in (1.0, 100.0)


def test_an_empty_output_counts_as_wrong_and_stays(metric: Any) -> None:
    full, one_empty, one_blank = predictions(*LINES), predictions(*LINES[:2], ""), predictions(*LINES[:2], " \n ")
    none = [*full[:2], Prediction("row-2", (), (LINES[2],))]
    assert 0 < score(metric, one_empty) < score(metric, full)
    assert score(metric, one_empty) == score(metric, one_blank) == score(metric, none)


def test_outputs_of_an_item_are_averaged_first(metric: Any) -> None:
    outputs = ("the cat sat on the mat", "the cat", "", "a dog ran after a ball")
    one = np.mean([metric.stats([*predictions(o), *predictions(*LINES)[1:]])[0] for o in outputs], axis=0)
    many = metric.stats([Prediction("row-0", outputs, (LINES[0],)), *predictions(*LINES)[1:]])
    np.testing.assert_allclose(many[0], one, rtol=1e-12)
    thrice = [Prediction(p.id, p.outputs * 3, p.references) for p in predictions("the cat sat on a mat", *LINES[1:])]
    assert score(metric, thrice) == pytest.approx(score(metric, predictions("the cat sat on a mat", *LINES[1:])))


def test_any_reference_may_be_met(metric: Any) -> None:
    # the other reference is a fourth label to F1, which nobody was asked for and which counts as 0
    expected = 0.75 if METRICS.name_of(metric) == "f1" else metric.scale
    rows = predictions(*LINES, references=("somewhere else entirely different",))
    assert score(metric, rows) == pytest.approx(expected)
    rows = [Prediction(p.id, p.outputs, p.references[::-1]) for p in rows]
    assert score(metric, rows) == pytest.approx(expected)


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
    assert "nrefs:2" in parts
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
        setattr(metric, next(iter(type(metric).model_fields)), None)
    assert adapter.json_schema()


def test_validation_loads_nothing_heavy() -> None:
    code = (
        "import sys; from etude.metrics import METRICS; from etude import comparison; [m() for m in METRICS.values()];"
        "heavy = {'torch', 'transformers', 'scipy', 'sacrebleu', 'sklearn', 'nltk', 'pyarrow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
