"""TRL's YAML for `trl sft`: ScriptArguments, SFTConfig and ModelConfig (huggingface/trl), over transformers' TrainingArguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etude.failures import RecipeError
from etude.importing.data import from_hub_name, from_mixture
from etude.importing.families import everything_trained
from etude.importing.rules import (
    Given,
    Left,
    Outcome,
    Put,
    Rule,
    Same,
    Tool,
    batch,
    cast,
    left,
    modules,
    off,
    same,
    to,
)
from etude.importing.trainer import TRAINER

OTHERS = {
    "beta": "preference tuning (DPO, KTO)",
    "reference_model": "preference tuning",
    "ref_model_init_kwargs": "preference tuning (DPO)",
    "desirable_weight": "preference tuning (KTO)",
    "num_generations": "reinforcement learning (GRPO, RLOO)",
    "reward_funcs": "reinforcement learning (GRPO)",
    "reward_model_path": "reinforcement learning (PPO)",
    "reward_model_name_or_path": "reinforcement learning (PPO)",
    "center_rewards_coefficient": "a reward model",
    "max_prompt_length": "preference tuning or reinforcement learning",
    "max_completion_length": "reinforcement learning",
    "num_ppo_epochs": "reinforcement learning (PPO)",
}
"""Keys of TRL's other trainers -> what they do."""

LOSSES = ("nll", "chunked_nll")


def loss(given: Given, key: str) -> Sequence[Outcome]:
    """The negative log-likelihood, however it is computed."""
    if given.keys[key] in LOSSES:
        return [Same("the loss is the negative log-likelihood of the trained tokens")]
    return [Left("the loss is the negative log-likelihood of the trained tokens")]


def use_peft(given: Given, key: str) -> Sequence[Outcome]:
    """Adapters or all weights."""
    return [Put("tune.method.type", "lora" if given.keys[key] else "full")]


def peft(rule: Rule) -> Rule:
    """A key of the adapter, which says nothing without use_peft."""
    return lambda given, key: rule(given, key) if given.get("use_peft") else [Same("use_peft is off")]


def answers_only(given: Given, key: str) -> Sequence[Outcome]:
    """Only answers are trained, unless the file asks for the whole text."""
    return [Same("only answers are trained")] if given.keys[key] else everything_trained()


def data(given: Given, key: str) -> Sequence[Outcome]:
    """One data set: a folder, a file or a name on the hub, and its split."""
    if key == "dataset_name" and given.get("datasets"):
        return [Same("datasets counts")]
    return from_hub_name(str(cast(given, key, str)), given.get("dataset_config"), str(given.get("dataset_train_split", "train")))


def mixture(given: Given, key: str) -> Sequence[Outcome]:
    """A list of data sets."""
    return from_mixture(given, key)


def dtype(given: Given, key: str) -> Sequence[Outcome]:
    """In which precision the weights are loaded."""
    return [Same("weights are loaded in float32")] if given.keys[key] in ("float32", "fp32") else [Left("weights are kept in float32")]


def refuse(given: Given) -> None:
    """Only supervised tuning is etude's."""
    for key, what in OTHERS.items():
        if key in given.keys:
            raise given.wrong(key, f"this is a key of TRL's trainers for {what}; etude does supervised instruction tuning only")
    if not given.get("dataset_name") and not given.get("datasets"):
        raise RecipeError(f"{given.path}: there is no 'dataset_name' (or 'datasets') to train on")


def defaults(given: Given) -> Iterable[Put]:
    """What TRL (and transformers below it) does where the file is silent."""
    said = "TRL's default"
    yield Put("tune.method.type", "full", f"{said}: no adapter without use_peft")
    if given.get("use_peft"):
        yield Put("tune.method.r", 16, said)
        yield Put("tune.method.alpha", 32, said)
        yield Put("tune.method.dropout", 0.05, said)
        yield Put("tune.method.target_modules", ["q_proj", "v_proj"], f"{said} is peft's choice for the model, mostly these two")
    yield Put("tune.learning_rate", 2e-5, said)
    yield Put("tune.epochs", 3, said)
    yield Put("tune.rows_per_step", 8, said)
    yield Put("tune.max_tokens", 1024, said)
    yield Put("tune.schedule", "linear", said)
    yield Put("tune.warmup", 0, said)
    if given.get("eval_strategy", "no") in ("no", False):
        yield Put("split.validation", 0, f"{said}: no evaluation unless asked")
    else:
        yield Put("split.validation", 0.05, "TRL evaluates on dataset_test_split; here on held-out rows")
    if not given.get("assistant_only_loss") and not given.get("completion_only_loss"):
        yield Put("format.type", "auto", "only answers are trained; TRL's default trains every token of a conversation")


def packs(given: Given) -> bool:
    """Whether rows are packed there."""
    return bool(given.get("packing"))


def length(given: Given, key: str) -> Sequence[Outcome]:
    """The longest row; null is no bound."""
    return to("tune.max_tokens", int)(given, key)


STEP = batch("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", (8, 1, 1024), packs)
QUANTISED = off("the start model is not quantised in memory")

OWN: dict[str, Rule] = {
    # ScriptArguments
    "dataset_name": data,
    "datasets": mixture,
    "dataset_config": same("part of the source's path"),
    "dataset_train_split": same("part of the source's path"),
    "dataset_test_split": left("etude holds out rows of the source (split); a file of its own is split.test: {path: FILE}"),
    "dataset_streaming": off("rows are read as a stream anyway"),
    "ignore_bias_buffers": off("no setting is needed"),
    # ModelConfig
    "dtype": dtype,
    "torch_dtype": dtype,
    "attn_implementation": same("attention is chosen by what the model and the machine can do"),
    "use_peft": use_peft,
    "lora_r": peft(to("tune.method.r", int)),
    "lora_alpha": peft(to("tune.method.alpha", float)),
    "lora_dropout": peft(to("tune.method.dropout", float)),
    "lora_target_modules": peft(modules("tune.method.target_modules")),
    "lora_target_parameters": left("adapters sit in linear layers"),
    "lora_modules_to_save": left("only adapters learn; no other module is trained beside them"),
    "lora_task_type": same("the model is a language model"),
    "use_rslora": off("the update is scaled by alpha / r"),
    "use_dora": off("there is no DoRA here"),
    "load_in_8bit": QUANTISED,
    "load_in_4bit": QUANTISED,
    "bnb_4bit_quant_type": left("the start model is not quantised in memory"),
    "use_bnb_nested_quant": QUANTISED,
    # SFTConfig
    "model_init_kwargs": left("the model is loaded as its own config says"),
    "chat_template_path": left("format: {type: jinja, ...} takes a template file; etude schema shows the keys"),
    "dataset_text_field": left("name the field in the source"),
    "dataset_kwargs": left("name the fields in the source"),
    "dataset_num_proc": same("no setting is needed"),
    "eos_token": left("the chat format knows what ends a turn, and trains it"),
    "pad_token": left("nothing is padded in training"),
    "max_length": length,
    "max_seq_length": length,
    "truncation_mode": left("a longer row loses the middle of its prompt, never its answer (tune.truncation)"),
    "shuffle_dataset": same("every epoch has a seeded order of its own"),
    "packing": same("rows are always packed, each attending to itself only; the loss is the same"),
    "packing_strategy": left("packs form inside a step and never cut a row"),
    "padding_free": same("nothing is padded"),
    "pad_to_multiple_of": same("nothing is padded"),
    "eval_packing": same("rows are always packed"),
    "completion_only_loss": answers_only,
    "assistant_only_loss": answers_only,
    "loss_type": loss,
    "activation_offloading": off("activations are kept"),
    "use_liger_kernel": off("etude's own loss computes logits only where there is a label"),
    "per_device_train_batch_size": STEP,
    "gradient_accumulation_steps": STEP,
    "gradient_checkpointing_kwargs": left("activations are kept"),
    "auto_find_batch_size": off("tune.pack_tokens bounds the memory"),
    "env": left("environment variables are the shell's"),
}
"""Keys of TRL's own."""

KEYS: dict[str, Rule] = {**TRAINER, **OWN}
"""Every key known."""

TOOL = Tool(
    name="TRL",
    keys=KEYS,
    signs=frozenset(
        {
            "dataset_name",
            "use_peft",
            "assistant_only_loss",
            "completion_only_loss",
            "max_length",
            "dataset_train_split",
            "dataset_text_field",
            "packing_strategy",
            *OTHERS,
        }
    ),
    refuse=refuse,
    defaults=defaults,
)
