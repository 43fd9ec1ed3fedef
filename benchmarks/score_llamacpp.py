"""One turn of `benchmarks/score.py` with llama.cpp's server: GGUF QUESTIONS NEW_TOKENS SLOTS -> a line of JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xllamacpp


def main() -> None:
    file, path, new, slots = sys.argv[1:5]
    prompts = [row["ids"] for row in json.loads(Path(path).read_text())]
    given = xllamacpp.CommonParams()
    given.model.path, given.n_parallel, given.port = file, int(slots), 0
    given.n_ctx = int(slots) * (max(map(len, prompts)) + int(new) + 32)
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(given)

    def ask(prompt: list[int]) -> int:
        body = json.dumps({"prompt": prompt, "n_predict": int(new), "temperature": 0, "cache_prompt": True}).encode()
        request = urllib.request.Request(f"{server.listening_address}/completion", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())["tokens_predicted"]

    ask(prompts[0][:4])
    began = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        tokens = list(pool.map(ask, prompts))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": round(seconds, 2), "new_tokens": sum(tokens), "answers": len(tokens), "peak_mb": peak}))


if __name__ == "__main__":
    main()
