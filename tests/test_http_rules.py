"""The rules of talking to a server, by themselves: what passes, how long to wait, what is an answer, what it may cost."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import ValidationError

from etude.failures import RecipeError, Stopped
from etude.models import LLMS, Sampling
from etude.models.http import Http
from etude.models.opening import Opened, Script
from etude.models.servers import replies
from etude.models.servers.answers_cache import AnswersCache
from etude.models.servers.budgets import Budget, Prices, Spending, Usage, read_usage
from etude.models.servers.connecting import code_of, loopback
from etude.models.servers.replies import Answer, same_model
from etude.models.servers.requests import item
from etude.models.servers.retrying import Clock, Limit, backoff, retry_after, verdict
from etude.records import Conversation, Message, ToolCall
from loopback import chat


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        *[(status, "", "again") for status in (0, 408, 409, 429, 500, 502, 503, 504, 529)],
        *[(status, "", "fatal") for status in (307, 401, 402, 403, 404)],
        (429, "insufficient_quota", "fatal"),
        (429, "rate_limit_exceeded", "again"),
        (400, "content_filter", "refused"),
        (400, "context_length_exceeded", "rejected"),
        (422, "", "rejected"),
    ],
)
def test_what_a_status_means(status, code, kind):
    assert verdict(status, code) == kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(1_000_030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
    ],
)
def test_retry_after_in_seconds_milliseconds_and_as_a_date(headers, seconds):
    assert retry_after(headers, 1_000_000.0) == seconds


@effort(max_examples=30)
@given(st.integers(0, 2000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_below_a_doubling_bound(attempt, chance):
    assert 0 <= backoff(attempt, chance, 60.0) <= min(60.0, 0.5 * 2 ** min(attempt, 60))
    assert backoff(attempt, 0.0, 60.0) == 0


def test_one_crowd_halves_once_and_successes_bring_the_limit_back():
    async def scene():
        limit = Limit(16, Clock())
        tickets = [await limit.enter() for _ in range(16)]
        for ticket in tickets:
            limit.leave(ticket, "crowded")
        assert limit.limit == 8
        limit.leave(await limit.enter(), "crowded")
        assert (limit.limit, limit.lowest) == (4, 4)
        for _ in range(4):
            limit.leave(await limit.enter(), "well")
        assert 4.9 < limit.limit < 5
        for _ in range(400):
            limit.leave(await limit.enter(), "well")
        assert limit.limit == 16
        for _ in range(9):
            limit.leave(await limit.enter(), "crowded")
        assert limit.limit == 1

    asyncio.run(scene())


def test_no_more_run_than_the_limit_and_a_cancelled_one_does_not_block_the_others():
    async def scene():
        limit = Limit(2, Clock())
        first, second = await limit.enter(), await limit.enter()
        waiting = [asyncio.ensure_future(limit.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        assert limit.running == 2
        limit.leave(first, "otherwise")
        waiting[0].cancel()  # after it was woken
        await asyncio.sleep(0)
        await asyncio.wait_for(waiting[1], 5)
        limit.leave(second, "otherwise")
        assert limit.running == 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4", "gpt-4-32k", False),
        ("gpt-4", "gpt-4-turbo", False),
        ("gpt-4", "gpt-4-1106-preview", True),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", True),
        ("gemini-1.5-flash", "models/gemini-1.5-flash-002", True),
        ("meta/llama", "other/llama", False),
        ("qwen/qwen3-8b:free", "qwen/qwen3-8b", True),
        ("llama3.2:1b", "llama3.2:3b", False),
        ("llama3.2", "llama3.2:latest", True),
        ("llama-3", "llama-3-8b", False),
        ("Small", "small", True),
        ("small", "", True),
        ("small", "large", False),
    ],
)
def test_which_names_are_the_model_asked_for(asked, answered, same):
    assert same_model(asked, answered) is same
    assert same_model(asked, answered, ["*"])
    assert same_model(asked, answered, [answered or "x"])


def read(reply, wanted=1, **given):
    return replies.read(reply.body, wanted, "small", (), Sampling(**given))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (chat(""), "empty"),
        (chat(None), "empty"),
        (chat(" \n"), "empty"),
        (chat("half of", finish="length"), "length"),
        (chat("text", finish="content_filter"), "refused"),
        (chat(None, refusal="I will not"), "refused"),
        (chat(None, finish="tool_calls", tool_calls=[{"id": "1"}]), "tool_call"),
        (chat("text", finish=None), "malformed"),
        (chat("text", finish="error"), "malformed"),
        (chat(["a", "list"]), "malformed"),
        (chat("text", model="large"), "model"),
        (chat(), "count"),
        (chat("a", "b"), "count"),
    ],
)
def test_what_is_no_answer(reply, reason):
    found = read(reply)
    assert (found.answers, found.reasons) == ((), (reason,))


@pytest.mark.parametrize("reply", [None, 3, [], {}, {"choices": None}, {"choices": ["x"]}, {"choices": {}}, {"model": "small"}])
def test_a_reply_of_another_shape_is_malformed(reply):
    assert replies.read(reply, 2, "small", (), Sampling()).reasons == ("malformed", "malformed")


def test_of_several_the_good_ones_count_in_the_order_of_their_index():
    reply = chat("one", "", "three", usage=(9, 11)).body
    reply["choices"].reverse()
    found = replies.read(reply, 3, "small", (), Sampling())
    assert [(a.text, a.tokens) for a in found.answers] == [("one", 4), ("three", 3)]
    assert found.reasons == ("empty",)
    reply["choices"][0]["index"] = 0
    assert replies.read(reply, 3, "small", (), Sampling()).reasons == ("count",) * 3


def test_a_stop_text_that_the_server_let_through_ends_the_answer():
    found = read(chat("yes\nQuestion: more", finish="length"), stop=("\nQuestion:",))
    assert found.answers == (Answer("yes", "stop", 5),)
    assert read(chat("\nQuestion: more"), stop=("\nQuestion:",)).reasons == ("empty",)
    cut = replies.read(chat("half", finish="length").body, 1, "small", (), Sampling(), keep_cut=True)
    assert cut.answers == (Answer("half", "length", 5),)


def test_usage_that_cannot_be_counted_is_no_usage():
    assert read_usage({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}) == Usage(5, 2)
    assert read_usage({"usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}}) == Usage(
        5, 2, 4
    )
    for usage in (None, {}, {"prompt_tokens": "5"}, {"prompt_tokens": -1, "completion_tokens": 2}):
        assert read_usage({"usage": usage}) is None


def test_a_budget_holds_with_everything_in_flight(tmp_path):
    async def scene():
        spending = Spending(Budget(tokens=100), None, tmp_path / "spent.jsonl")
        most = Usage(20, 20)
        await spending.reserve(most)
        await spending.reserve(most)
        third = asyncio.ensure_future(spending.reserve(most))
        await asyncio.sleep(0)
        assert not third.done()  # 80 may be taken: 40 more could pass 100
        spending.settle(most, Usage(10, 5))
        await third
        spending.settle(most, None)  # cut off: counts as all of it
        spending.settle(most, Usage(20, 20))
        assert spending.facts()["tokens"] == {"input": 50, "output": 45, "cached_input": 0, "assumed": 40}
        with pytest.raises(Stopped, match=r"tokens: 95 of 100 are used, and the next request may take 40.*run again") as stop:
            await spending.reserve(most)
        assert stop.value.exit_code == 75
        spending.close()
        again = Spending(Budget(tokens=100), None, tmp_path / "spent.jsonl")
        assert (again.input, again.output, again.requests_before) == (50, 45, 3)
        again.close()

    asyncio.run(scene())


@effort(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=30), st.integers(1, 200))
def test_no_order_of_requests_passes_the_bound(requests, bound):
    async def scene():
        spending = Spending(Budget(tokens=bound), None)

        async def ask(most, less):
            size = Usage(most, most)
            await spending.reserve(size)
            await asyncio.sleep(0)
            spending.settle(size, Usage(max(0, most - less), most))
            assert spending.input + spending.output <= bound

        done = await asyncio.gather(*[ask(*one) for one in requests], return_exceptions=True)
        assert all(found is None or isinstance(found, Stopped) for found in done)
        assert (spending.open, spending.held) == (0, Usage())

    asyncio.run(scene())


def test_money_is_known_only_with_prices():
    prices = Prices(input=2.0, output=8.0, cached_input=1.0)
    spending = Spending(Budget(money=0.01), prices)
    spending.count(Usage(1000, 500, 400), 0)
    assert spending.cost() == pytest.approx((600 * 2 + 400 * 1 + 500 * 8) / 1e6)
    assert spending.refusal(Usage(1000, 100)) == ""
    assert spending.refusal(Usage(1000, 400)).startswith("money: 0.0056 of 0.01 USD are spent")
    assert Spending(Budget(), None).facts()["cost"] == "unknown"
    with pytest.raises(ValidationError, match=r"budget\.money needs prices"):
        Http(model="m", budget=Budget(money=1.0))


def test_settings_hold_no_key_and_do_not_repeat_one():
    for wrong in (
        {"api_key_env": "sk-abcdef123"},
        {"api_key_env": "hf_abcdef123"},
        {"base_url": "https://user:abcdef123@host/v1"},
        {"base_url": "https://host/v1?key=abcdef123"},
        {"headers": {"Authorization": "Bearer abcdef123"}},
        {"headers": {"X-Api-Key": "abcdef123"}},
        {"base_url": "localhost:8000"},
        {"extra": {"stream": True}},
        {"tokenizer": "x"},
    ):
        with pytest.raises(ValidationError) as error:
            Http(model="m", **wrong)
        assert "abcdef123" not in str(error.value)


def test_a_missing_key_names_its_variable(monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(RecipeError, match="SOME_KEY is not set"):
        Http(model="m", api_key_env="SOME_KEY").open()


def test_addresses_of_this_machine():
    assert all(loopback(f"http://{host}:80/v1") for host in ("127.0.0.1", "localhost", "[::1]"))
    assert not any(loopback(f"http://{host}/v1") for host in ("10.0.0.1", "localhost.example.com", "api.openai.com"))


def test_error_bodies():
    assert code_of({"error": {"code": "a", "type": "b"}}) == "a"
    assert code_of({"code": None, "type": "b"}) == "b"
    assert code_of({"error": {"code": 429}}) == code_of("<html>") == code_of(None) == ""


def asking(text="What?", id="row", **message):
    return Conversation(id, (Message("user", text, **message),))


def test_a_request_says_all_of_the_sampling_and_nothing_else():
    one = item(
        Http(model="m", extra={"top_k": None, "min_p": 0.1}), asking(context="It"), Sampling(temperature=0.5, top_p=0.9, top_k=5, n=2)
    )
    body = one.request(Http(model="m", extra={"top_k": None, "min_p": 0.1}), 2)
    seed = body.pop("seed")
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "What?\n\nIt"}],
        "max_completion_tokens": 128,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "min_p": 0.1,
    }
    assert 0 <= seed < 2**31
    assert one.request(Http(model="m"), 2, ask=1)["seed"] != seed
    with pytest.raises(RecipeError, match="num_beams"):
        item(Http(model="m"), asking(), Sampling(num_beams=2))


def test_greedy_answers_are_known_by_the_request_and_sampled_ones_by_their_row_too():
    http = Http(model="m")
    key = lambda sampling, settings=http, **given: item(settings, asking(**given), sampling).key  # noqa: E731
    assert key(Sampling(), id="a") == key(Sampling(), id="b")
    assert key(Sampling(temperature=1), id="a") != key(Sampling(temperature=1), id="b")
    assert key(Sampling(temperature=1)) != key(Sampling(temperature=1, seed=1))
    others = [Http(model="x"), Http(model="m", base_url="http://h/v1"), Http(model="m", extra={"a": 1}), Http(model="m", keep_cut=True)]
    assert len({key(Sampling()), *(key(Sampling(), other) for other in others), key(Sampling(n=2)), key(Sampling(stop=("x",)))}) == 7
    assert key(Sampling(), Http(model="m", api_key_env="OTHER", concurrency=3, timeout=5)) == key(Sampling())


def test_tools_and_their_results_are_sent_as_the_interface_has_them():
    call = ToolCall("add", '{"a": 1}', "c1")
    turns = (Message("user", "1?"), Message("assistant", "", tool_calls=(call,)), Message("tool", "2", name="add", call_id="c1"))
    body = item(Http(model="m"), Conversation("r", turns, tools=({"name": "add"},)), Sampling()).body
    assert body["messages"][1]["tool_calls"] == [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
    assert body["messages"][2] == {"role": "tool", "content": "2", "tool_call_id": "c1"}
    assert body["tools"] == [{"type": "function", "function": {"name": "add"}}]


def test_a_cache_is_shared_survives_a_kill_and_keeps_only_answers(tmp_path):
    one, other = AnswersCache(tmp_path), AnswersCache(tmp_path)
    one.put("a", [Answer("x\u2028\ud800", "stop", 1), Answer("y", "length", 2)])
    other.put("b", [Answer("z", "stop", 3)])
    assert one.get("a") == (Answer("x\u2028\ud800", "stop", 1), Answer("y", "length", 2))
    with pytest.raises(ValueError, match="not kept"):
        one.put("c", [Answer.failed("empty")])
    one.close()
    with open(next(tmp_path.glob("*.jsonl")), "ab") as file:
        file.write(b'{"key": "d", "ans')
    whole = AnswersCache(tmp_path)
    assert (len(whole), whole.get("b"), whole.get("d")) == (2, (Answer("z", "stop", 3),), None)
    other.close()


def test_llms_by_name_are_opened_when_asked_for(tmp_path):
    recipe = {"judge": LLMS["scripted"](always="Score: 5"), "other": LLMS["http"](model="m", api_key_env="NO_SUCH_KEY")}
    with Opened(recipe, tmp_path) as llms:
        assert llms("judge") is llms("judge")
        assert llms("judge").complete([asking()], Sampling())[0][0].text == "Score: 5"
        with pytest.raises(RecipeError, match="no LLM named 'juge'; did you mean 'judge'"):
            llms("juge")
        with pytest.raises(RecipeError, match="NO_SUCH_KEY"):
            llms("other")
    with pytest.raises(ValidationError, match="one of always"):
        Script()
