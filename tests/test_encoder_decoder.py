"""Encoder-decoder models through everything: format, rows, loss, answers, tuning, a whole run; T5 mostly, BART where it differs."""

from __future__ import annotations

import random
import shutil
import string
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etude import attention, catalog, encoded, journal, losses, noise, pairs, pipeline, previewing, recipe, training
from etude.encoding import Encoder, Lengths, examples
from etude.failures import DataError, RecipeError
from etude.formats import renderings, text
from etude.formats.alpaca import Alpaca
from etude.formats.jinja import Auto, Jinja
from etude.formats.text_to_text import TextToText, bind_for
from etude.models import Sampling, sequences, weights
from etude.models.local import Local
from etude.records import IGNORED, Conversation, Encoded, Fate, Message, Origin
from etude.steps import Tune
from etude.tunings.full import Full
from etude.tunings.lora import Lora

TALK = Conversation(
    "row",
    (
        Message("system", "Be kind."),
        Message("user", "One?", "a b"),
        Message("assistant", "uno"),
        Message("user", "Two </s>?"),
        Message("assistant", "dos </s>"),
    ),
    Origin("rows.jsonl", 4),
)
QUESTIONS = ("Why?", "List three colours.", "Write a long answer that says why the outlook is neutral.", "a", "Is it so, or not?", "x y z")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """T5's own tokenizer class over single characters: no BOS, `</s>` behind every text, pad 0, two sentinels."""
    from transformers import T5Tokenizer

    letters = string.ascii_letters + string.digits + "".join(c for c in string.punctuation if c not in "{}")
    words = ("\u2581the", "\u2581a", "\u2581copy", "\u2581upper")
    tokens = ["<pad>", "</s>", "<unk>", "\u2581", *letters, *words, "<extra_id_1>", "<extra_id_0>"]
    return T5Tokenizer(vocab=[(token, -float(len(token) == 1)) for token in tokens], extra_ids=2)


@pytest.fixture(scope="module")
def tiny(tokenizer: Any) -> Callable[..., Any]:
    """A factory of new T5 models in evaluation mode."""
    from transformers import T5Config, T5ForConditionalGeneration

    def make(seed: int = 0, **given: Any) -> Any:
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
        ends = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer) + 4, **{**sizes, **ends, **given})).eval()

    return make


@pytest.fixture(scope="module")
def bart(make_tokenizer: Callable[..., Any]) -> tuple[Any, Any]:
    """A tiny BART, whose texts are `<s>...</s>`, whose positions are absolute and whose answers are forced to begin with `<s>`."""
    from tokenizers.processors import TemplateProcessing
    from transformers import BartConfig, BartForConditionalGeneration

    made = make_tokenizer(None)
    ends = [(token, made.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>")]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A <|im_end|>", special_tokens=ends)
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    more = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "dropout": 0.0, "max_position_embeddings": 64, "init_std": 0.4}
    special = {"bos_token_id": ends[0][1], "eos_token_id": ends[1][1], "pad_token_id": made.pad_token_id}
    begin = {"decoder_start_token_id": ends[1][1], "forced_bos_token_id": ends[0][1], "forced_eos_token_id": None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BartConfig(vocab_size=len(made), **sizes, **more, **special, **begin)
        return BartForConditionalGeneration(config).eval(), made


def rows_of(tokenizer: Any, answers: tuple[str, ...] = ("It is so.", "red, green", "no", "a b c d e f", "x", "7")) -> list[Encoded]:
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)
    return [examples(encoder, form, talk(q, a))[0] for q, a in zip(QUESTIONS, answers, strict=True)]  # type: ignore[misc]


def talk(question: str, answer: str = "") -> Conversation:
    tail = (Message("assistant", answer),) if answer else ()
    return Conversation(f"{question}{answer}", (Message("user", question), *tail), Origin("rows.jsonl", 4))


# ---- format and rows -------------------------------------------------------------------------------


def test_source_and_target_are_what_t5s_tokenizer_writes(tokenizer: Any) -> None:
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)
    (row,) = examples(encoder, form, talk("List three colours.", "red, green"))
    source, target, labels = pairs.split(row)  # type: ignore[arg-type]
    assert source.tolist() == tokenizer("List three colours.")["input_ids"]
    assert target.tolist() == labels.tolist() == tokenizer(text_target="red, green")["input_ids"]
    assert tokenizer.bos_token is None
    assert target[-1] == source[-1] == tokenizer.eos_token_id
    assert encoder.ids(form.prompt(talk("List three colours."))) == source.tolist()


def test_earlier_turns_stand_in_the_source_and_each_answer_is_an_example(tokenizer: Any) -> None:
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)
    first, second = renderings(form, TALK)
    assert text(first) == "Be kind.\n\nOne?\n\na b</s>uno</s>"
    assert text(second) == "Be kind.\n\nUser: One?\n\na b\nAssistant: uno\nUser: Two </s>?</s>dos </s></s>"
    assert [s.special for s in second if s.text == "</s>"] == [True, True], "data never becomes the end"
    for row in examples(encoder, form, TALK):
        source, target, labels = pairs.split(row)  # type: ignore[arg-type]
        assert (labels == target).all()
        assert source.tolist().count(1) == target.tolist().count(1) == 1


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ((Message("user", "a"), Message("user", "b")), "message 2 is from 'user' where format text_to_text needs 'assistant'"),
        ((Message("user", "a", trained=True), Message("assistant", "b")), r"message 1 \(user\) is to be trained.*answers only"),
        ((Message("system", "a"),), "no user message"),
    ],
)
def test_what_text_to_text_refuses(tokenizer: Any, messages: Any, found: str) -> None:
    with pytest.raises(DataError, match=f"rows.jsonl:4: .*{found}"):
        TextToText().bind(tokenizer).render(Conversation("row", messages, Origin("rows.jsonl", 4)))


def test_auto_is_text_to_text_for_an_encoder_decoder(tokenizer: Any, make_tokenizer: Any, bart: Any) -> None:
    assert bind_for(Auto(), tokenizer, True).name == "text_to_text"
    assert bind_for(Auto(), make_tokenizer(), False).name == "jinja"
    with pytest.raises(RecipeError, match=r"format alpaca writes one text.*`format: text_to_text`"):
        bind_for(Alpaca(), tokenizer, True)
    with pytest.raises(RecipeError, match="format jinja writes one text"):
        bind_for(Jinja(), make_tokenizer(), True)
    assert text(bind_for(Auto(), bart[1], True).render(talk("q", "a"))) == "<|im_start|>q<|im_end|><|im_start|>a<|im_end|>"


def test_a_tokenizer_that_frames_texts_otherwise_is_refused(make_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    codes = make_tokenizer(None)
    ends = [("<|endoftext|>", 0), ("<|im_end|>", 2)]
    codes.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A <|im_end|>", special_tokens=ends)
    with pytest.raises(RecipeError, match=r"writes texts as '<\|endoftext\|>a<\|im_end\|>'"):
        bind_for(Auto(), codes, True)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_source_is_cut_as_tokenizers_cut(tokenizer: Any, side: str) -> None:
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)
    truncation: Any = "cut_start" if side == "left" else "cut_end"
    (row,) = examples(encoder, form, talk(QUESTIONS[2], "an answer"), Lengths(20, 50), truncation)
    source, target, _ = pairs.split(row)  # type: ignore[arg-type]
    tokenizer.truncation_side = side
    assert source.tolist() == tokenizer(QUESTIONS[2], truncation=True, max_length=20)["input_ids"]
    assert target.tolist() == tokenizer("an answer")["input_ids"]
    assert row.cut == len(tokenizer(QUESTIONS[2])["input_ids"]) - 20  # type: ignore[union-attr]
    tokenizer.truncation_side = "right"


def test_truncation_counts_the_target_and_never_cuts_it(tokenizer: Any) -> None:
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)

    def cut(limit: Lengths, truncation: Any = "cut_middle") -> Any:
        return examples(encoder, form, talk(QUESTIONS[2], "an answer"), limit, truncation)[0]

    middle = cut(Lengths(30, None))
    assert len(pairs.split(middle)[0]) == 30
    assert middle.ids[:8].tolist() == tokenizer(QUESTIONS[2])["input_ids"][:8]
    assert cut(Lengths(None, 5)) == Fate.drop(middle.id, "answer longer than 5 tokens")
    assert cut(Lengths(20, 50), "drop") == Fate.drop(middle.id, "source longer than 20 tokens")
    with pytest.raises(DataError, match=r"rows.jsonl:4: source \d+ tokens, more than the limit of 20"):
        cut(Lengths(20, 50), "refuse")
    with pytest.raises(DataError, match=r"rows.jsonl:4: the answer has \d+ tokens, more than the limit of 5"):
        cut(Lengths(None, 5), "refuse")


def test_decoders_rows_can_be_cut_from_a_side_too(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer()
    form, encoder = Auto().bind(tokenizer), Encoder.of(tokenizer)
    whole, start_cut, end_cut = (
        examples(encoder, form, talk("word " * 60 + "?", "an answer"), *more)[0] for more in ((), (150, "cut_start"), (150, "cut_end"))
    )
    for row in (start_cut, end_cut):
        assert len(row.ids) == 150  # type: ignore[union-attr]
        assert row.labels[row.labels != IGNORED].tolist() == whole.labels[whole.labels != IGNORED].tolist()  # type: ignore[union-attr]
    assert tokenizer.decode(end_cut.ids).count("You are a small model") == 1  # type: ignore[union-attr]


# ---- loss ------------------------------------------------------------------------------------------


def number(tensor: Any) -> float:
    return float(tensor.detach())


def own_loss(model: Any, rows: list[Encoded]) -> Any:
    """transformers' own: mean over the batch's labels, padded with -100."""
    parts = [pairs.split(row) for row in rows]
    sources, mask = (torch.from_numpy(part) for part in pairs.filled([source for source, _, _ in parts]))
    width = max(len(labels) for _, _, labels in parts)
    labels = torch.full((len(rows), width), IGNORED)
    for place, (_, _, own) in enumerate(parts):
        labels[place, : len(own)] = torch.from_numpy(own.astype(np.int64))
    return model(input_ids=sources, attention_mask=mask, labels=labels).loss


@pytest.mark.parametrize("kind", ["t5", "gated", "bart"])
def test_the_loss_is_transformers_own_by_row_and_by_batch(tiny: Any, tokenizer: Any, bart: Any, kind: str) -> None:
    gated: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if kind == "gated" else {}
    model, words = bart if kind == "bart" else (tiny(**gated), tokenizer)
    rows = rows_of(words)
    begin = pairs.start_id(model)
    for row in rows:
        one = pairs.batch([row], [0], begin)
        assert number(losses.loss_of(model, one)) / one.counted == pytest.approx(number(own_loss(model, [row])), abs=1e-6, rel=1e-6)
    model.zero_grad()
    expected = own_loss(model, rows)
    expected.backward()
    theirs = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for most in (1, 40, 10_000):
        model.zero_grad()
        passes = losses.passes(model, rows, most, documents=False, share=False)
        counted = sum(one.counted for one in passes)
        total = sum(losses.loss_of(model, one) / counted for one in passes)
        total.backward()  # type: ignore[union-attr]
        assert number(total) == pytest.approx(number(expected), abs=1e-6, rel=1e-6)
        for name, gradient in theirs.items():
            torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, atol=2e-6, rtol=2e-4)


def test_batches_hold_every_target_once_and_are_no_larger_than_asked(tokenizer: Any) -> None:
    rows = rows_of(tokenizer) * 5
    for most in (1, 60, 200, 5000):
        made = pairs.batches(rows, most, 0)
        found = sorted((int(r), int(t)) for one in made for r, t in zip(one.rows, one.targets, strict=True))
        assert found == sorted((i, int(t)) for i, row in enumerate(rows) for t in row.labels[row.labels != IGNORED])
        assert all(one.sources.size + one.inputs.size <= most for one in made if len(one.sources) > 1)
    real = sum(len(row.ids) for row in rows)
    assert sum(one.sources.size + one.inputs.size for one in pairs.batches(rows, 5000, 0)) < 1.4 * real
    assert len(pairs.batches(rows, 200, 0)) < 20


def test_weights_count_and_rows_without_an_answer_are_left_out(tiny: Any, tokenizer: Any) -> None:
    from dataclasses import replace

    model, rows = tiny(), rows_of(tokenizer)[:2]
    heavy = [replace(rows[0], weight=3.0), rows[1], Encoded("none", np.ones(4, np.int32), np.full(4, IGNORED, np.int32))]
    assert {int(row) for one in pairs.batches(heavy, 5000, 0) for row in one.rows} == {0, 1}
    one = pairs.batch(heavy, [0, 1], 0)
    first, second = (number(losses.loss_of(model, pairs.batch(rows, [i], 0))) for i in range(2))
    assert number(losses.loss_of(model, one)) == pytest.approx(3 * first + second, rel=1e-6)
    assert one.counted == 3 * (len(rows[0].labels[rows[0].labels != IGNORED])) + len(rows[1].labels[rows[1].labels != IGNORED])


def test_rows_are_never_packed_and_say_so(tiny: Any, tokenizer: Any) -> None:
    catalog.NOTES.clear()
    assert not losses.packable(tiny(), rows_of(tokenizer), share=True)
    assert any("padded in batches and not packed" in note for note in catalog.NOTES)


def test_a_model_without_a_start_token_is_refused(tiny: Any) -> None:
    model = tiny(decoder_start_token_id=None)
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(RecipeError, match="no decoder_start_token_id"):
        pairs.start_id(model)


def test_noise_is_on_the_source_alone_and_sized_by_its_own_length(tiny: Any, tokenizer: Any) -> None:
    model, rows = tiny(), rows_of(tokenizer)
    one = pairs.batch(rows, range(len(rows)), 0)
    largest = noise.sizes(one, [len(row.ids) for row in rows], 5.0, 32)
    lengths = one.mask.sum(1)
    assert np.allclose(largest, 5.0 / np.sqrt(lengths[:, None] * 32) * one.mask)
    plain = attention.target_logits(model, one)
    with noise.enable(model, one, [], 5.0, noise.generator(0, 0, torch.device("cpu"))):
        noisy = attention.target_logits(model, one)
    assert not torch.equal(plain, noisy)
    assert torch.equal(plain, attention.target_logits(model, one))


# ---- answers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locals_(tiny: Any, tokenizer: Any, bart: Any) -> dict[str, Local]:
    model = tiny(tie_word_embeddings=False)
    for block in model.decoder.block:  # so that answers depend on their sources
        block.layer[1].EncDecAttention.o.weight.data.mul_(8)
        block.layer[1].EncDecAttention.q.weight.data.mul_(4)
    return {"t5": Local(model, tokenizer, TextToText().bind(tokenizer)), "bart": Local(*bart, TextToText().bind(bart[1]))}


def generated(local: Local, question: str, **options: Any) -> list[str]:
    """Answers by transformers' generate, this row alone."""
    from transformers import GenerationConfig

    ids = torch.tensor([local.encoder.ids(local.form.prompt(talk(question)))])
    begin = {"decoder_start_token_id": pairs.start_id(local.model), "forced_bos_token_id": sequences.forced_first(local.model)}
    config = GenerationConfig(pad_token_id=local.tokenizer.pad_token_id, eos_token_id=sorted(local.stops()), **begin, **options)
    before, local.model.generation_config = local.model.generation_config, GenerationConfig()
    try:
        found = local.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    finally:
        local.model.generation_config = before
    return [local.encoder.text(one.tolist()) for one in found]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_greedy_answers_are_those_of_generate(locals_: Any, kind: str) -> None:
    local = locals_[kind]
    for options in ({}, {"repetition_penalty": 1.4}):
        answers = local.complete([talk(q) for q in QUESTIONS], Sampling(max_new_tokens=12, **options))
        assert [a[0].text for a in answers] == [generated(local, q, max_new_tokens=12, **options)[0] for q in QUESTIONS]
    assert len({a[0].text for a in answers}) > 2


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_beams_are_those_of_generate(locals_: Any, kind: str) -> None:
    local = locals_[kind]
    answers = local.complete([talk(q) for q in QUESTIONS[:3]], Sampling(max_new_tokens=8, num_beams=3, n=2))
    for question, found in zip(QUESTIONS, answers, strict=False):
        assert [a.text for a in found] == generated(local, question, max_new_tokens=8, num_beams=3, num_return_sequences=2)


@pytest.mark.parametrize(("kind", "temperature"), [("t5", 0.0), ("t5", 4.0), ("bart", 0.0)])
def test_batching_never_changes_an_answer(locals_: Any, kind: str, temperature: float) -> None:
    local = locals_[kind]
    sampling = Sampling(max_new_tokens=8, temperature=temperature, n=2, seed=4, top_p=0.9, stop=tuple("aeiou357AEIOU"))
    asked = [talk(q) for q in [*QUESTIONS, *QUESTIONS[:2]]]
    together = local.complete(asked, sampling)
    alone = [Local(local.model, local.tokenizer, local.form, batch_rows=1).complete([one], sampling)[0] for one in asked]
    assert together == alone
    assert together[0] == together[6], "the same question has the same stream"
    assert (len({a.text for a in together[0]}) > 1) == (temperature > 0)
    assert len({a[0].tokens for a in together}) > 1, "answers end at different times, so rows leave"


def test_a_decoder_deeper_than_its_encoder(tiny: Any, tokenizer: Any) -> None:
    """Which transformers' generate (5.23) cannot do: it makes its cache by the encoder's depth."""
    local = Local(tiny(num_layers=1, num_decoder_layers=3), tokenizer, TextToText().bind(tokenizer))
    for question, (answer,) in zip(QUESTIONS, local.complete([talk(q) for q in QUESTIONS], Sampling(max_new_tokens=6)), strict=True):
        ids, written = torch.tensor([tokenizer(question)["input_ids"]]), [0]
        with torch.no_grad():
            while len(written) <= 6 and written[-1] != 1:
                written.append(int(local.model(input_ids=ids, decoder_input_ids=torch.tensor([written])).logits[0, -1].argmax()))
        assert answer.text == local.encoder.text([i for i in written if i != 1])


def test_each_different_source_is_encoded_once(locals_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    local, read = locals_["t5"], []
    encoder = local.model.get_encoder()
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda *a, **k: (read.append(len(k["input_ids"])), forward(*a, **k))[1])
    local.complete([talk(q) for q in QUESTIONS], Sampling(max_new_tokens=9, temperature=1.0, n=4))
    assert sum(read) == len(QUESTIONS)


def test_a_stop_text_ends_an_answer(locals_: Any) -> None:
    local = locals_["t5"]
    (whole,) = local.complete([talk("Why?")], Sampling(max_new_tokens=30, temperature=1.5, seed=2))
    stop = whole[0].text[4]
    (cut,) = local.complete([talk("Why?")], Sampling(max_new_tokens=30, temperature=1.5, seed=2, stop=(stop,)))
    assert cut[0].text == whole[0].text[: whole[0].text.index(stop)]
    assert cut[0].finish == "stop"


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_log_probabilities_and_choices_are_the_models_own(locals_: Any, kind: str) -> None:
    local = locals_[kind]
    asked = [talk(q, a) for q, a in zip(QUESTIONS, ("so", "red, green", "no", "abc", "x", "7 8"), strict=True)]
    for one, found in zip(asked, local.logprobs(asked), strict=True):
        (row,) = examples(local.encoder, local.form, one)
        own = own_loss(local.model, [row])  # type: ignore[list-item]
        assert float(found.mean()) == pytest.approx(-number(own), abs=1e-5)
    choices = ["yes", "no", "it depends"]
    for question, (best, sums) in zip(QUESTIONS, local.choose([talk(q) for q in QUESTIONS], choices), strict=True):
        single = [float(p.sum()) for p in local.logprobs([talk(question, choice) for choice in choices])]
        assert sums.tolist() == pytest.approx(single, abs=1e-4)
        assert best == int(np.argmax(single))


def test_absolute_positions_have_an_end(locals_: Any) -> None:
    with pytest.raises(DataError, match=r"the source has \d+ tokens.*at most 64 each"):
        locals_["bart"].complete([talk("word " * 80)], Sampling(max_new_tokens=4))
    assert locals_["t5"].context() is None


# ---- learning --------------------------------------------------------------------------------------


def words(letters: str, count: int) -> list[str]:
    """Different strings of two to four of the letters, in a fixed order."""
    drawn, found = random.Random(0), dict[str, None]()
    while len(found) < count:
        found["".join(drawn.choice(letters) for _ in range(drawn.randint(2, 4)))] = None
    return list(found)


def tasks(word: str) -> list[Conversation]:
    """Copy the word; write it in capitals."""
    return [talk(f"copy {word}", word), talk(f"upper {word}", word.upper())]


def tune_on(model: Any, tokenizer: Any, folder: Path, chosen: list[str], tune: Tune) -> Any:
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)
    rows = [examples(encoder, form, one)[0] for word in chosen for one in tasks(word)]
    return training.train(model, rows, tune, folder, validation=rows[:8], seed=1)  # type: ignore[arg-type]


def test_the_loss_falls_and_a_resumed_run_ends_with_the_same_bits(tiny: Any, tokenizer: Any, tmp_path: Path) -> None:
    tune = Tune(
        method=Full(), learning_rate=1e-2, max_steps=12, epochs=20, rows_per_step=12, save_every=6, keep_last=2, evaluate_every="never"
    )
    model, trained = tune_on(tiny(), tokenizer, tmp_path / "a", words("ab", 12), tune)
    lines = [row for row in journal.read(tmp_path / "a" / "metrics.jsonl") if "loss" in row]
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert not trained.packed
    tune_on(tiny(), tokenizer, tmp_path / "b", words("ab", 12), tune)
    assert (tmp_path / "b" / "checkpoints" / "step-000006").is_dir()
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-000012")
    again, _ = tune_on(tiny(), tokenizer, tmp_path / "b", words("ab", 12), tune)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_dropout_is_set_where_t5_keeps_it(tiny: Any) -> None:
    model = tiny(dropout_rate=0.1)
    assert losses.drops(model)
    losses.set_dropout(model, 0.0)
    assert not losses.drops(model)
    assert model.config.dropout_rate == 0.0


@pytest.mark.slow
def test_a_small_t5_learns_to_copy_and_to_write_capitals(tokenizer: Any, tiny: Any, tmp_path: Path) -> None:
    """From random weights; what it is asked was in no training row. Chance is below one in a hundred."""
    chosen = words("abcdef", 464)
    model = tiny(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2)
    tune = Tune(method=Full(), learning_rate=6e-3, epochs=20, rows_per_step=64, pack_tokens=8192, warmup=0.05, evaluate_every="never")
    model, _ = tune_on(model, tokenizer, tmp_path, chosen[64:], tune)
    asked = [one for word in chosen[:64] for one in tasks(word)]
    answers = Local(model, tokenizer, TextToText().bind(tokenizer)).complete(asked, Sampling(max_new_tokens=8))
    right = sum(answer[0].text == one.answer() for answer, one in zip(answers, asked, strict=True))
    assert right > 0.5 * len(asked), f"{right} of {len(asked)}"


# ---- a whole run -----------------------------------------------------------------------------------

SHIPPED = Path(str(files("etude"))) / "recipes" / "summarize_t5.yaml"
ROWS = [
    {
        "dialogue": f"#Person1#: We have {n} apples left. #Person2#: Then I buy {n + 1} more.",
        "summary": f"#Person2# buys {n + 1} apples.",
    }
    for n in range(30)
]


@pytest.fixture(scope="module")
def folder(tiny: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as transformers saves a T5."""
    path = tmp_path_factory.mktemp("tiny-t5")
    tiny().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def run(folder: Path, where: Path, *more: str) -> tuple[Any, Path]:
    """The shipped recipe, shrunk, on rows of the kind it is for."""
    journal.write_rows(where / "rows.jsonl", ROWS)
    small = ["split.validation=4", "split.test=5", "tune.max_steps=2", "score.0.limit=3", "score.0.sampling.max_new_tokens=5"]
    chosen = recipe.load(SHIPPED, [f"model={folder}", f"sources.dialogues.path={where / 'rows.jsonl'}", *small, *more])
    return pipeline.run(chosen, where / "run", SHIPPED.read_text()), where / "run"


def test_the_shipped_recipe_runs_and_its_model_loads_with_plain_transformers(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    found, made = run(folder, tmp_path)
    assert set(found.tasks) == {"dialogues"}
    rows = encoded.load(next(made.rglob("train.npz"))).rows
    assert {tokenizer.decode(pairs.split(row)[1]) for row in rows} <= {f"{row['summary']}</s>" for row in ROWS}
    saved = AutoModelForSeq2SeqLM.from_pretrained(made / "model", local_files_only=True).eval()
    words = AutoTokenizer.from_pretrained(made / "model", local_files_only=True)
    asked = next(iter(journal.read(made / "predictions" / "dialogues.tuned.jsonl")))
    assert asked["outputs"]
    model, again = weights.load(made / "model")
    assert type(model) is type(saved)
    question = words("copy ab", return_tensors="pt")
    with torch.no_grad():
        own = saved.generate(**question, max_new_tokens=5, do_sample=False)[0].tolist()
    (ours,) = Local(model, again, TextToText().bind(again)).complete([talk("copy ab")], Sampling(max_new_tokens=5))
    assert ours[0].text == words.decode(own, skip_special_tokens=True)


def test_lora_runs_the_same_recipe_and_loads_with_plain_peft(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSeq2SeqLM

    lora = "tune.method={type: lora, r: 2, target_modules: [q, v]}"
    _, made = run(folder, tmp_path, lora, "tune.learning_rate=1e-2", "tune.optimizer=adamw")
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True)
    loaded = PeftModel.from_pretrained(plain, str(made / "model"))
    assert loaded.peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in loaded.named_parameters() if "lora_" in name} == {"q", "v"}
    model, words = weights.load(folder)
    tuned = Lora(r=2, target_modules=("q", "v")).load(model, made / "model")
    with torch.no_grad():
        ids = {"input_ids": torch.tensor([[5, 6, 1]]), "decoder_input_ids": torch.tensor([[0, 7]])}
        assert torch.equal(loaded.eval()(**ids).logits, tuned.eval()(**ids).logits)
    local = Local(tuned, words, TextToText().bind(words))
    assert local.complete([talk("copy ab")], Sampling(max_new_tokens=4))[0][0].tokens
    assert np.isfinite(local.logprobs([talk("copy ab", "ab")])[0]).all()


def test_preview_shows_source_and_target_and_checks_the_mask(folder: Path, tmp_path: Path) -> None:
    journal.write_rows(tmp_path / "rows.jsonl", ROWS)
    limits = ["split.validation=4", "split.test=5", "tune.max_tokens=40", "tune.truncation=cut_end"]
    chosen = recipe.load(SHIPPED, [f"model={folder}", f"sources.dialogues.path={tmp_path / 'rows.jsonl'}", *limits])
    found = pipeline.shown(chosen, 1)
    assert found.failures == []
    shown = previewing.as_text(found)
    assert "format text_to_text; an answer ends with </s>" in shown
    source, target = shown.split("  -- source, 40 tokens\n")[1].split("\nids ")[0].split("  -- target, ")
    assert "⟨cut: " in source
    assert "⟦" not in source
    assert target.split("\n", 1)[1].startswith("⟦")
    assert target.rstrip().endswith("</s>⟧")
    with pytest.raises(RecipeError, match="format alpaca writes one text"):
        pipeline.shown(chosen.model_copy(update={"format": Alpaca()}), 1)
