"""Curation's page: it says what was dropped and why, nothing in it can act, it loads nothing, equal input gives equal bytes."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from etude.curation import CHECKS, Beside, Row
from etude.curation.applying import apply
from etude.curation.diversity import Hardness, checklist, coverage, figures, hardness
from etude.curation.suspects import Suspect
from etude.records import Conversation, Message, Origin, Record, identify
from etude.reporting import curated as facts
from etude.reporting import visible
from etude.reporting.curated import CleanScore, Curated, results
from etude.reporting.curation_page import fragments, markdown, page, write
from test_reporting import Parsed
from test_reporting_safety import VECTORS


def row(asked: str, said: str, given: str = "", source: str = "s", path: str = "rows.json") -> Row:
    fields = {"instruction": asked, "input": given, "output": said}
    id = identify(fields)
    return Row(
        Record(id, fields, Origin(path, 1), source, source),
        Conversation(id, (Message("user", asked, given), Message("assistant", said)), task=source),
    )


@cache
def made(words: str = "x", hard: Hardness | None = None) -> Curated:
    """A curation in which `words` stand wherever data can put them."""
    safe = words.encode("utf-8", "replace").decode()
    rows = [row(f"Name fruit {k}", f"Fruit {k} is fine.", source="a", path=f"{words}.json") for k in range(6)]
    rows += [row(f"Say {words} now", f"{words}", f"{words}", f"b {words}", f"{words}.json")]
    rows += [
        row(f"Name colour {words}", "", source="a"),
        row(f"Name colour {words}", "red", source="a"),
        row(f"Name colour {words}.", "red", "", "a"),
    ]
    other = [row(f"Name fruit {words}", "y", source="t"), row(f"Sing {words} loud", "z", source="t")]
    beside = Beside(evaluation={f"set {words}": [rows[0]]})
    applied = apply(rows, [CHECKS["empty_answer"](), CHECKS["rouge_duplicate"](), CHECKS["contamination"]()], beside)
    checks = list(facts.checked(applied))
    checks[0] = replace(checks[0], settings={"pattern": words}, reasons={words: 1}, changed=1, changes=((words, words, words),))
    before = figures(rows, kept={one.id for one in applied.kept}, hard=hard)
    after = figures(applied.kept, with_topics=False, hard=hard)
    mixture = [
        {"source": f"b {words}", "rows": 1, "asked": 2, "drawn": 2, "repeats": 1, "tokens": 9, "trained_tokens": 3, "asked_share": 0.5}
    ]
    mixture += [{"source": "all", "rows": 1, "asked": 2, "drawn": 2, "repeats": 1, "tokens": 9, "trained_tokens": 3, "asked_share": 1.0}]
    return Curated(
        name=words,
        created=words,
        checks=tuple(checks),
        sources=facts.kept(rows, applied.kept),
        before=before,
        after=after,
        mixture=tuple(mixture),
        mixture_notes=(words,),
        contamination=next(step.facts for step in applied.steps if step.name == "contamination"),
        clean_scores=(CleanScore(words, safe, 0.5, None, 10, 8),),
        coverage=(coverage(applied.kept, other, words),),
        suspects=facts.suspected([Suspect(rows[6].id, words, 3.0, 0.5, 9.0, words)], rows),
        checklist=checklist(applied.kept, after, beside),
        failures=(words,),
        notes=(words,),
    )


@cache
def harmless() -> set[tuple[str, tuple[str, ...]]]:
    return set(Parsed(page(made("x"))).elements)


@pytest.mark.parametrize("vector", VECTORS)
def test_no_text_of_a_row_can_act_in_the_page(vector: str) -> None:
    html = page(made(vector))
    found = Parsed(html)
    assert set(found.elements) <= harmless(), "no element and no attribute that harmless rows do not give"
    for _, name, value in found.attributes:
        assert not name.startswith("on")
        assert name != "style"
        if name in ("href", "src"):
            assert value == "data:," or re.fullmatch(r"#[a-z]+", value), (name, value)
    acting = {c for c in html if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert acting <= {"\t"}
    html.encode("utf-8")
    assert " ".join(visible(vector).split())[:90] in found.text
    text = markdown(made(vector))
    assert not {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} - {"\t"}
    json.dumps(results(made(vector))).encode("utf-8")


def test_the_page_loads_nothing_and_every_id_is_one() -> None:
    html = page(made())
    found = Parsed(html)
    policy = [value for tag, name, value in found.attributes if tag == "meta" and name == "content" and "default-src" in value]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"]
    assert not {tag for tag, _ in found.elements} & {"script", "iframe", "img", "object", "embed", "form", "base"}
    assert "http:" not in html
    assert "https:" not in html
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = {part for _, name, value in found.attributes if name in ("aria-labelledby",) for part in value.split()}
    assert named <= set(ids)
    assert {value[1:] for tag, name, value in found.attributes if tag == "a" and name == "href"} <= set(ids)


def test_the_page_says_what_was_dropped_and_why(tmp_path: Path) -> None:
    curation = made("x", hardness({str(k): k / 10 for k in range(12)}))
    write(curation, tmp_path)
    html, text = (tmp_path / "curation.html").read_text(), (tmp_path / "curation.md").read_text()
    assert curation.rows == (10, 7)
    for where in (Parsed(html).text, text):
        assert "Of 10 rows, 7 stay (70.0" in where
        assert "empty\\_answer" in where or "empty_answer" in where
        assert "ROUGE-L" in where
    dropped = {one.name: one.dropped for one in curation.checks}
    assert dropped == {"empty_answer": 1, "rouge_duplicate": 1, "contamination": 1}
    assert curation.checks[1].sources == {"a": 1}
    assert curation.checks[1].examples[0].beside == "Name colour x", "the row that stands for a duplicate is shown"
    (tmp_path / "again").mkdir()
    made.cache_clear()
    write(made("x", curation.before.hardness if curation.before else None), tmp_path / "again")
    assert (tmp_path / "again" / "curation.html").read_text() == html


def test_long_texts_are_cut_with_a_mark() -> None:
    html = page(made("x " * 9000))
    assert "more characters" in html
    assert len(html) < 400_000


def test_an_empty_curation_is_a_page_too() -> None:
    for curation in (Curated("nothing"), replace(made(), after=None, contamination=None, sources=())):
        assert "There were no rows." in Parsed(page(curation)).text
        assert markdown(curation).startswith("# Curation: ")
        json.dumps(results(curation))
    assert fragments(Curated("nothing")) == {}


def test_results_are_numbers_without_texts_of_rows() -> None:
    curation = made("secretword")
    curation = replace(curation, name="n", failures=(), mixture=(), mixture_notes=())
    found = results(curation)
    assert found["rows"] == {"before": 10, "after": 7}
    assert found["checks"][1] | {"seconds": None} == {
        "name": "rouge_duplicate",
        "settings": {},
        "rows": 9,
        "dropped": 1,
        "changed": 0,
        "seconds": None,
        "reasons": {"rouge_duplicate": 1},
        "sources": {"a": 1},
    }
    assert found["suspects"] == 1
    assert found["contamination"]["contaminated"] == 1
    assert "Say secretword now" not in json.dumps(found)
    assert "Name colour" not in json.dumps(found)


def test_fragments_stand_in_another_page() -> None:
    found = fragments(made(VECTORS[0]), "part")
    assert set(found) == {"steps", "lengths", "verbs", "mixture"}
    for part in found.values():
        assert hasattr(part, "__html__"), "already escaped: the report's engine leaves it as it is"
        assert all(value.startswith("part-") or "part-" in value for _, name, value in Parsed(str(part)).attributes if name == "id")
    assert VECTORS[0] not in str(found["steps"])


def test_an_example_of_each_reason_is_shown_first() -> None:
    rows = [row(f"Name fruit {k}", f"so it is and so on {k} " + "word " * 30) for k in range(8)]
    rows += [row("Name a tool", "a saw"), row("Name a river", "")]
    applied = apply(rows, [CHECKS["length"](most_words=20), CHECKS["empty_answer"]()], Beside())
    length, empty = facts.checked(applied)
    assert length.dropped == 8
    assert len(length.examples) == 5
    assert empty.examples[0].question == "Name a river"
    assert empty.rows == 2
