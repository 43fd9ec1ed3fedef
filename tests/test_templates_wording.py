"""Wording: shares are kept, options and letters are written, exemplars are the right ones, answers are found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etude import journal
from etude.failures import DataError, RecipeError
from etude.records import Message, Origin, Record, identify
from etude.sources.columns import Columns
from etude.templates import Choices, Shots, Wording, answer_of, draw, gather, load, wording, write, write_all
from etude.templates.filling import compiled, filler
from etude.templates.listing import as_text, listed, shown
from etude.templates.options import STYLES, position, texts
from etude.templates.reasoning import stated, worked


def record(fields, line=1, source="s"):
    return Record(identify(fields), fields, Origin("f.csv", line), source)


def moods(several):
    return [record({"text": f"text {i}.", "label": ("positive", "neutral", "negative")[i % 3]}, i) for i in range(several)]


def sums(several):
    return [record({"question": f"{i} + 1?", "answer": str(i + 1), "rationale": f"one more than {i}"}, i) for i in range(several)]


ITEM = {"question": "Which is a fruit?", "options": ["stone", "pear", "shoe"], "answer": "pear"}


def share(told, what):
    return sum(bool(c.notes.get(what)) for c in told) / len(told)


def test_shares_are_kept_and_are_a_pure_function_of_row_and_seed():
    rows = moods(1500)
    chosen = Wording(phrasings="all", few_shot=0.25, options=0.6, inverted=0.3)
    told = list(write_all(rows, load("sentiment"), 5, chosen, candidates=rows))
    assert share(told, "shots") == pytest.approx(0.25, abs=0.04)
    assert share(told, "inverts") == pytest.approx(0.3, abs=0.04)
    plain = [c for c in told if not c.notes.get("inverts")]
    with_options = [all(label in c.messages[-2].words() for label in load("sentiment").labels) for c in plain]
    assert sum(with_options) / len(plain) == pytest.approx(0.6, abs=0.04)
    assert {c.notes["phrasing"] for c in told} == set(range(len(load("sentiment").phrasings)))
    assert told[::-1] == list(write_all(rows[::-1], load("sentiment"), 5, chosen, candidates=rows[::-1]))
    assert told != list(write_all(rows, load("sentiment"), 6, chosen, candidates=rows))
    assert wording(load("sentiment"), rows[0], 0, Wording()) == Choices()


def test_more_few_shot_changes_no_other_choice():
    rows = moods(200)
    less, more = (
        [wording(load("sentiment"), r, 1, Wording(phrasings="all", options=0.5, few_shot=share)) for r in rows] for share in (0.2, 0.7)
    )
    assert all(b.few_shot for a, b in zip(less, more, strict=True) if a.few_shot)
    assert [(c.phrasing, c.listed, c.style) for c in less] == [(c.phrasing, c.listed, c.style) for c in more]


def test_scored_rows_are_plain():
    chosen = Wording(phrasings="all", few_shot=1, inverted=1, options=0.5, cot=0.5).scored()
    assert (chosen.few_shot, chosen.inverted, chosen.options, chosen.cot, chosen.phrasings) == (0, 0, 0.5, 0.5, "all")


def test_options_are_listed_in_every_style():
    template = load("multiple_choice")
    found = [write(record(ITEM), template, choices=Choices(style=i)).messages[0].context for i in range(len(STYLES))]
    assert len(set(found)) == len(STYLES)
    assert found[0] == "Which is a fruit?\n\nOptions:\n- stone\n- pear\n- shoe"
    assert found[1].endswith("Options:\n(A) stone\n(B) pear\n(C) shoe")
    assert found[6].endswith("Choose from: stone; pear; shoe")
    assert write(record(ITEM), load("multiple_choice_open")).messages[0].context == "Which is a fruit?"


def test_answers_by_letter():
    template = load("multiple_choice")
    told = write(record(ITEM), template, choices=Choices(style=2, by_letter=True))
    assert told.answer() == "B"
    assert "Choices (answer with the letter):\nA. stone\nB. pear" in told.messages[0].context
    assert write(record(ITEM), template, choices=Choices(style=5, by_letter=True)).answer() == "2"
    assert write(record(ITEM), template, choices=Choices(style=0, by_letter=True)).answer() == "pear", "a dash is no letter"
    cot = next(i for i, p in enumerate(template.phrasings) if p.cot)
    reasoned = record({**ITEM, "rationale": "Pears grow on trees."})
    assert write(reasoned, template, choices=Choices(cot, style=1, by_letter=True)).answer() == "Pears grow on trees.\nThe answer is B."
    rows = [record({**ITEM, "question": f"Which is {i}?"}) for i in range(300)]
    answers = [c.answer() for c in write_all(rows, template, 0, Wording(phrasings="all", letters=0.5))]
    assert answers.count("pear") == pytest.approx(150, abs=35)
    assert {"B", "2", "pear"} == set(answers)


@pytest.mark.parametrize(
    ("options", "answer", "place"),
    [
        (["a1", "b1"], "b1", 1),
        (["a1", "b1"], "B", 1),
        (["a1", "b1"], "(b)", 1),
        (["a1", "b1"], 1, 1),
        (["a1", "b1"], "0", 0),
        (["3", "0", "7"], "0", 1),
        ([True, False], False, 1),
        ({"text": ["w", "x", "y"], "label": ["1", "2", "3"]}, "3", 2),
        ({"text": ["w", "x"], "label": ["A", "B"]}, "B", 1),
        ('["w", "x"]', "x", 1),
        ("red pear\nblue plum", "blue plum", 1),
        ("red | blue | green", "green", 2),
    ],
)
def test_which_option_is_right(options, answer, place):
    assert position(answer, texts(options), options) == place


@pytest.mark.parametrize(
    ("options", "answer", "why"),
    [
        (["a", "b"], "z", "the answer 'z' is none of the options 'a', 'b'"),
        (["a", "b"], 2, "none of the options"),
        (["a"], "a", "there are 1 options"),
        (7, "a", "options are a list of texts"),
    ],
)
def test_options_that_cannot_be_name_the_row(options, answer, why):
    with pytest.raises(DataError, match=rf"f\.csv:1: options: .*{why}"):
        write(record({"question": "q", "options": options, "answer": answer}), load("multiple_choice"))


def test_worked_examples_inside_one_message():
    rows = moods(3)
    told = write(rows[0], load("sentiment"), exemplars=rows[1:], choices=Choices(inline=True, separator="\n##\n"))
    assert told.messages == (
        Message(
            "user",
            load("sentiment").phrasings[0].instruction,
            "Input: text 1.\nOutput: neutral\n##\nInput: text 2.\nOutput: negative\n##\nInput: text 0.\nOutput:",
        ),
        Message("assistant", "positive"),
    )
    asked = write(rows[0], load("sentiment"), exemplars=rows[1:2], choices=Choices(4, inline=True)).messages[0].context
    assert asked == "Text: text 1.\nLabel: neutral\n\nText: text 0.\nLabel:", "a phrasing with a mark of its own gets no other"
    worded = [record({"instruction": f"Do {i}.", "output": f"did {i}"}) for i in range(2)]
    told = write(worded[0], None, exemplars=worded[1:], choices=Choices(inline=True))
    assert told.messages[0] == Message("user", "Input: Do 1.\nOutput: did 1\n\nInput: Do 0.\nOutput:")
    long = record({"messages": [{"role": r, "content": "x"} for r in ("user", "assistant", "user", "assistant")]}, 4)
    with pytest.raises(DataError, match=r"f\.csv:4: a worked example .* has 4 turns"):
        write(worded[0], None, exemplars=[long], choices=Choices(inline=True))


def test_a_row_of_the_same_input_is_no_exemplar():
    row = record({"text": "It rose.", "label": "positive"})
    same = record({"text": " it  ROSE. ", "label": "neutral"}, 2)
    other = record({"text": "It fell.", "label": "negative"}, 3)
    told = write(row, load("sentiment"), exemplars=[row, same, other])
    assert [m.context for m in told.messages[::2]] == ["It fell.", "It rose."]
    pool = gather([row, same, other, other], load("sentiment"), 0)
    assert draw(pool, row, 9) == (other,)
    assert draw(gather([], None, 0), row, 3) == ()
    assert draw(gather([row], load("sentiment"), 0), row, 3) == ()
    assert "shots" not in next(write_all([row], load("sentiment"), 0, Wording(few_shot=1), candidates=[same])).notes


def test_exemplars_are_of_every_label_and_stay_when_a_source_grows():
    rows = moods(600)
    pool, larger = gather(rows[:594], load("sentiment"), 1), gather(rows[::-1], load("sentiment"), 1)
    before, after = ([draw(p, r, 3) for r in rows] for p in (pool, larger))
    assert all({r.fields["label"] for r in drawn} == {"positive", "neutral", "negative"} for drawn in before)
    assert sum(a != b for a, b in zip(before, after, strict=True)) < 60
    used = {r.id for drawn in after for r in drawn}
    assert len(used) > 250, "not the same few for every row"
    firsts = [drawn[0].fields["label"] for drawn in before]
    assert min(firsts.count(label) for label in set(firsts)) > 120
    assert before != [draw(gather(rows[:594], load("sentiment"), 2), r, 3) for r in rows]


def words(text):
    return len(text.split())


def test_as_many_exemplars_as_fit():
    rows = moods(90)
    template = load("sentiment")
    alone = sum(words(m.words()) for m in write(rows[0], template).messages)
    for most, several in [(alone, 0), (alone * 2, 1), (alone * 4 + 3, 3), (10**6, 25)]:
        told = list(write_all(rows, template, 0, Wording(few_shot=1, shots=Shots(most_tokens=most)), candidates=rows, count=words))
        assert {c.notes.get("shots", 0) for c in told} == {several}
        assert all(sum(words(m.words()) for m in c.messages) <= most for c in told)
    told = list(write_all(rows, template, 0, Wording(few_shot=1, shots=Shots(k=2, most_tokens=10**6)), candidates=rows, count=words))
    assert {c.notes["shots"] for c in told} == {2}
    with pytest.raises(ValueError, match="count"):
        next(write_all(rows, template, 0, Wording(few_shot=1, shots=Shots(most_tokens=9)), candidates=rows))


def test_exemplars_come_from_the_given_rows_only():
    rows = moods(30)
    told = write_all(rows, load("sentiment"), 0, Wording(few_shot=1, shots=Shots(k=4)), candidates=rows[:10])
    assert {m.context for c in told for m in c.messages[:-2:2]} <= {r.fields["text"] for r in rows[:10]}


def test_reasoning_where_there_is_some():
    template = load("math")
    rows = sums(400)
    told = list(write_all(rows, template, 0, Wording(phrasings="all", cot=0.25)))
    assert share(told, "cot") == pytest.approx(0.25, abs=0.06)
    for row, conversation in zip(rows, told, strict=True):
        assert answer_of(conversation.answer()) == row.fields["answer"]
        assert conversation.answer().startswith("one more") == bool(conversation.notes.get("cot"))
    assert share(list(write_all(rows, template, 0, Wording(phrasings="all"))), "cot") == 1
    bare = [record({"question": f"{i}?", "answer": str(i)}) for i in range(9)]
    assert share(list(write_all(bare, template, 0, Wording(phrasings="all"))), "cot") == 0
    mixed = list(write_all([*rows[:9], *bare], template, 0, Wording(few_shot=1, shots=Shots(k=3)), candidates=[*bare, *rows]))
    assert all("The answer is" in m.content for c in mixed[:9] for m in c.messages[1::2]), "exemplars of reasoning have some"


def test_gsm8k_rows_are_parted():
    row = record({"question": "How many?", "answer": "He has 3 + 4 = <<3+4=7>>7 pens.\n#### 7"})
    assert write(row, load("math")).answer() == "He has 3 + 4 = 7 pens.\nThe answer is 7."
    direct = next(i for i, p in enumerate(load("math").phrasings) if not p.cot)
    assert write(row, load("math"), phrasing=direct).answer() == "7"
    assert worked("no marks") is None
    assert worked("#### 7") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So 3 + 4 = 7.\nThe answer is 7.", "7"),
        ("The answer is 3. No, wait. The answer is 4.", "4"),
        ("the ANSWER is: **1,250.50**.", "1,250.50"),
        ("The final answer is $18. Let me explain.", "$18"),
        ("The answer is Dr. No.", "Dr. No"),
        ("The answer is (B).", "(B)"),
        ('The answer is "a pear".', "a pear"),
        ("Answer: entailment", "entailment"),
        ("**Final answer:**\n\n42", "42"),
        ("Thus \\boxed{\\frac{1}{2}} it is, not 3.", "\\frac{1}{2}"),
        ("The answer is $\\boxed{12}$.", "12"),
        ("4 and then 5\n#### 1,024", "1,024"),
        ("He pays 3 and then -4.5", "-4.5"),
        ("Costs rose by 12%.", "12%"),
        ("It takes 2/3 of an hour", "2/3"),
        ("between 10-20", "20"),
        ("entailment\n", "entailment"),
        ("", ""),
        ("\\boxed{unclosed 3", "3"),
    ],
)
def test_the_answer_is_found_again(text, answer):
    assert answer_of(text) == answer


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e"), max_size=60), st.integers(-(10**9), 10**9))
def test_what_was_stated_is_found(rationale, number):
    assert answer_of(stated(rationale, str(number))) == str(number)


@given(st.text(max_size=200))
def test_any_text_has_an_answer_of_its_own_words(text):
    assert answer_of(text) in text


TEXTS = [
    "",
    "a",
    "a\n",
    "a\n\n",
    "{{ x }}",
    "{{ x }}\n",
    "<{{ x }}|{{y}}>\n",
    "{{ x }}{{ x }}",
    "{% if x %}{{ y }}{% endif %}",
    "{{ x|upper }}",
    "}} {{ y }}",
]


@given(text=st.sampled_from(TEXTS), x=st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats()), y=st.text())
def test_filling_is_what_jinja_writes(text, x, y):
    assert filler(text)({"x": x, "y": y}) == compiled(text).render({"x": x, "y": y})


def test_topics_are_the_sources_own(tmp_path):
    path = tmp_path / "news.jsonl"
    journal.write_rows(path, [{"text": f"t{i}", "topic": i % 3} for i in range(6)])
    names = {0: "World", 1: "Sports", 2: "Money"}
    rows = list(Columns(path=str(path), template="topic", labels=names).read("news"))
    assert [r.fields["topic"] for r in rows] == ["World", "Sports", "Money"] * 2
    template = load("topic", names.values())
    assert template.labels == ("World", "Sports", "Money")
    assert write(rows[0], template).messages[0].content.endswith("\n\nOptions:\n- World\n- Sports\n- Money")
    assert write(rows[0], load("topic")).messages[0].content == template.phrasings[0].instruction
    assert [r.fields["topic"] for r in Columns(path=str(path), template="topic").read("news")][:3] == ["0", "1", "2"]
    assert load("sentiment", ["x"]).labels == load("sentiment").labels


def test_optional_columns_are_taken_where_they_are(tmp_path):
    path = tmp_path / "sums.jsonl"
    journal.write_rows(path, [{"question": "q", "answer": "1", "rationale": "r"}, {"question": "p", "answer": "2", "rationale": None}])
    one, two = Columns(path=str(path), template="math").read("sums")
    assert one.fields == {"question": "q", "answer": "1", "rationale": "r"}
    assert two.fields == {"question": "p", "answer": "2"}


def test_settings_say_what_is_wrong():
    assert Shots(separator="\n").separators == ("\n",)
    assert (Shots().tried(), Shots(k=5).tried(), Shots(most_tokens=9).tried()) == (3, 5, 25)
    for wrong in ({"few_shot": 1.5}, {"phrasings": "some"}, {"shots": {"k": 0}}, {"option": 1}):
        with pytest.raises(ValidationError):
            Wording.model_validate(wrong)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("options_field: x", "belong together"),
        ("options_field: x\nanswer_field: z", "answer_field 'z' is no field"),
        ("rationale: z", "rationale 'z' is no field"),
        ("example: {y: 1}", "the example has no field 'x'"),
        ("phrasings: [{instruction: a, answer: b, cot: true}]", "phrasing 1: cot needs a template with a rationale"),
        ("phrasings: [{instruction: a, answer: b, inverts: true}]", "phrasing 1 inverts"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(tmp_path, line, why):
    path = tmp_path / "mine.yaml"
    head = "task: t\nfields: [x, y]\n" + ("" if "phrasings" in line else "phrasings: [{instruction: a, answer: '{{ y }}'}]\n")
    path.write_text(head + line)
    with pytest.raises(RecipeError, match=rf"mine\.yaml: .*{why}"):
        load(str(path))


def test_listing_shows_every_template(tmp_path):
    text = as_text(listed())
    for row in listed():
        assert f"{row['name']}: {row['about']}" in text
        page = as_text(shown(row["name"]))
        assert page.count("\nphrasing ") == row["phrasings"] + row["inverted"]
    assert "(A) entailment" in as_text(shown("nli"))
    path = tmp_path / "mine.yaml"
    path.write_text("task: t\nfields: [x]\nphrasings: [{instruction: a, answer: '{{ x }}'}]\n")
    with pytest.raises(RecipeError, match="no `example:`"):
        shown(str(path))
