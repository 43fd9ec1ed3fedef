"""The page of made data: numbers from the files that strategies leave, bounded whatever is in them; nothing of them can act."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from etude import closing, generating, journal, pipeline, preparing
from etude.generation.running import Tally
from etude.models.servers.budgets import Prices
from etude.recipe import Recipe, build
from etude.records import Origin, Record
from etude.reporting import Findings, generated_charts, generation_page, markdown, page, results, visible
from etude.reporting.generated import LOST, NODES, STRETCHES, TREES, Asked, Generated, Generation, Spent
from etude.reporting.generated_gathering import gather_generated, generated, levels, spent
from etude.screen import Silent
from etude.working import Student, Work
from test_reporting import Parsed
from test_reporting_safety import VECTORS

Rows = list[dict[str, Any]]


def row(number: int, text: str = "Say it.", **notes: Any) -> dict[str, Any]:
    about = {"id": f"r{number}", "parents": [], "origin": {"path": "seeds.jsonl", "line": 3, "licence": ""}, **notes}
    return {"instruction": text, "input": "", "output": f"{text} done", "made": about}


def refusal(at: int, rule: str = "equal", text: str = "Say it.", **notes: Any) -> dict[str, Any]:
    return {"at": at, "rule": rule, "text": text, "parents": [], **notes}


def evolved(number: int, parent: str, round: int, root: str = "root", operation: str = "deepen", text: str = "Say it.") -> dict[str, Any]:
    return row(number, text, parents=[parent], operation=operation, round=round, root=root)


def of(rows: Rows, refused: Rows, **given: Any) -> Generated:
    return generated("tasks", "evolve", rows, refused, {"asked": 5, "from_journal": 2, "tokens": 9}, **given)


@cache
def hostile(words: str) -> Generation:
    """Made data in which `words` stand wherever a file or a model can put them."""
    rows = [row(0, words, parents=["root"], operation=words, round=1, root="root", similarity=0.25, nearest="seed", task="a", note=words)]
    rows += [row(1, words, parents=["r0"], operation=words, round=2, root="root", similarity=0.5, nearest="a", task="b")]
    rows += [{"messages": [{"role": "user", "content": words}, {"role": words, "content": words}, {"role": "user", "content": words}]}]
    rows[2]["made"] = {"id": words, "parents": [], "origin": {"path": words, "line": 1, "licence": words}}
    refused = [refusal(1, words, words, operation=words, round=2, root="root", nearest=words, similarity=0.9, note=words)]
    lengths = {words: {"rows": 3, "mean": 2.5, "median": 2, "longest": 4}}
    one = of(rows, refused, texts=lambda ids: dict.fromkeys(ids, words), replies=[4, 5, 6], threshold=0.7, levels=lengths)
    llm = gather_llms(words)
    return Generation(words, (one,), (llm,))


def gather_llms(words: str) -> Any:
    return Asked(words, words, 7, 100, 50, 0.25, words, (words, words), (Spent(3, 50, 20, 0.1), Spent(7, 100, 50, 0.25)))


def findings(found: Generation | None, **given: Any) -> Findings:
    return Findings(name="demo", model="tiny", created="then", generated=found, **given)


@cache
def plain() -> tuple[set[Any], set[Any]]:
    return set(Parsed(generation_page.page(hostile("x"))).elements), set(Parsed(page(findings(hostile("x")))).elements)


@pytest.mark.parametrize("vector", [*VECTORS[::9], *VECTORS[-4:]])
def test_no_text_of_a_file_can_act(vector: str) -> None:
    own, report = generation_page.page(hostile(vector)), page(findings(hostile(vector)))
    for html, elements in zip((own, report), plain(), strict=True):
        found = Parsed(html)
        assert set(found.elements) <= elements, "no element and no attribute that harmless texts do not give"
        for _, name, value in found.attributes:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("href", "src"):
                assert value in ("data:,", "generation.html") or re.fullmatch(r"#[a-z0-9]+", value), (name, value)
        assert {c for c in html if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} <= {"\t"}
        html.encode("utf-8")
    assert " ".join(visible(vector).split())[:80] in Parsed(own).text
    for text in (generation_page.markdown(hostile(vector)), markdown(findings(hostile(vector)))):
        assert not {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} - {"\t"}
    json.dumps(results(findings(hostile(vector))), ensure_ascii=False).encode("utf-8")


def test_the_page_loads_nothing_and_every_id_is_one() -> None:
    both = Generation("x", (hostile("x").strategies[0], hostile("y").strategies[0]), hostile("x").llms)
    for html in (generation_page.page(both), page(findings(both, levels={"traces": both.strategies[0].levels}))):
        found = Parsed(html)
        policy = [value for tag, name, value in found.attributes if tag == "meta" and name == "content" and "default-src" in value]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"]
        assert not {tag for tag, _ in found.elements} & {"script", "iframe", "img", "object", "embed", "form", "base"}
        assert "http:" not in html
        assert "https:" not in html
        ids = [value for _, name, value in found.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        named = {part for _, name, value in found.attributes if name == "aria-labelledby" for part in value.split()}
        assert named <= set(ids)
        assert {value[1:] for tag, name, value in found.attributes if tag == "a" and name == "href" and value[0] == "#"} <= set(ids)


def test_outcomes_stand_in_the_order_of_deciding() -> None:
    # decided: made, refused, refused, made, made ...; ninety rows made and thirty refused, all of them in the first half
    refused = [refusal(1 + 2 * k, "keyword" if k % 3 else "short") for k in range(30)]
    one = of([row(k, similarity=0.1 if k < 45 else 0.5) for k in range(90)], refused, threshold=0.7)
    assert len(one.stretches) == STRETCHES
    assert [s.made for s in one.stretches[:20]] == [2, 1] * 10
    assert all(s.made == 3 and not s.refused for s in one.stretches[20:])
    assert sum(s.outcomes for s in one.stretches) == 120
    assert one.refused == {"keyword": 20, "short": 10}
    assert one.stretches[0].similarity == pytest.approx(0.1)
    assert one.stretches[-1].similarity == pytest.approx(0.5)
    assert generated_charts.mean_likeness(one.stretches) == pytest.approx(0.3)
    assert [outcome.number for outcome in one.examples][:2] == [0, 30]
    html = Parsed(generation_page.page(Generation("n", (one,)))).text
    assert "90 rows made; 30 refused (25.0 % of all). The commonest rule: “keyword”, 20." in html
    assert "7 2 from before" in html
    assert "refused above" in html
    columns = generated_charts.stacks(one)
    assert columns is not None
    assert columns.columns[0].title == "outcomes 1 to 3: made 2, short 1"
    assert [part.height for part in columns.columns[1].parts] == ["33.33%", "66.67%"]


def test_instances_of_one_instruction_are_compared_once() -> None:
    rows = [row(0, similarity=0.2, task="a"), row(1, similarity=0.2, task="a"), row(2, similarity=0.8, task="b")]
    one = of(rows, [])
    assert generated_charts.mean_likeness(one.stretches) == pytest.approx(0.5)
    assert sum(s.compared for s in one.stretches) == 2


def test_nothing_compared_nothing_refused_and_nothing_at_all() -> None:
    one = of([row(0)], [])
    assert generated_charts.likeness(one) is None
    text = Parsed(generation_page.page(Generation("n", (one, of([], []))))).text
    assert "Novelty" not in text
    assert "Refused by rule" not in text
    assert "Nothing was made, and nothing refused." in text
    generation_page.markdown(Generation("n", (one, of([], []))))


def test_a_place_that_is_no_place_costs_no_row() -> None:
    refused = [refusal(at) for at in (0, 0, 99, -1, True)] + [{"rule": "r", "text": "t", "parents": []}]  # type: ignore[arg-type]
    one = of([row(0), row(1)], refused)
    assert sum(s.outcomes for s in one.stretches) == 8
    assert one.made == 2


def test_huge_trees_are_bounded_and_counted() -> None:
    deep = [evolved(k, f"r{k - 1}" if k else "root", k + 1, text="deep") for k in range(3000)]
    broad = [evolved(5000 + k, "wide", 1, root="wide", text="broad") for k in range(2000)]
    small = [evolved(9000 + k, f"s{k}", 1, root=f"s{k}") for k in range(300)]
    given_up = [refusal(k, operation="deepen", round=k + 1, root="lost") for k in range(500)]
    one = of([*deep, *broad, *small], given_up)
    assert one.grown is not None
    trees = one.grown.trees
    assert len(trees) == TREES
    assert [(tree.depth, tree.rows) for tree in trees[:3]] == [(3000, 3000), (0, 0), (1, 2000)], "in turn the deepest and the most given up"
    assert all(len(tree.twigs) <= NODES and sum(len(twig.lost) for twig in tree.twigs) <= LOST for tree in trees)
    assert [twig.depth for twig in trees[0].twigs] == list(range(NODES)), "the longest line is drawn first"
    assert trees[0].twigs[-1].more == 3000 - (NODES - 1)
    assert trees[2].twigs[0].more == 2000 - (NODES - 1)
    assert trees[1].lost == 500
    assert one.grown.depths == {0: 1, 1: 301, 3000: 1}
    html = generation_page.page(Generation("n", (one,)))
    assert len(html) < 400_000
    assert "2,961 more rows made of it are not drawn" in Parsed(html).text


def test_a_tree_keeps_its_shape() -> None:
    rows = [evolved(0, "root", 1), evolved(1, "r0", 2, text="grandchild"), evolved(2, "root", 2), evolved(3, "gone", 3)]
    one = of(
        rows, [refusal(4, "sorry", operation="mutation", round=3, root="root") | {"parents": ["r1"]}], texts=lambda ids: {"root": "seed"}
    )
    assert one.grown is not None
    (tree,) = one.grown.trees
    assert [(twig.id, twig.of, twig.depth) for twig in tree.twigs] == [
        ("root", -1, 0),
        ("r0", 0, 1),
        ("r1", 1, 2),
        ("r2", 0, 1),
        ("r3", 0, 1),
    ]
    assert tree.twigs[0].text == "seed"
    picture = generated_charts.lanes(tree)
    assert [dot.y for dot in picture.dots] == [40, 40, 40, 86, 132], "a first child goes on on its parent's line"
    assert [tick.text for tick in picture.heads] == ["start", "round 1", "round 2", "round 3"]
    assert [(cross.x, cross.y, cross.label) for cross in picture.crosses] == [(picture.heads[3].at, 40, "sorry")]
    assert [(o.round, o.name, o.made, o.refused) for o in one.grown.operations] == [
        (1, "deepen", 1, 0),
        (2, "deepen", 2, 0),
        (3, "deepen", 1, 0),
        (3, "mutation", 0, 1),
    ]
    text = generation_page.markdown(Generation("n", (one,)))
    assert "    - round 2, deepen: grandchild" in text
    assert "| deepen | 1 of 1 | 2 of 2 | 1 of 1 | 4 | 0 |" in text


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    rows, refused = [evolved(k, "root", k + 1) for k in range(5)], [refusal(2, operation="deepen", round=2, root="root")]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        generation_page.write(Generation("n", (of(rows, refused),)), tmp_path / name)
    for name in ("generation.html", "generation.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    seeds = [{"instruction": f"Name fruit {k}.", "input": "", "output": "Pear."} for k in range(4)]
    (tmp_path / "seeds.json").write_text(json.dumps(seeds))
    return build(
        {
            "name": "made",
            "model": "smollm2-135m-instruct",
            "sources": {"seeds": {"type": "alpaca", "path": str(tmp_path / "seeds.json")}},
            "split": {"validation": 0, "test": 0},
            "llms": {"teacher": {"type": "scripted", "always": "x"}},
            "generate": {
                "harder": {"type": "evolve", "rows": "seeds", "llm": "teacher"},
                "tasks": {"type": "alpaca_batch", "rows": "harder", "llm": "teacher", "most_similar": 0.6},
                "steps": {"type": "chain_of_thought", "rows": "seeds", "llm": "start"},
            },
        }
    )


def left(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """A run folder as the strategies leave it; the facts they tell."""
    data = preparing.read(recipe)
    preparing.write(data, folder / "data")
    first = data.parts["seeds"].train[0]
    reasons = {f"rationale_{level}": "So. " * n for n, level in ((1, "simple"), (2, "normal"), (3, "complex"))}
    lines = {
        "harder": ([evolved(0, first.id, 1, root=first.id, text="Name a rare fruit.")], []),
        "tasks": ([row(1, "Sing it.", similarity=0.3, nearest="r0")], [refusal(0, "not novel", nearest="r0", similarity=0.9)]),
        "steps": ([{**row(2), "rationale": "So.", **reasons}], []),
    }
    for name, (rows, refused) in lines.items():
        journal.write_rows(folder / "generated" / name / "rows.jsonl", rows)
        journal.write_rows(folder / "generated" / name / "refused.jsonl", refused)
    answers = [{"text": "x", "finish": "stop", "tokens": n, "near_ties": 0} for n in (3, 4)]
    journal.write_rows(folder / "asked" / "generate-harder.jsonl", [{"key": "k", "id": "i", "answers": answers}, {"key": "v", "value": 1}])
    strategies = {name: Tally(len(rows), facts={"asked": 3, "from_journal": 0, "tokens": 40}).plain() for name, (rows, _) in lines.items()}
    return {"strategies": strategies}


def test_what_a_folder_holds_is_gathered(tmp_path: Path, recipe: Recipe) -> None:
    facts = left(tmp_path, recipe)
    facts["llms"] = {"teacher": {"model": "big", "requests": 3, "tokens": {"input": 5, "output": 6}, "cost": "unknown"}}
    found = gather_generated(tmp_path, recipe, facts)
    assert found is not None
    assert [(one.name, one.strategy, one.made, one.lost) for one in found.strategies] == [
        ("harder", "evolve", 1, 0),
        ("tasks", "alpaca_batch", 1, 1),
        ("steps", "chain_of_thought", 1, 0),
    ]
    harder, tasks, _ = found.strategies
    assert harder.grown is not None
    assert harder.grown.trees[0].twigs[0].text.startswith("Name fruit "), "the text of the row it started from"
    assert [(one.replies, one.tokens) for one in harder.replies] == [(1, 7.0)]
    assert tasks.threshold == 0.6
    assert tasks.refusals[0].nearest == "Name a rare fruit.", "a row that another strategy made"
    assert [(one.name, one.model, one.requests, one.cost, one.used_by) for one in found.llms] == [
        ("teacher", "big", 3, None, ("harder", "tasks")),
        ("start", "smollm2-135m-instruct", None, None, ("steps",)),
    ]
    assert gather_generated(tmp_path / "nothing", recipe, {}) is None


def test_calls_tokens_and_money_are_plotted_from_the_ledger(tmp_path: Path) -> None:
    prices = Prices(input=1.0, output=10.0)
    ledger = tmp_path / "spent.jsonl"
    journal.write_rows(ledger, [{"input": 100, "output": 10, "cached": 0, "assumed": 0} for _ in range(100)])
    found = spent(ledger, prices)
    assert len(found) == STRETCHES
    assert found[-1] == Spent(100, 10000, 1000, pytest.approx(0.02))
    assert found[19] == Spent(50, 5000, 500, pytest.approx(0.01))
    assert spent(ledger, None)[-1].cost is None, "unknown, not 0"
    assert spent(tmp_path / "none.jsonl", prices) == ()
    one = Asked("teacher", spent=found)
    curves = generated_charts.taken(one), generated_charts.paid(one)
    assert [curve.spoken for curve in curves if curve] == [
        "tokens: 0 at first, 11000 at last, 0 least, 11000 most",
        "money: 0.0000 at first, 0.0200 at last, 0.0000 least, 0.0200 most",
    ]
    assert curves[0] is not None
    assert [tick.text for tick in curves[0].up] == ["0", "5k", "10k", "15k"], "no label is wider than its place"
    assert generated_charts.paid(Asked("teacher", spent=spent(ledger, None))) is None
    html = generation_page.page(Generation("n", (of([row(0)], []),), (one,)))
    assert "Money for teacher" in Parsed(html).text


def test_lengths_by_level_are_of_rows_that_have_all() -> None:
    reasons = {f"rationale_{level}": "So. " * n for n, level in ((1, "simple"), (2, "normal"), (3, "complex"))}
    rows = [Record(str(k), {"question": "?", "answer": "4", **reasons}, Origin("x")) for k in range(3)]
    other = [Record("a", {"question": "?", "answer": "4"}, Origin("x"))]
    found = levels({"with": rows, "without": other, "empty": []}, lambda text: len(text.split()))
    assert set(found) == {"with"}
    assert found["with"]["none"]["mean"] < found["with"]["simple"]["mean"] < found["with"]["complex"]["mean"]


def test_the_stage_writes_the_page_and_the_terminal_names_it(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = left(tmp_path, recipe)
    monkeypatch.setattr(generating, "generated", lambda *given: facts)
    monkeypatch.setattr(Student, "count", lambda self, text: len(text.split()))
    told = pipeline.generated(Work(recipe, tmp_path, Student(None, recipe), Silent()))  # type: ignore[arg-type]
    assert set(told["levels"]) == {"steps"}
    html = (tmp_path / "generation.html").read_text()
    assert "By level of reasoning" in html
    assert "Name a rare fruit." in html
    assert "Name a rare fruit." in (tmp_path / "generation.md").read_text()
    assert f"page: {tmp_path / 'generation.html'}" in closing.generated_text({"folder": str(tmp_path), "llms": {}, **facts})


def test_the_report_shows_made_data_in_all_three_files(tmp_path: Path, recipe: Recipe) -> None:
    found = gather_generated(tmp_path, recipe, left(tmp_path, recipe))
    run = findings(found, levels={"traces": {"none": {"rows": 2, "mean": 3.5, "median": 3, "longest": 9}}}, sources=())
    shown = Parsed(page(run)).text
    assert "Made data" in shown
    assert "Lineage" in shown
    text = markdown(run)
    assert "## Made data" in text
    assert "| none | 2 | 3.5 | 3 | 9 |" in text
    numbers = results(run)
    assert numbers["generated"]["strategies"]["tasks"]["refused"] == {"not novel": 1}
    assert numbers["generated"]["strategies"]["harder"]["operations"] == [{"round": 1, "operation": "deepen", "made": 1, "refused": 0}]
    assert numbers["levels"]["traces"]["none"]["mean"] == 3.5
    assert "rare fruit" not in json.dumps(numbers), "no text of a row"
    bare = findings(None)
    assert "Made data" not in page(bare)
    assert "Made data" not in markdown(bare)
    assert "generated" not in results(bare)
