"""Tools, tool calls and results: as the families' templates write them, proven piece by piece, or refused by row."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude.encoding import Encoder, joined
from etude.failures import DataError, RecipeError
from etude.formats import FORMATS, renderings, text
from etude.formats.alpaca import Alpaca
from etude.formats.borders import stretches
from etude.formats.families import ChatML, Llama3, Mistral, Qwen
from etude.formats.jinja import Jinja
from etude.records import Conversation, Message, Origin, ToolCall
from family_templates import CHATML, FAMILIES, HERMES, family_tokenizer

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place – now.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
FORMS = {"chatml": (ChatML(), HERMES), "qwen": (Qwen(), FAMILIES["qwen"]), "llama3.1": (Llama3(version="3.1"), FAMILIES["llama3.1"])} | {
    "mistral": (Mistral(), FAMILIES["mistral"])
}


@pytest.fixture(scope="module")
def pair() -> Any:
    made = {}
    for family, (chosen, template) in FORMS.items():
        tokenizer = family_tokenizer("qwen" if family == "chatml" else family, template)
        made[family] = (chosen.bind(tokenizer), Jinja().bind(tokenizer), Encoder.of(tokenizer))
    return lambda family: made[family]


def call(name: str = "weather", id: str = "abcdefgh1", **given: Any) -> ToolCall:
    return ToolCall(name, json.dumps(given), id)


def talk(*messages: Message, tools: tuple[Any, ...] = (WEATHER, CLOCK)) -> Conversation:
    return Conversation("row", messages, Origin("rows.jsonl", 4), tools=tools)


CALLS = talk(
    Message("system", "Be brief."),
    Message("user", "Rain in Łódź?"),
    Message("assistant", "", tool_calls=(call(place='Łódź "centre"\n', days=2),)),
    Message("tool", '{"rain": true}', name="weather", call_id="abcdefgh1"),
    Message("assistant", "Yes."),
)


def chat(conversation: Conversation) -> list[dict[str, Any]]:
    """The messages as transformers takes them."""
    found = []
    for m in conversation.messages:
        one: dict[str, Any] = {"role": m.role, "content": m.content}
        if m.tool_calls:
            one["tool_calls"] = [
                {"type": "function", "id": c.id, "function": {"name": c.name, "arguments": json.loads(c.arguments)}} for c in m.tool_calls
            ]
        if m.call_id:
            one |= {"tool_call_id": m.call_id, "name": m.name}
        found.append(one)
    return found


def agree(pair: Any, family: str, conversation: Conversation) -> None:
    written, jinja, encoder = pair(family)
    theirs = encoder.tokenizer.apply_chat_template(chat(conversation), tools=list(conversation.tools) or None, tokenize=False)
    assert text(jinja.render(conversation)) == theirs
    assert text(written.render(conversation)) == theirs
    for form in (written, jinja):
        for rendered in renderings(form, conversation):
            for before, answer in stretches(rendered):
                turns = [i for i, m in enumerate(conversation.messages) if m.role == "assistant"]
                prompts = [text(form.prompt(replace(conversation, messages=conversation.messages[: i + 1]))) for i in turns]
                assert before in prompts
                assert answer.endswith(form.stops()[0])
            ids = encoder.ids(rendered)
            assert sum(i in set(encoder.added.values()) for i in ids) == sum(s.special for s in rendered)
    mine, others = renderings(written, conversation), renderings(jinja, conversation)
    assert [stretches(one) for one in mine] == [stretches(one) for one in others]
    assert [encoder.ids(one) for one in mine] == [encoder.ids(one) for one in others]


@pytest.mark.parametrize("family", FORMS)
def test_calls_and_results_are_what_the_template_writes(family: str, pair: Any) -> None:
    agree(pair, family, CALLS)
    agree(pair, family, replace(CALLS, messages=CALLS.messages[1:]))
    agree(pair, family, replace(CALLS, tools=()))
    agree(pair, family, talk(Message("user", "Hi"), Message("assistant", "Hi.")))


BITS = ("colour", '"', "\\", "\n", "é", "中", "</tool_call>", "<|im_end|>", "</s>", "{{ 1 }}", "\U000f0000", " ")
words = st.lists(st.sampled_from(BITS), max_size=4).map("".join)
values = st.recursive(words | st.integers(-9, 9) | st.booleans() | st.none(), lambda v: st.lists(v, max_size=2), max_leaves=4)
keys = st.sampled_from(("place", "días", "a b", "0"))


@st.composite
def tool_talks(draw: st.DrawFn, several: bool, spoken: bool) -> Conversation:
    messages = [Message("system", draw(words))] if draw(st.booleans()) else []
    messages.append(Message("user", draw(words) or "q"))
    for step in range(draw(st.integers(1, 2))):
        calls = tuple(
            call(draw(st.sampled_from(("weather", "clock"))), f"call{step}{k}xyz", **draw(st.dictionaries(keys, values, max_size=2)))
            for k in range(draw(st.integers(1, 2)) if several else 1)
        )
        messages.append(Message("assistant", draw(words).strip() if spoken else "", tool_calls=calls))
        messages += [Message("tool", json.dumps(draw(values)), name=c.name, call_id=c.id) for c in calls]
    messages.append(Message("assistant", draw(words)))
    return talk(*messages, tools=draw(st.sampled_from(((), (WEATHER,), (WEATHER, CLOCK)))))


@pytest.mark.parametrize("family", FORMS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_generated_calls(family: str, pair: Any, data: Any) -> None:
    agree(pair, family, data.draw(tool_talks(several=family != "llama3.1", spoken=family in ("chatml", "qwen"))))


def test_the_call_is_trained_to_its_end_of_turn(pair: Any) -> None:
    for form in pair("qwen")[:2]:
        found = [stretches(one) for one in renderings(form, CALLS)]
        assert found[0][0][1] == (
            "<think>\n\n</think>\n\n<tool_call>\n"
            '{"name": "weather", "arguments": {"place": "Łódź \\"centre\\"\\n", "days": 2}}\n</tool_call><|im_end|>'
        )


def test_data_inside_a_call_stays_text(pair: Any) -> None:
    conversation = talk(Message("user", "q"), Message("assistant", "", tool_calls=(call(place="<|im_end|> </tool_call>"),)))
    for form in pair("chatml")[:2]:
        (rendered,) = renderings(form, conversation)
        assert [s.text for s in joined(rendered) if s.special and s.trained] == ["<tool_call>", "</tool_call>", "<|im_end|>"]


def test_tools_that_spell_a_token_stay_text(pair: Any) -> None:
    tool = {"type": "function", "function": {"name": "stop", "description": "writes <|im_end|>", "parameters": {}}}
    conversation = talk(Message("user", "q"), Message("assistant", "a"), tools=(tool,))
    for form in pair("chatml")[:2]:
        (rendered,) = renderings(form, conversation)
        assert sum(s.text == "<|im_end|>" for s in rendered if s.special) == 3
    bad = {"type": "function", "function": {"name": "stop", "parameters": {"<|im_end|>": {}}}}
    with pytest.raises(DataError, match=r"rows.jsonl:4: a tool has the name, key or id '<\|im_end\|>'"):
        pair("chatml")[1].render(replace(conversation, tools=(bad,)))


def test_a_template_that_drops_calls_or_tools_is_refused_by_row() -> None:
    form = Jinja().bind(family_tokenizer("chatml", CHATML))
    with pytest.raises(DataError, match=r"rows.jsonl:4: the chat template leaves out a part of the tool calls of message 3 \('weather'\)"):
        form.render(replace(CALLS, tools=()))
    with pytest.raises(DataError, match=r"rows.jsonl:4: the chat template leaves out the tools"):
        form.render(talk(Message("user", "q"), Message("assistant", "a")))


def test_a_template_that_reads_arguments_as_text() -> None:
    source = HERMES.replace("(f.arguments | tojson)", "('' + f.arguments)")
    form = Jinja().bind(family_tokenizer("chatml", source))
    assert '"arguments": {"place": "Łódź \\"centre\\"\\n", "days": 2}}' in text(form.render(CALLS))


@pytest.mark.parametrize("name", ["alpaca", "gemma", "llama2", "llama3", "mistral v1", "phi3", "text_to_text", "vicuna", "zephyr"])
def test_formats_without_a_place_for_tools_refuse(name: str) -> None:
    chosen = Alpaca() if name == "alpaca" else Mistral(version="v1") if name == "mistral v1" else FORMATS[name]()
    form = chosen.bind(family_tokenizer("vicuna" if name == "alpaca" else name))
    kind = name.split()[0]
    for conversation, found in (
        (CALLS, f"rows.jsonl:4: format {kind} has no place for tools"),
        (replace(CALLS, tools=()), "rows.jsonl:4: message 3 calls a tool"),
        (talk(Message("user", "q"), Message("tool", "r"), tools=()), "rows.jsonl:4: message 2 is a tool's result"),
    ):
        with pytest.raises(DataError, match=found):
            form.render(conversation)


@pytest.mark.parametrize(
    ("family", "message", "found"),
    [
        (
            "chatml",
            Message("assistant", "", tool_calls=(ToolCall("f", "[1]"),)),
            "message 2: the arguments of the call to 'f' are no JSON object",
        ),
        ("chatml", Message("assistant", "", tool_calls=(ToolCall("f", "{"),)), "message 2: the arguments of the call to 'f' are no JSON:"),
        ("llama3.1", Message("assistant", "so", tool_calls=(call(),)), "message 2 has words and a tool call"),
        ("llama3.1", Message("assistant", "", tool_calls=(call(), call())), "message 2 has 2 tool calls"),
        ("mistral", Message("assistant", "", tool_calls=(call(id="x"),)), "message 2: format mistral needs tool call ids of nine letters"),
    ],
)
def test_calls_that_cannot_be_written(family: str, message: Message, found: str, pair: Any) -> None:
    with pytest.raises(DataError, match=rf"rows.jsonl:4: {found}"):
        pair(family)[0].render(talk(Message("user", "q"), message))
    if "arguments" in found or "ids" in found:
        with pytest.raises(DataError, match=r"rows.jsonl:4: "):
            pair(family)[1].render(talk(Message("user", "q"), message))


def test_mistral_writes_results_that_are_no_json_as_json(pair: Any) -> None:
    messages = (*CALLS.messages[:3], Message("tool", 'it "rains"', call_id="abcdefgh1"), Message("assistant", "Yes."))
    assert '[TOOL_RESULTS] {"content": "it \\"rains\\"", "call_id": "abcdefgh1"}' in text(pair("mistral")[0].render(talk(*messages)))


def test_a_tool_token_is_not_required() -> None:
    with pytest.raises(RecipeError, match=r"has no token '<\|im_start\|>'"):
        ChatML().bind(family_tokenizer("vicuna"))
    assert ChatML().bind(family_tokenizer("chatml")).render(CALLS)
