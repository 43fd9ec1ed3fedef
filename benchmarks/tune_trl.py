"""One turn of `benchmarks/tune.py` on TRL's side: MODEL_FOLDER ROWS.jsonl BATCH default|grouped -> a line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *given, **named) -> None:
        self.times.append(time.perf_counter())


def main() -> None:
    folder, path, batch, mode = sys.argv[1:5]
    size = int(batch)
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    data = Dataset.from_list([{"input_ids": r["ids"], "labels": r["labels"]} for r in rows])
    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        grouped = {"train_sampling_strategy": "group_by_length"} if mode == "grouped" else {}
        arguments = SFTConfig(
            output_dir=place, per_device_train_batch_size=size, num_train_epochs=1, learning_rate=5e-4, bf16=False, use_cpu=True,
            gradient_checkpointing=False, save_strategy="no", report_to=[], logging_steps=10_000, max_length=2048, disable_tqdm=True,
            dataloader_pin_memory=False, **grouped,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
            args=arguments,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(folder),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
            callbacks=[clock],
        )
        began = time.perf_counter()
        trainer.train()
    # all steps but the first, whose share of the tokens is taken as one step's
    count = len(clock.times)
    tokens = sum(len(r["ids"]) for r in rows) * (count - 1) / count if count > 1 else sum(len(r["ids"]) for r in rows)
    seconds = clock.times[-1] - (clock.times[0] if count > 1 else began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"tokens_per_s": round(tokens / seconds, 1), "peak_mb": peak, "steps": count}))


if __name__ == "__main__":
    main()
