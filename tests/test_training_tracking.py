"""Trackers get the numbers of metrics.jsonl, only when named; one that fails ends nothing."""

from __future__ import annotations

import pytest

from contracts.test_packing_contract import rows
from etude import catalog, journal, tracking, training
from etude.failures import RecipeError
from etude.steps import Tune
from etude.tunings.lora import Lora


@pytest.fixture(scope="module")
def small(tiny):
    return lambda **given: tiny("llama", num_hidden_layers=1, **given)


def settings(**given) -> Tune:
    return Tune(**{"method": Lora(r=2), "rows_per_step": 2, "evaluate_every": 2, **given})


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own imports
def test_tensorboard_gets_every_number(small, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "news"
    tune = settings(trackers="tensorboard", metrics_every=3)
    training.train(small(), rows(6), tune, folder, validation=rows(2, seed=5), evaluate=lambda model: {"news.f1": 0.5})
    events = EventAccumulator(str(folder / "trackers" / "tensorboard" / "news")).Reload()
    for key, inside in (("loss", None), ("validation_loss", None), ("learning_rate", None), ("news.f1", "metrics")):
        lines = [(r["step"], (r[inside] if inside else r)[key]) for r in journal.read(folder / "metrics.jsonl") if (inside or key) in r]
        told = [(e.step, e.value) for e in events.Scalars(f"metrics.{key}" if inside else key)]
        assert told == [(step, pytest.approx(value, rel=1e-6)) for step, value in lines]
        assert lines


class Spy:
    """A tracker of a service, as accelerate's are."""

    made: list[Spy]

    def __init__(self, project: str, **given: object) -> None:
        self.project, self.given, self.told, self.ended = project, given, [], False
        Spy.made.append(self)

    def start(self) -> None:
        if self.given.get("mode") == "broken":
            raise ConnectionError("no route to the service")

    def store_init_configuration(self, values: dict) -> None:
        assert all(isinstance(value, str | int | float) for value in values.values())
        self.stored = values

    def log(self, values: dict, step: int) -> None:
        if step >= self.given.get("fails_at", 10**9):
            raise ConnectionError("the service went away")
        self.told.append((step, values))

    def finish(self) -> None:
        self.ended = True


@pytest.fixture
def spy(monkeypatch):
    from accelerate import tracking as theirs

    Spy.made = []
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: object())
    for name in tracking.MODULES:
        monkeypatch.setitem(theirs.LOGGER_TYPE_TO_CLASS, name, Spy)
    return Spy


def test_nothing_is_made_unless_named(small, tmp_path, spy):
    training.train(small(), rows(4), settings(), tmp_path / "a")
    training.train(small(), rows(4), settings(report_to="none"), tmp_path / "b")
    assert not spy.made


def test_a_run_is_one_run_there_also_when_it_goes_on(small, tmp_path, spy):
    tune = settings(trackers={"wandb": {"project": "mine", "mode": "offline"}, "trackio": {}, "mlflow": {}})
    for _ in range(2):
        training.train(small(), rows(4), tune, tmp_path / "news")
    first, second = spy.made[0], spy.made[3]
    assert (first.project, first.given["mode"], first.given["name"]) == ("mine", "offline", "news")
    assert first.given["id"] == second.given["id"]
    assert spy.made[1].project == spy.made[2].project == "etude"
    assert first.stored["method.r"] == 2
    assert [step for step, _ in first.told] == [1, 2]
    assert all(one.ended for one in spy.made)


def test_a_tracker_that_fails_is_left_out_and_training_goes_on(small, tmp_path, spy):
    catalog.NOTES.clear()
    tune = settings(trackers={"wandb": {"fails_at": 2}, "trackio": {}})
    _, outcome = training.train(small(), rows(6), tune, tmp_path)
    assert outcome.steps == 3
    assert [[step for step, _ in one.told] for one in spy.made] == [[1], [1, 2, 3]]
    assert any("the tracker wandb failed" in said and "went away" in said for said in catalog.NOTES)


def test_a_tracker_that_does_not_start_is_refused(small, tmp_path, spy):
    with pytest.raises(RecipeError, match=r"tune.trackers.wandb: it does not start: ConnectionError: no route"):
        training.train(small(), rows(4), settings(trackers={"wandb": {"mode": "broken"}}), tmp_path)


def test_numbers_that_are_not_finite_are_not_sent(tmp_path, spy):
    with tracking.opened({"trackio": {}}, tmp_path, {"a": {"b": None, "c": (1, 2)}}) as log:
        log({"step": 1, "loss": float("nan"), "metrics": {"f1": 0.5, "bad": None}}, 1)
    assert spy.made[0].told == [(1, {"metrics.f1": 0.5})]
    assert spy.made[0].stored == {"a.b": "None", "a.c": "(1, 2)"}
