"""How fast text metrics are beside the programs whose numbers they equal, in one process and one run.

    python benchmarks/metrics.py [--pairs 10000] [--data FILE]

ROUGE with and without stemmer, one at a time and all five together, against rouge-score on the same pairs: generated ones (one to
four lines of 8 to 15 words, drawn like English by rank), or `output` and `reference` of a predictions file. Each program
tokenises for itself; "together" is one call of rouge-score with five names, and five metrics here. Processor
seconds, so that other work on the machine counts less. The numbers of both are compared, too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from etude.metrics import METRICS
from etude.records import Prediction
from etude.similarity.numbering import numbered_together
from etude.similarity.porter import porter

NAMES = ("rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum")


def generated(pairs: int) -> list[Prediction]:
    draws = random.Random(0)
    stems = ["".join(draws.choices("etaoinshrdlucmfwyp", k=draws.choice((1, 2, 3, 4, 5, 5, 6, 7, 8, 9)))) for _ in range(4000)]
    words = [stem + draws.choice(("", "", "", "s", "ed", "ing", "ly", "ation")) for stem in stems]
    ranks = [1 / (rank + 3) for rank in range(len(words))]

    def line() -> str:
        return " ".join(draws.choices(words, ranks, k=draws.randint(8, 15))).capitalize() + "."

    found = []
    for i in range(pairs):
        reference = [line() for _ in range(draws.randint(1, 4))]
        output = [" ".join(w for w in kept.split(" ") if draws.random() < 0.7) for kept in reference] + [line()]
        found.append(Prediction(str(i), ("\n".join(output),), ("\n".join(reference),)))
    return found


def read(path: str, pairs: int) -> list[Prediction]:
    from etude.grading import read as predictions

    rows, _ = predictions(path)
    return [Prediction(str(i), rows[i % len(rows)].outputs[:1], rows[i % len(rows)].references[:1]) for i in range(pairs)]


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def measured(rows: Sequence[Prediction], names: Sequence[str], stemmer: bool) -> tuple[float, float, float]:
    """Processor seconds of rouge-score and of ours, and the largest difference of an item's F1."""
    scorer = RougeScorer(list(names), use_stemmer=stemmer)
    theirs, expected = seconds(lambda: [scorer.score(row.references[0], row.outputs[0]) for row in rows])
    numbered_together.cache_clear()  # nothing of an earlier measurement is kept
    porter.cache_clear()
    ours, found = seconds(lambda: [METRICS[name](stemmer=stemmer).stats(rows)[:, 0] for name in names])
    gaps = [np.abs(values - [e[name].fmeasure for e in expected]).max() for name, values in zip(names, found, strict=True)]
    return theirs, ours, float(max(gaps))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--data", default="")
    asked = parser.parse_args()
    rows = read(asked.data, asked.pairs) if asked.data else generated(asked.pairs)
    METRICS["rougeLsum"]().stats(rows[:50])  # imports
    result: dict[str, object] = {"pairs": len(rows), "words": float(np.mean([len(row.references[0].split()) for row in rows]))}
    print(f"{len(rows)} pairs, {result['words']:.0f} words a reference")
    print(f"{'':28}{'rouge-score':>12}{'etude':>9}{'ratio':>8}{'largest difference':>21}")
    for stemmer in (False, True):
        for names in (*((name,) for name in NAMES), NAMES):
            theirs, ours, gap = measured(rows, names, stemmer)
            name = (names[0] if len(names) == 1 else "together") + (" stemmed" if stemmer else "")
            print(f"{name:28}{theirs:10.2f} s{ours:7.3f} s{theirs / ours:7.1f}x{gap:21.1e}", flush=True)
            result[name] = {
                "rouge_score_s": round(theirs, 3),
                "etude_s": round(ours, 4),
                "ratio": round(theirs / ours, 1),
                "difference": gap,
            }
    result["ratio"] = min(result[name]["ratio"] for name in ("together", "together stemmed"))  # type: ignore[index]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
