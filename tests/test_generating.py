"""The generated stage: a strategy inside a recipe, from its replies to tuned rows; killed, changed, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etude import closing, generating, journal, pipeline, preparing, runs
from etude.failures import DataError, Locked, RecipeError, Stopped
from etude.recipe import build, with_documents

PARAGRAPH = "The kettle stands on the stove. It sings when the water boils, and somebody gets up to turn the gas off before the pot is dry."


@pytest.fixture(scope="module")
def folder(model_folder: Callable[..., Path]) -> Path:
    from transformers import GenerationConfig

    place = model_folder("llama")
    GenerationConfig(eos_token_id=list(range(0, 300, 5))).save_pretrained(place)
    return place


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    place = tmp_path / "notes"
    place.mkdir()
    for number in range(6):
        (place / f"n{number}.md").write_text(f"# Note {number}\n\n{PARAGRAPH} That was day {number}.\n")
    return place


SCORE = "<score>5</score>"


def recipe(folder: Path, documents: Path, **given: Any) -> Any:
    raw = {
        "name": "made",
        "model": str(folder),
        "generate": {"notes": {"type": "back_translation", "llm": "teacher", "documents": str(documents), "least_characters": 40}},
        "llms": {"teacher": {"type": "scripted", "always": "unused"}},
        "tune": {"method": {"type": "lora", "r": 2}, "max_steps": 1},
        "forgetting": False,
        **given,
    }
    return build(raw)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scripted replies by what is asked; the list says what was asked."""
    from etude.models.opening import Opened
    from etude.models.scripted import Scripted

    asked: list[str] = []

    def answer(question: Any, number: int) -> str:
        asked.append(question.id)
        if "score" in question.id:
            return "Score: 5\nReason: it fits."
        digits = "".join(c for c in question.messages[-1].content.split("day ")[-1][:2] if c.isdigit())
        return f"Describe what happens in the kitchen on day number {digits} of the week."

    monkeypatch.setattr(Opened, "__call__", lambda self, name: Scripted(answer))
    return asked


def test_made_rows_are_trained_and_kept_with_their_places(folder: Path, documents: Path, tmp_path: Path, teacher: list[str]) -> None:
    made = pipeline.generate(recipe(folder, documents), tmp_path / "runs" / "made")
    assert made.facts["strategies"]["notes"]["made"] == 6, (tmp_path / "runs/made/generated/notes/refused.jsonl").read_text()
    rows = list(journal.read(tmp_path / "runs" / "made" / "generated" / "notes" / "rows.jsonl"))
    assert {row["made"]["origin"]["path"] for row in rows} == {f"n{n}.md" for n in range(6)}
    assert "notes: 6 rows made, 0 refused" in closing.generated_text(closing.generated(tmp_path / "runs" / "made"))
    count = len(teacher)
    curated = pipeline.curate(recipe(folder, documents), tmp_path / "runs" / "made")
    data = preparing.stored(curated / "curated", recipe(folder, documents))
    assert len(data.parts["notes"].train) == 6
    assert len(teacher) == count, "the rows that were made are used, not made again"


def test_another_reach_of_the_same_model_asks_nothing_again_and_another_model_does(
    folder: Path, documents: Path, tmp_path: Path, teacher: list[str]
) -> None:
    def made(**given: Any) -> Any:
        server = {"type": "http", "model": "m", "base_url": "http://localhost:1/v1", "api_key_env": "", **given}
        return pipeline.generate(recipe(folder, documents, llms={"teacher": server}), tmp_path / "runs" / "made")

    made()
    count = len(teacher)
    made(base_url="http://localhost:2/v1", concurrency=3, timeout=9, budget={"requests": 10000})
    assert len(teacher) == count
    made(model="other")
    assert len(teacher) == 2 * count


def test_a_killed_run_goes_on_to_the_same_bytes(
    folder: Path, documents: Path, tmp_path: Path, teacher: list[str], monkeypatch: Any
) -> None:
    whole = tmp_path / "runs" / "made"
    pipeline.generate(recipe(folder, documents), whole)
    from etude.models.scripted import Scripted

    answer = Scripted._answer
    left = [4]

    def dying(self: Any, *given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped("budget")
        return answer(self, *given)

    monkeypatch.setattr(Scripted, "_answer", dying)
    cut = tmp_path / "other" / "made"
    for _ in range(20):
        left[0] = 4
        try:
            pipeline.generate(recipe(folder, documents), cut)
            break
        except Stopped:
            continue
    for name in ("rows.jsonl", "refused.jsonl"):
        assert (cut / "generated" / "notes" / name).read_bytes() == (whole / "generated" / "notes" / name).read_bytes()


def test_a_plan_and_a_preview_count_made_rows_and_say_what_is_not_made(
    folder: Path, documents: Path, tmp_path: Path, teacher: list[str]
) -> None:
    from etude import catalog, planning

    chosen, place = recipe(folder, documents), tmp_path / "runs" / "made"
    for ask in (lambda: planning.plan(chosen, place), lambda: pipeline.shown(chosen, 1, folder=place)):
        with pytest.raises(DataError, match=r"notes: not made yet \(`etude generate`\)"):
            ask()
    beside = recipe(folder, documents, sources={"seeds": {"type": "seed_tasks", "limit": 9}}, score=[])
    catalog.NOTES.clear()
    assert planning.plan(beside, place)["rows"]["train"] == 9
    assert any("notes: not made yet" in said for said in catalog.NOTES)
    pipeline.generate(chosen, place)
    catalog.NOTES.clear()
    assert planning.plan(chosen, place)["rows"]["train"] == 6
    assert len(pipeline.shown(chosen, 2, folder=place).samples) == 2
    assert not catalog.NOTES


def test_two_processes_on_one_output(folder: Path, documents: Path, tmp_path: Path, teacher: list[str]) -> None:
    place = tmp_path / "runs" / "made"
    with journal.locked(place), pytest.raises(Locked):
        pipeline.generate(recipe(folder, documents), place)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"generate": {}}, "a recipe needs data"),
        ({"generate": {"x": {"type": "back_translation", "llm": "techer"}}}, "no LLM named 'techer' in llms; did you mean 'teacher'"),
        ({"generate": {"x": {"type": "evolve", "llm": "teacher", "rows": "y"}}}, "no data named 'y' before it"),
        ({"generate": {"x": {"type": "self_instruc", "llm": "teacher"}}}, "did you mean 'self_instruct'"),
        ({"sources": {"notes": {"type": "seed_tasks"}}}, "a source has this name already"),
    ],
)
def test_a_wrong_section_is_refused_with_the_nearest_name(folder: Path, documents: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        recipe(folder, documents, **given)


def test_a_strategy_that_makes_nothing_ends_the_run_with_its_rules(
    folder: Path, documents: Path, tmp_path: Path, teacher: list[str]
) -> None:
    strict = {"notes": {"type": "back_translation", "llm": "teacher", "documents": str(documents), "least_characters": 40, "least": 5}}
    from etude.models.scripted import Scripted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "_text", lambda self, question, number: "")
        with pytest.raises(DataError, match=r"generate.notes made no row: 6 refused \(6 no answer"):
            pipeline.generate(recipe(folder, documents, generate=strict), tmp_path / "runs" / "made")


def test_from_needs_a_strategy_that_reads_documents(folder: Path, documents: Path) -> None:
    changed = with_documents(recipe(folder, Path("elsewhere")), documents)
    assert changed.generate["notes"].documents == str(documents)
    plain = build({"name": "p", "model": str(folder), "sources": {"s": {"type": "seed_tasks"}}})
    with pytest.raises(RecipeError, match="no strategy that reads documents"):
        with_documents(plain, documents)
    with pytest.raises(RecipeError, match="nothing to generate"):
        pipeline.generate(plain, documents / "run")


def test_the_progress_line_says_what_a_user_asks_about() -> None:
    from etude.generation import Made
    from etude.generation.running import Tally
    from etude.records import Origin

    lines: list[tuple[float, str]] = []
    live = generating.Live(lambda done, text: lines.append((done, text)), lambda: {"teacher": {"cost": 0.25}})
    live.replied(3)
    tally = Tally(made=1)
    tally.refused.update({"not novel": 4, "keyword": 1})
    live.decided(tally, Made({}, Origin("x"), notes={"similarity": 0.25}))
    assert lines[-1] == (1, "5 refused (4 not novel, 1 keyword), 3 replies, newest rows 0.75 new, 0.25 spent")


def test_a_whole_run_with_made_rows_alone_ends_with_a_report(folder: Path, documents: Path, tmp_path: Path, teacher: list[str]) -> None:
    place = tmp_path / "runs" / "made"
    pipeline.run(recipe(folder, documents), place)
    assert "generated" in {path.stem for path in (place / "stages").glob("*.json")}
    assert (place / "model" / "adapter_model.safetensors").is_file()
    page = (place / "report.html").read_text()
    assert 'id="made"' in page
    assert (place / "generation.html").is_file(), "the page that the report names stands beside it"
    assert json.loads((place / "results.json").read_text())["tasks"] == {}
    assert runs.states(place)["finished"]


def test_servers_that_cannot_be_asked_are_named_and_nothing_is_lost(
    folder: Path, documents: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from etude.failures import ServerGaveUp

    dead = {"type": "http", "model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "", "attempts": 1, "timeout": 2}
    with pytest.raises(ServerGaveUp, match=r"127\.0\.0\.1:9"):
        pipeline.generate(recipe(folder, documents, llms={"teacher": dead}), tmp_path / "runs" / "made")
    assert not (tmp_path / "runs" / "made" / "stages" / "generated.json").exists()
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(RecipeError, match="NO_SUCH_KEY"):
        pipeline.generate(recipe(folder, documents, llms={"teacher": {**dead, "api_key_env": "NO_SUCH_KEY"}}), tmp_path / "runs" / "keyed")
    with pytest.raises(RecipeError, match=r"budget\.requests"):
        recipe(folder, documents, llms={"teacher": {**dead, "budget": {"requests": 0}}})
