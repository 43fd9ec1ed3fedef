"""The HTTP client against a scripted server on 127.0.0.1, with a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio
import threading
import time
from email.utils import formatdate

import pytest
from pydantic import ValidationError

from etude import journal
from etude.failures import RecipeError, ServerGaveUp, Stopped
from etude.models import LLM, Sampling
from etude.models.http import Http
from etude.models.servers.asking import HttpLLM
from etude.models.servers.budgets import Budget, Prices
from etude.models.servers.retrying import Clock
from etude.records import Conversation, Message
from loopback import Loopback, Reply, chat, echo, error

KEY = "sk-very-secret-0123456789"


class Fake:
    """A clock that moves when somebody sleeps, and chance that always draws a half."""

    def __init__(self):
        self.now = 1_000_000.0
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(round(seconds, 3))
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self):
        return Clock(lambda: self.now, lambda: self.now, self.sleep, lambda: 0.5)


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def opened(fake, monkeypatch):
    """A factory: the LLM of a server, with these settings; all are closed at the end."""
    monkeypatch.setenv("LOOP_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    llms = []

    def make(server, folder=None, told=None, real=False, **settings):
        given = {"model": "small", "base_url": server.url, "api_key_env": "LOOP_KEY", "concurrency": 4, **settings}
        llms.append(HttpLLM(Http(**given), folder, told, None if real else fake.clock()))
        return llms[-1]

    yield make
    for llm in llms:
        llm.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "etude-http"]


def asking(*texts):
    return [Conversation(f"row{i}", (Message("user", text),)) for i, text in enumerate(texts)]


def texts(found):
    return [[answer.text or answer.failure for answer in answers] for answers in found]


def by_turns(*scripts):
    """A script that gives these replies, one a request, then echoes."""
    return lambda asked: scripts[asked.number] if asked.number < len(scripts) else echo(asked)


def test_answers_in_order_each_once_with_the_key_in_its_header_alone(opened):
    with Loopback() as server:
        told = []
        llm: LLM = opened(server, told=told.append)
        done = []
        found = llm.complete(asking(*[f"question {i}" for i in range(40)]), Sampling(max_new_tokens=9, stop=("zz",)), done.append)
        assert texts(found) == [[f"question {i}"[::-1]] for i in range(40)]
        assert sum(done) == 40
        assert len(server.asked) == 40
        first = server.asked[0]
        assert first.headers["authorization"] == f"Bearer {KEY}"
        assert first.body == first.body | {"max_tokens": 9, "stop": ["zz"], "temperature": 0.0, "model": "small"}
        assert server.opened <= 4
        facts = llm.facts()
        assert (facts["requests"], facts["tokens"]["input"], facts["tokens"]["output"], facts["cost"]) == (40, 400, 200, "unknown")
        assert [one["answered"] for one in told] == list(range(1, 41))
        assert KEY not in str(facts) + repr(llm) + repr(llm.settings) + str(vars(llm))


def test_streaming_hands_over_as_they_come(opened):
    with Loopback(lambda asked: Reply(echo(asked).body, hold=asked.words == "slow")) as server:
        rows = opened(server).complete_each(asking("slow", "ab", "cd"), Sampling())
        first = [next(rows), next(rows)]
        assert sorted((i, a[0].text) for i, a in first) == [(1, "ba"), (2, "dc")]
        server.release()
        assert [(i, a[0].text) for i, a in rows] == [(0, "wols")]


def test_rows_that_read_the_same_are_asked_once_unless_sampled(opened):
    with Loopback() as server:
        llm = opened(server)
        assert texts(llm.complete(asking("ab", "cd", "ab"), Sampling())) == [["ba"], ["dc"], ["ba"]]
        assert len(server.asked) == 2
        llm.complete(asking("ab", "cd", "ab"), Sampling(temperature=1.0, seed=3))
        seeds = [asked.body["seed"] for asked in server.asked[2:]]
        assert len(set(seeds)) == 3


def test_a_429_waits_as_long_as_the_server_says_and_halves_once(opened, fake):
    date = formatdate(1_000_012 + 7, usegmt=True)
    script = by_turns(error(429, headers={"Retry-After": "12"}), error(429, headers={"Retry-After": date}))
    with Loopback(script) as server:
        llm = opened(server, concurrency=1)
        assert texts(llm.complete(asking("ab"), Sampling())) == [["ba"]]
        assert fake.slept == [12.0, 7.0]
        facts = llm.facts()
        assert facts["sent_again"] == {"429": 2}
        assert facts["seconds_waited"] == 19.0
    with Loopback(by_turns(*[error(429, headers={"retry-after-ms": "500"})] * 4)) as server:
        llm = opened(server, concurrency=8)
        assert len(llm.complete(asking(*"abcdefghijkl"), Sampling())) == 12
        assert llm.facts()["concurrency"]["lowest"] == 4
        assert llm.facts()["concurrency"]["now"] >= 5


def test_without_retry_after_waits_double_with_jitter(opened, fake):
    with Loopback(by_turns(error(429), error(500), error(503), error(408), error(409))) as server:
        llm = opened(server, concurrency=1)
        assert texts(llm.complete(asking("ab"), Sampling())) == [["ba"]]
        assert fake.slept == [0.25, 0.5, 1.0, 2.0, 4.0]
        assert llm.facts()["sent_again"] == {"429": 1, "500": 1, "503": 1, "408": 1, "409": 1}
        assert len(server.asked) == 6


def test_a_server_that_asks_for_hours_is_left_alone(opened, fake):
    with Loopback(lambda asked: error(429, headers={"Retry-After": "7200"})) as server, pytest.raises(ServerGaveUp) as stop:
        opened(server).complete(asking("ab"), Sampling())
    assert "come back in 7,200 seconds" in str(stop.value)
    assert stop.value.exit_code == 6
    assert fake.slept == []


def test_resets_cut_streams_and_slow_drips_are_asked_again(opened):
    whole = chat("x" * 500)
    script = by_turns(Reply(reset=True), Reply(whole.body, cut=100), Reply(whole.body, drip=0.02))
    with Loopback(script) as server:
        llm = opened(server, concurrency=1, timeout=0.3)
        assert texts(llm.complete(asking("ab"), Sampling())) == [["ba"]]
        facts = llm.facts()
        assert facts["sent_again"] == {"connection": 2, "timeout": 1}
        assert facts["tokens"]["assumed"] > 3 * 128  # nobody knows what those three took
        assert len(server.asked) == 4


def test_a_server_that_never_answers_ends_the_run_and_one_that_did_before_does_not(opened):
    with Loopback(lambda asked: error(500, "on fire")) as server:
        llm = opened(server, attempts=3)
        with pytest.raises(ServerGaveUp, match=r"gave no answer in 3 attempts: .*on fire"):
            llm.complete(asking("ab"), Sampling())
        assert len(server.asked) == 3
    with Loopback(lambda asked: error(500) if asked.words == "bad" else echo(asked)) as server:
        llm = opened(server, attempts=3, concurrency=1)
        assert texts(llm.complete(asking("ab", "bad"), Sampling())) == [["ba"], ["server"]]
    llm = opened(server, attempts=2)  # nobody listens there any more
    with pytest.raises(ServerGaveUp, match="gave no answer in 2 attempts: Connect"):
        llm.complete(asking("ab"), Sampling())
    assert llm.facts()["tokens"] == {"input": 0, "output": 0, "cached_input": 0}


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), r"says 401: .*provided: \[key\]; the key in the environment variable LOOP_KEY"),
        (error(403, "not yours"), "says 403: .*not yours; the key in the environment variable LOOP_KEY"),
        (error(404, "no such model"), "model 'small'.* says 404: .*no such model; is there such a model, and does base_url end"),
        (error(429, "empty", "insufficient_quota"), "says 429: .*empty; the account is empty"),
        (error(402, "pay"), "says 402: .*pay; the account is empty"),
        (Reply({}, 307, {"Location": "http://127.0.0.1:1/elsewhere"}), "says 307: .*elsewhere.*set base_url to where it is"),
    ],
)
def test_in_vain_for_all_fails_at_once(opened, fake, reply, says):
    with Loopback(lambda asked: reply) as server:
        llm = opened(server, concurrency=2)
        with pytest.raises(ServerGaveUp, match=says) as stop:
            llm.complete(asking(*"abcdefgh"), Sampling())
        assert KEY not in str(stop.value)
        assert fake.slept == []
        assert len(server.asked) <= 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (chat(""), "empty"),
        (chat(None, refusal="no"), "refused"),
        (chat("half", finish="length"), "length"),
        (Reply(b'{"choices": [{"mess'), "malformed"),
        (Reply({"object": "list"}), "malformed"),
        (chat("hello", model="large"), "model"),
        (chat("a", "b"), "count"),
    ],
)
def test_what_is_no_answer_is_asked_again_and_then_counted(opened, bad, reason):
    with Loopback(lambda asked: bad if asked.words == "x" or asked.again == 0 else echo(asked)) as server:
        llm = opened(server)
        assert texts(llm.complete(asking("ab", "x"), Sampling())) == [["ba"], [reason]]
        facts = llm.facts()
        assert facts["unusable_replies"] == {reason: 4}
        assert facts["failed"] == {reason: 1}
        assert (facts["answered"], facts["requests"]) == (1, 5)
        assert len(facts["examples"][reason]) == 4


def test_a_prompt_refused_or_too_long_fails_alone_and_is_not_asked_again(opened):
    replies = {"bad": error(400, "filtered", "content_filter"), "long": error(400, "too long", "context_length_exceeded")}
    with Loopback(lambda asked: replies.get(asked.words) or echo(asked)) as server:
        llm = opened(server)
        found = llm.complete(asking("ab", "bad", "long"), Sampling())
        assert texts(found) == [["ba"], ["refused"], ["rejected"]]
        assert found[1][0].finish == "failed"
        assert len(server.asked) == 3


def test_an_error_inside_a_good_status_is_an_error(opened):
    late = Reply({"error": {"code": 502, "message": "the server behind me failed"}})
    with Loopback(by_turns(late)) as server:
        llm = opened(server)
        assert texts(llm.complete(asking("ab"), Sampling())) == [["ba"]]
        assert llm.facts()["sent_again"] == {"502": 1}


def test_too_many_failures_end_the_run_with_what_was_said(opened):
    with Loopback(lambda asked: chat("hi", model="large") if int(asked.words) % 2 else echo(asked)) as server:
        llm = opened(server, asks=1)
        with pytest.raises(
            ServerGaveUp, match=r"11 of 40 questions .*most_failures allows \(0.1\): 11 model .*'large'; .*answers_as"
        ) as stop:
            llm.complete(asking(*map(str, range(40))), Sampling())
        assert stop.value.exit_code == 6
        assert len(opened(server, asks=1, most_failures=1.0).complete(asking(*map(str, range(40))), Sampling())) == 40
        with pytest.raises(ServerGaveUp):
            opened(server, asks=1, most_failures=0.0).complete(asking("1"), Sampling())
        assert texts(opened(server, answers_as=["large"], asks=1).complete(asking("1"), Sampling())) == [["hi"]]


def test_several_answers_in_one_request_or_in_many(opened):
    def script(asked):
        n = asked.body.get("n", 1)
        return chat(*(["one", "", "three"][:n] if asked.number == 0 else ["more"] * n))

    with Loopback(script) as server:
        assert texts(opened(server).complete(asking("ab"), Sampling(n=3, temperature=1.0))) == [["one", "three", "more"]]
        assert [asked.body.get("n") for asked in server.asked] == [3, None]
    with Loopback(lambda asked: chat(f"s{asked.body['seed'] % 97}")) as server:
        llm = opened(server, n_at_once=False)
        ((first, second, third),) = texts(llm.complete(asking("ab"), Sampling(n=3, temperature=1.0)))
        assert len({asked.body["seed"] for asked in server.asked}) == 3
        assert all("n" not in asked.body for asked in server.asked)
        assert [first, second, third] == texts(opened(server, n_at_once=False).complete(asking("ab"), Sampling(n=3, temperature=1.0)))[0]
    with Loopback() as server:
        assert texts(opened(server, asks=1).complete(asking("ab"), Sampling(n=2))) == [["ba", "ba"]]
        server.script = lambda asked: chat("x")
        assert texts(opened(server, asks=1).complete(asking("ab"), Sampling(n=2))) == [["count", "count"]]


def test_a_budget_is_never_passed_and_what_came_is_handed_over(opened, tmp_path):
    with Loopback() as server:
        llm = opened(server, folder=tmp_path, budget=Budget(requests=10))
        rows = []
        with pytest.raises(Stopped, match=r"requests: 10 of 10 are used.*raise the budget") as stop:
            rows.extend(llm.complete_each(asking(*map(str, range(40))), Sampling()))
        assert (len(rows), len(server.asked), stop.value.exit_code) == (10, 10, 75)
        llm.close()
        again = opened(server, folder=tmp_path, budget=Budget(requests=12))
        with pytest.raises(Stopped):
            rows.extend(again.complete_each(asking(*map(str, range(10, 40))), Sampling()))
        assert len(rows) == len(server.asked) == 12
        assert again.facts()["requests_before"] == 10
        prices = Prices(input=1.0, output=2.0)
        poor = opened(server, concurrency=8, prices=prices, budget=Budget(money=0.002))
        with pytest.raises(Stopped, match=r"money: .* USD are spent"):
            poor.complete(asking(*map(str, range(100))), Sampling(max_new_tokens=200))
        cost = poor.facts()["cost"]
        assert 0 < cost <= 0.002
        assert cost == round(poor.facts()["requests"] * (10 * 1 + 5 * 2) / 1e6, 6)


def test_asked_once_ever_with_a_cache(opened, tmp_path):
    with Loopback(lambda asked: chat("") if asked.words == "x" else echo(asked)) as server:
        settings = {"cache": str(tmp_path / "cache"), "asks": 1}
        one, other = opened(server, **settings), opened(server, **settings)
        assert texts(one.complete(asking("ab", "x"), Sampling())) == [["ba"], ["empty"]]
        other.complete(asking("cd"), Sampling())
        one.close()
        asked = len(server.asked)
        fresh = opened(server, **settings)
        assert texts(fresh.complete(asking("ab", "cd"), Sampling())) == [["ba"], ["dc"]]
        assert len(server.asked) == asked
        assert fresh.facts()["from_cache"] == 2
        fresh.complete(asking("x", "ab"), Sampling())
        assert len(server.asked) == asked + 1
    written = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    assert KEY.encode() not in written
    assert b"Bearer" not in written


def test_giving_up_half_way_ends_the_requests_and_leaves_a_whole_journal(opened, tmp_path):
    with Loopback(lambda asked: Reply(echo(asked).body, hold=asked.number > 2)) as server:
        llm = opened(server, folder=tmp_path, real=True)
        rows = llm.complete_each(asking(*map(str, range(40))), Sampling())
        with journal.Journal(tmp_path / "rows.jsonl") as kept:
            for _ in range(3):
                kept.append({"index": next(rows)[0]})
        rows.close()  # as Ctrl-C does
        assert len(list(journal.read(tmp_path / "rows.jsonl"))) == 3
        assert (llm.limit.running, llm.spending.open) == (0, 0)
        until = time.monotonic() + 10
        while server.connections and time.monotonic() < until:  # the held ones are closed by us, not by the server
            llm.close()
            time.sleep(0.01)
        assert not server.connections
        assert len(list(journal.read(tmp_path / "spent.jsonl"))) == llm.spending.requests <= 3 + 4


def test_a_server_without_a_key_gets_none_and_nothing_else_from_the_environment(opened, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Loopback() as server:
        opened(server, api_key_env="", headers={"X-Title": "etude"}).complete(asking("ab"), Sampling())
        opened(server).complete(asking("ab"), Sampling())
        without, own = (asked.headers for asked in server.asked)
        assert "authorization" not in without
        assert "openai-organization" not in without
        assert without["x-title"] == "etude"
        assert own["authorization"] == f"Bearer {KEY}"


def test_azures_older_interface_names_the_deployment(opened):
    with Loopback() as server:
        llm = opened(server, base_url=server.url.removesuffix("/v1"), api_version="2024-10-21")
        assert texts(llm.complete(asking("ab"), Sampling())) == [["ba"]]
        (asked,) = server.asked
        assert asked.path == "/openai/deployments/small/chat/completions?api-version=2024-10-21"
        assert asked.headers["api-key"] == KEY


def completion(asked):
    """A server that echoes: the log-probability of token i is -i, the first has none."""
    ids = asked.body["prompt"]
    values = [None, *[-float(i) for i in ids[1:]], -0.5] if asked.body.get("echo") else [-0.5]
    choice = {"index": 0, "text": "ok", "finish_reason": "stop", "logprobs": {"token_logprobs": values, "tokens": ["t"] * len(values)}}
    return Reply({"model": "small", "choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}})


def test_completions_send_plain_words_or_token_ids_and_score_what_is_echoed(opened, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    row = Conversation("r", (Message("user", "Why <|im_end|>?"), Message("assistant", "So.", trained=True)))
    with Loopback(completion) as server:
        bare = opened(server, endpoint="completions")
        assert texts(bare.complete([row], Sampling())) == [["ok"]]
        assert server.asked[-1].body["prompt"] == "Why <|im_end|>?"
        assert server.asked[-1].path == "/v1/completions"
        llm = opened(server, endpoint="completions", tokenizer=str(tmp_path))
        assert texts(llm.complete([row], Sampling())) == [["ok"]]
        encoder, form = llm.form
        prompt = [int(i) for i in encoder.ids(form.prompt(row))]
        assert server.asked[-1].body["prompt"] == prompt
        (values,) = llm.logprobs([row])
        whole = server.asked[-1].body["prompt"]
        assert whole[: len(prompt)] == prompt
        assert len(values) == len(encoder.ids(form.render(row))) - len(prompt) - 1  # the newline behind the end of turn is not trained
        assert values.tolist() == [-float(i) for i in whole[len(prompt) : len(prompt) + len(values)]]
        with pytest.raises(RecipeError, match="need `endpoint: completions`"):
            opened(server).logprobs([row])
        server.script = lambda asked: chat("hi")
        with pytest.raises(RecipeError, match="does not give the log-probabilities of its prompt"):
            llm.logprobs([row])
        server.script = lambda asked: error(400, "only no echo is supported")
        with pytest.raises(RecipeError, match="only no echo is supported"):
            llm.logprobs([row])


def test_a_judge_behind_http_is_asked_again_for_what_failed(opened, tmp_path):
    from etude.curation import CHECKS, Beside
    from test_curation_rows import row

    rows = [row(f"Question {i}?", f"Answer {i}.") for i in range(4)]
    with Loopback(lambda asked: chat("") if "Question 2" in asked.words else chat("Score: 5\nReason: fine.")) as server:
        llm = opened(server, asks=1)
        check = CHECKS["judged"](model="judge", attempts=1)
        verdicts = check.judge(rows, Beside(model=lambda name: llm, folder=tmp_path))
        assert [fate.kept for fate in verdicts.fates] == [True] * 4
        assert verdicts.facts["unreadable"] == 1
        assert len(list(journal.read(tmp_path / "judged.jsonl"))) == 3
        server.script = lambda asked: chat("Score: 1")
        verdicts = check.judge(rows, Beside(model=lambda name: llm, folder=tmp_path))
        assert [fate.kept for fate in verdicts.fates] == [True, True, False, True]


# ---- several servers -------------------------------------------------------------------------------


def seeded(asked):
    """An answer that depends on the question and its seed alone, as a model's does."""
    return chat(f"{asked.words} {asked.body.get('seed')}")


def test_the_number_of_servers_changes_no_answer(opened):
    questions = asking(*[f"question {i}" for i in range(60)])
    sampling = Sampling(temperature=1.0, n=2, seed=5)
    with Loopback(seeded) as one, Loopback(seeded) as two, Loopback(seeded) as three:
        alone = opened(one, n_at_once=False).complete(questions, sampling)
        assert texts(opened(one, also=(two.url, three.url), n_at_once=False).complete(questions, sampling)) == texts(alone)
        own = [{asked.words + str(asked.body["seed"]) for asked in some} for some in (one.asked[120:], two.asked, three.asked)]
        assert [len(some) > 20 for some in own] == [True] * 3
        assert sum(map(len, own)) == 120
        llm = opened(one, also=(two.url,), n_at_once=False)
        before = len(one.asked), len(two.asked)
        assert texts(llm.complete(questions, sampling)) == texts(alone)
        again = {asked.words + str(asked.body["seed"]) for asked in two.asked[before[1] :]}
        assert own[1] <= again, "a server less moves its own share alone"
        assert llm.facts()["answers_from"] == {one.url: len(one.asked) - before[0], two.url: len(again)}


def test_what_a_server_does_not_answer_goes_to_the_next(opened):
    with Loopback(seeded) as one, Loopback(lambda asked: error(503)) as broken:
        llm = opened(one, also=(broken.url,))
        found = llm.complete(asking(*[f"question {i}" for i in range(30)]), Sampling())
        assert texts(found) == [[f"question {i} None"] for i in range(30)]
        assert 0 < len(broken.asked) < 30
        assert llm.facts()["answers_from"] == {one.url: 30}
    assert llm.facts()["sent_again"] == {"503": len(broken.asked)}


def test_addresses_of_several_servers(opened):
    for also, words in (
        (("http://localhost:1/v1", "http://localhost:1/v1/"), "stands here twice"),
        (("localhost:1",), "expected an address"),
        (("http://user:word@localhost:1/v1",), "holds no name, password"),
    ):
        with pytest.raises(ValidationError, match=words):
            Http(model="small", also=also)
