"""What a run would take: memory by method and model, named devices, money."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etude import devices, journal, planning
from etude.failures import RecipeError
from etude.recipe import build


def test_the_reckoning_is_near_what_runs_took() -> None:
    """Peaks of whole processes on one machine (docs/log.md): 135M model, passes of 1,024 tokens."""
    shape = devices.SIZES["135M"]
    for method, answered, dropped, measured in MEASURED:
        found = devices.memory_gb(shape, method, 1024, answered=answered, dropped=dropped)
        assert abs(found / measured - 1) < 0.15, (method, answered, found, measured)


MEASURED = (
    ("full", 0.04, False, 3.43),
    ("adalora", 0.04, False, 2.64),
    ("lora", 0.574, False, 3.15),
    ("lora", 0.574, True, 4.64),
    ("full", 0.574, False, 4.42),
)


def test_larger_models_more_weights_and_longer_passes_take_more() -> None:
    sizes = [devices.memory_gb(shape, "lora", 1024) for shape in devices.SIZES.values()]
    assert sizes == sorted(sizes)
    one = devices.SIZES["7B"]
    assert devices.memory_gb(one, "qlora", 1024) < devices.memory_gb(one, "lora", 1024) < devices.memory_gb(one, "full", 1024)
    assert devices.memory_gb(one, "lora", 1024, checkpointed=True) < devices.memory_gb(one, "lora", 1024)
    assert devices.memory_gb(one, "lora", 4096) > devices.memory_gb(one, "lora", 1024)


def test_the_table_in_the_docs_is_what_is_reckoned() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "tuning.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if " (" in line and line.startswith("| `") and line.count("|") == 9]
    assert [row[0].strip(" `") for row in rows] == ["full", "lora", "qlora", "prompt"]
    for name, *cells in rows:
        for cell, shape in zip((c for c in cells if c.strip()), devices.SIZES.values(), strict=True):
            found = [float(number.strip("( )")) for number in cell.strip().split(" (")]
            for value, checkpointed in zip(found, (False, True), strict=True):
                reckoned = devices.memory_gb(shape, name.strip(" `"), 1024, half=True, checkpointed=checkpointed)
                assert abs(value - reckoned) <= 0.51, (name, cell)


def test_the_rates_in_the_docs_are_what_is_reckoned() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `") and line.count("|") == 7]
    assert len(rows) == 6
    for name, *cells in rows:
        for cell, size in zip(cells, ("135M", "1.5B", "7B", "13B", "70B"), strict=True):
            for said, full in zip(cell.split("/"), (False, True), strict=True):
                number = float(said.replace(",", "").replace("k", "e3"))
                found = devices.rate(devices.SIZES[size].parameters, full, devices.DEVICES[name.strip(" `")])
                assert abs(number - found) <= max(0.5, 0.05 * found), (name, size)


def test_a_roofline_has_two_sides() -> None:
    """Large passes are bound by products, and do not gain from being larger; small ones by reading the weights."""
    device, size = devices.DEVICES["a100-80gb"], devices.SIZES["7B"].parameters
    assert devices.rate(size, False, device, 4096) == devices.rate(size, False, device, 1024)
    assert devices.rate(size, False, device, 16) < devices.rate(size, False, device, 64) / 3
    assert devices.rate(size, True, device) == devices.rate(size, False, device) * 4 / 6
    assert devices.per_million(3.6, 1000.0) == 1.0


def test_what_fits_where() -> None:
    fits = {name: devices.fits(devices.SIZES["7B"], "full", device) for name, device in devices.DEVICES.items()}
    assert fits["t4"] == fits["a100-80gb"] == "no"
    assert fits["h200"] in ("yes", "checkpointed")
    assert devices.fits(devices.SIZES["7B"], "qlora", devices.DEVICES["rtx-4090"]) != "no"


def test_shapes_are_read_from_any_architecture(model_folder: Any, tmp_path: Path) -> None:
    for name in ("llama", "gpt2", "opt"):
        shape = devices.shape_of(model_folder(name), 1000)
        assert shape.width == 32
        assert shape.layers == 2
        assert shape.inner in (64, 128)
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 8, "num_layers": 2, "num_decoder_layers": 3, "is_encoder_decoder": True}))
    assert devices.shape_of(tmp_path, 10).layers == 5


def test_a_plan_names_devices_and_money(model_folder: Any, tmp_path: Path) -> None:
    journal.write_rows(tmp_path / "rows.jsonl", [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(30)])
    raw = {
        "name": "p",
        "model": str(model_folder("llama")),
        "sources": {"rows": {"type": "alpaca", "path": str(tmp_path / "rows.jsonl")}},
        "split": {"test": 5},
        "llms": {"judge": {"type": "http", "model": "m", "prices": {"input": 1, "output": 2}, "budget": {"money": 3}}},
    }
    found = planning.plan(build(raw), tmp_path / "p", on=["a100-80gb"])
    assert found["devices"]["a100-80gb"]["fits"] == "yes"
    assert "servers are asked: judge at most 3" in planning.as_text(found)
    assert "a100-80gb: " in planning.as_text(found)
    paid = planning.plan(build(raw), tmp_path / "p", on=["t4"], hourly=2.0)["devices"]["t4"]
    assert paid["per_million_tokens"] == pytest.approx(devices.per_million(2.0, paid["tokens_per_second"]), rel=1e-3)
    assert "money" not in found["devices"]["a100-80gb"]
    assert len(planning.plan(build(raw), tmp_path / "p", on=["all"])["devices"]) == len(devices.DEVICES)
    with pytest.raises(RecipeError, match="did you mean 'a100-80gb'"):
        planning.plan(build(raw), tmp_path / "p", on=["a100-80g"])


def test_a_plan_shows_what_its_own_metric_can_show(model_folder: Any, tmp_path: Path) -> None:
    """Shares vary less from row to row than right and wrong do; corpus metrics of 0 to 100 promise nothing."""
    journal.write_rows(tmp_path / "rows.jsonl", [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(60)])
    found = {}
    for metrics in (["rougeL", "bleu"], ["exact_match"], ["bleu"]):
        raw = {
            "name": "p",
            "model": str(model_folder("llama")),
            "sources": {"rows": {"type": "alpaca", "path": str(tmp_path / "rows.jsonl")}},
            "split": {"test": 20},
            "score": [{"task": "rows", "metrics": metrics}],
        }
        made = planning.plan(build(raw), tmp_path / "p")
        found[metrics[0]] = made["scoring"]["tasks"][0], planning.as_text(made)
    graded, exact, corpus = (found[name] for name in ("rougeL", "exact_match", "bleu"))
    assert graded[0]["smallest difference"] < exact[0]["smallest difference"] / 2
    assert "in rougeL or more (80 % power, two models' numbers for a row differing by 0.15" in graded[1]
    assert "in exact_match or more (80 % power, a fifth of the rows disagreeing)" in exact[1]
    assert "smallest difference" not in corpus[0]
    assert "can show" not in corpus[1]


def test_a_plan_counts_the_groups_of_the_split(model_folder: Any, tmp_path: Path) -> None:
    journal.write_rows(tmp_path / "rows.jsonl", [{"instruction": f"Say {i}.", "input": "", "output": f"{i % 9}"} for i in range(80)])
    reach = {}
    for group in (None, "output"):
        raw = {
            "name": "p",
            "model": str(model_folder("llama")),
            "sources": {"rows": {"type": "alpaca", "path": str(tmp_path / "rows.jsonl")}},
            "split": {"test": 0.4, "validation": 0, "group": group},
            "score": [{"task": "rows", "metrics": ["rougeL"]}],
        }
        (task,) = planning.plan(build(raw), tmp_path / f"p-{group}")["scoring"]["tasks"]
        reach[group] = task["smallest difference"] * task["rows"] ** 0.5
    assert reach["output"] > 1.5 * reach[None], "a handful of groups, whatever the number of rows"
