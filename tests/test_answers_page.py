"""The page of all answers: what it says, that nothing in it can act, what is marked, and which features answers have."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.reporting import answers_page, visible
from etude.reporting.diffing import MOST, Budget, alike, diff
from etude.reporting.failures_by_feature import FEATURES, clusters, features, script
from etude.reporting.findings import Example, Findings
from test_reporting import Parsed, full, measure
from test_reporting_safety import VECTORS

HARMLESS = Parsed(answers_page.page(full("x")))


def findings(*examples: Example, **changes: Any) -> Findings:
    return Findings(name="demo", model="tiny", created="2026", tasks={"qa": (measure(),)}, examples={"qa": examples}, **changes)


# ---- safety ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS)
def test_no_text_can_act_in_the_page(vector: str) -> None:
    html = answers_page.page(full(vector))
    found = Parsed(html)

    def outline(parsed: Parsed) -> list[tuple[str, tuple[str, ...]]]:
        kept = {"script", "style", "meta", "link", "input", "a", "article", "pre"}  # pills of features may differ with the text
        return [(tag, names) for tag, names in parsed.elements if tag in kept]

    assert outline(found) == outline(HARMLESS)
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in HARMLESS.elements} | {"table", "thead", "tbody", "tr", "th", "td"}
    for _, name, value in found.attributes:
        assert not name.startswith("on")
        assert name != "style"
        if name in ("href", "src", "action", "data", "srcdoc"):
            assert value in ("data:,", "report.html"), (name, value)
    assert not [c for c in html if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\t"]
    html.encode("utf-8")
    assert " ".join(visible(vector).split()) in found.text


def test_no_marked_text_can_act() -> None:
    """The same where texts are cut up into marks: the vectors among words that stay, so that they are new, gone, or in both."""
    words = "one two three four five six seven eight nine ten " * 3
    rows = [Example(str(i), v, f"{words}{v} {v}{words}", f"{v}{words}", f"{words}new {v} {words}{v}", 0, 1) for i, v in enumerate(VECTORS)]
    html = answers_page.page(findings(*rows))
    found = Parsed(html)
    tags = [tag for tag, _ in found.elements]
    assert min(tags.count("ins"), tags.count("del")) >= len(VECTORS)
    assert (tags.count("script"), tags.count("style"), tags.count("meta"), tags.count("article")) == (1, 1, 6, len(VECTORS))
    assert set(tags) <= {tag for tag, _ in HARMLESS.elements} | {"table", "thead", "tbody", "tr", "th", "td"}
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"]
    assert not [c for c in html if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\t"]


def test_the_page_loads_nothing_and_runs_its_one_script_by_hash() -> None:
    html = answers_page.page(full("x"))
    found = Parsed(html)
    policy = [value for tag, name, value in found.attributes if tag == "meta" and name == "content" and "default-src" in value]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy == [
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    ]
    assert "innerHTML" not in scripts[0]
    assert not {"iframe", "object", "embed", "form", "base", "img"} & {tag for tag, _ in found.elements}
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in found.attributes:
        if name == "aria-labelledby" or (tag == "label" and name == "for"):
            assert value in ids
    assert [tag for tag, _ in found.elements].count("h1") == 1


# ---- what it says ---------------------------------------------------------------------------------


def test_rows_carry_what_the_filters_ask() -> None:
    rows = [
        Example("a", "q", "yes it is", "no", "yes it is", 0, 1),
        Example("b", "q", "yes it is", "yes it is", "", 1, 0),
        Example("c", "q", "7 of 9", "7 of 9", "word " * 60, 1, 1, False, False, True),
        Example("d", "q", "x", "x", "y", None, None),
    ]
    html = answers_page.page(findings(*rows))
    classes = re.findall(r'<article class="example row ([^"]*)">', html)
    assert classes == ["improved l1", "worse l1 f-empty", "unchanged l3 f-longer f-repeats f-cut f-digits", "unscored l1"]
    styles = "".join(Parsed(html).styles)
    for key in ("task-k0", "change-improved", "change-worse", "length-l1", "feature-empty", "feature-cut"):
        assert f"body:has(#{key}:checked)" in styles
    inputs = {value for tag, name, value in Parsed(html).attributes if tag == "input" and name == "id"}
    assert {"change-improved", "change-unscored", "length-l3", "feature-empty", "marks-start", "marks-reference", "search"} <= inputs
    assert "task-k0" not in inputs  # one task: nothing to choose
    assert "1 improved, 1 worse, 1 unchanged, 1 not scored one by one, of 4 rows" in Parsed(html).text
    assert "(empty)" in html


def test_rows_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Example(f"id{i}", "q", "r", "s", "t", 0, i % 2) for i in range(30)]
    monkeypatch.setattr(answers_page, "LISTED", 20)
    html = answers_page.page(findings(*rows))
    assert html.count("<article") == 20
    assert "The page shows the first 20 of 30 rows" in Parsed(html).text
    assert "15 improved, 15 unchanged, of 30 rows" in Parsed(html).text
    assert "first 20 of" not in answers_page.page(findings(*rows[:20]))


def test_comparing_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Example(str(i), "q", f"one two three {i}", "one two three x", "one two three four", 0, 1) for i in range(6)]
    monkeypatch.setattr(answers_page, "PAIRS", 16 * 5)
    html = answers_page.page(findings(*rows))
    assert html.count("<ins>four</ins>") == 5  # one by the start, one by the reference, of two rows and a half
    assert "4 rows stand without marks" in Parsed(html).text


def test_marks_only_where_they_help() -> None:
    row = answers_page.marked
    assert row("a b c d", "a b c e", "x", Budget(10**6)).pieces
    assert row("a  b\n", "a b", "x", Budget(10**6)).why == "The same as x."
    assert row("k l m n o", "a b c d e f", "x", Budget(10**6)).why == "Little in common with x."
    assert row("", "a", "x", Budget(10**6)).why == "Nothing to compare with x."


def test_no_rows_and_equal_bytes(tmp_path: Path) -> None:
    assert "No row was scored" in answers_page.page(Findings(name="n", model="m", created=""))
    answers_page.write(full("x"), tmp_path)
    first = (tmp_path / "answers.html").read_bytes()
    answers_page.write(full("x"), tmp_path)
    assert (tmp_path / "answers.html").read_bytes() == first


def test_huge_texts_are_cut_and_quick() -> None:
    huge = "word other, " * 100_000
    began = time.process_time()
    html = answers_page.page(findings(*(Example(str(i), huge, huge + "x", "y " + huge, huge, 0, 1) for i in range(10))))
    assert len(html) < 1_000_000
    assert "more characters" in html
    assert time.process_time() - began < 8


# ---- words ----------------------------------------------------------------------------------------

PARTS = ["a", "b", "c ", " ", "\n", ", ", "don't", "é", "語", "漢字", "x_y", "\U0001f469\u200d\U0001f680", "क्षि"]
TEXT = st.lists(st.sampled_from(PARTS), max_size=25).map("".join)


@settings(max_examples=50, deadline=None)
@given(TEXT, TEXT)
def test_a_diff_rebuilds_both_texts(before: str, after: str) -> None:
    pieces = diff(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == after
    assert "".join("".join(p.text for p in pieces if p.kind in ("same", "gone")).split()) == "".join(before.split())
    assert all(one.kind != other.kind for one, other in pairwise(pieces))
    assert 0 <= alike(pieces) <= 1
    assert [piece.kind for piece in diff(after, after)] in ([], ["same"])


def test_words_are_compared_and_space_is_not() -> None:
    assert diff("The cat, sat.", "The dog,  sat!") == (
        ("same", "The "), ("gone", "cat"), ("new", "dog"), ("same", ",  sat"), ("gone", "."), ("new", "!"),
    )  # fmt: skip
    assert [(p.kind, p.text) for p in diff("東京は雨", "東京は雪")] == [("same", "東京は"), ("gone", "雨"), ("new", "雪")]


def test_long_texts_are_compared_in_part() -> None:
    before, after = (" ".join(f"{letter}{i}" for i in range(3 * MOST)) for letter in "ab")
    pieces = diff(f"same {before}", f"same {after}")
    assert [piece.kind for piece in pieces] == ["same", "gone", "new", "rest"]
    assert len(pieces[2].text.split()) == MOST
    budget = Budget(MOST * MOST)
    assert budget.take(before, after)
    assert not budget.take("a", "b")


@pytest.mark.parametrize("word", ["word", "a b", "a b a c"])
def test_repetition_does_not_make_it_slow(word: str) -> None:
    began = time.process_time()
    diff(f"x {word} " * 2000, f"{word} y " * 2000)
    assert time.process_time() - began < 2


# ---- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("Paris", "Paris", set()),
        ("Paris", " \n", {"empty"}),
        ("", "anything at all that is said about it", set()),
        ("Paris", "It is, as far as anybody could know, Paris.", {"longer"}),
        ("It is, as far as anybody could know, Paris.", "Paris", {"shorter"}),
        ("The town is Paris", "Город называется Париж", {"language"}),
        ("東京は雨です", "东京今天下雨", {"language"}),
        ("Die Katze sitzt auf dem Dach und schaut den Vögeln im Garten lange zu.",
         "The cat sits on the roof and watches the birds in the garden for a long time.", {"language"}),
        ("I say what I think of it, as it is.", "I think I think I think I think I think", {"repeats"}),
        ("A long way.", "Why is the sky blue over", {"copies"}),
        ("why is the sky blue", "Why is the sky blue over", set()),
        ("It scatters light in the air", "I'm sorry, but I cannot help with that.", {"refuses"}),
        ("I'm sorry, but I can't help with this.", "I'm sorry, but I cannot help with that.", set()),
        ("1,200 in 1999", "1200 in 1998", {"digits"}),
        ("1,200 in 1999", "In 1999 it was 1200", set()),
    ],
)  # fmt: skip
def test_features(reference: str, answer: str, expected: set[str]) -> None:
    if expected == {"language"} and answer.isascii():
        pytest.importorskip("py3langid")
    assert features("Why is the sky blue over Rome?", reference, answer) == expected
    assert features("Why is the sky blue over Rome?", reference, answer, True) == expected | {"cut"}


def test_scripts() -> None:
    assert [script(text) for text in ("abc", "где", "東京", "東京は", "123 …", "서울", "ไทย")] == [
        "Latin", "Cyrillic", "Han", "kana", "", "Korean", "Thai",
    ]  # fmt: skip


def test_clusters_count_rows_and_mean_scores() -> None:
    rows = [Example(str(i), "q", "r", "s", "t", i / 4, i / 2) for i in range(4)] + [Example("n", "q", "r", "s", "t", None, None)]
    none: frozenset[str] = frozenset()
    has = [(row, frozenset({"empty"}) if i < 2 else none, frozenset({"cut"}) if i == 4 else none) for i, row in enumerate(rows)]
    empty, cut = clusters(has)
    assert (empty.key, empty.start.rows, empty.start.score_with, empty.start.score_without) == ("empty", 2, 0.125, 0.625)
    assert (empty.tuned.rows, empty.tuned.score_with, empty.tuned.score_without) == (0, None, 0.75)
    assert (cut.tuned.rows, cut.tuned.score_with) == (1, None)
    assert (cut.name, cut.rule) == FEATURES["cut"]
    html = Parsed(answers_page.page(findings(*rows)))
    assert "heuristics" not in html.text  # no feature, no table
