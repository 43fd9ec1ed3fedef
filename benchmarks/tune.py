"""`make bench-tune`: tuning speed against TRL's SFTTrainer on the same model, rows, mask, LoRA and float32.

Each side is a process of its own (TRL in a virtual environment of its own), in turns; a figure is the
median of its turns. Speed is the rows' unpacked tokens, prompt included, over the seconds of the training
steps after the first. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def rows(tokens: int) -> list[dict]:
    """Docstring rows of the standard library, in the recipe's seeded order, up to so many tokens."""
    from etude import encoded, pipeline, preparing, recipe, seeds
    from etude.models import weights

    chosen = recipe.load(HERE.parent / "recipes" / "quickstart.yaml")
    student, data = pipeline.Student(weights.locate(chosen.model), chosen), preparing.read(chosen)
    asked = preparing.training(chosen, data, preparing.drawn(chosen, data))
    limits = chosen.tune.max_tokens, chosen.tune.truncation
    found = encoded.encode(asked, pipeline.examiner_of(student, data), *limits).rows
    taken, used = [], 0
    for index in seeds.stream(0, "bench").permutation(len(found)):
        row = found[int(index)]
        if used + len(row.ids) > tokens:
            break
        taken.append({"ids": row.ids.tolist(), "labels": row.labels.tolist()})
        used += len(row.ids)
    return taken


def few_shot(count: int, shared: int = 500, own: int = 50) -> list[dict]:
    """Rows of `shared` tokens that are the same in all and `own` of their own, the last 10 of them trained."""
    import numpy as np

    draws = np.random.default_rng(0)
    head = draws.integers(100, 40_000, shared).tolist()
    made = []
    for _ in range(count):
        tail = draws.integers(100, 40_000, own).tolist()
        made.append({"ids": head + tail, "labels": [-100] * (shared + own - 10) + tail[-10:]})
    return made


def measured(python: str, script: str, folder: str, path: Path, *options: str) -> dict:
    """One process; the JSON of its last line."""
    command = [python, str(HERE / script), folder, str(path), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    from etude.models import weights

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peer", default=str(HERE.parent / ".venv-bench/bin/python"), help="Python of the environment with TRL")
    options.add_argument("--tokens", type=int, default=8192, help="tokens of one turn")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--rows", type=Path, help='other rows: JSON Lines of {"ids": [...], "labels": [...]}')
    given = options.parse_args()
    place = HERE.parent / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    folder = str(weights.locate("smollm2-135m-instruct", print).folder)
    sets = {
        "rows": [json.loads(line) for line in given.rows.read_text().splitlines()] if given.rows else rows(given.tokens),
        "few": few_shot(24),
    }
    for name, made in sets.items():
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)) + "\n")

    def ours(name: str) -> dict:
        # few-shot rows: eight of 550 tokens a step, as many as the largest batch of the peer
        size = "4400" if name == "few" else "2200"
        found = measured(sys.executable, "tune_ours.py", folder, place / f"{name}.jsonl", size)
        print(f"etude, {name}: {found}", flush=True)
        return found

    def theirs(name: str, batch: int, grouped: bool) -> dict:
        found = measured(given.peer, "tune_trl.py", folder, place / f"{name}.jsonl", str(batch), "grouped" if grouped else "default")
        print(f"TRL, {name}, batch {batch}{', length-grouped' if grouped else ''}: {found}", flush=True)
        return found

    tried = {batch: theirs("rows", batch, True)["tokens_per_s"] for batch in (1, 2, 4, 8)}
    best = max(tried, key=lambda batch: tried[batch])
    turns: dict[str, list[dict]] = {"ours": [], "default": [], "best": [], "few ours": [], "few best": []}
    for _ in range(given.turns):
        turns["ours"].append(ours("rows"))
        turns["default"].append(theirs("rows", 8, False))
        turns["best"].append(theirs("rows", best, True))
    for _ in range(max(1, given.turns - 1)):
        turns["few ours"].append(ours("few"))
        turns["few best"].append(theirs("few", best, True))

    def median(name: str, key: str = "tokens_per_s") -> float:
        return statistics.median(turn[key] for turn in turns[name])

    print(
        json.dumps(
            {
                "ratio_vs_trl": round(median("ours") / median("default"), 2),
                "ratio_vs_trl_best": round(median("ours") / median("best"), 2),
                "ratio_few_shot": round(median("few ours") / median("few best"), 2),
                "tokens_per_s": median("ours"),
                "trl_tokens_per_s": median("default"),
                "trl_best": {"batch": best, "tokens_per_s": median("best")},
                "gemm_fraction": median("ours", "gemm_fraction"),
                "peak_mb": median("ours", "peak_mb"),
                "trl_peak_mb": median("default", "peak_mb"),
                "tokens": sum(len(row["ids"]) for row in sets["rows"]),
                "rows": len(sets["rows"]),
            }
        )
    )


if __name__ == "__main__":
    main()
