"""What every template promises; a new .yaml file in etude/templates is enrolled by itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.failures import DataError
from etude.metrics import METRICS
from etude.records import Origin, Record, identify
from etude.templates import Choices, Shots, Template, Wording, answer_of, load, names, wording, write, write_all
from etude.templates.exemplars import asked
from etude.templates.options import STYLES

TASKS = {
    "closed_book_qa", "code", "complete", "data_to_text", "dialog", "docstring", "execution", "implement", "math", "multiple_choice",
    "multiple_choice_open",
    "nli", "paraphrase", "question_answering", "self_instruct", "sentiment", "summarization", "topic", "translation",
}  # fmt: skip


OWN_INSTRUCTIONS = {"self_instruct"}
"""Templates whose rows bring their instruction along: the phrasings are shapes of the whole prompt, and share no words."""


def record(fields, line=1, source="s"):
    return Record(identify(fields), fields, Origin("f.csv", line), source)


def row(template: Template, number: int) -> Record:
    """The template's example, made another row by a number in every text that is no label, option or answer to choose."""
    fixed = {template.label_field, template.options_field, template.answer_field}
    fields = {k: f"{v} [{k}, row {number}.]" if isinstance(v, str) and k not in fixed else v for k, v in template.example.items()}
    fields |= {k: [*v, f"({number})"] for k, v in template.example.items() if isinstance(v, list) and k not in fixed}
    fields |= {k: {**v, "number": number} for k, v in template.example.items() if isinstance(v, dict)}
    return record(fields, number)


@pytest.fixture(params=names())
def template(request: pytest.FixtureRequest) -> Template:
    return load(request.param, ["Sports", "Science", "Music"])


def test_the_catalog_has_every_task() -> None:
    assert set(names()) == TASKS


def test_it_says_what_it_is(template: Template) -> None:
    assert template.about.endswith((".", '."'))
    assert template.about[0].isupper()
    assert set(template.notes) == {*template.fields, *template.optional}, "every field is documented"
    assert set(template.example) == {*template.fields, *template.optional}
    assert template.metrics
    assert set(template.metrics) <= set(METRICS)
    assert template.task == template.name


def test_there_are_ten_different_phrasings(template: Template) -> None:
    if template.name in OWN_INSTRUCTIONS:
        pytest.skip("its phrasings are shapes, not words")
    plain = [template.phrasings[i] for i in template.forward()]
    assert len(plain) >= 10
    if any(p.cot for p in plain) and plain[0].cot:
        assert sum(p.cot for p in plain) >= 10
    instructions = [re.sub(r"\W+", " ", p.instruction).strip().lower() for p in template.phrasings]
    assert len(set(instructions)) == len(instructions)
    for phrasing in template.phrasings:
        assert "{" not in phrasing.instruction, "all rows of a phrasing share their instruction"
        assert phrasing.instruction[0].isupper()
        assert phrasing.instruction[-1] in ".?"
        assert phrasing.instruction == " ".join(phrasing.instruction.split())
    assert any(p.inverts for p in template.phrasings)


def test_every_phrasing_is_written_with_the_example(template: Template) -> None:
    one, two = row(template, 1), row(template, 2)
    for number, phrasing in enumerate(template.phrasings):
        for style in range(len(STYLES)):
            told = [write(r, template, choices=Choices(number, style=style)) for r in (one, two)]
            if template.name not in OWN_INSTRUCTIONS:
                assert told[0].messages[0].content == told[1].messages[0].content, "rows share a prefix"
                assert told[0].messages[0].content.startswith(phrasing.instruction)
                assert told[0].messages[0].context != told[1].messages[0].context or (phrasing.inverts and not told[0].notes.get("cot"))
            assert told[0] == write(one, template, choices=Choices(number, style=style))
            for conversation in told:
                words = conversation.messages[0].words() + conversation.answer()
                assert not re.search(r"\{\{|\}\}|\{%|None", words)
                assert conversation.messages[0].context == conversation.messages[0].context.strip()
                assert conversation.answer().strip()
        assert told[0].notes.get("inverts", False) == phrasing.inverts
        if phrasing.cot:
            assert told[0].answer().startswith(one.fields["rationale"])
            plain = write(one, template, choices=Choices(number))
            assert plain.answer().endswith(f"\nThe answer is {answer_of(plain.answer())}.")


def test_the_answer_stands_in_the_answer_only(template: Template) -> None:
    """With every field a mark of its own: no phrasing shows what it asks for."""
    fields = {field: f"<{field}>" for field in (*template.fields, *template.optional)}
    if template.label_field:
        template = template.model_copy(update={"labels": ("<a>", "<b>")})
        fields[template.label_field] = "<a>"
    if template.options_field:
        fields |= {template.options_field: ["<x>", "<y>", "<z>"], str(template.answer_field): "<y>"}
    fields |= {"rationale": "because"} if template.rationale else {}
    for number, phrasing in enumerate(template.phrasings):
        told = write(record(fields), template, choices=Choices(number, listed=False))
        user, answer = told.messages[0].words(), answer_of(told.answer()) if phrasing.cot else told.answer()
        assert answer
        if template.switch(number) != "shown":
            assert answer not in user
        else:
            options = fields[template.options_field] if template.options_field else template.labels
            assert {user.count(option) for option in options} == {1}, "every option once, the right one as the others"


def test_labels_are_told_or_listed(template: Template) -> None:
    for number in template.forward() if template.labels else ():
        one = row(template, 1)
        listed = write(one, template, choices=Choices(number, listed=True)).messages[0].content
        assert template.switch(number) == "hidden" or all(label in listed for label in template.labels)
        hidden = write(one, template, choices=Choices(number, listed=False)).messages[0].content
        if template.switch(number) in ("mixed", "hidden"):
            assert hidden == template.phrasings[number].instruction


def test_a_field_that_is_missing_is_an_error_that_names_the_row(template: Template) -> None:
    needed = template.fields[0]
    fields = {k: v for k, v in template.example.items() if k != needed}
    with pytest.raises(DataError, match=rf"^f\.csv:7: there is no field '{needed}'.*template '{template.name}' needs it"):
        write(record(fields, 7), template)


def test_rows_need_no_optional_field(template: Template) -> None:
    fields = {field: template.example[field] for field in template.fields}
    for number, phrasing in enumerate(template.phrasings):
        if phrasing.cot:
            with pytest.raises(DataError, match=r"f\.csv:1: .* writes the reasoning, and the row has none in field 'rationale'"):
                write(record(fields), template, phrasing=number)
        else:
            assert "None" not in write(record(fields), template, phrasing=number).messages[0].words()
    chosen = wording(template, record(fields), 0, Wording(phrasings="all", cot=1))
    assert write(record(fields), template, choices=chosen).answer()


WORDINGS = st.builds(
    Wording,
    phrasings=st.sampled_from(["first", "all"]),
    few_shot=st.sampled_from([0.5, 1.0]),
    shots=st.builds(Shots, k=st.integers(1, 5), style=st.sampled_from(["turns", "inline"]), separators=st.just(("\n\n", "\n---\n"))),
    options=st.sampled_from([None, 0.0, 0.5, 1.0]),
    letters=st.sampled_from([0.0, 0.5, 1.0]),
    inverted=st.sampled_from([0.0, 0.5]),
    cot=st.sampled_from([None, 0.5]),
)


@settings(max_examples=25)
@given(name=st.sampled_from(names()), chosen=WORDINGS, seed=st.integers(0, 99), several=st.integers(1, 9))
def test_no_row_is_its_own_exemplar(name: str, chosen: Wording, seed: int, several: int) -> None:
    template = load(name)
    rows = [row(template, i) for i in range(several)]
    again = [Record(r.id[::-1], r.fields, r.origin, "t") for r in rows]
    told = list(write_all(rows, template, seed, chosen, candidates=[*rows, *again]))
    assert told == list(write_all(rows, template, seed, chosen, candidates=[*again, *rows][::-1])), "deterministic, whatever the order"
    for i, (one, conversation) in enumerate(zip(rows, told, strict=True)):
        shots = conversation.notes.get("shots", 0)
        assert shots <= min(chosen.shots.tried(), several - 1)
        earlier = "".join(m.words() for m in conversation.messages[:-2]) if chosen.shots.style == "turns" else ""
        assert f", row {i}.]" not in earlier, "the row's own words are not in its examples"
        if chosen.few_shot == 1:
            assert shots == min(chosen.shots.tried(), several - 1)
        assert asked(one, template) == asked(again[i], template)
    assert not any(
        c.notes.get("inverts") or c.notes.get("shots") for c in write_all(rows, template, seed, chosen.scored(), candidates=rows)
    )
