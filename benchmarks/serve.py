"""`etude serve` against llama.cpp's server, the default model, the same questions, both under the same client, in turns.

    python benchmarks/serve.py [--clients 16] [--requests 48] [--new 64] [--rounds 2] [--seconds 600]

Each of `clients` asks its next question as soon as its last is answered (greedy, streamed), so that many are open at once. All
questions share a system prompt. A line of JSON: for each server tokens/s, seconds to the first token and to the last (p50, p99).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = "smollm2-135m-instruct"
SYSTEM = "You help people who write Python. Answer in a few plain sentences, and show code only where it is asked for."
NAMES = ("sorted", "zip", "enumerate", "map", "filter", "any", "all", "sum", "min", "max", "range", "open", "print", "iter", "vars", "hash")

OURS = """
import sys
from pathlib import Path
from etude.loading import load
from etude.serving import Serving, serve
serve(load(sys.argv[1], Path("runs"), lambda text: None), Serving(port=0), lambda text: print(text, flush=True))
"""
LLAMACPP = """
import os, sys, time
import xllamacpp
given = xllamacpp.CommonParams()
given.model.path, given.n_parallel, given.port = sys.argv[1], int(sys.argv[2]), 0
given.n_ctx = int(sys.argv[2]) * 512
given.cpuparams.n_threads = given.cpuparams_batch.n_threads = os.cpu_count() or 1
server = xllamacpp.Server(given)
print(f"at {server.listening_address}/v1;", flush=True)
time.sleep(10**6)
"""


def ask(url: str, question: str, new: int) -> tuple[float, float, int]:
    """Seconds to the first text and to the end, and the new tokens, of one streamed answer."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": new, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    began, first, tokens = time.perf_counter(), 0.0, 0
    with urllib.request.urlopen(request, timeout=600) as reply:
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
            if not first and event.get("choices") and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - began
    return first, time.perf_counter() - began, tokens


def load(url: str, clients: int, requests: int, new: int, stop: float) -> dict[str, float]:
    """One round: what `clients` clients measure over `requests` requests (fewer where the time `stop` comes first)."""
    questions = [f"What does {NAMES[i % len(NAMES)]} do{' with an empty list' * (i // len(NAMES) % 2)}? ({i})" for i in range(requests)]
    ask(url, "Hello", 2)
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = [one for one in pool.map(lambda q: ask(url, q, new) if time.monotonic() < stop else None, questions) if one]
    seconds = time.perf_counter() - began
    firsts, lasts = sorted(one[0] for one in found), sorted(one[1] for one in found)
    return {
        "tokens_per_second": round(sum(one[2] for one in found) / seconds, 1),
        "first_p50": round(statistics.median(firsts), 2),
        "first_p99": round(percentile(firsts, 0.99), 2),
        "p50": round(statistics.median(lasts), 2),
        "p99": round(percentile(lasts, 0.99), 2),
        "requests": len(found),
        "tokens": sum(one[2] for one in found),
        "seconds": round(seconds, 1),
    }


def percentile(ordered: list[float], share: float) -> float:
    """The value below which this share lies: the nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def started(script: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A server process and its address, once it says that it listens."""
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"at (http://\S+/v1);", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, found[1]
    raise SystemExit(f"the server ended before it listened: {' '.join(arguments)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("clients", 16), ("requests", 48), ("new", 64), ("rounds", 2), ("seconds", 600)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from score import shipped

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as place:
        file = shipped(Path(place))
        servers = {"etude": started(OURS, MODEL), "llamacpp": started(LLAMACPP, str(file), str(given.clients))}
        try:
            stop = time.monotonic() + given.seconds
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
            for _ in range(given.rounds):
                for name, (_, url) in servers.items():
                    if time.monotonic() < stop:
                        rounds[name].append(load(url, given.clients, given.requests, given.new, stop))
        finally:
            for process, _ in servers.values():
                process.kill()
                process.wait()
    if not all(rounds.values()):
        raise SystemExit(f"--seconds {given.seconds} is too short for a round of each: {json.dumps(rounds)}")
    best = {name: max(made, key=lambda one: one["tokens_per_second"]) for name, made in rounds.items()}
    ratio = round(best["etude"]["tokens_per_second"] / best["llamacpp"]["tokens_per_second"], 2)
    print(json.dumps({"ratio_vs_llamacpp": ratio, "clients": given.clients, "new": given.new, **best, "rounds": rounds}))


if __name__ == "__main__":
    main()
