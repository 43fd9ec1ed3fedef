"""A provider's Batch API: requests out in its file format, results back by id in any order, the rest left to ask."""

from __future__ import annotations

import json
import random

import pytest

from etude import journal
from etude.failures import DataError
from etude.models import Sampling
from etude.models.http import Http
from etude.models.servers.batches import export_requests, import_results
from etude.models.servers.budgets import Prices
from etude.records import Conversation, Message
from loopback import Loopback, chat, error

GREEDY = Sampling()
HTTP = Http(model="small", api_key_env="")


def asking(*texts):
    return [Conversation(f"row{i}", (Message("user", text),)) for i, text in enumerate(texts)]


def answered(request, *texts, **given):
    """A line of a batch's output file."""
    body = chat(*(texts or [request["body"]["messages"][-1]["content"][::-1]]), **given).body
    return {"id": "b", "custom_id": request["custom_id"], "response": {"status_code": 200, "request_id": "r", "body": body}, "error": None}


def failed(request, status=0, code="batch_expired"):
    """A line of its error file."""
    response = {"status_code": status, "request_id": "r", "body": error(status, "no", code).body} if status else None
    return {
        "id": "b",
        "custom_id": request["custom_id"],
        "response": response,
        "error": None if status else {"code": code, "message": "no"},
    }


def exported(path, rows, sampling=GREEDY, http=HTTP, **bounds):
    return [list(journal.read(file)) for file in export_requests(http, rows, sampling, path, **bounds)]


def test_requests_are_as_the_interface_has_them_and_join_in_any_order(tmp_path):
    rows = asking(*[f"question {i}" for i in range(30)], "question 7")
    (lines,) = exported(tmp_path / "requests.jsonl", rows)
    assert len(lines) == 30  # rows that read the same are asked once
    body = {"model": "small", "messages": [{"role": "user", "content": "question 0"}], "max_completion_tokens": 128, "temperature": 0.0}
    assert lines[0] == {"custom_id": lines[0]["custom_id"], "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert lines[0]["custom_id"].startswith("row0-")
    random.Random(0).shuffle(lines)
    journal.write_rows(tmp_path / "out.jsonl", map(answered, lines))
    found = import_results(HTTP, rows, Sampling(), [tmp_path / "out.jsonl"], Prices(input=1.0, output=2.0))
    assert [found.answers[i][0].text for i in range(31)] == [row.messages[0].content[::-1] for row in rows]
    assert (found.rest, found.failed, found.unknown, found.repeated) == ((), {}, 0, 0)
    assert found.cost == pytest.approx(30 * (10 + 2 * 5) / 1e6)


def test_partial_expired_failed_and_doubled_results_leave_the_rest_to_ask(tmp_path):
    rows = asking(*"abcdefgh")
    ((a, b, c, d, e, f, g, _),) = exported(tmp_path / "requests.jsonl", rows)
    stranger = {**answered(a), "custom_id": "row0-of-another-export"}
    output = [answered(c, "x"), answered(a, "A"), answered(a, "again"), stranger, answered(b, ""), answered(c, "y", model="large")]
    errors = [failed(d), failed(e, 400, "content_filter"), failed(f, 500), failed(g, 400, "bad")]
    journal.write_rows(tmp_path / "out.jsonl", output)
    journal.write_rows(tmp_path / "errors.jsonl", errors)
    with open(tmp_path / "out.jsonl", "a", encoding="utf-8") as file:
        file.write('{"custom_id": "row7-')
    found = import_results(HTTP, rows, Sampling(), [tmp_path / "errors.jsonl", tmp_path / "out.jsonl"])
    assert {i: answers[0].text for i, answers in found.answers.items()} == {0: "A", 2: "x"}
    assert found.rest == (1, 3, 4, 5, 6, 7)
    assert found.failed == {"empty": 1, "expired": 1, "refused": 1, "server": 1, "rejected": 1}
    assert (found.unknown, found.repeated, found.unreadable) == (1, 2, 1)
    assert found.facts()["cost"] == "unknown"
    journal.write_rows(tmp_path / "half.jsonl", [failed(a), answered(a, "later")])  # an answer wins over a failure
    assert import_results(HTTP, rows, Sampling(), [tmp_path / "half.jsonl"]).answers[0][0].text == "later"


def test_imported_answers_are_in_the_cache_and_only_the_rest_is_asked(tmp_path):
    rows = asking("ab", "cd", "ef")
    with Loopback() as server:
        http = Http(model="small", base_url=server.url, api_key_env="", cache=str(tmp_path / "cache"))
        (lines,) = exported(tmp_path / "requests.jsonl", rows, http=http)
        journal.write_rows(tmp_path / "out.jsonl", [answered(lines[2]), answered(lines[0])])
        assert import_results(http, rows, Sampling(), [tmp_path / "out.jsonl"]).rest == (1,)
        assert [line["custom_id"][:4] for (line,) in [exported(tmp_path / "rest.jsonl", rows, http=http)[0]]] == ["row1"]
        with http.open() as llm:
            assert [a.text for (a,) in llm.complete(rows, Sampling())] == ["ba", "dc", "fe"]
        assert [asked.words for asked in server.asked] == ["cd"]
        with pytest.raises(DataError, match="nothing to ask: 3 questions, all answered already"):
            exported(tmp_path / "none.jsonl", rows, http=http)


def test_results_of_other_settings_are_not_taken(tmp_path):
    rows = asking("ab")
    ((line,),) = exported(tmp_path / "requests.jsonl", rows)
    journal.write_rows(tmp_path / "out.jsonl", [answered(line)])
    with pytest.raises(DataError, match="1 lines, and none is a result of these 1 questions"):
        import_results(HTTP, rows, Sampling(max_new_tokens=7), [tmp_path / "out.jsonl"])
    with pytest.raises(DataError, match="cannot be read"):
        import_results(HTTP, rows, Sampling(), [tmp_path / "missing.jsonl"])


def test_files_keep_to_the_bounds_and_sampled_rows_have_their_own_seeds(tmp_path):
    rows = asking(*["same"] * 7)
    sampling = Sampling(temperature=1.0, n=2)
    files = exported(tmp_path / "requests.jsonl", rows, sampling, most=3)
    assert [len(lines) for lines in files] == [3, 3, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["requests-2.jsonl", "requests-3.jsonl", "requests.jsonl"]
    lines = [line for part in files for line in part]
    assert len({line["body"]["seed"] for line in lines}) == 7
    assert all(line["body"]["n"] == 2 for line in lines)
    size = len(json.dumps(lines[0]))
    assert len(exported(tmp_path / "small.jsonl", rows, sampling, most_bytes=2 * size)) >= 4
    journal.write_rows(tmp_path / "out.jsonl", [answered(lines[0], "x", "y"), answered(lines[1], "only one")])
    found = import_results(HTTP, rows, sampling, [tmp_path / "out.jsonl"])
    assert [a.text for a in found.answers[0]] == ["x", "y"]
    assert found.failed == {"count": 1}
