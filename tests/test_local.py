"""The local model against transformers' own `generate`, and against one row at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from etude.encoding import examples
from etude.failures import DataError, NonFinite, RecipeError
from etude.formats.alpaca import Alpaca
from etude.formats.jinja import Auto
from etude.models import Answer, Sampling, caches, decoding, reading
from etude.models.local import Local
from etude.records import IGNORED, Conversation, Message

NAMES = ("llama", "qwen2", "gpt2", "opt")
QUESTIONS = (
    "Why is the sky blue?",
    "List three colours.",
    "Write a response that completes the request, and explain why the outlook is neutral.",
    "def total(values):",
    "a",
    "Profit rose 12 percent in the third quarter; is that positive or negative for the reader of this system?",
)


def rows(texts: Sequence[str] = QUESTIONS, answer: str = "") -> list[Conversation]:
    tail = (Message("assistant", answer),) if answer else ()
    return [Conversation(f"row{i}", (Message("user", text), *tail)) for i, text in enumerate(texts)]


@pytest.fixture
def local(tiny: Callable[..., Any], tokenizer: Any) -> Callable[..., Local]:
    """A factory of Local over a tiny model whose weights are spread enough to make answers differ."""

    def make(name: str = "llama", scale: float = 6.0, seed: int = 0, form: Any = None, **bounds: int) -> Local:
        model = tiny(name, seed=seed)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(scale)
        return Local(model, tokenizer, (form or Auto()).bind(tokenizer), **bounds)

    return make


def generated(local: Local, conversation: Conversation, **options: Any) -> list[int]:
    """New ids by transformers' generate, this row alone."""
    from transformers import GenerationConfig

    ids = torch.tensor([local.encoder.ids(local.form.prompt(conversation))])
    stops = sorted(local.stops())
    config = GenerationConfig(pad_token_id=local.tokenizer.pad_token_id, eos_token_id=stops, **{"do_sample": False, **options})
    local.model.generation_config = GenerationConfig()
    out = local.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)[0, ids.shape[1] :].tolist()
    end = next((i for i, token in enumerate(out) if token in stops), None)
    return out if end is None else out[: end + 1]


def text_of(local: Local, ids: Sequence[int]) -> str:
    return local.encoder.text([i for i in ids if i not in local.stops()])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_answers_are_those_of_generate_row_by_row(local: Callable[..., Local], name: str, penalty: float) -> None:
    model = local(name, batch_rows=4)
    found = model.complete(rows(), Sampling(max_new_tokens=24, repetition_penalty=penalty))
    expected = [generated(model, row, max_new_tokens=24, repetition_penalty=penalty) for row in rows()]
    clear = [i for i, (a,) in enumerate(found) if a.near_ties == 0]
    assert len(clear) >= 5
    assert [found[i][0].text for i in clear] == [text_of(model, expected[i]) for i in clear]
    assert [found[i][0].tokens for i in clear] == [len(expected[i]) for i in clear]
    assert len({a.text for (a,) in found}) > 2  # the models do answer different things


@pytest.mark.parametrize("name", NAMES)
def test_beam_answers_are_those_of_generate(local: Callable[..., Local], name: str) -> None:
    model = local(name)
    for early in (False, True):
        found = model.complete(rows(), Sampling(max_new_tokens=12, num_beams=3, early_stopping=early, repetition_penalty=1.1))
        for (answer,), row in zip(found, rows(), strict=True):
            ids = generated(model, row, max_new_tokens=12, num_beams=3, early_stopping=early, repetition_penalty=1.1)
            assert answer.text == text_of(model, ids)


def test_the_models_own_generation_config_changes_nothing(local: Callable[..., Local]) -> None:
    from transformers import GenerationConfig

    model = local()
    greedy, search = Sampling(max_new_tokens=10), Sampling(max_new_tokens=10, num_beams=2)
    plain = [model.complete(rows(), one) for one in (greedy, search)]
    own = GenerationConfig(repetition_penalty=3.0, no_repeat_ngram_size=2, min_new_tokens=9, length_penalty=5.0)
    model.model.generation_config = own
    assert [model.complete(rows(), one) for one in (greedy, search)] == plain
    assert model.model.generation_config is own


def test_n_beam_answers_are_the_best_beams(local: Callable[..., Local]) -> None:
    model = local()
    one, three = (model.complete(rows(), Sampling(max_new_tokens=8, num_beams=4, n=n)) for n in (1, 3))
    assert [answers[0] for answers in three] == [answers[0] for answers in one]
    assert len(three[0]) == 3
    assert len({a.text for a in three[0]}) > 1
    with pytest.raises(RecipeError, match="n=3 answers need at least as many beams; num_beams is 2"):
        model.complete(rows(), Sampling(num_beams=2, n=3))


def test_processed_scores_are_those_of_generate(local: Callable[..., Local]) -> None:
    """The distribution that is sampled from: transformers' `scores`, fed with transformers' draws."""
    from transformers import GenerationConfig

    model = local()
    sampling = Sampling(max_new_tokens=8, temperature=0.7, top_k=40, top_p=0.8, repetition_penalty=1.2, seed=3)
    prompt = model.encoder.ids(model.form.prompt(rows()[2]))
    ids = torch.tensor([prompt])
    torch.manual_seed(1)
    config = GenerationConfig(max_new_tokens=8, do_sample=True, temperature=0.7, top_k=40, top_p=0.8, repetition_penalty=1.2)
    config.update(return_dict_in_generate=True, output_scores=True, pad_token_id=0)
    model.model.generation_config = GenerationConfig()
    out = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    drawn = out.sequences[0, len(prompt) :].tolist()
    # beside a longer and an equal prompt, so that padding and sharing take part
    others = [model.encoder.ids(model.form.prompt(rows()[5])), prompt]
    chain = decoding.processors(sampling)
    with decoding.still(model.model):
        batch = decoding.start(model.model, range(3), [prompt, *others], lambda index: None, sampling)
        for step, (token, expected) in enumerate(zip(drawn, out.scores, strict=True)):
            if batch.logits is None:
                decoding.read_last(model.model, batch)
            scores = chain(batch.history, batch.logits)
            for place in (0, 2):
                assert torch.equal(scores[place].isinf(), expected[0].isinf()), step
                torch.testing.assert_close(scores[place], expected[0], atol=1e-4, rtol=1e-4)
            batch.last, batch.logits = torch.full((3,), token), None
            batch.history = torch.cat([batch.history, batch.last[:, None]], 1)


def test_draws_follow_the_distribution() -> None:
    scores = torch.tensor([[0.0, -float("inf"), 1.0, 2.0]])
    uniforms = (np.arange(20000) + 0.5) / 20000
    tokens = decoding.draw(scores.expand(20000, -1), uniforms.tolist())
    shares = torch.bincount(tokens, minlength=4) / 20000
    torch.testing.assert_close(shares, scores.softmax(-1)[0], atol=1e-4, rtol=0)
    assert decoding.draw(scores, [0.0]).item() == 0
    assert decoding.draw(scores, [1 - 2**-53]).item() == 3


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sampled_answers_do_not_depend_on_batching_order_or_company(local: Callable[..., Local], name: str) -> None:
    sampling = Sampling(max_new_tokens=10, temperature=1.0, top_p=0.95, n=3, seed=5)
    together = local(name).complete(rows(), sampling)
    assert local(name, batch_rows=2).complete(rows(), sampling) == together
    assert local(name, batch_tokens=1).complete(rows()[::-1], sampling)[::-1] == together
    assert local(name).complete(rows()[3:4], sampling) == together[3:4]
    assert len({a.text for a in together[0]}) == 3
    assert local(name).complete(rows(), sampling.model_copy(update={"seed": 6})) != together
    first = local(name).complete(rows(), sampling.model_copy(update={"n": 1}))
    assert [answers[0] for answers in together] == [answers[0] for answers in first]


def test_sampled_beams_do_not_depend_on_batching_and_leave_torchs_numbers_alone(local: Callable[..., Local]) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=1.0, num_beams=2, seed=5)
    before = torch.get_rng_state()
    together = local().complete(rows(), sampling)
    assert local().complete(rows()[2:3], sampling) == together[2:3]
    assert torch.equal(torch.get_rng_state(), before)


def test_greedy_copies_and_repeated_prompts(local: Callable[..., Local]) -> None:
    model = local()
    alone = model.complete(rows(QUESTIONS[:2]), Sampling(max_new_tokens=12))
    found = model.complete(rows((QUESTIONS[0], QUESTIONS[1], QUESTIONS[0])), Sampling(max_new_tokens=12, n=2))
    assert found == [alone[0] * 2, alone[1] * 2, alone[0] * 2]


def test_near_ties_are_counted(local: Callable[..., Local]) -> None:
    model = local(scale=1.0)
    with torch.no_grad():
        head = model.model.get_output_embeddings().weight
        head[:] = head[5].clone()  # every token is as likely as every other
    (answer,) = model.complete(rows()[:1], Sampling(max_new_tokens=7))[0]
    assert (answer.near_ties, answer.tokens) == (answer.tokens, answer.tokens)
    (sampled,) = model.complete(rows()[:1], Sampling(max_new_tokens=7, temperature=1.0))[0]
    assert sampled.near_ties == 0


def test_rows_that_finish_early_leave_without_disturbing_the_others(local: Callable[..., Local]) -> None:
    from transformers import GenerationConfig

    model = local()
    model.model.generation_config = GenerationConfig(eos_token_id=list(range(0, 300, 3)))  # answers of many lengths
    asked = rows([text[:size] for text in QUESTIONS for size in (9, 12, 15)])
    for penalty in (1.0, 1.4):
        sampling = Sampling(max_new_tokens=30, repetition_penalty=penalty)
        found = model.complete(asked, sampling)
        assert found == [model.complete([row], sampling)[0] for row in asked]
        assert len({a.tokens for (a,) in found}) > 4
    with torch.no_grad():
        head = model.model.get_output_embeddings().weight
        head[1::2] = head[::2].clone()  # every token has a twin, so every step is a near tie, but none after the end
    assert all(a.near_ties == a.tokens for (a,) in model.complete(asked, Sampling(max_new_tokens=30)))


def forced(local: Local, text: str) -> None:
    """Make the model say `text` and its end of turn, then repeat: a table from token to next token in
    place of the layers' work."""
    ids = [*local.encoder.tokenizer.encode(text, add_special_tokens=False), local.tokenizer.eos_token_id]
    assert len(set(ids)) == len(ids), "every token of the text may stand only once"
    size = local.model.config.vocab_size
    table = torch.zeros(size, size)
    for before, after in zip([None, *ids], [*ids, ids[0]], strict=True):
        table[slice(None) if before is None else before] = torch.nn.functional.one_hot(torch.tensor(after), size).float()
    plain = local.model.forward

    def forward(input_ids: torch.Tensor, logits_to_keep: int = 0, **given: Any) -> Any:
        out = plain(input_ids=input_ids, logits_to_keep=logits_to_keep, **given)
        out.logits = table[input_ids][:, -logits_to_keep:] if logits_to_keep else table[input_ids]
        return out

    local.model.forward = forward


def test_stops_end_answers(local: Callable[..., Local]) -> None:
    model = local()
    forced(model, "Paris gold")

    def ask(**options: Any) -> Answer:
        (answer,) = model.complete(rows()[:1], Sampling(**{"max_new_tokens": 40, **options}))[0]
        return answer

    whole = ask()
    assert (whole.text, whole.finish) == ("Paris gold", "stop")
    assert ask(max_new_tokens=whole.tokens).finish == "stop"
    short = ask(max_new_tokens=whole.tokens - 1)
    assert (short.text, short.finish, short.tokens) == ("Paris gold", "length", whole.tokens - 1)
    for stop, expected in ((("is g",), "Par"), (("zzz", " gold", "d"), "Paris"), (("Par",), ""), (("",), "Paris gold")):
        cut = ask(stop=stop)
        assert (cut.text, cut.finish) == (expected, "stop"), stop
    assert ask(stop=("is",)).tokens < whole.tokens  # decoding ends with the stop text


def test_stop_texts_end_beams(local: Callable[..., Local]) -> None:
    model = local()
    (plain,) = model.complete(rows()[:1], Sampling(max_new_tokens=12, num_beams=2))[0]
    stop = plain.text[3:5]
    (answer,) = model.complete(rows()[:1], Sampling(max_new_tokens=12, num_beams=2, stop=(stop,)))[0]
    assert stop not in answer.text


def test_ends_of_turn_come_from_format_tokenizer_and_model(
    local: Callable[..., Local], tiny: Callable[..., Any], tokenizer: Any, make_tokenizer: Callable[..., Any]
) -> None:
    from transformers import GenerationConfig

    apart = make_tokenizer(eos_token="<|endoftext|>")
    model = Local(tiny(), apart, Auto().bind(apart))
    model.model.generation_config = GenerationConfig(eos_token_id=[7, 9])
    assert model.stops() == {7, 9, *apart.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])}
    other = local(form=Alpaca())
    other.model.generation_config = GenerationConfig(eos_token_id=8)
    assert other.stops() == {8, tokenizer.eos_token_id}


def test_rows_are_given_out_as_they_finish_and_bounds_are_kept(local: Callable[..., Local], monkeypatch: pytest.MonkeyPatch) -> None:
    model = local(batch_rows=4, batch_tokens=250)
    sizes: list[tuple[int, int]] = []
    plain = decoding.read_last

    def watched(seen: Any, batch: decoding.Batch) -> None:
        plain(seen, batch)
        sizes.append((len(batch.rows), batch.width))

    monkeypatch.setattr(decoding, "read_last", watched)
    told: list[int] = []
    model.complete(rows(), Sampling(max_new_tokens=20), told.append)
    assert told == [1] * len(QUESTIONS)
    assert all(count <= 4 and (count == 1 or count * width <= decoding.DEAD * 250) for count, width in sizes)
    seen = []
    for index, _ in model.complete_each(rows(), Sampling(max_new_tokens=20)):
        seen.append(index)
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()  # between two answers the caller's world is as it was
    assert sorted(seen) == list(range(len(QUESTIONS)))


def test_a_row_that_is_too_long_is_named_before_anything_is_computed(local: Callable[..., Local]) -> None:
    model = local()
    long = [*rows(), Conversation("toolong", (Message("user", "word " * 400),))]
    size = len(model.encoder.ids(model.form.prompt(long[-1])))
    with pytest.raises(
        DataError, match=rf"row \(toolong\): the prompt has {size} tokens, and with 20 new ones exceeds the model's context of 512"
    ):
        next(model.complete_each(long, Sampling(max_new_tokens=20)))
    with pytest.raises(DataError, match=r"toolong: \d+ tokens, more than the limit of 512"):
        model.logprobs([replace(long[-1], messages=(*long[-1].messages, Message("assistant", "x")))])


def test_broken_weights_are_not_answers(local: Callable[..., Local]) -> None:
    model = local()
    with torch.no_grad():
        model.model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(NonFinite, match="not a number"):
        model.complete(rows()[:1], Sampling(max_new_tokens=3))


@pytest.mark.parametrize(
    "sampling", [Sampling(max_new_tokens=6), Sampling(max_new_tokens=6, temperature=1.0), Sampling(max_new_tokens=6, num_beams=2)]
)
def test_a_model_in_training_is_left_as_it_was(local: Callable[..., Local], tiny: Callable[..., Any], sampling: Sampling) -> None:
    calm = local()
    expected = calm.complete(rows(), sampling), calm.choose(rows(), ["a", "bc"]), calm.logprobs(rows(answer="yes"))
    model = local()
    model.model.config.attention_dropout = 0.5
    model.model.train()
    model.model.model.layers[1].eval()  # a part that its owner froze
    for layer in model.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    for weight in model.model.parameters():
        weight.grad = torch.ones_like(weight)
    modes = [module.training for module in model.model.modules()]
    numbers = torch.get_rng_state()
    found = model.complete(rows(), sampling), model.choose(rows(), ["a", "bc"]), model.logprobs(rows(answer="yes"))
    assert found[0] == expected[0]
    np.testing.assert_allclose(np.concatenate(found[2]), np.concatenate(expected[2]), atol=1e-6)
    assert [module.training for module in model.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(bool((weight.grad == 1).all()) for weight in model.model.parameters())
    model.model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()  # training goes on
    # dropped half-way, as by an error or Ctrl-C in the caller, the modes are back as well
    answers = model.complete_each(rows(), sampling)
    next(answers)
    answers.close()
    assert [module.training for module in model.model.modules()] == modes


def test_an_interrupt_passes_through_and_modes_come_back(local: Callable[..., Local]) -> None:
    model = local()
    model.model.train()
    calls = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    hook = model.model.model.layers[0].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.complete(rows(), Sampling(max_new_tokens=6))
    hook.remove()
    assert model.model.training
    assert torch.is_grad_enabled()


def naive(local: Local, conversation: Conversation) -> np.ndarray:
    """Log-probabilities of the trained tokens, one row in one plain pass."""
    found = []
    for row in examples(local.encoder, local.form, conversation):
        ids = torch.from_numpy(row.ids.astype(np.int64))[None]
        with torch.no_grad():
            values = local.model(input_ids=ids).logits[0].float().log_softmax(-1)
        trained = np.flatnonzero(row.labels != IGNORED)
        found.append(values[trained - 1, row.labels[trained]].numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_those_of_one_row_at_a_time(local: Callable[..., Local], name: str) -> None:
    model = local(name, scale=3.0)
    asked = [*rows(answer="The outlook is neutral."), *rows(QUESTIONS[:1], answer="b")]
    asked.append(Conversation("two", (Message("user", "a"), Message("assistant", "b c"), Message("user", "d"), Message("assistant", "e"))))
    told: list[int] = []
    found = model.logprobs(asked, told.append)
    assert (len(found), sum(told)) == (len(asked), len(asked))
    for values, row in zip(found, asked, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, naive(model, row), atol=1e-5)
    assert model.honours_documents()


@pytest.mark.parametrize("name", NAMES)
def test_the_chosen_answer_is_the_likeliest(local: Callable[..., Local], name: str) -> None:
    model = local(name, scale=3.0)
    choices = ["positive", "neutral", "a", "negative or not"]
    told: list[int] = []
    found = model.choose(rows(answer="positive"), choices, told.append)
    assert len(told) == len(QUESTIONS)
    for (best, values), row in zip(found, rows(), strict=True):
        expected = [naive(model, replace(row, messages=(*row.messages, Message("assistant", c)))).sum() for c in choices]
        np.testing.assert_allclose(values, expected, atol=1e-4)
        assert best == int(np.argmax(expected))
    with pytest.raises(RecipeError, match="nothing to choose from"):
        model.choose(rows(), [])


def test_a_model_without_document_attention_is_scored_one_document_at_a_time(
    local: Callable[..., Local], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = local(scale=3.0)
    packed = model.logprobs(rows(answer="red, green")), model.choose(rows(), ["a", "b c"])
    calls = []
    from etude import attention

    def refuse(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise ValueError("not honoured")

    monkeypatch.setattr(attention, "attend", refuse)
    other = local(scale=3.0)
    alone = other.logprobs(rows(answer="red, green")), other.choose(rows(), ["a", "b c"])
    assert (calls, other.honours_documents()) == ([1], False)
    np.testing.assert_allclose(np.concatenate(alone[0]), np.concatenate(packed[0]), atol=1e-5)
    assert [best for best, _ in alone[1]] == [best for best, _ in packed[1]]


def test_a_folder_answers_as_the_model_in_it(model_folder: Callable[..., Any], tokenizer: Any, tiny: Callable[..., Any]) -> None:
    expected = Local(tiny(), tokenizer, Auto().bind(tokenizer)).complete(rows(), Sampling(max_new_tokens=5))
    assert Local.from_folder(model_folder()).complete(rows(), Sampling(max_new_tokens=5)) == expected


def test_cache_rows_move_and_grow() -> None:
    layer = caches.Layer()
    keys = torch.arange(5.0)[:, None, None, None].expand(5, 2, 3, 4)
    layer.update(keys, keys + 10)
    layer.batch_select_indices(torch.tensor([0, 4, 2]))
    for _ in range(caches.SPARE + 2):
        layer.update(torch.full((3, 2, 1, 4), 7.0), torch.full((3, 2, 1, 4), 8.0))
    assert layer.get_seq_length() == 3 + caches.SPARE + 2
    assert layer.keys[:, 0, 0, 0].tolist() == [0, 4, 2]
    assert layer.values[:, 1, 2, 3].tolist() == [10, 14, 12]
    assert bool((layer.keys[:, :, 3:] == 7).all())
    assert bool((layer.values[:, :, 3:] == 8).all())
    layer.batch_select_indices(torch.tensor([1, 1, 0, 2]))
    assert layer.keys[:, 0, 0, 0].tolist() == [4, 4, 0, 2]


def test_prompts_share_their_start_once(local: Callable[..., Local]) -> None:
    model = local()
    read: list[tuple[int, int]] = []
    model.model.model.embed_tokens.register_forward_hook(lambda _module, given, _out: read.append(tuple(given[0].shape)))
    found = model.complete(rows(), Sampling(max_new_tokens=4))
    prompts = [tuple(model.encoder.ids(model.form.prompt(row))) for row in rows()]
    prefix = reading.shared_start(prompts)
    assert prefix >= reading.SHORTEST_PREFIX
    assert read[0] == (1, prefix)
    groups = [shape for shape in read[1:] if shape[1] > 1]
    assert sum(rows for rows, _ in groups) == len(prompts)
    own = sum(len(prompt) - prefix for prompt in prompts)
    assert own <= sum(rows * longest for rows, longest in groups) <= own / reading.FULL  # little padding
    alone = [model.complete([row], Sampling(max_new_tokens=4))[0] for row in rows()]
    assert found == alone


@pytest.mark.parametrize(("name", "penalty"), zip(NAMES, itertools.cycle([1.0, 1.3])))
def test_waiting_rows_take_the_places_of_finished_ones(
    local: Callable[..., Local], name: str, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many short answers of different lengths through few places: the same answers as one by one, and the cache
    stays as narrow as it should."""
    model = local(name, batch_rows=3)
    prompts = [model.encoder.ids(model.form.prompt(row)) for row in rows()]
    prompts = [prompt[: 5 + 3 * i] for i, prompt in enumerate(prompts * 3)]
    joined, widths = [], []
    plain_join, plain_read = decoding.join, decoding.read_last

    def join(batch: decoding.Batch, fresh: decoding.Batch, room: int) -> None:
        joined.append(len(fresh.rows))
        plain_join(batch, fresh, room)

    def read(seen: Any, batch: decoding.Batch) -> None:
        plain_read(seen, batch)
        widths.append(batch.width)
        assert batch.width <= decoding.DEAD * (max(map(len, prompts)) + 20) + 21

    monkeypatch.setattr(decoding, "join", join)
    monkeypatch.setattr(decoding, "read_last", read)
    sampling = Sampling(max_new_tokens=20, repetition_penalty=penalty)
    # an end of turn that comes at different places in different rows
    stops = frozenset(range(0, model.model.config.vocab_size, 13))

    def answers(places: int) -> dict[int, decoding.Drawn]:
        found = decoding.decode(model.model, prompts, lambda index: None, sampling, stops, rows=places)
        return {drawn.index: drawn for drawn in found}

    together, alone = answers(3), answers(1)
    assert sum(joined) >= len(prompts) - 3 - joined.count(0)
    assert together.keys() == alone.keys() == set(range(len(prompts)))
    clear = [i for i, drawn in alone.items() if not drawn.near_ties and not together[i].near_ties]
    assert len(clear) > len(prompts) / 2
    assert [together[i].ids for i in clear] == [alone[i].ids for i in clear]
    assert len({len(alone[i].ids) for i in clear}) > 2
    assert len(widths) > 0


def test_a_wide_cache_is_made_dense_again(local: Callable[..., Local]) -> None:
    model = local(batch_rows=2)
    prompt = model.encoder.ids(model.form.prompt(rows()[0]))[:12]
    sampling = Sampling(max_new_tokens=40)
    with decoding.still(model.model):
        batch = decoding.start(model.model, range(2), [prompt, prompt[:7]], lambda index: None, sampling)
        expected = []
        for width in (None, 12):
            if width:  # a batch that grew wide around its rows
                batch = decoding.start(model.model, range(2), [prompt, prompt[:7]], lambda index: None, sampling)
                for layer in batch.cache.layers:
                    empty = layer.keys.new_full((2, layer.keys.shape[1], 40, layer.keys.shape[3]), 9.0)
                    layer.keys, layer.values = torch.cat([empty, layer.keys], 2), torch.cat([empty, layer.values], 2)
                    layer.room = None
                batch.mask = torch.cat([batch.mask.new_zeros(2, 40), batch.mask], 1)
                batch.width += 40
                decoding.densify(batch, 5)
                assert batch.width == width
                assert batch.cache.layers[0].keys.shape[2] == width
            batch.last, batch.logits = torch.tensor([3, 4]), None
            decoding.read_last(model.model, batch)
            expected.append(batch.logits)
    torch.testing.assert_close(expected[0], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("spread", "share"), [(0.5, 0.5), (2, 0.95), (4, 0.9), (8, 0.95), (8, 0.1)])
def test_the_nucleus_is_that_of_transformers_without_its_sort(spread: float, share: float) -> None:
    """Flat rows, whose nucleus is larger than what is looked at first, and peaked ones, in one batch."""
    from transformers import TopPLogitsWarper

    scores = torch.randn(6, 4 * decoding.NUCLEUS, generator=torch.Generator().manual_seed(3)) * spread
    scores[0] *= 4
    expected = TopPLogitsWarper(top_p=share)(None, scores)
    assert torch.equal(decoding.Nucleus(share)(None, scores), expected)
    assert expected.isinf().any()


def test_the_nucleus_of_a_row_without_numbers_has_none() -> None:
    scores = torch.full((1, 2 * decoding.NUCLEUS), torch.nan)
    assert decoding.Nucleus(0.9)(None, scores).isnan().any()
