"""Continuous batching: what the live engine answers is what `Local.complete` answers, whoever comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from etude.failures import NonFinite, RecipeError
from etude.formats.jinja import Auto
from etude.models import Sampling
from etude.models.live import prefixes
from etude.models.live.batching import Engine
from etude.models.live.choosing import TokenChance
from etude.models.live.detokenizing import Detokenizer, byte_reader, overlap
from etude.models.live.guests import Ask, Closed, Full, Piece
from etude.models.local import Local
from etude.records import Conversation, Message

QUESTIONS = (
    "Why is the sky blue?",
    "List three colours.",
    "Write a response that completes the request, and explain why the outlook is neutral.",
    "def total(values):",
    "a",
    "Profit rose 12 percent in the third quarter; is that positive or negative for the reader of this system?",
    "naïve 🙂 <|im_end|> <think>",
)


def rows(texts: Sequence[str] = QUESTIONS) -> list[Conversation]:
    return [Conversation(f"row{i}", (Message("user", text),)) for i, text in enumerate(texts)]


@pytest.fixture
def local(tiny: Callable[..., Any], tokenizer: Any) -> Callable[..., Local]:
    """A factory of Local over a tiny model whose weights are spread enough to make answers differ."""

    def make(name: str = "llama", scale: float = 6.0, **given: Any) -> Local:
        model = tiny(name, **given)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(scale)
        return Local(model, tokenizer, Auto().bind(tokenizer))

    return make


def asked(local: Local, row: Conversation, sampling: Sampling, **given: Any) -> Ask:
    return Ask(tuple(local.encoder.ids(local.form.prompt(row))), sampling, (row.id, 0), **given)


class Heard(list[Piece]):
    """What one answer told; `late` would be anything after its end."""

    def __call__(self, piece: Piece) -> None:
        assert not (self and (self[-1].answer or self[-1].error)), "told after the end"
        self.append(piece)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self)

    @property
    def chances(self) -> list[TokenChance]:
        return [chance for piece in self for chance in piece.chances]


def served(engine: Engine, asks: Sequence[Ask], arrivals: Sequence[int] | None = None) -> list[Heard]:
    """Answers to asks that arrive before the given steps (by default all before the first)."""
    heard = [Heard() for _ in asks]
    arrivals = arrivals or [0] * len(asks)
    step = 0
    while engine.step() or step <= max(arrivals):
        coming = [i for i, at in enumerate(arrivals) if at == step]
        if coming:
            engine.submit([asks[i] for i in coming], [heard[i] for i in coming])
        step += 1
    return heard


@pytest.mark.parametrize(
    ("name", "bounds"), [("llama", {}), ("llama", {"tokens": 1}), ("gpt2", {"rows": 3, "remembered": 60}), ("opt", {"chunk": 20})]
)
def test_answers_are_those_of_complete_whoever_comes_when(local: Callable[..., Local], name: str, bounds: dict[str, int]) -> None:
    model = local(name)
    for sampling in (Sampling(max_new_tokens=16), Sampling(max_new_tokens=12, temperature=0.9, top_p=0.9, repetition_penalty=1.2, seed=4)):
        expected = model.complete(rows(), sampling)
        heard = served(Engine(model, **bounds), [asked(model, row, sampling) for row in rows()], [0, 0, 3, 4, 4, 9, 30])
        for (answer,), one in zip(expected, heard, strict=True):
            assert one[-1].answer == answer
            assert one.text == answer.text


def test_rows_with_settings_of_their_own_do_not_touch_each_other(local: Callable[..., Local]) -> None:
    model = local()
    settings = [
        Sampling(max_new_tokens=9),
        Sampling(max_new_tokens=14, temperature=1.0, seed=1),
        Sampling(max_new_tokens=14, temperature=0.7, top_k=5, seed=2),
        Sampling(max_new_tokens=5, repetition_penalty=1.4),
        Sampling(max_new_tokens=14, temperature=0.7, top_p=0.5, seed=3),
        Sampling(max_new_tokens=20, stop=("e", "zz")),
        Sampling(max_new_tokens=3, temperature=1.3, seed=9),
    ]
    heard = served(Engine(model), [asked(model, row, one) for row, one in zip(rows(), settings, strict=True)], [0, 1, 1, 2, 5, 5, 6])
    for row, sampling, one in zip(rows(), settings, heard, strict=True):
        assert one[-1].answer == model.complete([row], sampling)[0][0]


def test_a_second_turn_reads_only_what_is_new(local: Callable[..., Local]) -> None:
    model, sampling = local(), Sampling(max_new_tokens=10)
    engine = Engine(model)
    first = rows()[0]
    (heard,) = served(engine, [asked(model, first, sampling)])
    assert heard[-1].cached == 0
    said = heard.text
    second = Conversation("second", (*first.messages, Message("assistant", said), Message("user", "Why?")))
    ask = asked(model, second, sampling)
    (again,) = served(engine, [ask])
    assert again[-1].cached >= len(asked(model, first, sampling).prompt) - 1
    assert again[-1].answer == model.complete([second], sampling)[0][0]
    # a burst of prompts with the same system prompt: one reads it, the others wait for that
    system = Message("system", "You answer in one short sentence, and never more than that, whatever is asked.")
    burst = [Conversation(f"b{i}", (system, Message("user", text))) for i, text in enumerate(QUESTIONS)]
    heard_all = served(engine := Engine(model), [asked(model, row, sampling) for row in burst])
    shared = len(asked(model, Conversation("", (system, Message("user", ""))), sampling).prompt) - 12
    assert sum(one[-1].cached >= shared for one in heard_all) == len(burst) - 1
    assert [one[-1].answer for one in heard_all] == [answers[0] for answers in model.complete(burst, sampling)]
    assert sum(len(start.ids) for start in engine.known.known) <= engine.known.tokens


def test_windows_of_attention_are_batched_but_share_nothing(local: Callable[..., Local]) -> None:
    model = local("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=0, layer_types=["sliding_attention"] * 2)
    engine, sampling = Engine(model, rows=4), Sampling(max_new_tokens=8)
    assert not engine.plain
    heard = served(engine, [asked(model, row, sampling) for row in rows()], [0, 0, 2, 2, 3, 3, 3])
    assert [one[-1].answer for one in heard] == [answers[0] for answers in model.complete(rows(), sampling)]


def test_cancelled_rows_give_their_place_away_at_the_next_step(local: Callable[..., Local]) -> None:
    model, sampling = local(), Sampling(max_new_tokens=60)
    engine = Engine(model, rows=2)
    heard = [Heard() for _ in range(3)]
    asks = [asked(model, row, sampling, bias=dict.fromkeys(model.stops(), -100.0)) for row in rows()[:3]]
    guests = engine.submit(asks, heard)
    for _ in range(5):
        engine.step()
    assert (engine.busy(), len(engine.waiting)) == (2, 1)
    engine.cancel(guests[:1])
    told = len(heard[0])
    engine.step()
    assert (engine.busy(), len(engine.waiting)) == (2, 0)
    engine.cancel(guests)
    assert not engine.step()
    assert len(heard[0]) == told
    assert all(one[-1].answer is None for one in heard if one)


def test_limits_of_the_queue_and_closing(local: Callable[..., Local]) -> None:
    model, sampling = local(), Sampling(max_new_tokens=8)
    engine = Engine(model, rows=1, queue=2, queue_tokens=150)
    ask = asked(model, rows()[0], sampling)
    heard = [Heard() for _ in range(3)]
    engine.submit([ask], heard[:1])
    engine.submit([ask], heard[1:2])
    with pytest.raises(Full, match="waiting already") as full:
        engine.submit([ask, ask], [Heard(), Heard()])
    assert 1 <= full.value.seconds <= 60
    assert len(engine.waiting) == 2
    engine.step()
    engine.close()
    with pytest.raises(Closed, match="shutting down"):
        engine.submit([ask], heard[2:])
    engine.work()
    assert [type(one[-1].error) for one in heard[:2]] == [Closed, Closed]


def test_log_probabilities_penalties_and_biases(local: Callable[..., Local]) -> None:
    model = local(scale=3.0)
    sampling = Sampling(max_new_tokens=12)
    row = rows()[5]
    (heard,) = served(Engine(model), [asked(model, row, sampling, top=3)])
    answer = heard[-1].answer
    assert answer is not None
    whole = Conversation(row.id, (*row.messages, Message("assistant", answer.text)))
    tokens = [chance.token for chance in heard.chances]
    assert model.encoder.text(tokens) == answer.text
    prompt = model.encoder.ids(model.form.prompt(whole))
    with torch.no_grad():
        logits = model.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    for place, chance in enumerate(heard.chances):
        assert chance.logprob == pytest.approx(float(logits[place, chance.token]), abs=1e-4)
        assert [token for token, _ in chance.top] == logits[place].topk(3).indices.tolist()
        assert chance.top[0][0] == chance.token  # greedy
    (never,) = served(Engine(model), [asked(model, row, sampling, bias=dict.fromkeys(tokens, -100.0))])
    assert never[-1].answer != answer
    loop = Sampling(max_new_tokens=40)
    no_end = dict.fromkeys(model.stops(), -100.0)
    plain, once, often = served(
        Engine(model),
        [asked(model, row, loop, top=0, bias=no_end, **extra) for extra in ({}, {"presence": 200.0}, {"frequency": 200.0})],
    )
    assert len({chance.token for chance in plain.chances}) < 40
    for varied in (once, often):
        assert len({chance.token for chance in varied.chances}) == len(varied.chances)


def test_a_broken_row_or_step_ends_with_its_error_and_the_engine_goes_on(local: Callable[..., Local], monkeypatch: Any) -> None:
    model, sampling = local(), Sampling(max_new_tokens=4)
    engine = Engine(model)
    with torch.no_grad():
        head = model.model.get_output_embeddings().weight
        kept = head.clone()
        head[7] = float("nan")
    (heard,) = served(engine, [asked(model, rows()[0], sampling)])
    assert isinstance(heard[-1].error, NonFinite)
    with torch.no_grad():
        head.copy_(kept)
    engine = Engine(model)
    monkeypatch.setattr(prefixes, "read", lambda *given: 1 / 0)
    (heard,) = served(engine, [asked(model, rows()[0], sampling)])
    assert isinstance(heard[-1].error, ZeroDivisionError)
    monkeypatch.undo()
    (heard,) = served(engine, [asked(model, rows()[0], sampling)])
    assert heard[-1].answer == model.complete(rows()[:1], sampling)[0][0]


def test_an_encoder_decoder_is_refused(local: Callable[..., Local]) -> None:
    model = local()
    model.model.config.is_encoder_decoder = True
    with pytest.raises(RecipeError, match="decoder-only"):
        Engine(model)


def test_text_comes_whole(local: Callable[..., Local]) -> None:
    encoder = local().encoder
    text = "naïve 🙂 日本 — done.\nSTOP here"
    from etude.records import Segment

    ids = encoder.ids([Segment(text)])
    words = Detokenizer(encoder, ("STOP", "done?"))
    pieces = [words.push(token) for token in ids]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == "naïve 🙂 日本 — done.\n"  # from the stop text on nothing is certain
    assert "".join(pieces) + words.rest(text) == text
    assert b"".join(map(byte_reader(encoder), ids)) == text.encode()


def test_what_may_become_a_stop_text_is_held_back() -> None:
    assert overlap("abc", "cd") == 1
    assert overlap("abcd", "cd") == 2
    assert overlap("abcde", "cd") == 3
    assert overlap("aab", "aabaac") == 3
    assert overlap("xyz", "abc") == 0
