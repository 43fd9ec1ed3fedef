"""IFEval: the 25 kinds of instruction, strictly and loosely, by prompt and by instruction, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude import comparison, grading
from etude.failures import DataError, RecipeError
from etude.metrics.ifeval import IFEval, arguments, followed, instructions, languages, loosened
from etude.metrics.ifeval.arguments import ARGUMENTS, instruction, wanted
from etude.metrics.ifeval.instructions import INSTRUCTIONS
from etude.metrics.ifeval.sentences import count_sentences
from etude.records import Prediction

PROMPTS = Path(__file__).parents[2] / "shared" / "data" / "ifeval" / "input_data.jsonl"
NTH = "length_constraints:nth_paragraph_first_word"
GERMAN = "Heute ist das Wetter schön, und wir gehen auf den Markt."
KANNADA = "ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ ಮತ್ತು ನಾವು ಮಾರುಕಟ್ಟೆಗೆ ಹೋಗುತ್ತೇವೆ."
ENGLISH = "The weather is fine today and all of us are going to the market to buy bread, fruit and some flowers."

CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "keywords:existence": ({"keywords": ["Cat", "a.b"]}, ["concatenated A.B", "cat\na.b"], ["a cat", "cat axb", "c at a.b"]),
    "keywords:frequency": (
        {"keyword": "war", "frequency": 3, "relation": "at least"},
        ["War, war, war", "warwar toward"],
        ["war and war", "w a r"],
    ),
    "keywords:forbidden_words": (
        {"forbidden_words": ["cat", "C++"]},
        ["concatenate", "cats", "C and D", "c+"],
        ["a Cat.", "in c++ code", "cat\n"],
    ),
    "keywords:letter_frequency": (
        {"letter": "Q", "let_frequency": 2, "let_relation": "less than"},
        ["quick", "no such letter"],
        ["Quick quiz", "qq"],
    ),
    "language:response_language": ({"language": "kn"}, [KANNADA, "12345 !"], [GERMAN, f"{ENGLISH} {ENGLISH} {KANNADA}"]),
    "length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "at least"},
        ["One. Two.", "Is it? It is", "Wait! ok"],
        ["One", "Mr. Smith met Dr. No.", "1.5 apples", "One\nand two"],
    ),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2},
        ["a\n***\nb", "*** a *** b ***", "a***b"],
        ["a\n\nb", "a *** b *** c", "a *** *** b"],
    ),
    "length_constraints:number_words": (
        {"num_words": 3, "relation": "less than"},
        ["one two", "one-two", "- ! -", "हिन्दी भाषा"],
        ["one two 3", "it's me"],
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        ["a\n\nWeekend, b", "a\n\n'\"weekend's b", "a\n\n  weekend."],
        ["a\n\nthe weekend", "weekend\n\nb", "a\n\nweekend b\n\nc", "a\nweekend", "a\n\n\n\nweekend", "a\n\nweekends"],
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, ["[name] [x]", "[a][b] [c]"], ["[a]", "[a [b]", "[a\n] [b]"]),
    "detectable_content:postscript": (
        {"postscript_marker": "P.P.S"},
        ["text\np.p.s more", "a P. P. S. b"],
        ["P.S. more", "PPS more"],
    ),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 2},
        ["* a\n* b", "x\n  - a\n\n* b\ny", "-a\n* b\n** c"],
        ["* a", "* a\n* b\n- c", "1. a\n2. b", "a * b\nc - d"],
    ),
    "detectable_format:constrained_response": ({}, ["My answer is yes.", "Well: My answer is maybe. Ok"], ["my answer is yes.", "Yes."]),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2},
        ["*a* and *b*", "**a** *b*", "**a** **b**", "***a***"],
        ["*a*", "**a**", "* a\n* b", "** ** * *"],
    ),
    "detectable_format:multiple_sections": (
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb", "xSECTION1 SECTION 2 SECTION 3"],
        ["SECTION 1", "section 1\nsection 2", "SECTION one SECTION two"],
    ),
    "detectable_format:json_format": (
        {},
        ['{"a": [1]}', '```json\n{"a": 1}\n```', "```\n[]\n```", " 3 ", '```JSON {"a": null}```'],
        ['Here: {"a": 1}', "{'a': 1}", '{"a": 1', "```python\n[]\n```", "[" * 100_000],
    ),
    "detectable_format:title": ({}, ["<<a title>>\ntext", "text <<t>> text"], ["<title>", "<< >>", "<<a\nb>>", "<<>>"]),
    "combination:two_responses": (
        {},
        ["one ****** two", "******one******two******"],
        ["one two", "one ****** one ", "one ****** two ****** three", "one ************ two", "one ******"],
    ),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say it. "}, [" say it. It.", "Say it."], ["I say it.", "Say  it.", "it"]),
    "startend:end_checker": (
        {"end_phrase": " Any Questions?"},
        ["Well, any questions? ", '"Any questions?"'],
        ["Any questions? Yes", "Any question"],
    ),
    "startend:quotation": ({}, ['"a"', '\n"a" b "c" '], ['"', 'a "b"', "'a'", "“a”"]),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 3, "capital_relation": "at least"},
        ["IT'S MINE", "A-B C D", "A,B;C", "WE DON'T", "I, 1ST, 3D", "CANNOT I"],
        ["ONE Two THREE", "A-B-C D", "U.S.A. NOW", "one two three", "AB1/C D"],
    ),
    "change_case:english_capital": ({}, [ENGLISH.upper(), "3 " + ENGLISH.upper()], [ENGLISH, GERMAN.upper(), "123"]),
    "change_case:english_lowercase": ({}, [ENGLISH.lower()], [ENGLISH, GERMAN.lower(), "123"]),
    "punctuation:no_comma": ({}, ["a b; c", "a、b"], ["a, b", ","]),
}  # fmt: skip


def item(*outputs: str, id: str = "r", **kinds: dict[str, Any]) -> Prediction:
    """A prompt with a comma-free answer in three words at least, or with the instructions of the data set's ids given."""
    own = kinds or {"punctuation:no_comma": {}, "length_constraints:number_words": {"num_words": 3, "relation": "at least"}}
    return Prediction(id, outputs, (), fields={"instruction_id_list": list(own), "kwargs": list(own.values())})


def follows(id: str, kwargs: dict[str, Any], answer: str) -> bool:
    return instruction("r", 1, id, kwargs).followed(answer)


def test_every_kind_has_cases_and_is_read():
    assert set(CASES) == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25
    assert {key for check in INSTRUCTIONS.values() for key in wanted(check)} == set(ARGUMENTS)


@pytest.mark.parametrize("id", CASES)
def test_what_follows_and_what_does_not(id):
    kwargs, right, wrong = CASES[id]
    assert {answer: follows(id, kwargs, answer) for answer in right} == dict.fromkeys(right, True)
    assert {answer: follows(id, kwargs, answer) for answer in wrong} == dict.fromkeys(wrong, False)
    assert not follows(id, kwargs, ""), "an empty answer follows nothing"
    assert not follows(id, kwargs, " \n\t ")


@pytest.mark.parametrize(
    ("id", "count", "relation", "answer", "number"),
    [
        ("keywords:frequency", "frequency", "relation", "a cat and a cat", 2),
        ("keywords:letter_frequency", "let_frequency", "let_relation", "a cat and a cat", 5),
        ("length_constraints:number_sentences", "num_sentences", "relation", "A cat. Who? Me.", 3),
        ("length_constraints:number_words", "num_words", "relation", "A cat. Who? Me.", 4),
        ("change_case:capital_word_frequency", "capital_frequency", "capital_relation", "A CAT. Who? ME.", 3),
    ],
)
def test_relations_and_a_legal_zero(id, count, relation, answer, number):
    rest = {"keyword": "cat"} if id.endswith(":frequency") else {"letter": "a"} if "letter" in id else {}
    for bound in (0, number, number + 1, 40):
        assert follows(id, {**rest, count: bound, relation: "at least"}, answer) == (number >= bound)
        assert follows(id, {**rest, count: bound, relation: "less than"}, answer) == (number < bound)


def test_zero_of_what_is_counted_exactly_or_at_least():
    assert follows("detectable_format:number_bullet_lists", {"num_bullets": 0}, "no list")
    assert not follows("detectable_format:number_bullet_lists", {"num_bullets": 0}, "* a list")
    assert follows("detectable_content:number_placeholders", {"num_placeholders": 0}, "none")
    assert follows("detectable_format:number_highlighted_sections", {"num_highlights": 0}, "none")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0), (" \n ", 0), ("no stop", 1), ("One. Two", 2), ("One.Two", 1), ("It costs 3.50 a day.", 1), ("lower. case", 2),
        ("Dr. Smith and Mr. J. R. Brown came.", 1), ("We met at 5 p.m. on Monday.", 1), ("We met at 5 p.m. The sun shone.", 2),
        ("Wait... what? No!", 2), ("Well... Then it rained.", 2), ("Really?! Yes.", 2), ('"Go!" he said. "No."', 3), 
        ("(It is so.) Yes.", 2),
        ("1. Eat.\n2. Sleep.", 4), ("See fig a, e.g. this one, i.e. that.", 1), ("A heading\n\nand a line.", 1), ("5. so", 1),
        ("**Bold.** Next.", 2), ("Acme Inc. makes it.", 1), ("So did I. Then he left.", 2),
        ("a. b. c. d", 1), ("Is it?Yes", 1), ("Say no. No. Never.", 3),
    ],
)  # fmt: skip
def test_sentences(text, count):
    assert count_sentences(text) == count


def test_languages_are_told_the_same_way_each_time():
    languages.language.cache_clear()
    found = [languages.language(text) for text in (ENGLISH, ENGLISH.upper(), GERMAN, GERMAN.upper(), KANNADA)]
    assert found == ["en", "en", "de", "de", "kn"]
    languages.language.cache_clear()
    assert languages.language(KANNADA) == "kn"
    assert languages.language("今日は天気がいいので市場へ行きます。") == "ja"
    assert languages.language("2024 - 12 !") == languages.language("https://example.org/und/der/die") == ""


def test_without_the_language_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    monkeypatch.setattr(languages, "identifier", languages.identifier.__wrapped__)
    languages.language.cache_clear()
    asked = item("ein Satz", **{"language:response_language": {"language": "de"}})
    with pytest.raises(RecipeError, match=r"pip install 'etude\[language\]'"):
        IFEval().stats([asked])
    assert IFEval().stats([item("no comma here")]).tolist() == [[1, 1]], "what needs no language is scored all the same"


def test_the_eight_forms():
    forms = loosened("Sure:\n*one*\ntwo\nBye")
    assert forms == (
        "Sure:\n*one*\ntwo\nBye", "*one*\ntwo\nBye", "Sure:\n*one*\ntwo", "*one*\ntwo",
        "Sure:\none\ntwo\nBye", "one\ntwo\nBye", "Sure:\none\ntwo", "one\ntwo",
    )  # fmt: skip
    assert set(loosened("one line")) == {"one line", ""}


@pytest.mark.parametrize(
    ("id", "kwargs", "answer"),
    [
        ("startend:quotation", {}, 'Sure:\n"text"'),
        ("startend:quotation", {}, '"text"\nBye'),
        ("startend:quotation", {}, 'Sure:\n"text"\nBye'),
        ("startend:quotation", {}, '**"text"**'),
        ("startend:quotation", {}, 'Sure:\n*"text"*'),
        ("startend:quotation", {}, '*"text"*\nBye'),
        ("startend:quotation", {}, 'Sure:\n*"text"*\nBye'),
        ("startend:end_checker", {"end_phrase": "The end."}, "text\n**The end.**"),
        ("punctuation:no_comma", {}, "Well, then:\nno more of them"),
    ],
)
def test_each_form_can_make_an_answer_right_loosely(id, kwargs, answer):
    one = instruction("r", 1, id, kwargs)
    assert followed([one], answer) == (False,)
    assert followed([one], answer, loose=True) == (True,)


def test_a_form_that_is_left_empty_follows_nothing():
    (one,) = instructions(item("a, b", **{"punctuation:no_comma": {}}))
    assert followed([one], "a, b", loose=True) == (False,)
    assert followed([one], "*\na, b", loose=True) == (True,), "an asterisk is left"


ROWS = [
    item("a b c", id="both"),
    item("a, b c", id="one"),
    item("a, b", id="none"),
    item("Sure, so:\na b c", id="loosely"),
    item("", id="empty"),
    item(id="nothing"),
    item("x", id="single", **{"punctuation:no_comma": {}}),
]


@pytest.mark.parametrize(
    ("level", "loose", "stats"),
    [
        ("prompt", False, [[1, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [1, 1]]),
        ("prompt", True, [[1, 1], [0, 1], [0, 1], [1, 1], [0, 1], [0, 1], [1, 1]]),
        ("instruction", False, [[2, 2], [1, 2], [0, 2], [1, 2], [0, 2], [0, 2], [1, 1]]),
        ("instruction", True, [[2, 2], [1, 2], [0, 2], [2, 2], [0, 2], [0, 2], [1, 1]]),
    ],
)
def test_levels(level, loose, stats):
    metric = IFEval(level=level, loose=loose)
    found = metric.stats(ROWS)
    np.testing.assert_array_equal(found, stats)
    assert metric.score(found.sum(axis=0)) == pytest.approx(np.sum(stats, axis=0)[0] / np.sum(stats, axis=0)[1])
    assert metric.signature() == f"ifeval|level:{level}|loose:{'yes' if loose else 'no'}|sentences:rules-1|languages:py3langid"


def test_several_answers_are_averaged():
    np.testing.assert_array_equal(IFEval().stats([item("a b c", "a, b c", "a, b", "")]), [[0.25, 1]])
    np.testing.assert_array_equal(IFEval(level="instruction").stats([item("a b c", "a, b c", "a, b", "")]), [[0.75, 2]])


def test_instructions_are_compared_as_a_ratio_of_sums():
    metric = IFEval(level="instruction")
    base = metric.stats([item("a, b", id=str(i)) for i in range(8)] + [item("x", id="s", **{"punctuation:no_comma": {}})])
    tuned = metric.stats([item("a b c", id=str(i)) for i in range(8)] + [item("x,", id="s", **{"punctuation:no_comma": {}})])
    found = comparison.compare(base, tuned, metric)
    assert found.difference == pytest.approx(16 / 17 - 1 / 17)
    assert "randomisation" in found.method
    assert comparison.interval(tuned, metric).low < 16 / 17 <= comparison.interval(tuned, metric).high


BAD = [
    ({"instruction_id_list": None}, "no field 'instruction_id_list'"),
    ({"kwargs": None}, "no field 'kwargs'"),
    ({"kwargs": {"num_words": 3}}, "'kwargs' must be a list"),
    ({"instruction_id_list": [], "kwargs": []}, "'instruction_id_list' is empty"),
    ({"kwargs": []}, "has 1 entries and 'kwargs' 0"),
    ({"instruction_id_list": ["length_constraints:number_word"]}, "did you mean 'length_constraints:number_words'"),
    ({"instruction_id_list": [3]}, "no instruction 3"),
    ({"kwargs": ["x"]}, "must be an object"),
    ({"kwargs": [{"num_words": 3}]}, "no 'relation'; it needs num_words, relation"),
    ({"kwargs": [None]}, "no 'num_words'"),
    ({"kwargs": [{"num_words": 3, "relation": "at least", "num_word": 4}]}, "unknown argument 'num_word'; did you mean 'num_words'"),
    ({"kwargs": [{"num_words": 3, "relation": "atleast"}]}, "did you mean 'at least'"),
    ({"kwargs": [{"num_words": -1, "relation": "at least"}]}, "num_words must be a whole number, 0 or more, not -1"),
    ({"kwargs": [{"num_words": True, "relation": "at least"}]}, "not True"),
    ({"kwargs": [{"num_words": 2.5, "relation": "at least"}]}, "not 2.5"),
    ({"kwargs": [{"num_words": float("nan"), "relation": "at least"}]}, "not nan"),
    ({"kwargs": [{"num_words": "3", "relation": "at least"}]}, "not '3'"),
]


@pytest.mark.parametrize(("changes", "said"), BAD)
def test_bad_rows_are_named(changes, said):
    fields = {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{"num_words": 3, "relation": "at least"}]} | changes
    with pytest.raises(DataError, match="row odd") as error:
        IFEval().stats([item("x"), Prediction("odd", ("x",), (), fields=fields)])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("id", "kwargs", "said"),
    [
        ("keywords:existence", {"keywords": []}, "list of texts"),
        ("keywords:existence", {"keywords": "cat"}, "list of texts"),
        ("keywords:forbidden_words", {"forbidden_words": ["a", " "]}, "none of them empty"),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}, "single character"),
        ("language:response_language", {"language": "klingon"}, "language that can be told apart"),
        ("startend:end_checker", {"end_phrase": " "}, "not empty"),
        ("punctuation:no_comma", {"num_words": 3}, "it takes none"),
        (NTH, {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}, "no paragraph 3 of 2"),
        (NTH, {"num_paragraphs": 2, "nth_paragraph": 0, "first_word": "a"}, "from 1, not 0"),
    ],
)  # fmt: skip
def test_unfit_arguments_are_named(id, kwargs, said):
    with pytest.raises(DataError, match=r"row r: instruction 2 \(") as error:
        instruction("r", 2, id, kwargs)
    assert said in str(error.value)


def test_what_parquet_makes_of_the_arguments():
    empty = dict.fromkeys(ARGUMENTS)
    assert instruction("r", 1, "punctuation:no_comma", empty).arguments == {}
    given = {**empty, "num_words": 3.0, "relation": "at least"}
    assert instruction("r", 1, "length_constraints:number_words", given).arguments == {"num_words": 3, "relation": "at least"}
    assert arguments.language("zh-CN") == "zh"
    asked = Prediction("r", ("a b c",), (), fields={"instruction_id_list": ("punctuation:no_comma",), "kwargs": (empty,)})
    assert IFEval().stats([asked]).tolist() == [[1, 1]]


def lines(path: Path, rows: list[Prediction]) -> Path:
    path.write_text("\n".join(json.dumps({"id": row.id, "outputs": row.outputs or [""], **row.fields}) for row in rows) + "\n")
    return path


def test_a_predictions_file(tmp_path):
    path = lines(tmp_path / "p.jsonl", ROWS)
    assert grading.grade(path, "ifeval").score == pytest.approx(2 / 7)
    assert grading.grade(path, "ifeval", {"loose": "true"}).score == pytest.approx(3 / 7)
    found = grading.grade(path, "ifeval", {"level": "instruction", "loose": "true"})
    assert found.score == pytest.approx(6 / 13)
    assert found.items == 7
    assert dict(found.values)["one"] == 0.5
    with pytest.raises(RecipeError, match="--set level=prompts"):
        grading.grade(path, "ifeval", {"level": "prompts"})
    broken = Prediction("broken", ("x",), (), fields={"instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]})
    with pytest.raises(
        DataError, match=r"p\.jsonl:2: instruction 1: no instruction 'punctuation:no_coma'; did you mean 'punctuation:no_comma'"
    ):
        grading.grade(lines(path, [ROWS[0], broken]), "ifeval")


@pytest.mark.skipif(not PROMPTS.is_file(), reason="the data set's own prompts are not here: ../shared/data/ifeval")
def test_every_prompt_of_the_data_set_is_read():
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    asked = [Prediction(str(row["key"]), (row["prompt"],), (), fields=row) for row in rows]
    assert len(rows) == 541
    assert sum(len(instructions(one)) for one in asked) == 834
    table = IFEval(level="instruction").stats(asked)
    assert table[:, 1].sum() == 834
    assert 0 < table[:, 0].sum() < 834
