"""The written formats against chat templates of their families, and Jinja templates against transformers:
the same text on hundreds of generated conversations, or a refusal that names the row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude.encoding import Encoder, joined
from etude.failures import DataError, RecipeError
from etude.formats import FORMATS, ChatFormat, renderings, text
from etude.formats.borders import stretches
from etude.formats.families import MARKUPS, Llama3, Mistral, bound
from etude.formats.jinja import Jinja
from etude.formats.markup import lacking
from etude.records import Conversation, Message, Origin
from family_templates import FAMILIES, GEMMA2, TOKENS, family_tokenizer

EXAMPLES = 40
"""Conversations a family: about five hundred in all."""

CHOSEN = {
    **{name: FORMATS[name] for name in MARKUPS},
    "llama3.1": lambda: Llama3(version="3.1"),
    "mistral v1": lambda: Mistral(version="v1"),
}

PARTS = (
    "colour", "List three.", "0", "é", "中文", "😀", "e\u0301", " ", "  ", "\n", "\n\n", "\t", "\u00a0", "\x00", "\U000f0000",
    "{{ 1 }}", "{% x %}", '"', "\\", "<b>", "'s", "</s", "[INST", " a", "the",
)  # fmt: skip
words = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)


@st.composite
def talks(draw: st.DrawFn, questions: int = 3) -> Conversation:
    messages = [Message("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, questions))):
        messages += [Message("user", draw(words)), Message("assistant", draw(words))]
    return Conversation("row", tuple(messages), Origin("rows.json", 3))


@pytest.fixture(scope="module")
def pair() -> Callable[[str], tuple[ChatFormat, ChatFormat, Encoder]]:
    made = {}
    for family, template in FAMILIES.items():
        tokenizer = family_tokenizer(family, template)
        made[family] = (CHOSEN[family]().bind(tokenizer), Jinja().bind(tokenizer), Encoder.of(tokenizer))
    return lambda family: made[family]


def chat(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in conversation.messages]


def same(written: list[Any], jinja: list[Any]) -> None:
    assert [text(one) for one in written] == [text(one) for one in jinja]
    assert [joined(one) for one in written] == [joined(one) for one in jinja]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_written_format_the_template_and_transformers_agree(family: str, pair: Any) -> None:
    written, jinja, encoder = pair(family)
    seen = Counter[str]()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(conversation=talks(1 if family == "text_to_text" else 3))
    def agree(conversation: Conversation) -> None:
        theirs = encoder.tokenizer.apply_chat_template(chat(conversation), tokenize=False)
        assert text(jinja.render(conversation)) == theirs
        assert text(written.render(conversation)) == theirs
        asked = encoder.tokenizer.apply_chat_template(chat(conversation.question()), tokenize=False, add_generation_prompt=True)
        assert text(jinja.prompt(conversation)) == asked
        same([written.prompt(conversation)], [jinja.prompt(conversation)])
        same(renderings(written, conversation), renderings(jinja, conversation))
        seen["rows"] += 1
        seen["ids"] += encoder.ids(written.render(conversation)) != encoder.tokenizer(theirs, add_special_tokens=False)["input_ids"]

    agree()
    assert seen["rows"] >= EXAMPLES
    print(f"{family}: {seen['ids']} of {seen['rows']} rows have other ids than their text as one, at borders of plain text")
    assert (seen["ids"] == 0) == (family in EXACT), seen


EXACT = {"gemma", "llama2", "llama3", "llama3.1", "mistral", "mistral v1", "text_to_text", "vicuna"}
"""Families whose ids are those of the whole text, always: a token of its own or a word stands before an answer, or answers
are stripped. In the others an answer follows a newline of the header, and one that begins with white space would be
tokenised together with it; there the prompt's own ids win, in training as when asked."""


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_whole_text_where_no_answer_begins_with_white_space(family: str, pair: Any) -> None:
    written, _, encoder = pair(family)
    talk = Conversation("row", (Message("system", "Be short."), Message("user", "Why?"), Message("assistant", "Because it is so.")))
    for segments in (written.render(talk), written.prompt(talk)):
        assert encoder.ids(segments) == encoder.tokenizer(text(segments), add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_own_tokens_in_data_are_text(family: str, pair: Any) -> None:
    written, jinja, encoder = pair(family)
    spelled = "".join(TOKENS["llama3" if family == "llama3.1" else family]) if family != "qwen" else "<|im_start|><|im_end|><tool_call>"
    talk = Conversation("row", (Message("user", f"a {spelled} b"), Message("assistant", f"c {spelled} d")))
    bare = Conversation("row", (Message("user", "a b"), Message("assistant", "c d")))
    for form in (written, jinja):
        segments = form.render(talk)
        assert [s.text for s in segments if s.special] == [s.text for s in form.render(bare) if s.special]
        ids = encoder.ids(segments)
        assert sum(i in set(encoder.added.values()) for i in ids) == sum(s.special for s in segments)
        assert encoder.tokenizer.decode(ids) == text(segments)


def test_every_family_has_its_template() -> None:
    assert set(MARKUPS) == set(FAMILIES) - {"llama3.1", "mistral v1"}
    assert set(FORMATS) == {"auto", "jinja", "alpaca", *MARKUPS}


@pytest.mark.parametrize("name", MARKUPS)
def test_missing_tokens_are_named_and_never_added(name: str, make_tokenizer: Any) -> None:
    bare = make_tokenizer(None, bos_token=None, eos_token=None)
    size = len(bare)
    if not lacking(MARKUPS[name], bare):
        assert name in ("chatml", "qwen")  # the test tokenizer has their tokens
        return
    with pytest.raises(RecipeError, match=rf"format {name}: the tokenizer has no token .* fit this tokenizer: chatml, qwen$"):
        FORMATS[name]().bind(bare)
    assert len(bare) == size


def test_the_formats_that_fit_are_named(make_tokenizer: Any) -> None:
    with pytest.raises(RecipeError) as error:
        FORMATS["gemma"]().bind(make_tokenizer())
    assert str(error.value) == (
        "format gemma: the tokenizer has no token '<start_of_turn>', '<end_of_turn>', and none is added in silence; "
        "formats that fit this tokenizer: alpaca, chatml, jinja, llama2, qwen, text_to_text, vicuna, zephyr"
    )


BY_HAND = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n",
    "gemma": "<bos><start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST] A </s>",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Q<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>",
    "llama3.1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Q<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>",
    "mistral": "<s>[INST] S\n\nQ[/INST] A</s>",
    "mistral v1": "<s> [INST] S\n\nQ [/INST] A</s>",
    "phi3": "<|system|>\nS<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\nA<|end|>\n<|endoftext|>",
    "qwen": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nA<|im_end|>\n",
    "text_to_text": "S\n\nQ</s>A</s>",
    "vicuna": "S USER: Q ASSISTANT: A</s>",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nQ</s>\n<|assistant|>\nA</s>\n",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_written_by_hand(family: str, pair: Any) -> None:
    talk = Conversation("row", (Message("system", "S"), Message("user", "Q"), Message("assistant", "A")))
    assert text(pair(family)[0].render(talk)) == BY_HAND[family]


def test_vicuna_is_fastchats_v1_1(pair: Any) -> None:
    form = pair("vicuna")[0]
    turns = (Message("user", "Hello!"), Message("assistant", "Hi!"), Message("user", "How are you?"))
    assert text(form.prompt(Conversation("row", turns))) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite "
        "answers to the user's questions. USER: Hello! ASSISTANT: Hi!</s>USER: How are you? ASSISTANT:"
    )


def test_a_rstrip_token_takes_its_newline(make_tokenizer: Any) -> None:
    from tokenizers import AddedToken

    tokenizer = make_tokenizer(None)
    marks = [AddedToken(t, special=True, normalized=False, rstrip=True) for t in TOKENS["phi3"]]
    tokenizer.add_tokens(marks)
    form, encoder = FORMATS["phi3"]().bind(tokenizer), Encoder.of(tokenizer)
    talk = Conversation("row", (Message("user", "Why?"), Message("assistant", "So.")))
    assert encoder.ids(form.render(talk)) == tokenizer(text(form.render(talk)), add_special_tokens=False)["input_ids"]


REFUSED = {
    "two questions": (("user", "user", "assistant"), {"gemma", "llama2", "mistral", "mistral v1", "text_to_text", "vicuna"}),
    "an answer first": (("assistant", "user", "assistant"), {"gemma", "llama2", "mistral", "mistral v1", "text_to_text", "vicuna"}),
    "an unknown role": (("user", "critic"), set(FAMILIES)),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("family", FAMILIES)
def test_orders_of_roles_that_a_family_refuses(family: str, case: str, pair: Any) -> None:
    roles, refusing = REFUSED[case]
    talk = Conversation("row", tuple(Message(role, "w") for role in roles), Origin("rows.json", 3))
    if family in refusing:
        with pytest.raises(DataError, match=r"^rows.json:3: message \d"):
            renderings(pair(family)[0], talk)
    else:
        assert renderings(pair(family)[0], talk)


def test_a_templates_refusal_is_told_with_the_row() -> None:
    form = Jinja().bind(family_tokenizer("gemma", GEMMA2))
    talk = Conversation("row", (Message("system", "S"), Message("user", "Q"), Message("assistant", "A")), Origin("rows.json", 9))
    with pytest.raises(DataError, match=r"^rows.json:9: the chat template refuses .*system, user, assistant\): no system role here"):
        renderings(form, talk)
    with pytest.raises(DataError, match=r"^rows.json:9: .*there is no user message"):
        bound(MARKUPS["gemma"], form.tokenizer).prompt(Conversation("row", talk.messages[:1], talk.origin))


THOUGHT = "<think>\nlong thought\n</think>\n\nshort answer"


def test_qwen_keeps_reasoning_behind_the_last_question_only(pair: Any) -> None:
    written, jinja, _ = pair("qwen")
    talk = Conversation("row", (Message("user", "1"), Message("assistant", THOUGHT), Message("user", "2"), Message("assistant", "bare")))
    same(renderings(written, talk), renderings(jinja, talk))
    first, second = (text(one) for one in renderings(written, talk))
    assert first.endswith(f"assistant\n{THOUGHT}<|im_end|>\n")
    assert "long thought" not in second
    assert second.endswith("assistant\n<think>\n\n</think>\n\nbare<|im_end|>\n")


def test_qwen_without_thinking_asks_for_none() -> None:
    tokenizer = family_tokenizer("qwen", FAMILIES["qwen"])
    written, jinja = FORMATS["qwen"](thinking=False).bind(tokenizer), Jinja(variables={"enable_thinking": False}).bind(tokenizer)
    talk = Conversation("row", (Message("user", "1"), Message("assistant", "bare"), Message("user", "2"), Message("assistant", "bare")))
    for ours, theirs in zip(renderings(written, talk), renderings(jinja, talk), strict=True):
        assert text(ours) == text(theirs)
        assert stretches(ours) == stretches(theirs) == [(text(ours)[: -len("bare<|im_end|>\n")], "bare<|im_end|>")]
    assert text(written.prompt(talk)).endswith("assistant\n<think>\n\n</think>\n\n")
    asked = tokenizer.apply_chat_template(chat(talk.question()), tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text(jinja.prompt(talk)) == asked
    thinks = Conversation("row", (Message("user", "1"), Message("assistant", THOUGHT)), Origin("rows.json", 3))
    with pytest.raises(DataError, match=r"rows.json:3: message 2 has reasoning"):
        renderings(written, thinks)
    with pytest.raises(DataError, match=r"rows.json:3: message 2"):
        renderings(jinja, thinks)
