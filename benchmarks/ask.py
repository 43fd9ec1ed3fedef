"""Requests a second of the HTTP client and a scripted server on this machine together, and whether every row came back once.

    python benchmarks/ask.py [--requests 2000] [--concurrency 32] [--rounds 5]

The server (tests/loopback.py, asyncio) runs in a process of its own and answers each question with itself, turned round. Each round asks
all questions, journals every row as it comes, and reads the journal back: each question once, with its own answer. The last line is JSON
with the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from etude import journal
from etude.models import Sampling
from etude.models.http import Http
from etude.records import Conversation, Message

LOOPBACK = Path(__file__).resolve().parent.parent / "tests" / "loopback.py"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=2000)
    options.add_argument("--concurrency", type=int, default=32)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    server = subprocess.Popen([sys.executable, str(LOOPBACK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin
    assert server.stdout
    url = server.stdout.readline().strip()
    settings = Http(model="echo", base_url=url, api_key_env="", concurrency=given.concurrency)
    rates = []
    with tempfile.TemporaryDirectory() as folder, settings.open(Path(folder)) as llm:
        llm.complete([Conversation("first", (Message("user", "warm up"),))], Sampling())
        for number in range(given.rounds):
            asked = {f"row{i}": f"Round {number}, question {i}: " + "what is up? " * 20 for i in range(given.requests)}
            conversations = [Conversation(id, (Message("user", text),)) for id, text in asked.items()]
            path = Path(folder) / f"{number}.jsonl"
            began = time.perf_counter()
            with journal.Journal(path) as rows:
                for index, answers in llm.complete_each(conversations, Sampling(max_new_tokens=64)):
                    rows.append({"id": conversations[index].id, "answer": answers[0].text})
            rates.append(given.requests / (time.perf_counter() - began))
            got = [(row["id"], row["answer"]) for row in journal.read(path)]
            if sorted(got) != sorted((id, text[::-1]) for id, text in asked.items()):
                sys.exit(f"round {number}: {len(got)} rows of {len(asked)}, {len(dict(got))} of them different: lost, doubled or mixed up")
            print(f"round {number}: {rates[-1]:.0f} requests/s, each of {len(got)} rows once")
        facts = llm.facts()
    server.stdin.close()
    arrived = int(server.stdout.read())
    if arrived != facts["requests"]:
        sys.exit(f"the server got {arrived} requests, the client counts {facts['requests']}")
    median = statistics.median(rates)
    print(json.dumps({"requests_per_s": round(median), "lowest": round(min(rates)), "highest": round(max(rates)), "requests": arrived}))


if __name__ == "__main__":
    main()
