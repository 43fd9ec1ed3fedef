"""The mask contract, for every format of the catalog; a new line in FORMATS enrols the newcomer.

The segments before a trained stretch are the prompt of that turn, as text and as ids; the end of turn is
trained; nothing in the data becomes a special token, whatever it spells.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from etude.encoding import Encoder, examples
from etude.failures import DataError, RecipeError
from etude.formats import FORMATS, ChatFormat, renderings, text
from etude.formats.alpaca import WITH_INPUT, WITHOUT_INPUT, Alpaca
from etude.formats.borders import BORDER, stretches
from etude.formats.families import Llama3, Mistral, Qwen
from etude.formats.jinja import Auto, Jinja
from etude.formats.training_turns import trained_turns
from etude.previewing import preview
from etude.records import IGNORED, Conversation, Encoded, Message, Origin, Segment

SETTINGS = {
    **{name: kind() for name, kind in FORMATS.items()},
    "alpaca, bare": Alpaca(preamble="none"),
    "llama3, 3.1": Llama3(version="3.1"),
    "mistral, v1": Mistral(version="v1"),
    "qwen, not thinking": Qwen(thinking=False),
}
WRITTEN = [name for name, chosen in SETTINGS.items() if hasattr(chosen, "markup")]
"""The formats of `families`: they do not read the tokenizer's template, but need tokens."""

# Reasoning models' templates drop what an earlier answer thought and put an empty thought before a bare one.
REWRITES = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}"
    "{% set c = m.content %}{% set r = '' %}"
    "{% if '</think>' in c %}"
    "{% set r = c.split('</think>')[0].split('<think>')[-1] %}{% set c = c.split('</think>')[-1].lstrip('\n') %}"
    "{% endif %}"
    "{% if loop.last %}{{ '<think>' + r.strip('\n') + '</think>\n' }}{% endif %}{{ c }}"
    "{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPS = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + '] ' + (m.content | trim) }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)
FOLDS = (  # the system text stands inside the first user turn, and there is no generation prompt
    "{% if messages[0].role == 'system' %}{% set s = '<<' + messages[0].content + '>>\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[ASK] ' + ((s + m.content) if loop.first else m.content).strip() + ' [/ASK]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {"own": None, "strips": STRIPS, "folds": FOLDS, "rewrites": REWRITES}

PARTS = ("colour", "a.b", "0", "é", "😀", " ", "  ", "\n", "\t", "\x00", "\U000f0000", "\U000f0001", "{{ 1 }}", "{% x %}")
MARKUP = ("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "<think>", "</think>", "### Response:", "[/ASK]")
words = st.lists(st.sampled_from(PARTS + MARKUP), max_size=6).map("".join)


@st.composite
def conversations(draw: st.DrawFn, chosen: bool = False) -> Conversation:
    """Conversations of up to three questions and answers; `chosen`: some say themselves which messages are trained."""
    flags = st.sampled_from((None, None, True, False)) if chosen else st.none()
    messages = [Message("system", draw(words) or "s", trained=draw(flags))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(words) or "q", draw(words), trained=draw(flags)))
        messages.append(Message("assistant", draw(words), trained=draw(flags)))
    return Conversation("row", tuple(messages), Origin("data.json", 7))


def with_tokens(tokenizer: Any, chosen: Any) -> Any:
    """The tokenizer with the tokens that a written format needs."""
    needs = [need for need in chosen.markup().needs if not need.startswith("{")]
    tokenizer.add_tokens([AddedToken(need, special=True, normalized=False) for need in needs])
    return tokenizer


@pytest.fixture(scope="module")
def bound(make_tokenizer: Callable[..., Any]) -> Callable[[str, str], tuple[ChatFormat, Encoder]]:
    tokenizers = {name: make_tokenizer() if source is None else make_tokenizer(source) for name, source in TEMPLATES.items()}
    made = {
        (name, template): (chosen.bind(tokenizer), Encoder.of(tokenizer))
        for template, tokenizer in tokenizers.items()
        for name, chosen in SETTINGS.items()
        if name not in WRITTEN
    }
    for name in WRITTEN:
        tokenizer = with_tokens(make_tokenizer(None), SETTINGS[name])
        made[name, "own"] = (SETTINGS[name].bind(tokenizer), Encoder.of(tokenizer))
    return lambda name, template: made[name, template]  # a function, because hypothesis prints arguments


def shares(conversation: Conversation, parts: int) -> list[list[int]]:
    """Which messages each rendering trains: all, or each an answer and what is trained between it and the one before."""
    turns = trained_turns(conversation)
    if parts == 1 and len([t for t in turns if conversation.messages[t].role == "assistant"]) <= 1:
        return [turns]
    answers = [t for t in turns if conversation.messages[t].role == "assistant"]
    single = [[t for t in turns if before < t <= turn] for before, turn in zip([-1, *answers], answers, strict=False)]
    rest = [t for t in turns if t > max(answers, default=-1)]
    found = [*single, rest] if rest else single
    return found if parts == len(found) else [turns]


def keeps_the_contract(form: ChatFormat, encoder: Encoder, conversation: Conversation) -> None:
    tokenizer = encoder.tokenizer
    rendered = renderings(form, conversation)
    if not trained_turns(conversation):
        assert not any(s.trained for segments in rendered for s in segments)
        return
    groups = shares(conversation, len(rendered))
    stops = {tokenizer.convert_tokens_to_ids(stop) for stop in form.stops()}
    for segments, mine in zip(rendered, groups, strict=True):
        ids = [i for piece in encoder.pieces(segments) for i in piece.ids]
        assert [s.special for s in segments].count(True) == sum(i in set(encoder.added.values()) for i in ids)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text(segments)
        found = stretches(segments)
        assert len(found) == len(mine)
        for turn, (start, end), (before, written) in zip(mine, token_stretches(encoder, segments), found, strict=True):
            message = conversation.messages[turn]
            for said in message.content.replace("</think>", "<think>").split("<think>"):
                assert said.strip() in written
            if message.role != "assistant":
                continue
            assert ids[end - 1] in stops
            assert not set(ids[start : end - 1]) & stops, "an end of turn inside an answer"
            asked = form.prompt(replace(conversation, messages=conversation.messages[:turn]))
            assert not any(s.trained for s in asked)
            assert text(asked) == before
            assert text(asked) == text(form.prompt(replace(conversation, messages=conversation.messages[: turn + 1])))
            assert encoder.ids(asked) == ids[:start]
            alone = form.render(replace(conversation, messages=conversation.messages[: turn + 1]))
            assert stretches(alone)[-1] == (before, written), "an earlier answer is trained as it would be if it were the last"
        encoded = encoder.encode("row", segments)
        if isinstance(encoded, Encoded):  # an empty message that is trained has no token
            flags = encoded.labels != IGNORED
            assert encoded.ids.tolist() == ids
            assert (encoded.labels[flags] == encoded.ids[flags]).all()
            assert int(flags.sum()) == sum(end - start for start, end in token_stretches(encoder, segments))


def token_stretches(encoder: Encoder, segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """The trained stretches in tokens, found from the segments alone."""
    found, at, open_ = [], 0, False
    parts: list[list[Segment]] = [[]]
    for segment in segments:  # cut where a stretch begins or ends; a border keeps two trained ones apart
        if segment.trained != open_ or not segment.text:
            parts.append([])
            open_ = segment.trained
        parts[-1].append(segment)
    lengths = [len(encoder.ids(segments[: sum(map(len, parts[: k + 1]))])) for k in range(len(parts))]
    for part, end in zip(parts, lengths, strict=True):
        if part and part[0].trained:
            found.append((at, end))
        at = end
    return found


CASES = [(name, template) for name in SETTINGS for template in TEMPLATES if template == "own" or name not in WRITTEN]


def may_refuse(name: str, template: str, conversation: Conversation) -> bool:
    """Refused, never in silence: answers that cannot be taken apart at `</think>`, and other turns to train in text to text."""
    thinks = any("</think>" in m.content for m in conversation.messages if m.role == "assistant")
    if name == "text_to_text":
        return any(m.trained for m in conversation.messages if m.role != "assistant")
    return thinks and (template == "rewrites" or name.startswith("qwen"))


@pytest.mark.parametrize("chosen", [False, True], ids=["answers", "chosen"])
@pytest.mark.parametrize(("name", "template"), CASES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_format_keeps_the_mask_contract(name: str, template: str, chosen: bool, data: Any, bound: Any) -> None:
    form, encoder = bound(name, template)
    conversation = data.draw(conversations(chosen))
    try:
        renderings(form, conversation)
    except DataError as error:
        expected = may_refuse(name, template, conversation) or "has no words" in str(error)
        if not expected or not str(error).startswith("data.json:7: "):
            raise
        return
    keeps_the_contract(form, encoder, conversation)


@pytest.mark.parametrize(("name", "template"), CASES)
def test_a_format_survives_pickling(name: str, template: str, bound: Any) -> None:
    form, _ = bound(name, template)
    talk = Conversation("row", (Message("user", "q"), Message("assistant", "a")))
    again = pickle.loads(pickle.dumps(form))
    assert again.render(talk) == form.render(talk)
    assert again.stops() == form.stops()
    assert again.name == form.name


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=conversations())
def test_jinja_writes_what_transformers_writes(template: str, conversation: Conversation, bound: Any) -> None:
    form, encoder = bound("jinja", template)
    chat = [{"role": m.role, "content": m.words()} for m in conversation.messages]
    if template == "rewrites" and any("</think>" in m.content for m in conversation.messages):
        return  # may be refused, as above
    assert text(form.render(conversation)) == encoder.tokenizer.apply_chat_template(chat, tokenize=False)
    assert text(form.prompt(conversation)) == encoder.tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_plain_prompt_has_the_ids_other_tools_give_it(template: str, bound: Any) -> None:
    form, encoder = bound("jinja", template)
    asked = Conversation("row", (Message("system", "Be short."), Message("user", "List three colours.")))
    chat = [{"role": m.role, "content": m.content} for m in asked.messages]
    theirs = encoder.tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert encoder.ids(form.prompt(asked)) == theirs


@pytest.fixture(scope="module")
def real(real_tokenizer: Any) -> Callable[[str], tuple[ChatFormat, Encoder]]:
    encoder = Encoder.of(real_tokenizer)
    made = {name: (SETTINGS[name].bind(real_tokenizer), encoder) for name in REAL}
    return lambda name: made[name]


REAL = ("auto", "jinja", "alpaca", "alpaca, bare", "chatml", "vicuna", "zephyr")
"""The formats that fit the default model's tokenizer."""


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=conversations())
def test_the_real_default_model_keeps_it_too(name: str, conversation: Conversation, real: Any) -> None:
    form, encoder = real(name)
    keeps_the_contract(form, encoder, conversation)


def test_the_real_default_model_on_real_rows(real: Any, real_tokenizer: Any, shared_data: Any) -> None:
    import json

    rows = json.loads((shared_data / "alpaca" / "alpaca_train.json").read_text(encoding="utf-8"))[:200]
    talks = [
        Conversation(str(i), (Message("user", r["instruction"], r["input"]), Message("assistant", r["output"]))) for i, r in enumerate(rows)
    ]
    form, encoder = real("auto")
    assert preview(talks, form, encoder, 0).failures == []
    for talk in talks[:50]:
        chat = [{"role": m.role, "content": m.words()} for m in talk.question().messages]
        theirs = real_tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
        assert encoder.ids(form.prompt(talk)) == theirs


def test_auto_is_the_tokenizers_own_template_else_alpaca(make_tokenizer: Any) -> None:
    assert Auto().bind(make_tokenizer()).name == "jinja"
    assert Auto().bind(make_tokenizer(None)).name == "alpaca"


def test_markup_special_and_data_plain(tokenizer: Any) -> None:
    form = Jinja().bind(tokenizer)
    found = form.render(Conversation("row", (Message("user", "say <|im_end|>"), Message("assistant", "<think>no"))))
    assert Segment("say <|im_end|>") in found
    assert found[-3:] == (Segment("<think>no", True), Segment("<|im_end|>", True, True), Segment("\n"))


def test_a_template_that_rewrites_earlier_answers_gives_one_rendering_an_answer(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(REWRITES)
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    talk = Conversation(
        "row",
        (
            Message("user", "one?"),
            Message("assistant", "<think>why not</think>\nyes"),
            Message("user", "two?"),
            Message("assistant", "<think>hm <|im_end|></think>\nno"),
        ),
    )
    first, second = renderings(form, talk)
    assert stretches(first)[0][1] == "<think>why not</think>\nyes<|im_end|>"
    assert stretches(second)[0][1] == "<think>hm <|im_end|></think>\nno<|im_end|>"
    assert "why not" not in text(second)
    specials = [s.text for s in second if s.special and s.trained]
    assert specials == ["<think>", "<|im_end|>"], "the template's tag is markup, the data's end of turn is not"
    assert [one.id for one in examples(encoder, form, talk)] == ["row", "row"]


def test_an_earlier_answer_is_trained_as_if_it_were_the_last(make_tokenizer: Any) -> None:
    form = Jinja().bind(make_tokenizer(REWRITES))
    turns = (Message("user", "one?"), Message("assistant", "yes"), Message("user", "two?"), Message("assistant", "no"))
    answers = [stretches(one)[0][1] for one in renderings(form, Conversation("row", turns))]
    assert answers == ["<think></think>\nyes<|im_end|>", "<think></think>\nno<|im_end|>"]


def test_only_the_answer_a_template_takes_apart_gets_its_tags(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(REWRITES)
    form, encoder = Jinja().bind(tokenizer), Encoder.of(tokenizer)
    turns = (Message("user", "one?"), Message("assistant", "<think>"), Message("user", "two?"), Message("assistant", "<think>a</think>b"))
    keeps_the_contract(form, encoder, Conversation("row", turns))
    assert Segment("<think>", trained=True) in renderings(form, Conversation("row", turns))[0], "data, and not the tag"


def test_a_template_that_drops_what_the_answer_thought_is_refused(make_tokenizer: Any) -> None:
    drops = "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' + m.content.split('</think>')[-1] + '<|im_end|>' }}{% endfor %}"
    form = Jinja().bind(make_tokenizer(drops + "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"))
    talk = Conversation("row", (Message("user", "q"), Message("assistant", "<think>long thought</think>a")), Origin("rows.json", 3))
    with pytest.raises(DataError, match=r"rows.json:3: message 2: .*leaves out a part of the answer"):
        form.render(talk)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{% for m in messages %}{{ m.content | length }}{{ m.content + eos_token }}{% endfor %}", "treats some words unlike others"),
        ("{% for m in messages %}{{ m.content | upper }}{{ eos_token }}{% endfor %}", "changes the words of message 1"),
        ("{% for m in messages %}{{ m.content | reverse }}{{ eos_token }}{% endfor %}", "message 1 does not come out in one piece"),
        ("{% for m in messages %}{{ '<|im_start|>' + m.content }}{% endfor %}", "no added token after the answer"),
        ("{% for m in messages %}{{ m.role + m.content }}{% endfor %}", "no added token after the answer"),
        (
            "{% if add_generation_prompt %}{{ 'other' }}{% endif %}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}",
            "not how it",
        ),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", r"leaves out message 2 \(assistant\)"),
        ("{% for m in messages %}{{ m.content[:-1] }}{{ eos_token }}{% endfor %}", "message 1 does not come out in one piece"),
        ("{{ raise_exception('we do not talk') }}", "we do not talk"),
        ("{% for m in messages %}\n{{ m.content }", "line 2"),
        ("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", "refuses this conversation"),
    ],
)
def test_templates_that_cannot_be_trusted_are_refused_by_name(make_tokenizer: Any, template: str, found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        Jinja().bind(make_tokenizer(template))


def test_refusals_carry_the_templates_words_and_the_rows_place(make_tokenizer: Any) -> None:
    form = Jinja().bind(make_tokenizer(FOLDS))
    talk = Conversation("row", (Message("user", "a"), Message("user", "b"), Message("assistant", "c")), Origin("rows.json", 5))
    with pytest.raises(DataError, match=r"rows.json:5: .*user, user, assistant\): turns must alternate"):
        form.render(talk)


def test_a_template_file(make_tokenizer: Any, tmp_path: Any) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(STRIPS, encoding="utf-8")
    form = Jinja(template=str(path)).bind(make_tokenizer(None))
    talk = Conversation("row", (Message("user", " q "), Message("assistant", "a")))
    assert text(form.render(talk)) == "<|im_start|>[user] q\n[assistant] a<|im_end|>"
    with pytest.raises(RecipeError, match=r"cannot read .*absent.jinja"):
        Jinja(template=str(tmp_path / "absent.jinja")).bind(make_tokenizer(None))
    with pytest.raises(RecipeError, match="no chat template"):
        Jinja().bind(make_tokenizer(None))


def test_alpaca_is_byte_for_byte_the_original(tokenizer: Any) -> None:
    form = Alpaca().bind(tokenizer)
    with_input = Conversation("row", (Message("user", "Sort.", "b a"), Message("assistant", "a b")))
    assert WITH_INPUT == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
    )
    assert text(form.render(with_input)) == WITH_INPUT + "### Instruction:\nSort.\n\n### Input:\nb a\n\n### Response:a b<|im_end|>"
    without = Conversation("row", (Message("user", "Sort."), Message("assistant", "a b")))
    assert WITHOUT_INPUT == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    )
    assert text(form.prompt(without)) == WITHOUT_INPUT + "### Instruction:\nSort.\n\n### Response:"
    bare = Alpaca(preamble="none").bind(tokenizer)
    assert text(bare.render(without)) == "### Instruction:\nSort.\n\n### Response:\na b<|im_end|>"


def test_alpaca_matches_published_prompts(tokenizer: Any, shared_data: Any) -> None:
    import json

    rows = json.loads((shared_data / "torchtune_tiny" / "alpaca_tiny.json").read_text(encoding="utf-8"))
    form = Alpaca().bind(tokenizer)
    for row in rows:
        asked = Conversation("row", (Message("user", row["instruction"], row["input"]),))
        assert row["text"].startswith(text(form.prompt(asked)) + "\n")


def test_alpaca_with_system_and_history(tokenizer: Any) -> None:
    form = Alpaca().bind(tokenizer)
    talk = Conversation(
        "row",
        (
            Message("system", "Be kind."),
            Message("user", "One?"),
            Message("assistant", "1"),
            Message("user", "Two?", "of 3"),
            Message("assistant", "2"),
        ),
    )
    assert text(form.render(talk)) == (
        "Be kind.\n\n" + WITHOUT_INPUT + "### Instruction:\nOne?\n\n### Response:1<|im_end|>"
        "\n\n### Instruction:\nTwo?\n\n### Input:\nof 3\n\n### Response:2<|im_end|>"
    )


def test_alpaca_history_keeps_the_borders_of_its_answers(tokenizer: Any) -> None:
    form = Alpaca(preamble="none").bind(tokenizer)
    asked = form.prompt(Conversation("row", (Message("user", "One?"), Message("assistant", "1"), Message("user", "Two?"))))
    assert asked == (
        Segment("### Instruction:\nOne?\n\n### Response:\n"),
        BORDER,
        Segment("1"),
        Segment("<|im_end|>", special=True),
        Segment("\n\n### Instruction:\nTwo?\n\n### Response:\n"),
    )


def test_alpaca_refuses_what_it_cannot_write(make_tokenizer: Any, tokenizer: Any) -> None:
    with pytest.raises(RecipeError, match="no end-of-sequence token"):
        Alpaca().bind(make_tokenizer(None, eos_token=None))
    form = Alpaca().bind(tokenizer)
    with pytest.raises(DataError, match=r"rows.json:2: message 2 is from 'user' where alpaca needs 'assistant'"):
        form.render(Conversation("row", (Message("user", "a"), Message("user", "b")), Origin("rows.json", 2)))
    with pytest.raises(DataError, match="no user message to answer"):
        form.prompt(Conversation("row", (Message("system", "a"),)))


def test_alpaca_begins_as_the_tokenizer_does(make_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(None)
    assert not Alpaca().bind(tokenizer).bos
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    form, encoder = Alpaca(preamble="none").bind(tokenizer), Encoder.of(tokenizer)
    asked = form.prompt(Conversation("row", (Message("user", "q"),)))
    assert encoder.ids(asked) == tokenizer("### Instruction:\nq\n\n### Response:\n")["input_ids"]
