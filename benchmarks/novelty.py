"""What one candidate of Self-Instruct costs before it is a task: the text rules and the exact ROUGE-L filter, against a large pool.

    python benchmarks/novelty.py [--pool 52000] [--candidates 1000] [--repeats 3]

The pool holds made-up instructions of 5 to 40 words (those of `curate.py`, words as common as 1 / rank, one in seven a changed copy of
an earlier one), all admitted without a look. A candidate's time is that of `Filters.broken` and `Pool.admit`: the nearest member and its
similarity, exact, and the candidate joins the pool where it is new. One thread; processor milliseconds, so that other work on the
machine counts less. The last line is JSON, of the run of median mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from curate import Texts
from read import peak_mb

from etude.generation.filters import Filters, tidied
from etude.generation.pool import Pool, Task

TARGET_MS = 5.0


def measured(pool_size: int, candidates: int) -> dict[str, Any]:
    """Milliseconds a candidate, the pool filled anew."""
    texts = Texts(pool_size + candidates, 5, 40)
    seeds = [Task(str(number), text) for number, text in enumerate(texts[:pool_size])]
    fresh = [texts[pool_size + number] for number in range(candidates)]
    start = time.process_time()
    pool = Pool(seeds, 0.7)
    filling = time.process_time() - start
    pool.near(fresh[0])  # the first look builds what the others use
    filters = Filters()
    spent, kept = [], 0
    for text in fresh:
        start = time.process_time()
        text = tidied(text)
        if not filters.broken(text):
            kept += pool.admit(text)[0] is not None
        spent.append((time.process_time() - start) * 1e3)
    return {
        "pool": pool_size,
        "candidates": candidates,
        "kept": kept,
        "fill_s": round(filling, 2),
        "mean_ms": round(statistics.mean(spent), 3),
        "median_ms": round(statistics.median(spent), 3),
        "p99_ms": round(sorted(spent)[int(0.99 * (len(spent) - 1))], 3),
        "worst_ms": round(max(spent), 3),
        "peak_mb": round(peak_mb()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=52_000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = []
    for _ in range(options.repeats):
        one = measured(options.pool, options.candidates)
        print("  ".join(f"{key} {value:,}" for key, value in one.items()), flush=True)
        found.append(one)
    last = sorted(found, key=lambda one: one["mean_ms"])[len(found) // 2]
    print(json.dumps({**last, "target_ms": TARGET_MS, "under_target": last["mean_ms"] < TARGET_MS}))


if __name__ == "__main__":
    main()
