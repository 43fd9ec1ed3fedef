"""Segments to ids: data never becomes special, text survives, the answer is never cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etude.encoding import EDGE, Encoder, Piece, examples, shorten
from etude.failures import DataError, RecipeError
from etude.formats import ChatFormat
from etude.formats.alpaca import Alpaca
from etude.formats.jinja import Jinja
from etude.records import IGNORED, Conversation, Encoded, Fate, Message, Origin, Segment

relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> Encoder:
    return Encoder.of(tokenizer)


@pytest.fixture(scope="module")
def form(tokenizer: Any) -> ChatFormat:
    return Jinja().bind(tokenizer)


def sentencepiece(kind: str, scheme: str = "first") -> Any:
    """A tokenizer with `▁` for spaces and `</s>` inside the vocabulary itself, as Llama's and T5's have."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({*"▁abcdefghijklmnopqrstuvwxyz<>/s[]:\n", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
    pieces = ["<unk>", "<s>", "</s>", *letters, "</", "s>", "▁a", "▁b"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    if kind == "unigram":
        backend = Tokenizer(models.Unigram([(piece, 0.0 if i < 3 else -float(i)) for piece, i in vocab.items()], unk_id=0))
    else:
        merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("▁", "a"), ("▁", "b")]
        backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    strip = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if scheme == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(strip)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@relaxed
@given(text=st.text())
@example(text="<|im_end|><think> <|endoftext|>\x00\n\n  é😀")
def test_plain_text_comes_back_and_is_never_special(text: str, encoder: Encoder) -> None:
    ids = encoder.ids([Segment(text)])
    assert encoder.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not set(ids) & {0, 1, 2, 299}


def test_special_segments_are_their_ids(encoder: Encoder) -> None:
    segments = [Segment("<|im_start|>", special=True), Segment("a<|im_end|>"), Segment("<think>", special=True)]
    ids = encoder.ids(segments)
    assert (ids[0], ids[-1]) == (1, 299)
    assert 2 not in ids
    with pytest.raises(DataError, match=r"'<\|im_ends\|>' as a special token.*did you mean '<\|im_end\|>'"):
        encoder.ids([Segment("<|im_ends|>", special=True)])


@relaxed
@given(texts=st.lists(st.text(max_size=5), max_size=6))
def test_how_plain_text_is_cut_into_segments_changes_nothing(texts: list[str], encoder: Encoder) -> None:
    assert encoder.ids([Segment(t) for t in texts if t]) == encoder.ids([Segment("".join(texts))])


@relaxed
@given(prompt=st.text(min_size=1), answer=st.text(min_size=1))
@example(prompt="### Response:", answer="The")
@example(prompt="a ", answer=" b")
def test_the_answer_is_appended_to_the_prompt_as_asked(prompt: str, answer: str, encoder: Encoder) -> None:
    asked = encoder.ids([Segment(prompt)])
    encoded = encoder.encode("row", [Segment(prompt), Segment(answer, trained=True)])
    assert isinstance(encoded, Encoded)
    assert encoded.ids.dtype == encoded.labels.dtype == "int32"
    assert encoded.ids.tolist()[: len(asked)] == asked
    assert (encoded.labels == IGNORED).tolist() == [True] * len(asked) + [False] * (len(encoded.ids) - len(asked))
    assert encoder.ids([Segment(prompt), Segment(""), Segment(answer)]) == encoded.ids.tolist(), "an empty segment is the same border"


def test_text_of_an_answer(encoder: Encoder) -> None:
    assert encoder.text(encoder.ids([Segment("  yes <think>\n"), Segment("<|im_end|>", special=True)])) == "  yes <think>\n"


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("scheme", ["first", "always", "never", "prepend"])
def test_sentencepiece_vocabularies_keep_specials_out_of_data(kind: str, scheme: str) -> None:
    tokenizer = sentencepiece(kind, scheme)
    encoder = Encoder.of(tokenizer)
    ends = Segment("</s>", special=True)
    ids = encoder.ids([Segment("say </s> a"), ends, Segment("b <s>"), Segment("a", trained=True), ends])
    assert ids.count(2) == 2
    assert ids.count(1) == 0
    assert ids.count(0) == 0
    assert tokenizer.decode(encoder.ids([Segment("say </s> a")]), clean_up_tokenization_spaces=False) == "say </s> a"


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("scheme", ["first", "always", "never", "prepend"])
def test_pieces_get_the_prefix_the_tokenizer_gives_them(kind: str, scheme: str) -> None:
    tokenizer = sentencepiece(kind, scheme)
    encoder = Encoder.of(tokenizer)
    theirs = tokenizer("a b</s>a b</s>b", add_special_tokens=False)["input_ids"]
    ends = Segment("</s>", special=True)
    assert encoder.ids([Segment("a b"), ends, Segment("a b"), ends, Segment("b")]) == theirs
    answer = encoder.ids([Segment("x:"), Segment("a", trained=True)])
    assert tokenizer.convert_ids_to_tokens(answer)[-1] == "a", "an answer that follows text begins as it is, without a space"


def test_added_tokens_of_white_space_stay_vocabulary(make_tokenizer: Any) -> None:
    from tokenizers import AddedToken

    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken("    ", special=False, normalized=False)])
    encoder = Encoder.of(tokenizer)
    ids = encoder.ids([Segment("if x:\n    y <|im_end|><think>")])
    assert tokenizer.convert_tokens_to_ids("    ") in ids
    assert not set(ids) & set(encoder.added.values())
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "if x:\n    y <|im_end|><think>"


def test_a_tokenizer_that_begins_texts_adds_nothing_here(make_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    assert tokenizer("a")["input_ids"][0] == 1
    assert 1 not in Encoder.of(tokenizer).ids([Segment("a")])


def test_slow_tokenizers_are_refused() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(RecipeError, match=r"ByT5Tokenizer.*is a slow one"):
        Encoder.of(ByT5Tokenizer())


def test_half_a_character_is_refused_with_its_place(encoder: Encoder, form: ChatFormat) -> None:
    talk = Conversation("row", (Message("user", "a\ud83d"), Message("assistant", "b")), Origin("rows.json", 9))
    with pytest.raises(DataError, match=r"rows.json:9: .*half a character \('\\ud83d'"):
        examples(encoder, form, talk)


def talk(question: str, answer: str = "red, green and blue") -> Conversation:
    return Conversation("row", (Message("user", question), Message("assistant", answer)), Origin("rows.json", 4))


@pytest.mark.parametrize("limit", [75, 80, 100, 150])
def test_cut_middle_takes_the_middle_of_the_prompt_and_nothing_else(limit: int, encoder: Encoder, form: ChatFormat) -> None:
    question = "Start of it. " + "so on and on " * 60 + "What is the end?"
    [whole] = examples(encoder, form, talk(question))
    [cut] = examples(encoder, form, talk(question), limit)
    assert isinstance(whole, Encoded)
    assert isinstance(cut, Encoded)
    assert len(cut.ids) == limit
    assert cut.cut == len(whole.ids) - limit
    assert cut.labels[cut.labels != IGNORED].tolist() == whole.labels[whole.labels != IGNORED].tolist()
    assert [i for i in cut.ids if i in (0, 1, 2, 299)] == [i for i in whole.ids if i in (0, 1, 2, 299)]
    text = encoder.tokenizer.decode(cut.ids)
    assert text.startswith("<|im_start|>system\n")
    assert "<|im_start|>user\nSta" in text
    assert "end?<|im_end|>\n<|im_start|>assistant\nred, green and blue<|im_end|>" in text


def test_alpaca_prompts_keep_their_last_words(encoder: Encoder, tokenizer: Any) -> None:
    [cut] = examples(encoder, Alpaca().bind(tokenizer), talk("so on and on " * 60), 80)
    assert isinstance(cut, Encoded)
    assert "### Response:red, green and blue<|im_end|>" in tokenizer.decode(cut.ids)


def test_what_fits_is_not_touched(encoder: Encoder, form: ChatFormat) -> None:
    [whole] = examples(encoder, form, talk("List three colours."))
    assert isinstance(whole, Encoded)
    for limit in (len(whole.ids), None):
        for truncation in ("cut_middle", "drop", "refuse"):
            [same] = examples(encoder, form, talk("List three colours."), limit, truncation)  # type: ignore[arg-type]
            assert isinstance(same, Encoded)
            assert same.ids.tolist() == whole.ids.tolist()
            assert same.cut == 0


def test_an_answer_that_cannot_fit_drops_the_row(encoder: Encoder, form: ChatFormat) -> None:
    found = examples(encoder, form, talk("Why?", "because " * 100), 100)
    assert found == [Fate.drop("row", "answer longer than the limit")]


def test_drop_and_refuse(encoder: Encoder, form: ChatFormat) -> None:
    long = talk("so on and on " * 60)
    assert examples(encoder, form, long, 100, "drop") == [Fate.drop("row", "longer than 100 tokens")]
    with pytest.raises(DataError, match=r"rows.json:4: \d+ tokens, more than the limit of 100; raise the limit"):
        examples(encoder, form, long, 100, "refuse")


def test_rows_with_nothing_to_learn_are_dropped(encoder: Encoder, form: ChatFormat) -> None:
    assert examples(encoder, form, talk("Why?").question()) == [Fate.drop("row", "no trained token")]
    assert encoder.encode("row", []) == Fate.drop("row", "no trained token")
    [empty] = examples(encoder, form, talk("Why?", ""))
    assert isinstance(empty, Encoded)
    assert empty.labels[empty.labels != IGNORED].tolist() == [2], "an empty answer still ends"


def test_the_longest_stretches_are_levelled_first() -> None:
    sizes = {"a": 100, "b": 30, "c": 90, "d": 200}
    pieces = [Piece([*range(n)], trained=name == "d", special=False) for name, n in sizes.items()]
    shorter = shorten(pieces, 120)
    assert shorter is not None
    assert [len(p.ids) for p in shorter] == [35, 30, 35, 200]
    assert shorter[0].ids == [*range(18), *range(83, 100)]
    least = shorten(pieces, 220 - 3 * 2 * EDGE)
    assert least is not None
    assert [len(p.ids) for p in least] == [2 * EDGE, 2 * EDGE, 2 * EDGE, 200]
    assert shorten(pieces, 220 - 3 * 2 * EDGE + 1) is None


@relaxed
@given(data=st.data())
def test_shortening_is_exact(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=5))
    room = sum(max(0, n - 2 * EDGE) for n in sizes)
    over = data.draw(st.integers(0, room))
    shorter = shorten([Piece([*range(n)], False, False) for n in sizes], over)
    assert shorter is not None
    assert sum(sizes) - sum(len(p.ids) for p in shorter) == over
    assert all(len(p.ids) >= min(n, 2 * EDGE) for n, p in zip(sizes, shorter, strict=True))


def test_encoders_survive_a_trip_to_another_process(encoder: Encoder, form: ChatFormat) -> None:
    import pickle

    there, writes = pickle.loads(pickle.dumps((encoder, form)))
    [here] = examples(encoder, form, talk("Why?"))
    [again] = examples(there, writes, talk("Why?"))
    assert here.ids.tolist() == again.ids.tolist()  # type: ignore[union-attr]
