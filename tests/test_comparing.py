"""`etude compare`: what it takes for an arm, what it refuses, and the numbers and words it gives."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude import comparison, journal, recipe, runs, scoring
from etude.cli import app
from etude.comparing import Compared, Wanted, compare, wording
from etude.comparing.naming import arms_of
from etude.failures import CheckFailed, DataError, RecipeError
from etude.metrics import METRICS

LABELS = ("positive", "negative")
ITEMS = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etude.comparison.drawing.DRAWS", 100)
    monkeypatch.setattr("etude.comparison.drawing.RESAMPLES", 50)
    monkeypatch.setattr(runs, "recipe_of", lambda folder: read((folder / "recipe.resolved.yaml").read_text(encoding="utf-8")))


@functools.cache
def read(text: str) -> recipe.Recipe:
    """A recipe, parsed once: the same few runs are read by every test."""
    return recipe.build(recipe.parse(text, ""), "")


def answered(share: float, seed: int, items: int = ITEMS, **more: Any) -> list[dict[str, Any]]:
    """Rows of a predictions file; an item that is easy for one model is easy for all."""
    draw, ease = np.random.default_rng(seed), np.random.default_rng(99).random(items)
    rows = []
    for i in range(items):
        right = 0.7 * ease[i] + 0.3 * draw.random() < share
        row = {"id": f"{i:03}", "question": f"What is {i}?", "outputs": [LABELS[(i + (not right)) % 2]], "references": [LABELS[i % 2]]}
        rows.append(row | more)
    return rows


def run(
    root: Path, name: str, share: float, seed: int = 0, *, items: int = ITEMS, card: bool = False, form: str = "jinja", **changes: Any
) -> Path:
    """A run folder as far as comparing reads it; `form`: the format that its encoding was written in."""
    raw = {
        "name": name,
        "model": "smollm2-135m-instruct",
        "sources": {"news": {"type": "columns", "path": "news.csv", "template": "sentiment", "columns": {"text": "t", "label": "l"}}},
        "score": [{"task": "news", "metrics": ["accuracy", "f1"], "baselines": ["majority"]}],
        "seed": seed,
        **changes,
    }
    chosen = recipe.build(raw, name)
    folder = root / name
    runs.claim(folder, chosen, "")
    (task,) = chosen.tasks()
    for arm, rows in {
        "start": answered(0.4, 7, items),
        "tuned": answered(share, seed + 10, items),
        "majority": answered(0.5, 5, items),
    }.items():
        journal.write_rows(folder / runs.predictions_file(task, arm), rows)
    journal.write_rows(folder / "curated" / "test.jsonl", [{"id": f"{i:03}", "fields": {"t": "x", "page": i // 5}} for i in range(items)])
    for stage in ("start", "baselines", "tuned"):
        runs.finish(folder, stage, "d", 1.0, [], {})
    runs.finish(folder, "encoded", "d", 1.0, [], {"format": form})
    if card:
        rows = list(journal.read(folder / runs.predictions_file(task, "tuned")))
        metrics = [METRICS[key](labels=LABELS) for key in ("accuracy", "f1")]
        told = scoring.measure(rows, metrics, "news")
        arms = {"tuned": {key: {"value": m.value, "signature": m.signature, "stats": m.stats.tolist()} for key, m in told.items()}}
        journal.write_json(folder / "scorecard.json", {"schema": 1, "tasks": {"news": {"ids": [row["id"] for row in rows], "arms": arms}}})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        run(folder, f"plain-{seed}", 0.45, seed)
        run(folder, f"better-{seed}", 0.75, seed, tune={"method": {"type": "lora", "r": 4}})
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path, dirs_exist_ok=True))


def arm(name: str, stem: str, count: int = 3) -> str:
    return f"{name}={','.join(f'{stem}-{seed}' for seed in range(count))}"


def only(found: list[Compared]) -> Compared:
    (one,) = found
    return one


def test_seeds_of_two_arms_give_the_numbers_of_comparison(root: Path) -> None:
    one = only(compare([arm("plain", "plain"), arm("lora", "better")], root=root))
    assert (one.task, one.baseline, one.items, one.forced, one.group) == ("news", "plain", ITEMS, (), "")
    accuracy, f1 = one.metrics
    metric = METRICS["accuracy"](labels=LABELS)
    stats = {}
    for stem in ("plain", "better"):
        rows = [list(journal.read(root / f"{stem}-{seed}" / "predictions" / "news.tuned.jsonl")) for seed in range(3)]
        stats[stem] = np.stack([metric.stats(scoring.predictions(own, "")) for own in rows])
    expected = comparison.compare(stats["plain"], stats["better"], metric)
    got = accuracy.against["lora"]
    assert (got.p, got.difference, got.interval, got.verdict) == (expected.p, expected.difference, expected.interval, expected.verdict)
    assert accuracy.arms["plain"].runs == pytest.approx([one[:, 0].mean() for one in stats["plain"]])
    assert accuracy.arms["lora"].interval == comparison.interval(stats["better"], metric)
    assert got.verdict.startswith("better: +")
    assert (accuracy.planned, f1.planned) == (True, False)
    assert f1.against["lora"].label == "exploratory; 3 and 3 seeds"
    text = wording.as_text([one])
    assert text.startswith("news: 60 items; accuracy, more is better; against plain\n  lora: better: +")
    assert "(3 and 3 seeds)" in text
    assert "exploratory: 1 further comparisons" in text


def test_one_run_each_speaks_of_checkpoints_only(root: Path) -> None:
    one = only(compare(["plain-0", str(root / "better-0")], root=root))
    assert list(one.places) == ["plain-0", "better-0"]
    assert one.metrics[0].against["better-0"].method.startswith("McNemar")
    assert "(these checkpoints only)" in wording.as_text([one])


def test_the_baseline_can_be_any_arm_and_p_is_adjusted_over_the_others(root: Path) -> None:
    words = [arm("plain", "plain"), arm("lora", "better"), "start=plain-0:start,plain-1:start,plain-2:start"]
    one = only(compare(words, Wanted(baseline="start"), root))
    told = one.metrics[0].against
    assert list(told) == ["plain", "lora"]
    assert [result.adjusted for result in told.values()] == comparison.holm([result.p for result in told.values()])
    assert one.notes == (), "a start model has no seeds"
    assert "Holm over 2 arms" in wording.as_text([one])
    with pytest.raises(RecipeError, match=r"no such arm; did you mean 'start'"):
        compare(words, Wanted(baseline="strt"), root)


def test_a_trivial_baseline_is_an_arm(root: Path) -> None:
    told = only(compare(["plain-0:majority", "plain-0:start", "plain-0"], root=root))
    assert list(told.places) == ["plain-0:majority", "plain-0:start", "plain-0"]
    with pytest.raises(RecipeError, match="no answers of 'majorty' to news; did you mean 'majority'"):
        compare(["plain-0:majorty", "plain-0"], root=root)


def test_groups_come_from_the_rows(root: Path) -> None:
    told = only(compare(["plain-0", "better-0"], Wanted(group="page"), root))
    assert told.metrics[0].against["better-0"].groups == 12
    assert "in 12 groups by page" in wording.as_text([told])
    with pytest.raises(RecipeError, match="--group pge: row 000 of plain-0 has no such field; did you mean 'page'"):
        compare(["plain-0", "better-0"], Wanted(group="pge"), root)
    for name in ("c", "d"):
        run(root, name, 0.5, split={"group": "page"}, tune={"epochs": 1 if name == "c" else 2})
    assert only(compare(["c", "d"], root=root)).group == "page", "what kept rows together at the split keeps them here"


def test_a_margin_asks_for_equivalence(root: Path) -> None:
    told = only(compare([arm("plain", "plain"), arm("lora", "better")], Wanted(margin=0.9), root)).metrics
    assert told[0].against["lora"].equivalent
    assert told[1].against["lora"].equivalent is None
    with pytest.raises(RecipeError, match="--margin -1"):
        compare(["plain-0", "better-0"], Wanted(margin=-1), root)


def test_what_the_report_measured_is_taken_where_it_is_there(root: Path) -> None:
    run(root, "a", 0.5, 1, card=True, tune={"epochs": 1})
    run(root, "b", 0.6, 2, card=True, tune={"epochs": 2})
    fresh = only(compare(["a", "b"], Wanted(metric="accuracy"), root)).metrics[0]
    kept = only(compare(["a", "b"], root=root)).metrics[0]
    assert (kept.arms["a"].value, kept.against["b"].p) == (fresh.arms["a"].value, fresh.against["b"].p)
    assert kept.signature.endswith("labels:positive,negative|read:first-line"), "the card's"
    assert fresh.signature.endswith("labels:negative,neutral,positive|read:first-line"), "the metric's own"
    card = json.loads((root / "b" / "scorecard.json").read_text())
    card["tasks"]["news"]["arms"]["tuned"]["accuracy"]["signature"] += "|version:0"
    card["tasks"]["news"]["arms"]["tuned"]["accuracy"]["stats"] = [[0, 1]] * ITEMS
    journal.write_json(root / "b" / "scorecard.json", card)
    again = only(compare(["b", "a"], Wanted(metric="accuracy"), root)).metrics[0]
    assert again.arms["b"] == fresh.arms["b"], "a metric that is asked for is measured, whatever a report says under its name"
    with pytest.raises(CheckFailed, match=r"other ways to measure accuracy: a has .*; b has .*version:0"):
        compare(["a", "b"], root=root)
    assert only(compare(["a", "b"], Wanted(force=True), root)).metrics[0].arms["b"].value == kept.arms["b"].value


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"items": 50}, "other items: 10 of the 60 of plain-0 are not in other"),
        (
            {"score": [{"task": "news", "sampling": {"temperature": 0.7}}]},
            r"other decoding: plain-0 has .*temperature 0.0, other has .*temperature 0.7",
        ),
        ({"score": [{"task": "news", "few_shot": 2}]}, "other worked examples in the prompt: plain-0 has 0, other has 2"),
        ({"score": [{"task": "news", "cot": True}]}, "other reasoning asked for: plain-0 has as worded, other has yes"),
        ({"score": [{"task": "news", "metrics": [{"type": "accuracy", "read": "only"}]}]}, "other ways to measure accuracy"),
        ({"form": "alpaca"}, "other format of the prompt: plain-0 has jinja, other has alpaca"),
    ],
)
def test_what_is_not_comparable_is_refused_or_said(root: Path, changes: dict[str, Any], why: str) -> None:
    run(root, "other", 0.7, **changes)
    with pytest.raises(CheckFailed, match=rf"(?s)not comparable on news:\n.*{why}.*--force") as refused:
        compare(["plain-0", "other"], root=root)
    assert refused.value.exit_code == 4
    forced = only(compare(["plain-0", "other"], Wanted(force=True), root))
    assert list(forced.forced) == refused.value.facts["reasons"]
    text, plain = wording.as_text([forced]), wording.as_json([forced])
    assert text.startswith("NOT COMPARABLE, forced: ")
    assert "; NOT COMPARABLE)" in text
    assert not plain["tasks"][0]["comparable"]
    assert plain["tasks"][0]["metrics"][0]["against"]["other"]["verdict"].endswith("NOT COMPARABLE)")


def test_seeds_of_one_arm_are_seeds(root: Path) -> None:
    with pytest.raises(CheckFailed, match=r"plain-0 and better-0 of 'x' differ in tune\.method\.(alpha|r)"):
        compare(["x=plain-0,better-0", "y=plain-1,plain-2"], root=root)
    run(root, "twin", 0.45, 0)
    with pytest.raises(CheckFailed, match="plain-0 and twin of 'x' have the same seed 0"):
        compare(["x=plain-0,twin", "y=plain-1,plain-2"], root=root)
    told = only(compare(["plain-0", "plain-1"], root=root))
    assert told.notes == ("plain-0 and plain-1 differ in their seed alone; as seeds of one arm they are NAME=plain-0,plain-1",)
    for seed in (5, 6):
        journal.write_rows(run(root, f"copy-{seed}", 0.4, seed) / "predictions" / "news.tuned.jsonl", answered(0.5, 1))
    assert "the 2 runs of x give the same answers" in only(compare(["x=copy-5,copy-6", "y=better-0,better-1"], root=root)).notes[0]


def test_an_unfinished_run_is_named(root: Path) -> None:
    (root / "plain-0" / "stages" / "tuned.json").unlink()
    with pytest.raises(DataError, match=r"no finished tuned answers to news yet; .*; its start model's are .*plain-0:start"):
        compare(["plain-0", "plain-1"], root=root)


def test_runs_without_a_common_task(root: Path) -> None:
    run(root, "validated", 0.5, score=[{"task": "news", "split": "validation"}])
    with pytest.raises(RecipeError, match=r"no task is scored by every run: plain-0 has news; validated has news \(validation\)"):
        compare(["plain-0", "validated"], root=root)
    with pytest.raises(RecipeError, match="--task nws: not every run scores it; did you mean 'news'"):
        compare(["plain-0", "better-0"], Wanted(task="nws"), root)


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["plain-0"], "two arms or more"),
        (["plain-0", "plan-1"], "'plan-1' is no run folder and no file of predictions; did you mean 'plain-1'"),
        (["plain-0", "plain-1,plain-2"], "several runs of one arm need a name: NAME=plain-1,plain-2"),
        (["plain-0", "x="], "an arm is NAME=RUN"),
        (["plain-0", "x=plain-1,"], "'' is no run folder"),
        (["x=plain-0", "x=plain-1"], "two arms are called 'x'"),
        (["plain-0", "x=plain-1,plain-0"], "plain-0 is given twice, in 'plain-0' and in 'x'"),
    ],
)
def test_words_that_name_no_arms(root: Path, words: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        arms_of(words, root)


def test_files_of_one_name_are_called_by_their_path(tmp_path: Path) -> None:
    for folder in ("a", "b=c"):
        journal.write_rows(tmp_path / folder / "p.jsonl", answered(0.5, 1))
    words = [str(tmp_path / "a" / "p.jsonl"), str(tmp_path / "b=c" / "p.jsonl")]
    assert [one.name for one in arms_of(words, tmp_path)] == words
    assert [one.name for one in arms_of([f"x={words[0]}", words[1]], tmp_path)] == ["x", "p"]


# ---- files of any tool ---------------------------------------------------------------------------------------


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    journal.write_rows(folder / name, rows)
    return str(folder / name)


def test_files_and_a_metric(root: Path, tmp_path: Path) -> None:
    rows = answered(0.75, 3)
    mine = written(
        tmp_path, "mine.jsonl", [{"id": r["id"], "output": r["outputs"][0], "reference": r["references"][0]} for r in rows[::-1]]
    )
    theirs = written(
        tmp_path, "theirs.jsonl", [{"id": r["id"], "output": r["outputs"][0], "reference": r["references"][0]} for r in answered(0.4, 4)]
    )
    told = only(compare([theirs, mine], Wanted(metric="accuracy", settings={"read": "only"})))
    assert told.metrics[0].against["mine"].verdict.startswith("better: +")
    assert "read:only" in told.metrics[0].signature
    assert "not known here" in told.notes[0]
    mixed = only(compare(["plain-0", mine], Wanted(metric="accuracy"), root))
    assert (mixed.task, mixed.items) == ("news", ITEMS)
    with pytest.raises(RecipeError, match="files of predictions need --metric NAME"):
        compare([mine, theirs])
    with pytest.raises(RecipeError, match="--set needs --metric"):
        compare([mine, theirs], Wanted(settings={"read": "only"}))
    with pytest.raises(RecipeError, match="--task is for runs"):
        compare([mine, theirs], Wanted(metric="accuracy", task="news"))
    with pytest.raises(RecipeError, match=r"--metric: .*acuracy"):
        compare([mine, theirs], Wanted(metric="acuracy"))


def test_files_that_are_not_comparable(tmp_path: Path) -> None:
    rows = answered(0.5, 1)
    mine = written(tmp_path, "mine.jsonl", rows)
    for name, other, why in (
        ("fewer", rows[:20], "other items: 40 of the 60"),
        (
            "references",
            [{**row, "references": ["negative"]} for row in rows],
            r"other references: of 30 items in .* \(000, 002, 004, \.\.\.\)",
        ),
        ("questions", [{**row, "question": "Which?"} for row in rows], "other questions: of 60 items"),
        ("before", [{**row, "before": [{"role": "system", "content": "Be short."}]} for row in rows], ""),
        ("drawn", [{**row, "outputs": row["outputs"] * 3} for row in rows], "other numbers of answers an item: 1 in .*, 3 in"),
    ):
        path = written(tmp_path, f"{name}.jsonl", other)
        if not why:  # what only one of two files says is not known of the other
            compare([mine, path], Wanted(metric="exact_match"))
            continue
        with pytest.raises(CheckFailed, match=why):
            compare([mine, path], Wanted(metric="exact_match"))
        assert only(compare([mine, str(tmp_path / f"{name}.jsonl")], Wanted(metric="exact_match", force=True))).items == len(other)
    none = written(tmp_path, "none.jsonl", [{**row, "id": "x" + row["id"]} for row in rows])
    with pytest.raises(DataError, match="no item in common"):
        compare([mine, none], Wanted(metric="exact_match", force=True))


def test_what_was_asked_is_compared_however_it_is_written(tmp_path: Path) -> None:
    def asked(name: str, **more: Any) -> str:
        return written(tmp_path, name, [{"id": str(n), "output": "a", "reference": "b", **more} for n in range(9)])

    silent = asked("silent.jsonl")
    polite = asked("polite.jsonl", messages=[{"role": "user", "content": "Please?"}])
    curt = asked("curt.jsonl", messages=[{"role": "user", "content": "Now."}])
    with pytest.raises(CheckFailed, match=r"other questions: of 9 items in .*curt.jsonl and .*polite.jsonl"):
        compare([silent, polite, curt], Wanted(metric="exact_match"))


def test_bits_of_other_references_are_not_compared(tmp_path: Path) -> None:
    def bits(name: str, words: str, seed: int) -> str:
        draw = np.random.default_rng(seed)
        rows = [{"id": str(n), "output": "a", "reference": words, "token_logprobs": list(-draw.random(9))} for n in range(30)]
        return written(tmp_path, name, rows)

    mine, alike, other = bits("mine.jsonl", "four", 1), bits("alike.jsonl", "four", 2), bits("other.jsonl", "The steps: four", 3)
    told = only(compare([mine, alike, other], Wanted(metric="bits_per_token", force=True))).metrics[0]
    assert told.against["other"].verdict == "cannot test: it is measured on the references, and these are other texts"
    assert not told.against["alike"].why
    assert not only(compare([mine, other], Wanted(metric="exact_match", force=True))).metrics[0].against["other"].why.startswith("it is")


def test_a_system_prompt_is_part_of_what_a_run_was_asked(root: Path) -> None:
    rows = [{**row, "before": [{"role": "system", "content": "Be short."}]} for row in answered(0.9, 4)]
    journal.write_rows(run(root, "told", 0.9) / "predictions" / "news.tuned.jsonl", rows)
    with pytest.raises(CheckFailed, match="other questions: of 60 items in told and plain-0"):
        compare(["plain-0", "told"], root=root)


def test_a_format_is_what_it_came_to_and_not_how_it_is_spelled(root: Path) -> None:
    run(root, "named", 0.8, format={"type": "jinja"})
    assert not only(compare(["plain-0", "named"], root=root)).forced
    run(root, "own", 0.8, format={"type": "jinja", "variables": {"x": "y"}})
    with pytest.raises(CheckFailed, match=r"other format of the prompt: plain-0 has .*, own has variables"):
        compare(["plain-0", "own"], root=root)


def test_a_row_that_cannot_be_measured_is_named_by_file_and_line(tmp_path: Path) -> None:
    rows = answered(0.5, 1)
    bad = written(tmp_path, "bad.jsonl", [{**row, "references": [" "]} if row["id"] == "002" else row for row in rows])
    for words in ([bad, written(tmp_path, "good.jsonl", rows)], [str(tmp_path / "good.jsonl"), bad]):
        with pytest.raises(DataError, match=r"bad\.jsonl:3: .*blank.*\(metric accuracy, row 002\)"):
            compare(words, Wanted(metric="accuracy", force=True))


def test_groups_that_are_not_the_same(tmp_path: Path) -> None:
    rows = answered(0.5, 1)
    mine = written(tmp_path, "mine.jsonl", [{**row, "page": n // 5} for n, row in enumerate(rows)])
    other = written(tmp_path, "other.jsonl", [{**row, "page": n // 4} for n, row in enumerate(answered(0.6, 2))])
    with pytest.raises(CheckFailed, match=r"other groups: page is not the same in .*other.jsonl"):
        compare([mine, other], Wanted(metric="exact_match", group="page"))
    with pytest.raises(RecipeError, match="--group paeg"):
        compare([mine, other], Wanted(metric="exact_match", group="paeg"))


def test_ways_to_measure_that_differ_after_all(tmp_path: Path) -> None:
    mine = written(tmp_path, "mine.jsonl", answered(0.5, 1))
    twice = written(tmp_path, "twice.jsonl", [{**row, "references": [*row["references"], "x"]} for row in answered(0.5, 2)])
    told = only(compare([mine, twice], Wanted(metric="exact_match", force=True)))
    assert any(text.startswith("other ways to measure exact_match: ") and "nrefs:2" in text for text in told.forced)


def test_a_comma_in_a_file_name(tmp_path: Path) -> None:
    words = [f"{name}={written(tmp_path, f'{name},1.jsonl', answered(0.5, 1))}" for name in ("a", "b")]
    assert [len(one.places) for one in arms_of(words, tmp_path)] == [1, 1]


def test_several_answers_an_item_are_averaged_first(tmp_path: Path) -> None:
    rows = answered(0.5, 1)
    one = written(tmp_path, "one.jsonl", [{**row, "outputs": [row["references"][0], "x"]} for row in rows])
    two = written(
        tmp_path, "two.jsonl", [{**row, "outputs": ["x", "x"] if i % 2 else [row["references"][0]] * 2} for i, row in enumerate(rows)]
    )
    told = only(compare([one, two], Wanted(metric="exact_match"))).metrics[0]
    assert told.arms["one"].value == told.arms["two"].value == 0.5
    assert told.against["two"].method.startswith("sign-flip"), "halves are no right or wrong"


def test_scores_that_stand_in_files(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    low = draw.random(40) * 50
    a = written(tmp_path, "a.jsonl", [{"id": i, "score": s, "passage": i // 4} for i, s in enumerate(low)])
    b = written(tmp_path, "b.jsonl", [{"id": i, "score": s + 5 + draw.normal()} for i, s in enumerate(low)])
    assert only(compare([a, b])).metrics[0].against["b"].verdict.startswith("better: +")
    lower = only(compare([a, b], Wanted(lower=True, group="passage")))
    assert lower.metrics[0].against["b"].verdict.startswith("worse: +")
    assert lower.metrics[0].against["b"].groups == 10
    bad = written(tmp_path, "bad.jsonl", [{"id": i, "score": "high" if i == 3 else 1} for i in range(40)])
    with pytest.raises(DataError, match=r"bad\.jsonl:4: 'score' must be a number, not 'high'"):
        compare([a, bad])
    nan = written(tmp_path, "nan.jsonl", [{"id": i, "score": float("nan") if i == 3 else 1.0} for i in range(40)])
    told = only(compare([a, nan]))
    assert told.metrics[0].against["nan"].verdict.startswith("cannot test: 1 of 40 items")
    json.dumps(wording.as_json([told]), allow_nan=False)
    none = written(tmp_path, "none.jsonl", [{"id": i, "score": None} for i in range(40)])
    with pytest.raises(DataError, match=r"none\.jsonl:1: 'score' must be a number, not None"):
        compare([none, written(tmp_path, "text.jsonl", [{"id": i, "score": "1"} for i in range(40)])])
    huge = written(tmp_path, "huge.jsonl", [{"id": i, "score": 10**400} for i in range(40)])
    with pytest.raises(DataError, match=r"huge\.jsonl:1: 'score' is a number of 401 digits"):
        compare([huge, a])
    copies = [written(tmp_path, f"copy{n}.jsonl", [{"id": i, "score": s} for i, s in enumerate(low)]) for n in range(2)]
    noisy = [written(tmp_path, f"n{n}.jsonl", [{"id": i, "score": s + draw.normal()} for i, s in enumerate(low)]) for n in range(2)]
    notes = only(compare([f"x={','.join(copies)}", f"y={','.join(noisy)}"])).notes
    assert "the 2 runs of x give the same answers" in notes[0]
    assert not any("runs of y" in note for note in notes)
    with pytest.raises(RecipeError, match="--lower is for scores"):
        compare([a, b], Wanted(metric="accuracy", lower=True))


def test_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(root.rglob("*"))
    app(["compare", arm("plain", "plain"), arm("lora", "better"), "--runs", str(root), "--margin", "0.01"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert shown.startswith("news: 60 items; accuracy")
    app(["compare", "plain-0", "better-0", "--metric", "exact_match", "--json", "--runs", str(root)], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    (task,) = told["tasks"]
    assert set(task) == {"task", "baseline", "arms", "items", "group", "comparable", "forced", "notes", "metrics"}
    result = task["metrics"][0]["against"]["better-0"]
    assert result["seeds"] == [1, 1]
    assert result["won"] - result["lost"] == round(result["difference"] * ITEMS)
    assert sorted(root.rglob("*")) == before, "nothing is written"
