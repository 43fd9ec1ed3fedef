"""LLaMA-Factory's YAML: its model, data, finetuning and training arguments (hparams/*_args.py of hiyouga/LLaMA-Factory)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from etude.failures import RecipeError, nearest
from etude.importing.data import from_names
from etude.importing.families import everything_trained, last_trained, written
from etude.importing.rules import (
    Given,
    Left,
    Outcome,
    Put,
    Rule,
    Same,
    Tool,
    batch,
    choice,
    left,
    modules,
    off,
    same,
    share,
    to,
)
from etude.importing.trainer import TRAINER

STAGES = {
    "pt": "continued pretraining on plain text",
    "rm": "a reward model",
    "ppo": "reinforcement learning from a reward model",
    "dpo": "preference tuning",
    "kto": "preference tuning",
}
"""Stages other than sft, in words."""

TEMPLATES = {
    "alpaca": "alpaca",
    "vicuna": "vicuna",
    "chatml": "chatml",
    "chatml_de": "chatml",
    "llama2": "llama2",
    "llama3": "llama3",
    "mistral": "mistral",
    "mistral_small": "mistral",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma",
    "phi": "phi3",
    "phi_small": "phi3",
    "qwen": "qwen",
    "qwen3": "qwen",
    "qwen3_nothink": "qwen",
    "smollm": "chatml",
    "smollm2": "chatml",
    "zephyr": "zephyr",
}
"""LLaMA-Factory's `template:` -> the model family that writes so."""


def template(given: Given, key: str) -> Sequence[Outcome]:
    """Its template is a chat format here; one that no written format matches is the tokenizer's own."""
    return [written(TEMPLATES.get(str(given.keys[key])), f"template: {given.keys[key]}")]


def method(given: Given, key: str) -> Sequence[Outcome]:
    """lora or full; the others train other weights, which no comment can make up for."""
    value = given.keys[key]
    if value in ("freeze", "oft"):
        raise given.wrong(key, f"etude has no tuning method like {value!r}; there is lora and full")
    if value not in ("lora", "full"):
        raise given.wrong(key, f"no value is called {value!r}{nearest(str(value), ['lora', 'full', 'freeze', 'oft'])}")
    return [Put("tune.method.type", value)]


def adapter(rule: Rule) -> Rule:
    """A key of the adapter, which says nothing under full tuning."""
    return lambda given, key: [Same("no adapter in full tuning")] if given.get("finetuning_type") == "full" else rule(given, key)


def data(given: Given, key: str) -> Sequence[Outcome]:
    """The named data sets; `dataset_info.json` says what each one is."""
    return from_names(given, key, given.get("dataset_dir", "data"), given.get("max_samples"))


def validation(given: Given, key: str) -> Sequence[Outcome]:
    """A validation set of its own."""
    parts = from_names(given, key, given.get("dataset_dir", "data"), None)
    paths = [part.value["path"] for part in parts if isinstance(part, Put) and "path" in part.value]
    if len(paths) == 1:
        return [Put("split.validation", {"path": paths[0]}, f"eval_dataset: {given.keys[key]}")]
    return [Left("one validation file is possible here; the rest needs sources of its own")]


def packs(given: Given) -> bool:
    """Whether rows are packed there."""
    return bool(given.get("packing") or given.get("neat_packing"))


def refuse(given: Given) -> None:
    """Only supervised tuning is etude's."""
    stage = given.get("stage", "sft")
    if stage in STAGES:
        raise given.wrong("stage", f"{stage!r} is {STAGES[stage]}; etude does supervised instruction tuning (sft) only")
    if stage != "sft":
        raise given.wrong("stage", f"no value is called {stage!r}{nearest(str(stage), ['sft', *STAGES])}")
    if given.get("do_train") is False:
        raise given.wrong("do_train", "this configuration trains nothing; there is no recipe to make of it")
    if given.get("dataset") is None:
        raise RecipeError(f"{given.path}: there is no 'dataset' to train on")


def defaults(given: Given) -> Iterable[Put]:
    """What LLaMA-Factory (and transformers below it) does where the file is silent."""
    said = "LLaMA-Factory's default"
    yield Put("tune.method.type", "lora", said)
    if given.get("finetuning_type", "lora") == "lora":
        rank: Any = given.get("lora_rank", 8)
        yield Put("tune.method.r", rank, said)
        yield Put("tune.method.alpha", 2 * int(rank), f"{said}: twice the rank")
    yield Put("tune.learning_rate", 5e-5, said)
    yield Put("tune.epochs", 3, said)
    yield Put("tune.rows_per_step", 8, said)
    yield Put("tune.max_tokens", 2048, said)
    yield Put("tune.schedule", "linear", said)
    yield Put("tune.warmup", 0, said)
    yield Put("split.validation", 0, said)


STEP = batch("per_device_train_batch_size", "gradient_accumulation_steps", "cutoff_len", (8, 1, 2048), packs)
PACKING = same("rows are always packed, each attending to itself only; the loss is the same")

KEYS: dict[str, Rule] = {
    **TRAINER,
    # model
    "adapter_name_or_path": left("tuning starts from a whole model here: merge the adapter into it first"),
    "resize_vocab": off("tokens are never added to a vocabulary"),
    "new_special_tokens": off("tokens are never added to a vocabulary"),
    "flash_attn": left("attention is chosen by what the model and the machine can do"),
    "enable_liger_kernel": off("etude's own loss computes logits only where there is a label"),
    "use_unsloth": off("etude has its own training loop"),
    "quantization_bit": left("the start model is not quantised in memory (a GGUF file is dequantised)"),
    "quantization_method": left("the start model is not quantised in memory"),
    "double_quantization": off("the start model is not quantised in memory"),
    "rope_scaling": left("the model's own config says how far it reaches"),
    "upcast_layernorm": off("the precision is tune.precision everywhere"),
    "image_max_pixels": left("text only"),
    "video_max_pixels": left("text only"),
    "disable_gradient_checkpointing": same("activations are kept"),
    "infer_backend": left("answers are drawn by etude's own decoding"),
    "hf_hub_token": left("secrets stay in the environment (HF_TOKEN)"),
    # method
    "stage": same("supervised tuning is what etude does"),
    "do_predict": same("a run always scores"),
    "predict_with_generate": same("scores come from generated answers"),
    "finetuning_type": method,
    "lora_rank": adapter(to("tune.method.r", int)),
    "lora_alpha": adapter(to("tune.method.alpha", float)),
    "lora_dropout": adapter(to("tune.method.dropout", float)),
    "lora_target": adapter(modules("tune.method.target_modules")),
    "additional_target": left("only adapters learn; no other module is trained beside them"),
    "create_new_adapter": off("tuning starts from a whole model here"),
    "use_rslora": off("the update is scaled by alpha / r"),
    "use_dora": off("there is no DoRA here"),
    "pissa_init": off("adapters start at zero here"),
    "loraplus_lr_ratio": left("one learning rate for all adapter weights"),
    "pure_bf16": off("weights stay in float32"),
    "use_galore": off("the optimizer here is AdamW"),
    "use_apollo": off("the optimizer here is AdamW"),
    "use_badam": off("the optimizer here is AdamW"),
    "freeze_vision_tower": same("text only"),
    "freeze_multi_modal_projector": same("text only"),
    # data
    "dataset": data,
    "eval_dataset": validation,
    "dataset_dir": same("part of the sources' paths"),
    "media_dir": left("text only"),
    "template": template,
    "tool_format": left("tools are written as the chat format does"),
    "cutoff_len": to("tune.max_tokens", int),
    "max_samples": same("the sources' limit"),
    "train_on_prompt": lambda given, key: everything_trained() if given.keys[key] else [Same("only answers are trained")],
    "mask_history": lambda given, key: last_trained() if given.keys[key] else [Same("every answer is trained")],
    "enable_thinking": left("the chat format decides"),
    "packing": PACKING,
    "neat_packing": PACKING,
    "streaming": off("rows are read as a stream anyway"),
    "buffer_size": left("the order is a permutation of all rows, not of a buffer"),
    "mix_strategy": choice("", {"concat": Same("all rows of all sources"), **dict.fromkeys(
        ("interleave_under", "interleave_over", "interleave_once"), Left("all rows of all sources are used"))}),
    "interleave_probs": left("all rows of all sources are used"),
    "overwrite_cache": same("what is reused is known by its digest"),
    "preprocessing_batch_size": same("no setting is needed"),
    "preprocessing_num_workers": same("no setting is needed"),
    "tokenized_path": left("what is encoded is kept in the run folder"),
    "val_size": share,
    "ignore_pad_token_for_loss": same("nothing is padded"),
    "plot_loss": same("report.html has the curves"),
    "per_device_train_batch_size": STEP,
    "gradient_accumulation_steps": STEP,
    "compute_accuracy": left("metrics belong to score:"),
}  # fmt: skip
"""Every key known."""

TOOL = Tool(
    name="LLaMA-Factory",
    keys=KEYS,
    signs=frozenset(
        {"stage", "finetuning_type", "lora_rank", "lora_target", "dataset_dir", "template", "cutoff_len", "val_size", "plot_loss"}
    ),
    refuse=refuse,
    defaults=defaults,
)
