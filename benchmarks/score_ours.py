"""One turn of `benchmarks/score.py` on our side: MODEL_FOLDER QUESTIONS NEW_TOKENS -> a line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from etude.models import Sampling, decoding
from etude.models.local import Local


def main() -> None:
    folder, path, new = sys.argv[1:4]
    prompts = [row["ids"] for row in json.loads(Path(path).read_text())]
    local = Local.from_folder(Path(folder))
    began = time.perf_counter()
    found = list(decoding.decode(local.model, prompts, lambda index: None, Sampling(max_new_tokens=int(new)), local.stops()))
    texts = [local.encoder.text(drawn.ids) for drawn in found]
    seconds = time.perf_counter() - began
    counts = {"prompt_tokens": sum(map(len, prompts)), "new_tokens": sum(len(drawn.ids) for drawn in found), "answers": len(texts)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": round(seconds, 2), **counts, "peak_mb": peak}))


if __name__ == "__main__":
    main()
