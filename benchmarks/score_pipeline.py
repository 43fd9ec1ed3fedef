"""One turn of `benchmarks/score.py` with a transformers pipeline: MODEL_FOLDER QUESTIONS NEW_TOKENS BATCH -> a line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline


def main() -> None:
    folder, path, new, batch = sys.argv[1:5]
    texts = [row["text"] for row in json.loads(Path(path).read_text())]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    ask = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    began = time.perf_counter()
    found = ask(texts, max_new_tokens=int(new), do_sample=False, batch_size=int(batch), return_full_text=False, add_special_tokens=False)
    seconds = time.perf_counter() - began
    tokens = sum(len(tokenizer(one[0]["generated_text"], add_special_tokens=False)["input_ids"]) + 1 for one in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": round(seconds, 2), "new_tokens": tokens, "answers": len(found), "peak_mb": peak}))


if __name__ == "__main__":
    main()
