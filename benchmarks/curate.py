"""`make bench-curate`: the novelty filter, near duplicates and the whole of curation, on rows from a seeded generator.

- The exact ROUGE-L filter over 52,000 instructions (5 to 40 words, as common as words are: 1 / rank; one in seven a
  changed copy of an earlier one), a process of its own; and one candidate against that pool. The peer is
  rouge-score, timed a pair at a time on a sample of the same rows; `ratio_vs_rouge_score` is its time for all the pairs
  that Self-Instruct's loop scores (each row with every row kept before it) over ours.
- MinHash near duplicates of a million texts of about 40 words, a process of its own; its peak memory is what it
  grew by beyond the texts themselves. datasketch (where installed) is timed on a sample, for hashing and
  inserting alone, without verification.
- Every check that needs no model, one after another, on 52,000 rows.

Medians of `--repeats`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

sys.path.insert(0, str(Path(__file__).resolve().parent))

from read import peak_mb

ROWS = 52_000
WORDS = 30_000


def vocabulary() -> tuple[list[str], list[float]]:
    """Made-up words, and where each ends on a line from 0 to 1 that gives word k a share of 1 / k."""
    draws = random.Random(0)
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
    words = list(dict.fromkeys("".join(draws.choices(syllables, k=draws.randint(1, 4))) for _ in range(2 * WORDS)))[:WORDS]
    ends = list(itertools.accumulate(1 / (k + 1) for k in range(len(words))))
    return words, [end / ends[-1] for end in ends]


class Texts(Sequence[str]):
    """`count` texts, each a pure function of its number: written when asked, never kept. One in seven is a copy of
    one among those before it, a few of its words changed."""

    def __init__(self, count: int, shortest: int, longest: int) -> None:
        self.count, self.shortest, self.longest = count, shortest, longest
        self.words, self.ends = vocabulary()

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(self.count))]
        if not 0 <= number < self.count:
            raise IndexError(number)
        draws = random.Random(number)
        if number % 7 == 6:
            source = draws.randrange(number)
            source -= source % 7 == 6
            text = self.fresh(random.Random(source))
            for _ in range(draws.randrange(max(2, len(text) // 4))):
                text[draws.randrange(len(text))] = self.drawn(draws, 1)[0]
        else:
            text = self.fresh(draws)
        return " ".join(text)

    def fresh(self, draws: random.Random) -> list[str]:
        return self.drawn(draws, draws.randint(self.shortest, self.longest))

    def drawn(self, draws: random.Random, count: int) -> list[str]:
        return draws.choices(self.words, cum_weights=self.ends, k=count)


def novelty(count: int) -> dict[str, float]:
    """Seconds of the filter over `count` instructions, and milliseconds of one candidate against the pool."""
    from etude.similarity import NoveltyIndex, words

    texts = list(Texts(count, 5, 40))
    start = time.perf_counter()
    index = NoveltyIndex()
    kept = [index.admit(words(text)) is None for text in texts]
    seconds = time.perf_counter() - start
    pairs, before = 0, 0
    for stays in kept:
        pairs, before = pairs + before, before + stays
    fresh = [words(text) for text in Texts(count + 400, 5, 40)[count:]]
    index.nearest(fresh[0])  # the first builds what the others use
    decided, nearest = [timed(index.above, one) for one in fresh], [timed(index.nearest, one) for one in fresh]
    return {
        "seconds": seconds,
        "kept": before,
        "pairs": pairs,
        "decide_ms": statistics.median(decided) * 1e3,
        "nearest_ms": statistics.median(nearest) * 1e3,
        "nearest_ms_worst": max(nearest) * 1e3,
        "peak_mb": peak_mb(),
    }


def timed(function: Callable[..., object], *given: object) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*given)
    return time.perf_counter() - start


def pair_seconds(count: int) -> float:
    """Seconds rouge-score takes for one pair, at its quickest: both texts cut into tokens before (as Alpaca calls it)."""
    from rouge_score import rouge_scorer, tokenizers

    cut = tokenizers.DefaultTokenizer(False).tokenize
    texts = [cut(text) for text in Texts(2 * count, 5, 40)]
    return timed(lambda: [rouge_scorer._score_lcs(texts[n], texts[-1 - n]) for n in range(count)]) / count


def minhash(count: int) -> dict[str, float]:
    """Seconds and memory of the near duplicates of `count` texts, and how many there are."""
    from etude.similarity import Bands, near_groups

    texts = list(Texts(count, 20, 60))
    near_groups(texts[:2000])
    before, start = peak_mb(), time.perf_counter()
    groups = near_groups(texts)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "grown_mb": peak_mb() - before,
        "peak_mb": peak_mb(),
        "bytes_a_row": Bands.fit(0.8).bytes_a_row,
        "groups": len(groups),
        "rows_in_groups": sum(map(len, groups)),
    }


def datasketch_row_seconds(count: int = 3000) -> float | None:
    """Seconds a text that datasketch takes to hash (in bulk) and insert word 3-grams, same permutations; None: not installed."""
    if not importlib.util.find_spec("datasketch"):
        return None
    from datasketch import MinHash, MinHashLSH

    from etude.similarity import shingles, tokens

    texts = list(Texts(count, 20, 60))

    def work() -> None:
        index = MinHashLSH(params=(25, 5), num_perm=128)
        sets = ([" ".join(gram).encode() for gram in shingles(tokens(text), 3)] for text in texts)
        for number, one in enumerate(MinHash.generator(sets, num_perm=128)):
            index.query(one)
            index.insert(number, one)

    return timed(work) / count


def curate(count: int) -> dict[str, Any]:
    """Seconds of every check that needs no model, with its settings' defaults, on `count` rows and 1,000 held out."""
    from etude.curation import CHECKS, Beside, Row
    from etude.records import Origin, Record, identify
    from etude.templates import write

    asked, answered = Texts(count + 1000, 5, 40), Texts(count + 1000, 10, 120)
    rows = []
    for number in range(count + 1000):
        fields = {"instruction": asked[number].capitalize() + ".", "input": "", "output": answered[number].capitalize() + "."}
        record = Record(identify(fields), fields, Origin("generated", number + 1), "rows", "rows")
        rows.append(Row(record, write(record, None)))
    beside = Beside(evaluation={"rows.test": rows[count:]})
    seconds: dict[str, float] = {}
    for name, kind in CHECKS.items():
        if "model" in kind.model_fields or any(one.is_required() for one in kind.model_fields.values()):
            continue
        check = kind()
        seconds[name] = timed(check.judge, rows[:count], beside)
        print(f"  {name:24} {seconds[name]:7.2f} s", file=sys.stderr, flush=True)
    return {"seconds": sum(seconds.values()), "checks": seconds}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {"novelty": novelty, "minhash": minhash, "curate": curate}


def child(part: str, count: int) -> dict[str, Any]:
    """One part in a process of its own, so that its peak memory is its own."""
    done = subprocess.run([sys.executable, __file__, "--one", part, str(count)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    shown = "  ".join(f"{key} {value:,.4g}" for key, value in found.items() if isinstance(value, int | float))
    print(f"{part} {count:,} rows: {shown}", flush=True)
    return found


def median(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run of median seconds."""
    return sorted(found, key=lambda one: one["seconds"])[len(found) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the filter and of curation")
    parser.add_argument("--minhash-rows", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, metavar=("PART", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(PARTS[options.one[0]](int(options.one[1]))))
        return
    sizes = {"novelty": options.rows, "curate": options.rows, "minhash": options.minhash_rows}
    found = {part: median([child(part, sizes[part]) for _ in range(options.repeats)]) for part in options.parts}
    print(json.dumps(summary(found, options)))


def summary(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """The last line; the peers are timed here, in the same run."""
    last: dict[str, Any] = {}
    if one := found.get("novelty"):
        pair = statistics.median(pair_seconds(5000) for _ in range(options.repeats))
        last |= {
            "rouge_filter_52k_s": round(one["seconds"], 2),
            "ratio_vs_rouge_score": round(pair * one["pairs"] / one["seconds"]),
            "rouge_score_us_a_pair": round(pair * 1e6, 1),
            "one_candidate_ms": round(one["nearest_ms"], 3),
        }
    if one := found.get("minhash"):
        peer = datasketch_row_seconds()
        ours = one["seconds"]
        last |= {
            "minhash_1m_s": round(ours, 1),
            "minhash_1m_peak_mb": round(one["grown_mb"]),
            "minhash_bytes_a_row": one["bytes_a_row"],
            "ratio_vs_datasketch": round(peer * options.minhash_rows / ours, 1) if peer else None,
        }
    if one := found.get("curate"):
        last |= {"curate_52k_s": round(one["seconds"], 1), "checks_s": {name: round(value, 2) for name, value in one["checks"].items()}}
    return last | {"rows": options.rows, "minhash_rows": options.minhash_rows}


if __name__ == "__main__":
    main()
