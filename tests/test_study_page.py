"""The report of a study: it says what was found and how surely, nothing in it can act, equal findings give equal bytes."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from etude.comparison import Comparison, Interval
from etude.comparison.found import worded
from etude.reporting import study_charts, study_curves, study_markdown, visible
from etude.reporting import study_words as study
from etude.reporting.studied import Arm, Cost, Point, Reached, Slice, Studied, Trial, results
from etude.reporting.study_page import markdown, page, write
from test_reporting import Parsed
from test_reporting_safety import VECTORS

NAN = float("nan")
METHOD = "items x seeds standard error, Satterthwaite t (7.9 degrees of freedom)"


def gap(difference: float, half: float, p: float, **more: Any) -> Comparison:
    values: dict[str, Any] = {
        "items": 300, "method": METHOD, "label": "3 and 3 seeds", "verdict": "", "smallest": 1.4 * half, "adjusted": min(1.0, 3 * p),
        "family": 3, "seeds": (3, 3), "won": 41, "lost": 17,
    }  # fmt: skip
    return worded(Comparison(difference, Interval(difference - half, difference + half), p, **{**values, **more}))


def reached(value: float, half: float = 0.03, **seeds: float) -> Reached:
    own = {int(key[1:]): one for key, one in seeds.items()} or {0: value - 0.012, 1: value + 0.004, 2: value + 0.008}
    return Reached(value, Interval(value - half, value + half), own)


def curve(floor: float, steps: int = 40, tokens: int = 4096) -> tuple[Point, ...]:
    return tuple(
        Point(s, s * tokens, floor + 2.2 / (1 + s / 4) + 0.07 * ((s * 7) % 5 - 2), floor + 2.0 / (1 + s / 5) if s % 8 == 0 else None)
        for s in range(1, steps + 1)
    )


def rates(best: int, *values: float | None) -> tuple[Trial, ...]:
    given = (1e-4, 3e-4, 1e-3)
    return tuple(
        Trial({"tune.learning_rate": rate}, 1.0, value, place == best, "" if value is not None else "the loss is not a number at step 12")
        for place, (rate, value) in enumerate(zip(given, values, strict=True))
    )


def arm(name: str, value: float | None, one: Comparison | None, trainable: int | None = None, **more: Any) -> Arm:
    cost = Cost(trainable, 134_515_008, trainable and 60 + trainable / 9e5, 900.0, trainable and 1.4 + trainable / 9e7, 40, 163_840,
                {"bits a token, prose": 0.031, "small tasks": -0.012}) if trainable else Cost()  # fmt: skip
    values: dict[str, Any] = {
        "changes": {"tune.method": {"type": name}},
        "rows": 1600,
        "drawn": 3200,
        "trials": rates(1, 1.42, 1.31, 1.5),
        "reached": {"accuracy": reached(value), "macro_f1": reached(value - 0.05)} if value is not None else {},
        "against": {"accuracy": one, "macro_f1": replace(one, exploratory=True, family=6)} if one else {},
        "cost": cost,
        "curve": curve(1.1 + len(name) / 40) if value is not None else (),
    }
    return Arm(name, **{**values, **more})


@cache
def filled() -> Studied:
    """A study of five arms: one better, one worse, one with no difference, one that failed."""
    return Studied(
        name="peft",
        created="2026-01-02T03:04:05Z",
        model="smollm2-135m-instruct",
        task="news",
        metric="accuracy",
        scale=1.0,
        lower=False,
        items=300,
        group="",
        baseline="prompt",
        seeds=(0, 1, 2),
        arms=(
            arm("prompt", 0.842, None, 92_160),
            arm("lora", 0.905, gap(0.063, 0.028, 0.0008), 4_884_480),
            arm("full", 0.861, gap(0.019, 0.034, 0.21), 134_515_008, reached={"accuracy": reached(0.861, s0=0.852, s1=0.87)},
                failed={2: "the loss is not a number at step 31"}),
            arm("ia3", 0.771, gap(-0.071, 0.031, 0.0021), 331_776),
            arm("prefix", None, None, trials=rates(9, None, None, None), failed=dict.fromkeys((0, 1, 2), "every trial failed: no memory")),
        ),
        same=("300 test rows, asked once by every run", "3,200 rows drawn", "training rows, by their ids"),
        smallest=0.052,
        start=0.213,
        slices=(Slice("lora", "length: long", 120, gap(0.08, 0.05, 0.004, exploratory=True, family=2, items=120)),),
        notes=("prefix: 3 of 3 runs failed (seed 0, 1, 2): every trial failed: no memory", "Decoding was greedy."),
        manifest={
            "schema": 1, "announced": "2026-01-01T00:00:00Z", "primary": "news.accuracy", "baseline": "prompt", "seeds": [0, 1, 2],
            "test rows": 300, "trials an arm": 3, "study": {"same": "rows", "seed_sd": 0.016},
            "recipes": {"prompt": {"tune": {"best_by": "validation_loss"}}},
            "versions": {"etude": "0.1.0", "torch": "2.13.0", "python": "3.12"},
        },
        study='{"name": "peft"}',
    )  # fmt: skip


def sized() -> Studied:
    """Arms that differ in nothing but rows."""
    counts = {"r200": 200, "r400": 400, "r800": 800, "r1600": 1600}
    arms = tuple(
        arm(name, 0.80 + 0.03 * place, gap(0.03 * place, 0.02, 0.001) if place else None, 4_884_480, rows=rows, trials=())
        for place, (name, rows) in enumerate(counts.items())
    )
    return replace(filled(), name="sizes", baseline="r200", arms=arms, sizes=counts, slices=(), notes=(), start=0.79)


def alone() -> Studied:
    """One seed, less is better, no cost, a margin."""
    pair = {"label": "these checkpoints only", "seeds": (1, 1), "family": 2, "scale": 100.0, "lower": True, "margin": 0.5}
    bare = {"cost": Cost(), "curve": (), "trials": (Trial({}, 1.0, None, chosen=True),)}
    return replace(
        filled(), metric="ppl", lower=True, scale=100.0, seeds=(7,), baseline="a", margin=0.5, start=None, smallest=None,
        slices=(), notes=(),
        forced=("other prompts: of 9 items in b and a",), manifest={},
        arms=(
            arm("a", None, None, **{**bare, "reached": {"ppl": reached(12.5, 0.4, s7=12.5)}}),
            arm("b", None, None, **{**bare, "reached": {"ppl": reached(11.0, 0.4, s7=11.0)},
                                    "against": {"ppl": gap(-1.5, 0.4, 0.0001, **pair)}}),
            arm("c", None, None, **{**bare, "reached": {"ppl": reached(12.6, 0.4, s7=12.6)},
                                    "against": {"ppl": gap(0.1, 0.2, 0.4, equivalent=True, **pair)}}),
        ),
    )  # fmt: skip


def hostile(text: str) -> Studied:
    """A study whose every text is `text`, with numbers that are none."""
    none = Comparison(NAN, Interval(NAN, NAN), 1.0, 3, text, text, f"cannot test: {text}", why=text, family=2)
    own = Reached(0.5, Interval(NAN, NAN), {0: NAN, 1: 0.5})
    one = gap(0.1, 0.05, 0.001, method=text, label=text)
    arms = (
        arm(f"{text}", None, None, 100, reached={text: own, f"o{text}": own}, changes={text: text}, curve=curve(1.0)),
        arm(f"b{text}", None, None, 200, reached={text: Reached(NAN, Interval(NAN, NAN), {0: NAN})}, against={text: none, f"o{text}": one},
            trials=(Trial({text: text}, 0.3, NAN, why=text), Trial({text: [text]}, 1.0, 0.5, chosen=True)), failed={1: text}),
        arm(f"c{text}", None, None, 300, reached={text: reached(0.7)}, against={text: one},
            curve=(Point(1, 0, NAN, None), Point(2, 0, 1.0, float("inf")))),
        arm(f"d{text}", None, None, failed={0: text, 1: text}),
    )  # fmt: skip
    arms = tuple(replace(one, cost=replace(one.cost, forgetting={text: NAN})) for one in arms)
    return replace(
        filled(), name=text, created=text, model=text, task=text, metric=text, group=text, baseline=text, seeds=(0, 1), arms=arms,
        same=(text,),
        smallest=NAN, start=NAN, slices=(Slice(f"c{text}", text, 3, one), Slice(f"b{text}", text, 3, none)), forced=(text,), notes=(text,),
        sizes={text: 10, f"c{text}": 20}, manifest={text: {text: [text, NAN]}, "announced": text, "versions": {"etude": text}}, study=text,
    )  # fmt: skip


@cache
def harmless() -> set[tuple[str, tuple[str, ...]]]:
    return set(Parsed(page(hostile("x"))).elements)


@pytest.mark.parametrize("vector", [*VECTORS[::4], "\ud800 half", "a | b\nc"])
def test_no_name_or_reason_can_act(vector: str) -> None:
    found = hostile(vector)
    html, text = page(found), markdown(found)
    parsed = Parsed(html)
    assert set(parsed.elements) <= harmless(), "no element and no attribute that harmless names do not give"
    for _, name, value in parsed.attributes:
        assert not name.startswith("on")
        assert name != "style"
        if name in ("href", "src"):
            assert value in ("data:,", "results.json") or re.fullmatch(r"#[a-z]+", value), (name, value)
    assert {c for c in html if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} <= {"\t"}
    assert not {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} - {"\t"}
    assert " ".join(visible(vector).split())[:60] in parsed.text
    for block in re.findall(r"(?:^\|.*\n?)+", re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", text), re.M):
        cells = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) for line in block.splitlines()}
        assert len(cells) == 1, block


def test_the_page_loads_nothing_and_every_id_is_one() -> None:
    for found in (filled(), sized(), alone()):
        html = page(found)
        parsed = Parsed(html)
        policy = [value for tag, name, value in parsed.attributes if tag == "meta" and name == "content" and "default-src" in value]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"]
        assert not {tag for tag, _ in parsed.elements} & {"script", "iframe", "img", "object", "embed", "form", "base"}
        assert "http:" not in html
        assert "https:" not in html
        ids = [value for _, name, value in parsed.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {part for _, name, value in parsed.attributes if name == "aria-labelledby" for part in value.split()} <= set(ids)
        assert {value[1:] for tag, name, value in parsed.attributes if tag == "a" and value.startswith("#") and name == "href"} <= set(ids)
        assert not re.search(r"\b(nan|inf|None)\b", parsed.text)


def test_the_verdict_in_one_sentence() -> None:
    assert study.sentence(filled()) == (
        "On `news`, by accuracy, `lora` (+.063, adjusted p = .002) is better than `prompt`; `ia3` (−.071, adjusted p = .006) is worse than "
        "`prompt`; no difference from `prompt` is shown for `full` (one of .048 or more would probably have been seen); "
        "there is no result for `prefix`."
    )
    assert study.sentence(alone()) == (
        "On `news`, by ppl (less is better), `b` (−1.50, adjusted p < .001) is better than `a`; `c` is equivalent to `a`, within ±0.50; "
        "one seed, so this speaks of these checkpoints only; not strictly comparable: other prompts."
    )
    none = replace(filled(), arms=tuple(replace(one, against={}) for one in filled().arms))
    assert study.sentence(none) == "No arm can be tested against `prompt`."


def test_the_page_shows_the_numbers_that_the_verdict_stands_on(tmp_path: Path) -> None:
    write(filled(), tmp_path)
    parsed = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    words = parsed.text
    assert words.index("is better than") < words.index("Adjusted p") < words.index("of every seed") < words.index("Pareto")
    for shown in (".905", "[.875, .935]", "+.063", "[.035, .091]", ".002", "41", "17", "4,884,480", "3.6", "0.0003", "1.31",
                  "every trial failed: no memory",
                  "the loss is not a number at step 31", "length: long", "300 test rows, asked once by every run",
                  "2026-01-01T00:00:00Z"):  # fmt: skip
        assert shown in text, shown
        assert shown.replace("4,884,480", "4.88M") in words, shown
    for shown in (
        "could have seen .039",
        "1 of 3 seeds failed",
        "✓ chosen",
        "start model .213, left of this axis",
        "+.031",
        "−.012",
        "Decoding was greedy",
    ):
        assert shown in words, shown
    row = next(line for line in text.splitlines() if line.startswith("| lora | .905"))
    assert row == "| lora | .905 [.875, .935] | +.063 [.035, .091] | < .001 | .002 | Better | .039 | 41 | 17 |"
    assert "Better could have seen .039 41 17" in words
    assert ".002 < .001 Better" in words, "adjusted p first, raw p under it"
    assert words.count("3 of 3 runs failed") == 1, "told in the paragraph; the note of it is left out, the table holds it"
    assert (
        "Every arm tried 3 combinations, 15 in all; 3 of 15 failed or have no value. Each was judged with seed 0 by validation loss"
        in words
    )


def test_results_json_is_valid_and_says_its_version(tmp_path: Path) -> None:
    def refused(word: str) -> None:
        raise AssertionError(word)

    for place, found in enumerate((filled(), hostile("\ud800<script>"))):
        write(found, tmp_path / str(place))
        read = json.loads((tmp_path / str(place) / "results.json").read_text(encoding="utf-8"), parse_constant=refused)
        assert read["schema"] == 1
    first = json.loads((tmp_path / "0" / "results.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in first["arms"]] == ["prompt", "lora", "full", "ia3", "prefix"]
    assert first["arms"][1]["against"]["accuracy"]["adjusted"] == pytest.approx(0.0024)
    assert read["arms"][1]["reached"]["?<script>"]["value"] is None


def test_equal_findings_give_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(filled(), tmp_path / folder)
    for file in ("report.html", "report.md", "results.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_seed_and_less_is_better() -> None:
    found, text = alone(), Parsed(page(alone())).text
    assert "Not strictly comparable other prompts: of 9 items in b and a" in text
    assert "less is better" in text
    assert "within ±0.50" in text
    assert "Quality against cost" not in text
    assert "Learning curves" not in text
    assert "Nothing was tried beforehand" in text
    assert "results of one seed speak of these checkpoints, not of the methods" in study.paragraph(found)
    assert study_charts.pareto([(1.0, 12.5), (2.0, 11.0), (3.0, 12.6)], lower=True) == [0, 1]


def test_what_could_not_have_been_seen_is_not_promised() -> None:
    found = alone()
    one = replace(found.arm("b").against["ppl"], smallest=float("inf"), adjusted=0.4, p=0.4)
    blind = replace(
        found, seeds=(1, 2, 3), arms=tuple(replace(a, against={"ppl": worded(one)}) if a.name == "b" else a for a in found.arms)
    )
    said = study.sentence(blind)
    assert "no difference from `a` is shown for `b`; for `b` there was too little to have seen one" in said
    assert "one of 3 seeds is left, so this speaks of these checkpoints only" in said
    assert "no difference shown, and too little to have seen one" in study.paragraph(blind)
    assert json.loads(json.dumps(results(blind), allow_nan=False))


def test_the_front_holds_what_nothing_beats() -> None:
    assert study_charts.pareto([(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.7), (4.0, 0.9)], lower=False) == [1, 3, 0]
    plots = {plot.title: plot for plot in study_charts.costs(filled())}
    assert {spot.name for spot in plots["Trained parameters"].spots if spot.front} == {"prompt", "lora"}
    assert len(plots) == 3
    assert len(plots["Training time"].front) == 2


def test_more_data() -> None:
    found = sized()
    growth = study_curves.growth(found)
    assert growth
    assert [one.rows for one in growth.sizes] == [200, 400, 800, 1600]
    text = Parsed(page(found)).text
    assert "From 800 to 1,600 rows the score moved by +.030; from 200 to 1,600 by +.090." in text
    assert "trained parameters: 4,884,480" in text
    flat = replace(found, arms=(*found.arms[:3], replace(found.arms[3], reached={"accuracy": reached(0.85)})))
    assert "The last step brought nothing" in study.more_data(study_curves.ordered(flat), flat)
    assert study_curves.growth(filled()) is None


def test_curves_go_by_tokens_where_steps_differ() -> None:
    steps = study_curves.curves(filled())
    short = replace(filled(), arms=(replace(filled().arms[0], curve=curve(1.0, 20, 8192)), *filled().arms[1:]))
    tokens = study_curves.curves(short)
    assert steps
    assert tokens
    assert (steps.unit, tokens.unit) == ("steps", "tokens")
    assert len(steps.curves) == 4, "the arm that failed has none"


def test_the_paragraph_names_design_test_numbers_and_software() -> None:
    said = study.paragraph(filled())
    assert "`" not in said
    for part in ("5 conditions (prompt, lora, full, ia3, prefix)", "3 training seeds (0, 1, 2)", "every condition tried 3 combinations",
                 "accuracy on 300 held-out rows of news, was fixed before training (2026-01-01T00:00:00Z)", "Satterthwaite t",
                 "Holm's method for 3 comparisons", "lora reached .905 [.875, .935], a "
                 "difference of +.063 [.035, .091], adjusted p = .002 (better)",
                 "prefix has no result (3 of 3 runs failed)", "Software: etude 0.1.0, torch 2.13.0, python 3.12."):  # fmt: skip
        assert part in said, part


def test_unequal_trials_are_told() -> None:
    found = filled()
    fewer = replace(found, arms=(replace(found.arms[0], trials=found.arms[0].trials[:2]), *found.arms[1:]))
    assert study.tried(fewer).startswith("The arms tried unequally many combinations: `prompt` 2, `lora` 3")
    assert len(study_markdown.others(found)["macro_f1"]) == 4, "the three that have it and the one that is compared"


def test_tests_that_differ_in_their_degrees_of_freedom_alone_are_named_once():
    from etude.reporting.study_words import merged

    t, other = "groups of items x seeds standard error, Satterthwaite t", "McNemar mid-p (3 won, 6 lost)"
    given = [
        f"{t} (3.3 degrees of freedom)",
        other,
        f"{t} (12.4 degrees of freedom)",
        f"{t} (2.5 degrees of freedom)",
    ]
    assert merged(given) == [f"{t} (2.5 to 12.4 degrees of freedom)", other]
    assert merged(given[:1]) == given[:1]
    assert merged([]) == []


def test_names_beside_points_do_not_cover_one_another() -> None:
    points, names = [(41.0, 87.0), (96.0, 86.0), (3.0, 82.0), (70.0, 92.0)], ["simple", "normal", "complex", "none"]
    boxes = []
    for (x, y), word, (right, down, end) in zip(points, names, study_charts.placed(points, names), strict=True):
        width = study_charts.LETTER * len(word)
        left = x * study_charts.WIDE / 100 + right - {"start": 0.0, "middle": width / 2, "end": width}[end]
        bottom = y * study_charts.TALL / 100 + down + 3
        boxes.append((left, bottom - 15, left + width, bottom))
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(boxes, 2):
        assert c <= e or g <= a or d <= f or h <= b
