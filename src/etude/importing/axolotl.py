"""axolotl's YAML (utils/schemas/*.py of axolotl-ai-cloud/axolotl)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etude.failures import RecipeError, nearest
from etude.importing.data import from_list
from etude.importing.families import everything_trained, written
from etude.importing.rules import (
    SCHEDULES,
    Given,
    Left,
    Outcome,
    Put,
    Rule,
    Same,
    Tool,
    betas,
    choice,
    evaluation,
    left,
    model,
    modules,
    off,
    optimizer,
    precision,
    run_name,
    same,
    saving,
    share,
    step,
    to,
    unless_off,
    warmup,
    whole,
)

TEMPLATES = {
    "alpaca": "alpaca",
    "chatml": "chatml",
    "inst": "mistral",
    "mistral_v1": "mistral",
    "mistral_v2v3": "mistral",
    "mistral_v3_tekken": "mistral",
    "gemma": "gemma",
    "gemma3": "gemma",
    "llama3": "llama3",
    "llama3_2_vision": "llama3",
    "phi_3": "phi3",
    "phi_35": "phi3",
    "qwen_25": "qwen",
    "qwen3": "qwen",
}
"""axolotl's `chat_template:` -> the model family that writes so."""


def chat_template(given: Given, key: str) -> Sequence[Outcome]:
    """`tokenizer_default`, one of axolotl's own, or a Jinja template in the file."""
    name = str(given.keys[key])
    if name in ("tokenizer_default", "default"):
        return [Same("the tokenizer's own is the default")]
    if name == "jinja":
        return [Same("with chat_template_jinja")]
    return [written(TEMPLATES.get(name.removeprefix("tokenizer_default_fallback_")), f"chat_template: {name}")]


def adapter(given: Given, key: str) -> Sequence[Outcome]:
    """lora, qlora, or nothing for full tuning; other adapters train other weights."""
    value = given.keys[key]
    if value not in ("lora", "qlora", "", None):
        raise given.wrong(key, f"etude has no adapter called {value!r}{nearest(str(value), ['lora', 'qlora'])}")
    return [Put("tune.method.type", value or "full")]


def lora(rule: Rule) -> Rule:
    """A key of the adapter, which says nothing under full tuning."""
    return lambda given, key: rule(given, key) if given.get("adapter") else [Same("no adapter in full tuning")]


def every_linear(given: Given, key: str) -> Sequence[Outcome]:
    """`lora_target_linear: true` means all linear layers."""
    if not given.keys[key] or given.get("lora_target_modules"):
        return [Same("lora_target_modules names them")]
    return [Put("tune.method.target_modules", "all-linear")]


def rows(given: Given, key: str) -> Sequence[Outcome]:
    """Two of micro_batch_size, gradient_accumulation_steps and batch_size (their product) are given there."""
    first = next(name for name in BATCH if given.get(name) is not None)
    if key != first:
        return [Same(f"with {first}")]
    if given.get("batch_size") is not None:
        numbers = [whole(given, "batch_size", 1), 1, whole(given, "sequence_len", 512)]
    else:
        numbers = [whole(given, "micro_batch_size", 1), whole(given, "gradient_accumulation_steps", 1), whole(given, "sequence_len", 512)]
    return [step(numbers, "micro_batch_size", "gradient_accumulation_steps", bool(given.get("sample_packing")), "sequence_len")]


BATCH = ("micro_batch_size", "gradient_accumulation_steps", "batch_size")


def data(given: Given, key: str) -> Sequence[Outcome]:
    """The list of data sets."""
    return from_list(given, key)


def validation(given: Given, key: str) -> Sequence[Outcome]:
    """Data sets of their own for the validation loss."""
    parts = [part for part in from_list(given, key) if isinstance(part, Put)]
    if len(parts) == 1 and "path" in parts[0].value:
        return [Put("split.validation", {"path": parts[0].value["path"]}, key)]
    return [Left("one validation file is possible here; the rest needs sources of its own")]


def evaluations(given: Given, key: str) -> Sequence[Outcome]:
    """Evaluations an epoch: once is etude's own habit."""
    if given.keys[key] in (0, 1):
        return [Put("tune.evaluate_every", "epoch" if given.keys[key] else "never")]
    return [Left("the validation loss is measured after each epoch, or every so many steps (tune.evaluate_every)")]


def refuse(given: Given) -> None:
    """Only supervised tuning is etude's."""
    for key, what in (
        ("rl", "preference tuning or reinforcement learning"),
        ("reward_model", "a reward model"),
        ("process_reward_model", "a reward model"),
        ("pretraining_dataset", "continued pretraining on plain text"),
    ):
        if given.get(key):
            raise given.wrong(key, f"{given.get(key)!r} is {what}; etude does supervised instruction tuning only")
    if not given.get("datasets"):
        raise RecipeError(f"{given.path}: there are no 'datasets' to train on")


def defaults(given: Given) -> Iterable[Put]:
    """What axolotl does where the file is silent."""
    said = "axolotl's default"
    yield Put("tune.method.type", "full", "no adapter: all weights learn")
    yield Put("tune.epochs", 1, said)
    yield Put("tune.max_tokens", 512, said)
    yield Put("tune.rows_per_step", 1, said)
    yield Put("split.validation", 0, said)


ONE_LOOP = off("etude has its own training loop and kernels")
LAUNCHER = left("how processes share the work is the launcher's")
UPLOAD = left("nothing is sent to a tracking service or a hub; metrics.jsonl and report.html are in the run folder")
PACKING = same("rows are always packed, each attending to itself only; the loss is the same")
ATTENTION = same("attention is chosen by what the model and the machine can do")
VOCABULARY = off("tokens are never added to a vocabulary or renamed")
QUANTISED = off("the start model is not quantised in memory")

KEYS: dict[str, Rule] = {
    # model
    "base_model": model("revision_of_model"),
    "base_model_config": left("the config is the start model's own"),
    "revision_of_model": same("part of model"),
    "model_type": same("the config says which architecture it is"),
    "tokenizer_type": same("the tokenizer's own file says so"),
    "tokenizer_config": left("the tokenizer is the start model's own"),
    "tokenizer_use_fast": same("fast tokenizers only"),
    "is_llama_derived_model": same("the config says which architecture it is"),
    "is_mistral_derived_model": same("the config says which architecture it is"),
    "trust_remote_code": off("a model's own code is never run"),
    "load_in_8bit": QUANTISED,
    "load_in_4bit": lambda given, key: [
        Same("part of qlora") if given.get("adapter") == "qlora" else Left("only qlora keeps the start model in 4 bit")
    ],
    "gptq": QUANTISED,
    "strict": same("unknown keys of a recipe are always refused"),
    "plugins": left("no plugins of axolotl's"),
    "special_tokens": VOCABULARY,
    "tokens": VOCABULARY,
    "added_tokens_overrides": VOCABULARY,
    "resize_token_embeddings_to_32x": VOCABULARY,
    "chat_template": chat_template,
    "chat_template_jinja": left("put the template into a file: format: {type: jinja, ...}; etude schema shows the keys"),
    "default_system_message": left("a system message is part of the rows or of the chat format"),
    "eot_tokens": left("the chat format knows what ends a turn, and trains it"),
    # data
    "datasets": data,
    "test_datasets": validation,
    "val_set_size": share,
    "dataset_prepared_path": same("what is encoded is kept in the run folder"),
    "dataset_processes": same("no setting is needed"),
    "dataset_exact_deduplication": left("dropping rows is curation's"),
    "dataset_keep_in_memory": same("no setting is needed"),
    "dataloader_num_workers": same("no setting is needed"),
    "dataloader_pin_memory": same("no setting is needed"),
    "dataloader_prefetch_factor": same("no setting is needed"),
    "shuffle_merged_datasets": same("every epoch has a seeded order of its own"),
    "remove_unused_columns": same("only the named fields are read"),
    "sequence_len": to("tune.max_tokens", int),
    "min_sample_len": left("dropping rows is curation's"),
    "excess_length_strategy": choice("tune.truncation", {"drop": "drop", "truncate": "cut_middle", "raise": "refuse"}),
    "sample_packing": PACKING,
    "eval_sample_packing": PACKING,
    "pad_to_sequence_len": same("nothing is padded"),
    "group_by_length": off("rows come in a seeded order; packs waste nothing on padding"),
    "train_on_inputs": lambda given, key: everything_trained() if given.keys[key] else [Same("only answers are trained")],
    # method
    "adapter": adapter,
    "lora_model_dir": left("tuning starts from a whole model here: merge the adapter into it first"),
    "lora_r": lora(to("tune.method.r", int)),
    "lora_alpha": lora(to("tune.method.alpha", float)),
    "lora_dropout": lora(to("tune.method.dropout", float)),
    "lora_target_modules": lora(modules("tune.method.target_modules")),
    "lora_target_linear": lora(every_linear),
    "lora_modules_to_save": off("only adapters learn; no other module is trained beside them"),
    "lora_fan_in_fan_out": same("seen from the model's own layers"),
    "lora_mlp_kernel": ONE_LOOP,
    "lora_qkv_kernel": ONE_LOOP,
    "lora_o_kernel": ONE_LOOP,
    "peft_use_dora": off("there is no DoRA here"),
    "peft_use_rslora": off("the update is scaled by alpha / r"),
    "peft_layers_to_transform": off("adapters sit in every layer of the named kinds"),
    "loraplus_lr_ratio": left("one learning rate for all adapter weights"),
    "unfrozen_parameters": off("all weights learn, or adapters do"),
    # training
    "output_dir": run_name,
    "micro_batch_size": rows,
    "gradient_accumulation_steps": rows,
    "batch_size": rows,
    "eval_batch_size": same("scoring fills its batches by itself"),
    "num_epochs": to("tune.epochs", float),
    "max_steps": to("tune.max_steps", int),
    "learning_rate": to("tune.learning_rate", float),
    "embedding_lr": left("one learning rate for all weights"),
    "optimizer": optimizer,
    "optim_args": left("AdamW's other settings are its defaults"),
    "lr_scheduler": choice("tune.schedule", SCHEDULES),
    "lr_scheduler_kwargs": left("the schedules here have no settings"),
    "cosine_min_lr_ratio": left("the schedules fall to 0"),
    "warmup_steps": warmup("warmup_ratio"),
    "warmup_ratio": warmup("warmup_ratio"),
    "weight_decay": to("tune.weight_decay", float),
    "adam_beta1": betas("adam_beta1", "adam_beta2"),
    "adam_beta2": betas("adam_beta1", "adam_beta2"),
    "adam_epsilon": to("tune.epsilon", float),
    "max_grad_norm": to("tune.clip", float),
    "neftune_noise_alpha": unless_off("tune.neftune_alpha"),
    "bf16": precision,
    "bfloat16": precision,
    "fp16": precision,
    "float16": precision,
    "tf32": left("torch's own setting is used"),
    "gradient_checkpointing": unless_off("tune.gradient_checkpointing", object),
    "gradient_checkpointing_kwargs": off("activations are kept"),
    "flash_attention": ATTENTION,
    "sdp_attention": ATTENTION,
    "flex_attention": ATTENTION,
    "xformers_attention": ATTENTION,
    "attn_implementation": ATTENTION,
    "torch_compile": off("nothing is compiled"),
    "eval_steps": evaluation,
    "eval_strategy": evaluation,
    "evaluation_strategy": evaluation,
    "evals_per_epoch": evaluations,
    "eval_table_size": off("report.html shows rows side by side"),
    "eval_max_new_tokens": left("part of a task's sampling (score:)"),
    "do_bench_eval": off("tasks stand in score:"),
    "save_steps": saving,
    "save_strategy": saving,
    "saves_per_epoch": same("a checkpoint is written at every evaluation"),
    "save_total_limit": unless_off("tune.keep_last", int),
    "save_only_model": off("checkpoints can always be resumed"),
    "save_safetensors": same("safetensors only"),
    "logging_steps": to("tune.log_every", int),
    "early_stopping_patience": to("tune.patience", int),
    "load_best_model_at_end": same("the weights with the lowest validation loss are always kept"),
    "resume_from_checkpoint": left("the same command resumes by itself"),
    "auto_resume_from_checkpoints": same("the same command resumes by itself"),
    "local_rank": same("the launcher's"),
    "deepspeed": LAUNCHER,
    "fsdp": LAUNCHER,
    "fsdp_config": LAUNCHER,
    "ddp": LAUNCHER,
    "ddp_timeout": LAUNCHER,
    "debug": off("etude preview shows rows, tokens and mask"),
    "wandb_project": UPLOAD,
    "wandb_entity": UPLOAD,
    "wandb_watch": UPLOAD,
    "wandb_name": UPLOAD,
    "wandb_run_id": UPLOAD,
    "wandb_log_model": UPLOAD,
    "wandb_mode": UPLOAD,
    "use_tensorboard": off("metrics.jsonl and report.html are in the run folder"),
    "mlflow_tracking_uri": UPLOAD,
    "mlflow_experiment_name": UPLOAD,
    "comet_project_name": UPLOAD,
    "hub_model_id": UPLOAD,
    "hub_strategy": UPLOAD,
    "hf_use_auth_token": off("secrets stay in the environment (HF_TOKEN)"),
    "loss_watchdog_threshold": left("a loss that is no number stops the run (exit 5)"),
    "loss_watchdog_patience": left("a loss that is no number stops the run (exit 5)"),
    "seed": to("seed", int),
}
"""Every key known, in the order of the tool's own groups."""

TOOL = Tool(
    name="axolotl",
    keys=KEYS,
    signs=frozenset(
        {
            "base_model",
            "datasets",
            "adapter",
            "micro_batch_size",
            "sequence_len",
            "sample_packing",
            "val_set_size",
            "num_epochs",
            "lora_target_linear",
            "load_in_4bit",
            "wandb_project",
            "flash_attention",
            "special_tokens",
        }
    ),
    refuse=refuse,
    defaults=defaults,
)
