"""Which turns are trained: by role, all or the last, and as a row says itself; in every kind of format."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from etude.encoding import Encoder, examples
from etude.formats import FORMATS, renderings, text
from etude.formats.alpaca import Alpaca
from etude.formats.borders import BORDER, stretches
from etude.formats.families import MARKUPS
from etude.formats.jinja import Jinja
from etude.formats.training_turns import TrainOn, choose_trained, trained_turns
from etude.records import IGNORED, Conversation, Encoded, Message
from family_templates import FAMILIES, TOKENS, family_tokenizer

TALK = Conversation(
    "row",
    (
        Message("system", "Be kind."),
        Message("user", "One?"),
        Message("assistant", "uno"),
        Message("user", "Two?"),
        Message("assistant", "dos"),
    ),
)
FORMS = [*(name for name in MARKUPS if name != "text_to_text"), "alpaca", "jinja"]


def bind(name: str) -> tuple[Any, Encoder]:
    family = {"alpaca": "vicuna", "jinja": "chatml"}.get(name, name)
    tokenizer = family_tokenizer(family, FAMILIES[family])
    return (Alpaca() if name == "alpaca" else Jinja() if name == "jinja" else FORMATS[name]()).bind(tokenizer), Encoder.of(tokenizer)


def flags(conversation: Conversation) -> list[bool | None]:
    return [m.trained for m in conversation.messages]


def test_which_turns_are_chosen() -> None:
    assert choose_trained(TALK, TrainOn()) is TALK
    assert trained_turns(TALK) == [2, 4]
    assert trained_turns(choose_trained(TALK, TrainOn(turns="last"))) == [4]
    assert trained_turns(choose_trained(TALK, TrainOn(roles=("user", "assistant")))) == [1, 2, 3, 4]
    assert trained_turns(choose_trained(TALK, TrainOn(roles=("user",), turns="last"))) == [3]
    assert trained_turns(choose_trained(TALK, TrainOn(roles=("tool",)))) == []


def test_what_a_row_says_of_itself_goes_first() -> None:
    told = Conversation("row", (Message("user", "q", trained=True), Message("assistant", "a", trained=False), Message("assistant", "b")))
    assert flags(choose_trained(told, TrainOn())) == [True, False, None]
    assert flags(choose_trained(told, TrainOn(roles=("user",)))) == [True, False, False]
    silent = Conversation("row", (Message("assistant", "a"), Message("assistant", "b", trained=False)))
    assert trained_turns(choose_trained(silent, TrainOn(turns="last"))) == [], "the last one is named, and says no"


def test_choosing_twice_is_choosing_once() -> None:
    once = choose_trained(TALK, TrainOn(turns="last"))
    assert choose_trained(once, TrainOn(turns="last")) == once
    assert choose_trained(once, TrainOn()) == once


def test_settings_refuse_what_they_do_not_know() -> None:
    for wrong in ({"roles": ["critic"]}, {"roles": []}, {"turns": "first"}, {"role": ["user"]}):
        with pytest.raises(ValidationError):
            TrainOn.model_validate(wrong)


@pytest.mark.parametrize("name", FORMS)
def test_every_format_trains_what_is_chosen(name: str) -> None:
    form, _ = bind(name)
    whole = [answer for one in renderings(form, TALK) for _, answer in stretches(one)]
    assert [w.replace("<think>\n\n</think>\n\n", "").strip()[:3] for w in whole] == ["uno", "dos"]
    (last,) = renderings(form, choose_trained(TALK, TrainOn(turns="last")))
    assert [answer for _, answer in stretches(last)] == whole[1:]
    assert stretches(last)[0][0] == text(form.prompt(TALK))
    both = [s for one in renderings(form, choose_trained(TALK, TrainOn(roles=("user", "assistant")))) for _, s in stretches(one)]
    said = [both[1], both[3]]
    assert said == whole
    assert both[0].startswith("One?")
    assert both[2].startswith("Two?")
    asked = [s for one in renderings(form, choose_trained(TALK, TrainOn(roles=("user",)))) for _, s in stretches(one)]
    assert asked == [both[0], both[2]]
    system = [s for one in renderings(form, choose_trained(TALK, TrainOn(roles=("system", "assistant")))) for _, s in stretches(one)]
    assert system[0].startswith("Be kind.")
    assert [s for s in system if "Be kind." not in s] == whole


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("roles", [("assistant",), ("user", "assistant"), ("user",), ("system", "user", "assistant")])
@pytest.mark.parametrize("turns", ["all", "last"])
def test_the_ids_before_an_answer_do_not_depend_on_what_is_trained(name: str, roles: Any, turns: Any) -> None:
    form, encoder = bind(name)
    chosen = choose_trained(TALK, TrainOn(roles=roles, turns=turns))
    for row in examples(encoder, form, chosen):
        assert isinstance(row, Encoded)
        assert (row.labels != IGNORED).any()
    for segments in renderings(form, chosen):
        for before, _ in stretches(segments):
            at = next(i for i in range(len(segments) + 1) if text(segments[:i]) == before)
            if before == text(form.prompt(chosen)):
                assert encoder.ids(segments[:at]) == encoder.ids(form.prompt(chosen))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("chatml", "<|im_end|>"),
        ("jinja", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
        ("gemma", "<end_of_turn>"),
        ("llama2", " [/INST]"),
        ("mistral", "[/INST]"),
        ("zephyr", "</s>"),
        ("alpaca", ""),
        ("vicuna", ""),
    ],
)
def test_a_questions_end_of_turn_is_trained_with_it(name: str, ends: str) -> None:
    form, _ = bind(name)
    chosen = choose_trained(TALK, TrainOn(roles=("user",)))
    assert stretches(renderings(form, chosen)[-1])[-1][1] == f"Two?{ends}"


def test_a_tools_result_can_be_trained() -> None:
    form, _ = bind("qwen")
    talk = Conversation("row", (Message("user", "q"), Message("tool", "r1"), Message("tool", "r2"), Message("assistant", "a")))
    (rendered,) = renderings(form, choose_trained(talk, TrainOn(roles=("tool",))))
    assert [s for _, s in stretches(rendered)] == ["r1\n</tool_response>", "r2\n</tool_response><|im_end|>"]


def test_an_answer_that_is_only_read_keeps_its_border() -> None:
    form, _ = bind("vicuna")
    (rendered,) = renderings(form, choose_trained(TALK, TrainOn(turns="last")))
    at = next(i for i, s in enumerate(rendered) if s.text == " ")
    assert rendered[at - 1] == BORDER
    assert not rendered[at].trained


def test_two_trained_turns_side_by_side_are_two() -> None:
    form, _ = bind("llama2")
    (rendered,) = renderings(form, choose_trained(TALK, TrainOn(roles=("user", "assistant"))))
    assert [s for _, s in stretches(rendered)] == ["One? [/INST]", " uno </s>", "Two? [/INST]", " dos </s>"]


def test_turns_that_a_format_rewrites_are_trained_once_each() -> None:
    form, _ = bind("qwen")
    talk = Conversation(
        "row",
        (
            Message("user", "1", trained=True),
            Message("assistant", "<think>\nt\n</think>\n\na"),
            Message("user", "2"),
            Message("assistant", "b", trained=False),
            Message("user", "3", trained=True),
        ),
    )
    found = [[s for _, s in stretches(one)] for one in renderings(form, talk)]
    assert found == [["1<|im_end|>", "<think>\nt\n</think>\n\na<|im_end|>"], ["3<|im_end|>"]]


def test_nothing_trained_is_a_dropped_row() -> None:
    form, encoder = bind("chatml")
    (fate,) = examples(encoder, form, choose_trained(TALK, TrainOn(roles=("tool",))))
    assert not isinstance(fate, Encoded)
    assert fate.reason == "no trained token"
    assert set(TOKENS) >= set(MARKUPS)
