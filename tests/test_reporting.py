"""The report: what it says, that nothing in it can act, that it is the same twice."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from etude.failures import Failure
from etude.reporting import (
    Example,
    Findings,
    Measure,
    Point,
    Probe,
    Source,
    Tokens,
    Tuning,
    charts,
    markdown,
    page,
    results,
    sentence,
    visible,
    words,
    write,
)

COUNTED = {"few_shot": {"value": 0.214, "interval": (0.187, 0.243)}}


def measure(metric: str = "rougeL", **changes: Any) -> Measure:
    values: dict[str, Any] = {
        "metric": metric,
        "base": 0.142,
        "base_interval": (0.121, 0.164),
        "tuned": 0.341,
        "tuned_interval": (0.308, 0.377),
        "difference": 0.199,
        "interval": (0.166, 0.233),
        "p": 0.0001,
        "items": 60,
        "signature": "rougeL|stemmer:yes",
        "verdict": "better",
        "label": "these checkpoints only",
        "baselines": COUNTED,
    }
    return Measure(**{**values, **changes})


def full(text: str) -> Findings:
    """Findings whose every text is `text`."""
    examples = tuple(Example(f"{text}{i}", text, text, text, text, *scores) for i, scores in enumerate([(0, 1), (1, 0), (1, 1), (None, 1)]))
    strange = measure(
        text, verdict=f"no difference shown; {text}", label=text, signature=text, baselines={text: {"value": 0.5, "interval": None}}
    )
    return Findings(
        name=text,
        model=text,
        created=text,
        tasks={text: (measure(label=text), strange), f"two {text}": (strange,)},
        primary={text: "rougeL"},
        examples={text: examples},
        probes=(Probe(text, text, text),),
        curve=tuple(
            Point(step, step / 9, step * 10, step * 1.5, 2.5 - step / 40, 2.5 if step % 10 == 0 else None, 1e-4) for step in range(40)
        ),
        sources=(Source(text, 10, 1, 5, 1, 1, {text: 2}, text),),
        tokens=Tokens(5, 100, 40, 1, ((0, 16, 2), (16, 32, 3))),
        tuning=Tuning(text, 10, 1000, 39, 30, 58.5, 6.7, {text: text}),
        seconds={text: 1.5, f"two {text}": 2.5},
        reused=(text,),
        recipe=text,
        manifest={text: {text: [text, 1]}, "other": text},
        notes=(text, f"in `{text}` code"),
    )


class Parsed(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        (self.styles if self.open and self.open[-1] == "style" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def run(*measures: Measure, **changes: Any) -> Findings:
    return Findings(name="demo", model="tiny", created="2026-01-02 03:04 UTC", tasks={"docstring": measures}, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "Tuning raised ROUGE-L on `docstring` from .142 [.121, .164] to .341 [.308, .377], a difference of +.199 [.166, .233] "
            "on 60 held-out rows (p < .001; these checkpoints only). A few-shot start model reaches .214.",
        ),
        (
            {
                "tuned": 0.1,
                "tuned_interval": (0.08, 0.12),
                "difference": -0.042,
                "interval": (-0.07, -0.01),
                "p": 0.0312,
                "verdict": "worse",
            },
            "Tuning lowered ROUGE-L on `docstring` from .142 [.121, .164] to .100 [.080, .120], a difference of −.042 [−.070, −.010] "
            "on 60 held-out rows (p = .031; these checkpoints only). A few-shot start model reaches .214, above the tuned model.",
        ),
        (
            {
                "tuned": 0.15,
                "tuned_interval": (0.12, 0.22),
                "difference": 0.008,
                "interval": (-0.01, 0.03),
                "p": 0.4,
                "verdict": "no difference shown; could have seen >= 0.031",
            },
            "No difference shown in ROUGE-L on `docstring`: .142 [.121, .164] at the start, .150 [.120, .220] tuned, a difference of "
            "+.008 [−.010, .030] on 60 held-out rows (p = .400; these checkpoints only). A difference of .031 could have been seen. "
            "A few-shot start model reaches .214, above the tuned model.",
        ),
        (
            {"base": None, "difference": math.nan, "p": 1.0, "verdict": "cannot test: no answers", "baselines": {}},
            "Whether tuning changed ROUGE-L on `docstring` cannot be tested: tuned .341 [.308, .377] on 60 held-out rows "
            "(these checkpoints only). No answers.",
        ),
        (
            {"baselines": {"majority": {"value": 0.61, "interval": None}, **COUNTED}, "label": "", "p": None, "items": 1},
            "Tuning raised ROUGE-L on `docstring` from .142 [.121, .164] to .341 [.308, .377], a difference of +.199 [.166, .233] "
            "on 1 held-out row. The majority class alone reaches .610, above the tuned model.",
        ),
        (
            {"baselines": {"constrained": {"value": 0.33, "interval": (0.3, 0.36)}}, "p": 0.04996},
            "Tuning raised ROUGE-L on `docstring` from .142 [.121, .164] to .341 [.308, .377], a difference of +.199 [.166, .233] on 60 "
            "held-out rows (p = .0500; these checkpoints only). "
            "The start model held to the labels reaches .330, inside the tuned model's interval.",
        ),
    ],
)
def test_the_sentence_is_plain_and_honest(changes: dict[str, Any], expected: str) -> None:
    findings = run(measure(**changes))
    assert sentence(findings) == expected
    plain = expected.replace("`", "")
    assert plain in Parsed(page(findings)).text.replace("\u00a0", " ").replace(" docstring ", " docstring ").replace(" :", ":")
    assert expected in markdown(findings).replace("\\", "")


def test_the_sentence_over_several_tasks_and_none() -> None:
    findings = Findings(
        name="demo",
        model="tiny",
        created="now",
        tasks={
            "a": (measure(),),
            "b": (measure("bleu", scale=100.0, base=3.0, tuned=1.5, difference=-1.5, verdict="worse"),),
            "c": (measure(tuned=None, difference=None, verdict="cannot test"),),
            "d": (),
        },
    )
    assert sentence(findings) == (
        "Over 3 tasks, the tuned model against the start: better on `a` (ROUGE-L +.199); worse on `b` (BLEU −1.50); "
        "cannot be tested on `c` (ROUGE-L)."
    )
    assert sentence(Findings("demo", "tiny", "now")) == "Nothing was scored, so there is no verdict."
    assert "Nothing was scored" in page(Findings("demo", "tiny", "now"))
    assert "Nothing was scored" in markdown(Findings("demo", "tiny", "now"))


def test_a_verdict_against_its_own_number_is_refused() -> None:
    with pytest.raises(Failure, match="contradicts"):
        measure(verdict="worse")
    with pytest.raises(Failure, match="begins with none of"):
        measure(verdict="significant")


def test_better_than_the_start_but_not_than_a_baseline_is_said_on_the_badge() -> None:
    above = measure(baselines={"majority": {"value": 0.61, "interval": None}})
    assert "Better, below a baseline" in page(run(above))
    assert "below a baseline" not in page(run(measure()))


def test_results_have_exactly_the_documented_keys(tmp_path: Path) -> None:
    nothing = measure("bleu", base=math.nan, base_interval=(0, 100), tuned=None, difference=math.inf, p=math.nan, verdict="cannot test")
    findings = run(measure(), nothing, seconds={"tune": 12.5, "odd": math.nan})
    found = results(findings)
    assert set(found) == {"tasks", "seconds", "schema"}
    assert found["schema"] == 1
    assert found["seconds"] == {"tune": 12.5, "odd": None}
    row = found["tasks"]["docstring"]["rougeL"]
    assert row == {
        "base": 0.142,
        "base_interval": [0.121, 0.164],
        "tuned": 0.341,
        "tuned_interval": [0.308, 0.377],
        "difference": 0.199,
        "interval": [0.166, 0.233],
        "p": 0.0001,
        "items": 60,
        "signature": "rougeL|stemmer:yes",
        "baselines": {"few_shot": {"value": 0.214, "interval": [0.187, 0.243]}},
    }
    empty = found["tasks"]["docstring"]["bleu"]
    assert set(empty) == set(row)
    assert [empty[key] for key in ("base", "base_interval", "tuned", "tuned_interval", "difference", "interval", "p")] == [None] * 7
    write(findings, tmp_path)
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == json.loads(json.dumps(found))


def test_equal_findings_give_equal_bytes(tmp_path: Path) -> None:
    for text in ("plain", "half \ud800 of a pair \x1b[0m"):
        write(full(text), tmp_path / "one")
        write(full(text), tmp_path / "two")
        for name in ("report.html", "report.md", "results.json"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["answers.html", "report.html", "report.md", "results.json"]


def test_every_number_comes_from_the_findings() -> None:
    """Every number of a text that is not an axis or a list of ours is one that the findings hold."""
    findings = run(
        measure(), seconds={"tune": 424.0}, tokens=Tokens(1480, 211_940, 29_412, 7), sources=(Source("s", 4412, 3, 1480, 61, 62, {"r": 9}),)
    )
    held = ".142 .121 .164 .341 .308 .377 .199 .166 .233 .001 60 .214 .187 .243 1,480 211,940 29,412 7 4,412 3 61 62 9 95"
    held += " 13.9 0.47 2026-01-02 03:04"  # 29,412 of 211,940; 7 of 1,480; created
    allowed = set(re.findall(r"[\d.,:-]*\d", held))
    for text in (sentence(findings), markdown(findings).split("## Time")[0]):
        body = re.sub(r"\]\(.*?\)|ROUGE-L|rougeL", "", text)
        numbers = {number.lstrip("-") for number in re.findall(r"(?<![\w])[.\d][\d.,:-]*\d|(?<![\w.])\d", body)}
        assert numbers <= allowed, numbers - allowed
    shown = Parsed(page(findings)).text
    for number in held.split()[:-2]:
        assert number in shown, number
    assert "7 min 04 s" in shown


def test_empty_findings_and_measures_without_numbers() -> None:
    nothing = measure(
        base=None,
        tuned=None,
        difference=None,
        p=None,
        items=0,
        verdict="cannot test",
        baselines={"few_shot": {"value": None, "interval": None}},
    )
    for findings in (
        Findings("demo", "tiny", "now"),
        run(),
        run(nothing),
        run(measure(base=0.0, tuned=0.0, difference=0.0, verdict="no difference shown")),
        run(measure(), curve=(Point(0, 0, 0, 0, None),), sources=(Source("s", 0),), tokens=Tokens(0, 0, 0), tuning=Tuning("full", 0, 0)),
        run(measure(), curve=(Point(1, 0, 0, 0, math.nan, math.inf), Point(2, 0, 0, 0, 2.0)), examples={"docstring": ()}),
        run(measure(), seconds={"tune": math.nan}),
    ):
        for text in (page(findings), markdown(findings)):
            assert "None" not in text
            assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_the_groups_of_answers_keep_the_order_of_the_test_set() -> None:
    rows = tuple(Example(f"r{i}", "q", "r", "b", "t", 0.5, 0.5 + (i % 3 - 1) / 10) for i in range(30))
    text = Parsed(page(run(measure(), examples={"docstring": rows}))).text
    assert "10 improved, 10 worse, 10 unchanged, of 30 rows" in text
    assert [text.index(f"row r{i} ") for i in (2, 5, 8, 11)] == sorted(text.index(f"row r{i} ") for i in (2, 5, 8, 11))


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (0.1424, 1, ".142"),
        (1.0, 1, "1.000"),
        (0.0, 1, ".000"),
        (-0.0001, 1, ".000"),
        (-0.05, 1, "−.050"),
        (3.854, 100, "3.85"),
        (None, 1, "–"),
    ],
)
def test_numbers(value: float | None, scale: float, expected: str) -> None:
    assert words.number(value, scale) == expected


def test_small_words() -> None:
    assert words.signed(0.0001) == ".000"
    assert words.signed(12.11, 100) == "+12.11"
    assert [words.probability(p) for p in (0.00099, 0.0496, 0.05, 1.0, None)] == ["p < .001", "p = .0496", "p = .0500", "p = 1.000", ""]
    assert [words.duration(s) for s in (0.42, 3.14, 84, 119.6, 424, 7260)] == [
        "0.42 s",
        "3.1 s",
        "84 s",
        "2 min 00 s",
        "7 min 04 s",
        "2 h 01 min",
    ]
    assert visible("a\x1b[0m\r\nb\rc\u202e") == "a⟨U+001B⟩[0m\nb⟨U+000D⟩c⟨U+202E⟩"
    assert visible("tab\t, joiner 👩\u200d💻, عربى") == "tab\t, joiner 👩\u200d💻, عربى"


def test_bars_stand_where_their_numbers_are() -> None:
    chart = charts.bars(measure())
    assert [tick.text for tick in chart.ticks] == ["0", ".1", ".2", ".3", ".4"]
    assert [bar.width for bar in chart.bars] == ["35.50%", "85.25%", "53.50%"]
    assert (chart.bars[1].low, chart.bars[1].high) == ("77.00%", "94.25%")
    full = charts.bars(measure(tuned=0.99, tuned_interval=(0.97, 1.0), difference=0.848))
    assert full.ticks[-1] == charts.Tick("100.00%", "1.0")


def test_the_loss_axis() -> None:
    linear = charts.loss([Point(step, 0, 0, 0, 3.0 - step / 100) for step in range(101)], best_step=50)
    assert linear is not None
    assert not linear.logarithmic
    assert [tick.text for tick in linear.up] == ["2.0", "2.2", "2.4", "2.6", "2.8", "3.0"]
    assert linear.best == "50.00%"
    assert linear.train.split()[0] == "0.0,0.0"
    assert linear.train.split()[-1] == "1000.0,1000.0"
    steep = charts.loss([Point(step, 0, 0, 0, 10.0 ** (1 - step / 100)) for step in range(201)])
    assert steep is not None
    assert steep.logarithmic
    assert [tick.text for tick in steep.up] == [".1", ".2", ".5", "1", "2", "5", "10"]
    assert charts.loss([]) is None
    long = charts.loss([Point(step, 0, 0, 0, 1.0 + step % 2) for step in range(10_000)])
    assert long is not None
    assert len(long.train.split()) == charts.MOST_POINTS


def test_importing_the_report_loads_no_template_engine() -> None:
    code = "import sys, etude.reporting; print([m for m in ('jinja2', 'torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_less_is_better_is_said():
    less = Measure(
        "ter", 80.0, (70.0, 90.0), 60.0, (50.0, 70.0), -20.0, (-25.0, -15.0), 0.001, 50, scale=100.0, verdict="better", lower=True
    )
    said = words.judged("news", less)
    assert said.startswith("Tuning lowered ter")
    assert "less is better, so the tuned model is better" in said
    with pytest.raises(Failure, match="contradicts"):
        Measure("ter", 80.0, None, 60.0, None, -20.0, None, None, 50, verdict="worse", lower=True)
    beaten = Measure(
        "ter",
        80.0,
        None,
        60.0,
        None,
        -20.0,
        None,
        None,
        50,
        verdict="better",
        lower=True,
        baselines={"lead": {"value": 50.0, "interval": None}},
    )
    assert beaten.beaten()


def test_bars_of_what_has_no_upper_bound_are_not_cut() -> None:
    from etude.reporting import charts

    bits = Measure("bits_per_token", 3.0, (2.9, 3.2), 1.5, (1.4, 1.6), -1.5, (-1.7, -1.3), 0.001, 50, verdict="better", lower=True)
    start, tuned = charts.bars(bits).bars
    assert float(start.width.rstrip("%")) < 100
    assert float(start.width.rstrip("%")) == pytest.approx(2 * float(tuned.width.rstrip("%")), rel=1e-3)
