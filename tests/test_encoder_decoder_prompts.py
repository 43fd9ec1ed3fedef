"""Virtual tokens before every source of an encoder-decoder: peft's own numbers in training, the same model in answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from etude import losses, pairs, training, virtual_tokens
from etude.encoding import Encoder, examples
from etude.failures import RecipeError
from etude.formats.text_to_text import TextToText
from etude.models import Sampling
from etude.models.local import Local
from etude.steps import Tune
from etude.tunings.p_tuning import PTuning
from etude.tunings.prefix import Prefix
from etude.tunings.prompt import Prompt
from test_encoder_decoder import QUESTIONS, number, own_loss, rows_of, talk, tasks, tiny, tokenizer, words  # noqa: F401

METHODS = {"prompt": Prompt(tokens=3), "random": Prompt(tokens=3, init="random"), "p_tuning": PTuning(tokens=3, hidden=16)}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_pefts_own_and_padding_changes_nothing(tiny: Any, tokenizer: Any, name: str) -> None:  # noqa: F811
    model: Any = METHODS[name].prepare(tiny(), 0).eval()
    assert virtual_tokens.in_source(model) == 3
    assert virtual_tokens.count(model) == 0
    rows = rows_of(tokenizer)
    singles = sum(number(losses.loss_of(model, pairs.batch([row], [0], 0))) for row in rows)
    together = number(losses.loss_of(model, pairs.batch(rows, range(len(rows)), 0)))
    assert together == pytest.approx(singles, rel=1e-5)
    assert together / pairs.batch(rows, range(len(rows)), 0).counted == pytest.approx(number(own_loss(model, rows)), rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_only_virtual_tokens_learn_and_what_is_saved_answers_the_same(tiny: Any, tokenizer: Any, tmp_path: Path, name: str) -> None:  # noqa: F811
    from peft import PeftModel

    method = METHODS[name]
    form, encoder = TextToText().bind(tokenizer), Encoder.of(tokenizer, paired=True)
    rows = [examples(encoder, form, one)[0] for word in words("ab", 8) for one in tasks(word)]
    start = tiny()
    before = {key: value.clone() for key, value in start.state_dict().items()}
    tune = Tune(method=method, learning_rate=0.1, max_steps=10, epochs=40, rows_per_step=16, evaluate_every="never")
    model, trained = training.train(start, rows, tune, tmp_path / "run", seed=1)  # type: ignore[arg-type]
    assert trained.trainable < 10_000
    after = model.get_base_model().state_dict()  # type: ignore[operator]
    assert all(torch.equal(after[key], value) for key, value in before.items())
    fresh: Any = METHODS[name].prepare(tiny(), 1)
    every = pairs.batch(rows, range(len(rows)), 0)  # type: ignore[arg-type]
    assert number(losses.loss_of(model, every)) < 0.95 * number(losses.loss_of(fresh, every))

    method.save(model, tmp_path / "model")
    ours, plain = method.load(tiny(), tmp_path / "model"), PeftModel.from_pretrained(tiny(), str(tmp_path / "model"))
    for loaded in (ours, plain):
        torch.testing.assert_close(
            pairs.target_logits(loaded.eval(), every), pairs.target_logits(model.eval(), every), atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("name", METHODS)
def test_answers_beams_and_choices_read_the_virtual_tokens(tiny: Any, tokenizer: Any, name: str) -> None:  # noqa: F811
    model: Any = METHODS[name].prepare(tiny(tie_word_embeddings=False), 0).eval()
    for weight in model.prompt_encoder.parameters():
        weight.data.mul_(30)  # so that answers without them are others
    local, bare = (Local(one, tokenizer, TextToText().bind(tokenizer)) for one in (model, model.get_base_model()))
    asked = [talk(question) for question in QUESTIONS]
    answers = local.complete(asked, Sampling(max_new_tokens=6))
    assert answers != bare.complete(asked, Sampling(max_new_tokens=6))
    for question, (answer,) in zip(QUESTIONS, answers, strict=True):
        ids, written = torch.tensor([tokenizer(question)["input_ids"]]), [0]
        with torch.no_grad():
            while len(written) <= 6 and written[-1] != 1:  # through peft's own forward pass
                written.append(int(model(input_ids=ids, decoder_input_ids=torch.tensor([written])).logits[0, -1].argmax()))
        assert answer.text == local.encoder.text([i for i in written if i != 1])
    for (found,), one in zip(local.complete(asked, Sampling(max_new_tokens=6, num_beams=2)), asked, strict=True):
        first = local.encoder.ids(local.form.prompt(one))
        own = model.get_base_model().generate(
            inputs_embeds=virtual_tokens.embedded(model, torch.tensor([first])),
            attention_mask=torch.ones(1, 3 + len(first)), max_new_tokens=6, num_beams=2, do_sample=False,
        )  # fmt: skip
        assert found.text == local.encoder.text(own[0].tolist()[1:])
    choices = ["yes", "no", "it depends"]
    for question, (best, sums) in zip(QUESTIONS, local.choose(asked, choices), strict=True):
        single = [float(p.sum()) for p in local.logprobs([talk(question, choice) for choice in choices])]
        assert sums.tolist() == pytest.approx(single, abs=1e-4)
        assert best == single.index(max(single))


def test_prefix_tuning_is_refused_with_the_way_out(tiny: Any) -> None:  # noqa: F811
    with pytest.raises(RecipeError, match="prefix tuning is for decoder-only models; an encoder-decoder takes prompt, p_tuning"):
        Prefix(tokens=3).prepare(tiny(), 0)
