"""One turn of `benchmarks/tune.py` on our side: MODEL_FOLDER ROWS.jsonl TOKENS_PER_STEP -> a line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from etude import doctor, packing, steps, training
from etude.models import weights
from etude.records import Encoded
from etude.tunings.lora import Lora


def main() -> None:
    folder, path, size = sys.argv[1:4]
    raw = [json.loads(line) for line in Path(path).read_text().splitlines()]
    data = [Encoded(str(i), np.array(r["ids"], np.int32), np.array(r["labels"], np.int32)) for i, r in enumerate(raw)]
    model, _ = weights.load(Path(folder))
    tune = steps.Tune(method=Lora(r=16, alpha=32, target_modules=("q_proj", "v_proj")), tokens_per_step=int(size), evaluate_every="never")
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as place:
        training.train(model, data, tune, Path(place), progress=lambda s: seen.append((time.perf_counter(), s.tokens)))
    seconds, tokens = seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]
    plan = steps.plan_steps(data, tune, 0)[1:]
    executed = sum(len(pack.ids) for step in plan for pack in packing.pack([data[i] for i in step], tune.pack_tokens, True))
    targets = sum(int((data[i].labels != -100).sum()) for step in plan for i in step)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    body = sum(p.numel() for name, p in inner.named_parameters() if p.dim() == 2 and "embed" not in name and "lora" not in name)
    head = inner.get_output_embeddings().weight.numel()
    flops = 4 * (executed * body + targets * head)
    speed = doctor.gemm_speed(torch.float32, seconds=2.0) * 1e9
    print(
        json.dumps(
            {
                "tokens_per_s": round(tokens / seconds, 1),
                "gemm_fraction": round(flops / seconds / speed, 3),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "executed": executed,
                "tokens": tokens,
            }
        )
    )


if __name__ == "__main__":
    main()
