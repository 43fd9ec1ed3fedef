"""`etude preview` and `etude run` refuse the same broken rows with the same words, before the first step."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from etude import catalog, cli, journal, pipeline, recipe
from etude.failures import CheckFailed, DataError, RecipeError
from etude.previewing import generation_ends

BROKEN = '''
"""A format whose answers have no trained end."""
from dataclasses import dataclass, replace
from typing import Any
from etude.catalog import Settings
from etude.formats.alpaca import Alpaca

class Endless(Settings):
    def bind(self, tokenizer): return Bound(Alpaca().bind(tokenizer))

@dataclass(frozen=True)
class Bound:
    form: Any
    name: str = "endless"
    def render(self, c): return tuple(replace(s, trained=s.trained and not s.special) for s in self.form.render(c))
    def prompt(self, c): return self.form.prompt(c)
    def stops(self): return self.form.stops()
'''


@pytest.fixture
def place(tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"instruction": f"Name number {i} <script>.", "input": "", "output": f"the number {i % 7}"} for i in range(30)]
    journal.write_rows(tmp_path / "facts.jsonl", rows)
    (tmp_path / "endless_format.py").write_text(BROKEN)
    (tmp_path / "small.yaml").write_text(
        f"name: small\nmodel: {model_folder('llama')}\nsources:\n  facts: {{type: alpaca, path: facts.jsonl}}\n"
        "split: {validation: 4, test: 8}\ntune:\n  method: {type: lora, r: 2}\n  rows_per_step: 8\n  max_steps: 1\n"
        "score:\n  - {task: facts, metrics: [rougeL], baselines: [], sampling: {max_new_tokens: 2}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    catalog.NOTES.clear()
    yield tmp_path
    sys.modules.pop("endless_format", None)


def test_preview_writes_the_page_and_prints(place: Path) -> None:
    done = CliRunner().invoke(cli.app, ["preview", "small.yaml", "-n", "2", "--html", "page.html"])
    assert done.exit_code == 0, done.output
    html = (place / "page.html").read_text()
    assert "&lt;script&gt;." in html
    assert "<script" not in html
    assert "ok  every answer's end of turn is trained" in done.output
    assert "page: page.html" in done.output
    found = CliRunner().invoke(cli.app, ["preview", "small.yaml", "-n", "0", "--json"])
    assert found.exit_code == 0
    shown = json.loads(found.stdout)
    assert (shown["failures"], shown["samples"]) == ([], [])
    assert shown["sets"][0]["rows"] == 18
    assert {role["name"] for role in shown["sets"][0]["roles"]} == {"user", "assistant", "markup"}


def test_a_broken_format_fails_preview_and_run_alike(place: Path) -> None:
    arguments = ["small.yaml", "format.type=endless_format:Endless"]
    done = CliRunner().invoke(cli.app, ["preview", *arguments, "--html", "page.html"])
    assert isinstance(done.exception, CheckFailed)
    assert done.exception.exit_code == 4
    said = str(done.exception)
    assert "not so: every answer's end of turn is trained; 22 rows, first facts.jsonl:" in said
    assert "NO  every answer's end of turn is trained" in done.output, "the preview is shown all the same"
    assert "a trained stretch ends with" in (place / "page.html").read_text()
    chosen = recipe.load(Path("small.yaml"), arguments[1:])
    with pytest.raises(CheckFailed) as refused:
        pipeline.run(chosen, place / "runs" / "small")
    assert str(refused.value) == said
    assert not (place / "runs/small/model").exists()
    log = place / "runs/small/metrics.jsonl"
    assert not log.exists() or not log.read_text(), "before the first step"


@pytest.mark.parametrize("path", ["nowhere/page.html", "."])
def test_a_page_that_cannot_be_written_is_said_before_any_work(place: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "shown", lambda *_: pytest.fail("worked"))
    done = CliRunner().invoke(cli.app, ["preview", "small.yaml", "--html", path])
    assert isinstance(done.exception, RecipeError)
    assert "--html" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "failure", "words"),
    [
        (["smal.yaml"], RecipeError, "did you mean 'small.yaml'"),
        (["small.yaml", "tune.max_tokenz=3"], RecipeError, "max_tokens"),
        (["small.yaml", "sources.facts.path=fact.jsonl"], DataError, "facts.jsonl"),
    ],
)
def test_a_bad_recipe_is_refused_with_its_place(place: Path, arguments: list[str], failure: type[Exception], words: str) -> None:
    done = CliRunner().invoke(cli.app, ["preview", *arguments])
    assert isinstance(done.exception, failure)
    assert words in str(done.exception)


def test_rows_are_not_negative(place: Path) -> None:
    assert CliRunner().invoke(cli.app, ["preview", "small.yaml", "-n", "-1"]).exit_code == 2


def test_the_tuned_model_stops_where_its_answers_end(place: Path) -> None:
    """A start model that stops elsewhere (a base model with a chat template) gets the format's end of turn, and preview says so."""
    chosen = recipe.load(Path("small.yaml"), ["score=[]"])
    config = Path(chosen.model) / "generation_config.json"
    given: dict[str, Any] = json.loads(config.read_text())
    end = given["eos_token_id"]
    config.write_text(json.dumps({**given, "eos_token_id": 7}))
    found = pipeline.shown(chosen, 0)
    assert found.failures == []
    assert found.notes == ("the start model's generation_config does not stop at '<|im_end|>'; the tuned model's will",)
    pipeline.run(chosen, place / "runs" / "small")
    assert generation_ends(place / "runs/small/model") == {7, end}
