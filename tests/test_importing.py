"""`etude import-config`: every key is mapped, or a comment says why not; other stages are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etude import importing, journal, recipe
from etude.failures import RecipeError
from etude.importing.rules import Given, slug
from forked import etude

LLAMA_FACTORY = """\
### model
model_name_or_path: Qwen/Qwen3-0.6B
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
### dataset
dataset: chats, own
dataset_dir: data
template: qwen3
cutoff_len: 1536
max_samples: 500
overwrite_cache: true
### output
output_dir: saves/qwen3/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: false
report_to: none
### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
learning_rate: 1e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
flash_attn: fa2
resume_from_checkpoint: null
### eval
val_size: 0.1
eval_strategy: steps
eval_steps: 200
a_key_of_tomorrow: 3
"""

AXOLOTL = """\
base_model: NousResearch/Llama-3.2-1B
datasets:
  - path: data/rows.jsonl
    type: alpaca
  - path: data/chats.jsonl
    type: chat_template
    field_messages: talk
    message_property_mappings: {role: speaker, content: said}
val_set_size: 50
output_dir: ./outputs/chat-lora
adapter: qlora
load_in_4bit: true
sequence_len: 2048
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 2
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 0.0002
train_on_inputs: false
chat_template: llama3
bf16: auto
gradient_checkpointing: true
flash_attention: true
warmup_steps: 10
evals_per_epoch: 1
wandb_project:
weight_decay: 0.0
special_tokens:
  pad_token: <|end_of_text|>
"""

TRL = """\
model_name_or_path: Qwen/Qwen2.5-0.5B
model_revision: abc123
dataset_name: data/chats.jsonl
learning_rate: 2.0e-4
num_train_epochs: 1
packing: true
max_length: 2048
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
gradient_checkpointing: true
eos_token: <|im_end|>
use_peft: true
lora_r: 32
lora_alpha: 16
lora_target_modules: all-linear
assistant_only_loss: true
optim: adamw_torch_fused
output_dir: Qwen2.5-0.5B-SFT
push_to_hub: true
"""

FLAT = '{"model": "codellama-7b", "train_data": "data/instructions/train.jsonl", "batch_size": 8, "lr": 2e-5}'

METHODS = """\
lora:
  r: 8
  lora_alpha: 32
  lora_dropout: 0.1
adalora:
  init_r: 12
  target_r: 8
prompt:
  num_virtual_tokens: 20
"""

SECTION = """\
hyperparameters:
  model_path: ./models/coder
  max_length: 1024
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 8
  learning_rate: 5e-5
  output_dir: ./checkpoints
  train_epochs: 3
  lora_r: 64
  warm_up: 2400
"""

GOLDEN = {
    "llama-factory": """\
# Made by etude import-config from config.yaml, a configuration of LLaMA-Factory.
name: qwen3-lora-sft  # output_dir: saves/qwen3/lora/sft; the folder is runs/<name>
model: hf://Qwen/Qwen3-0.6B
sources:
  chats: {type: sharegpt, path: data/chats.json, limit: 500}
  own: {type: alpaca, path: data/own.json, limit: 500}
split:
  validation: 0.1
  test: 0.1  # etude's: held out to prove the effect; 0 trains on every row
format: qwen  # template: qwen3; etude preview shows the text
tune:
  method:
    type: lora
    r: 8
    target_modules: [q_proj, v_proj]
    alpha: 16  # LLaMA-Factory's default: twice the rank
  learning_rate: 0.0001
  epochs: 3.0
  rows_per_step: 16  # per_device_train_batch_size x gradient_accumulation_steps; times the GPUs used there
  max_tokens: 1536
  schedule: cosine
  warmup: 0.1
  evaluate_every: 200
  save_every: 500
  log_every: 10

# not carried over: trust_remote_code: true - a model's own code is never run
# not carried over: flash_attn: fa2 - attention is chosen by what the model and the machine can do
# not carried over: a_key_of_tomorrow: 3 - no key of LLaMA-Factory that etude knows
# as etude does anyway, or part of a line above: stage, do_train, dataset_dir, max_samples, overwrite_cache, plot_loss,
#   gradient_accumulation_steps, eval_steps
# not set, or off: overwrite_output_dir, report_to, resume_from_checkpoint
""",
    "axolotl": """\
# Made by etude import-config from config.yaml, a configuration of axolotl.
name: chat-lora  # output_dir: ./outputs/chat-lora; the folder is runs/<name>
model: hf://NousResearch/Llama-3.2-1B
sources:
  rows: {type: alpaca, path: data/rows.jsonl}
  chats: {type: messages, path: data/chats.jsonl, messages: talk, role: speaker, content: said}
split:
  validation: 50
  test: 0.1  # etude's: held out to prove the effect; 0 trains on every row
format: llama3  # chat_template: llama3; etude preview shows the text
tune:
  method:
    type: qlora
    r: 32
    alpha: 16
    dropout: 0.05
    target_modules: all-linear
  learning_rate: 0.0002
  epochs: 2
  # micro_batch_size x gradient_accumulation_steps packs of sequence_len tokens; times the GPUs used there
  tokens_per_step: 16384
  max_tokens: 2048
  schedule: cosine
  warmup: 10
  optimizer: adamw_8bit
  weight_decay: 0.0
  gradient_checkpointing: true
  evaluate_every: epoch

# not carried over: bf16: auto - etude computes in float32 unless tune.precision says otherwise; etude doctor measures
#   which is faster
# not carried over: special_tokens: {pad_token: <|end_of_text|>} - tokens are never added to a vocabulary or renamed
# as etude does anyway, or part of a line above: load_in_4bit, sample_packing, gradient_accumulation_steps,
#   train_on_inputs, flash_attention
# not set, or off: wandb_project
""",
    "trl": """\
# Made by etude import-config from config.yaml, a configuration of TRL.
name: qwen2.5-0.5b-sft  # output_dir: Qwen2.5-0.5B-SFT; the folder is runs/<name>
model: hf://Qwen/Qwen2.5-0.5B@abc123
sources:
  chats: {type: auto, path: data/chats.jsonl}
split:
  validation: 0  # TRL's default: no evaluation unless asked
  test: 0.1  # etude's: held out to prove the effect; 0 trains on every row
tune:
  method:
    type: lora
    r: 32
    alpha: 16
    target_modules: all-linear
    dropout: 0.05  # TRL's default
  learning_rate: 0.0002
  epochs: 1
  # per_device_train_batch_size x gradient_accumulation_steps packs of max_length tokens; times the GPUs used there
  tokens_per_step: 32768
  max_tokens: 2048
  schedule: linear  # TRL's default
  warmup: 0  # TRL's default
  gradient_checkpointing: true

# not carried over: eos_token: <|im_end|> - the chat format knows what ends a turn, and trains it
# not carried over: push_to_hub: true - nothing is uploaded
# as etude does anyway, or part of a line above: model_revision, packing, gradient_accumulation_steps,
#   assistant_only_loss, optim
""",
    "naturalcc": """\
# Made by etude import-config from config.json, a configuration of NaturalCC.
name: config
model: codellama-7b  # no path and no owner/name: give a folder, a GGUF file or hf://owner/name
sources:
  train: {type: alpaca, path: data/instructions/train.jsonl}
split:
  test: 0.1  # etude's: held out to prove the effect; 0 trains on every row
tune:
  method: full  # no tuning method is named: all weights learn
  learning_rate: 2.0e-05
  rows_per_step: 8
""",
}
CONFIGS = {"llama-factory": LLAMA_FACTORY, "axolotl": AXOLOTL, "trl": TRL, "naturalcc": FLAT}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal.write_json(
        tmp_path / "data" / "dataset_info.json",
        {
            "chats": {"file_name": "chats.json", "formatting": "sharegpt"},
            "own": {"file_name": "own.json"},
            "pairs": {"file_name": "p.json", "ranking": True},
        },
    )
    return tmp_path


def config(place: Path, text: str) -> Path:
    path = place / ("config.json" if text.startswith("{") else "config.yaml")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("tool", GOLDEN)
def test_golden_recipes(place, tool):
    done = importing.import_config(config(place, CONFIGS[tool]))
    assert done.tool == tool
    assert done.text == GOLDEN[tool]
    assert recipe.build(recipe.parse(done.text, "x"), "x", done.text) == done.recipe


@pytest.mark.parametrize("text", [*CONFIGS.values(), METHODS, SECTION])
def test_every_key_is_accounted_for(place, text):
    done = importing.import_config(config(place, text))
    given = recipe.parse(text, "x")
    given = given.get("hyperparameters", given)
    assert set(done.mapped) | set(done.left) | set(done.same) == set(given)
    for key in done.left:
        assert f"# not carried over: {key}: " in done.text


def test_methods_of_the_tutorials(place):
    done = importing.import_config(config(place, METHODS))
    assert done.recipe.tune.method.model_dump().items() >= {"r": 8, "alpha": 32, "dropout": 0.1, "target_modules": "all-linear"}.items()
    assert set(done.left) == {"adalora", "prompt"}
    done = importing.import_config(config(place, SECTION))
    assert (done.recipe.tune.rows_per_step, done.recipe.tune.warmup, done.recipe.tune.learning_rate) == (8, 2400, 5e-5)
    assert done.recipe.tune.method.r == 64


def test_missing_files_are_noted_and_the_recipe_still_made(place):
    done = importing.import_config(config(place, LLAMA_FACTORY))
    assert done.missing == ("data/chats.json", "data/own.json")
    assert "not there yet: data/own.json" in importing.summary(done, None)


def test_what_other_tools_train_is_kept(place):
    done = importing.import_config(config(place, LLAMA_FACTORY + "mask_history: true\n"))
    assert "train_on" in "".join(done.mapped.get("mask_history", ())) or "mask_history" in done.left
    done = importing.import_config(config(place, TRL.replace("assistant_only_loss: true\n", "")))
    assert "only answers are trained" in done.text


@pytest.mark.parametrize(
    ("text", "old", "new", "reason"),
    [
        (LLAMA_FACTORY, "stage: sft", "stage: dpo", r":5: stage: 'dpo' is preference tuning"),
        (LLAMA_FACTORY, "stage: sft", "stage: ppo", "reinforcement learning"),
        (LLAMA_FACTORY, "stage: sft", "stage: rm", "reward model"),
        (LLAMA_FACTORY, "stage: sft", "stage: pt", "pretraining"),
        (LLAMA_FACTORY, "stage: sft", "stage: stf", "did you mean 'sft'"),
        (LLAMA_FACTORY, "finetuning_type: lora", "finetuning_type: freeze", "no tuning method like 'freeze'"),
        (LLAMA_FACTORY, "lr_scheduler_type: cosine", "lr_scheduler_type: cosin", r":29: lr_scheduler_type: .*did you mean 'cosine'"),
        (LLAMA_FACTORY, "lora_rank: 8", "lora_rank: eight", "lora_rank: a whole number was expected, not 'eight'"),
        (LLAMA_FACTORY, "dataset: chats, own", "dataset: chat", "did you mean 'chats'"),
        (LLAMA_FACTORY, "dataset: chats, own", "dataset: pairs", "preference pairs"),
        (LLAMA_FACTORY, "eval_strategy: steps", "eval_strategy: step", "did you mean 'steps'"),
        (LLAMA_FACTORY, "per_device_train_batch_size: 2", "per_device_train_batch_size: 0", "at least 1"),
        (AXOLOTL, "val_set_size: 50", "rl: dpo", "rl: 'dpo' is preference tuning"),
        (AXOLOTL, "adapter: qlora", "adapter: qlorra", "did you mean 'qlora'"),
        (AXOLOTL, "type: alpaca", "type: chatml.intel", "preference"),
        (TRL, "packing: true", "beta: 0.1", "DPO"),
        (TRL, "dataset_name: data/chats.jsonl", "# none", "no 'dataset_name'"),
    ],
)  # fmt: skip
def test_refusals_name_file_line_and_the_nearest(place, text, old, new, reason):
    assert old in text
    with pytest.raises(RecipeError, match=reason) as caught:
        importing.import_config(config(place, text.replace(old, new)))
    assert "config.yaml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_of_no_tool_is_refused(place):
    with pytest.raises(RecipeError, match="say --tool llama-factory"):
        importing.import_config(config(place, "learning_rate: 1e-4\n"))
    with pytest.raises(RecipeError, match="etude's already"):
        importing.import_config(config(place, "name: a\nmodel: b\nsources: {}\n"))
    with pytest.raises(RecipeError, match=r"did you mean 'config.yaml'"):
        importing.import_config(place / "confg.yaml")
    with pytest.raises(RecipeError, match="did you mean 'axolotl'"):
        importing.import_config(config(place, AXOLOTL), "axolot")
    with pytest.raises(RecipeError, match=r"config.yaml:2: not YAML"):
        importing.import_config(config(place, "a: 1\n b: [\n"))


@pytest.mark.parametrize(("tool", "key"), [(name, key) for name, tool in importing.TOOLS.items() for key in tool.keys])
def test_every_rule_answers(tool, key):
    """No value makes a rule fail in another way than by a RecipeError, and a place a rule names exists."""
    for value in (True, False, 0, 1, 0.5, "linear", "x", [], ["a"], {}, {"a": 1}):
        try:
            outcomes = importing.TOOLS[tool].keys[key](Given({key: value}, Path("c.yaml"), ""), key)
        except RecipeError:
            continue
        for outcome in outcomes:
            if isinstance(outcome, importing.Put):
                assert outcome.place.split(".")[0] in recipe.Recipe.model_fields
            else:
                assert isinstance(outcome, importing.Left | importing.Same)


def test_a_hub_data_set_with_its_configuration_and_split(place):
    text = TRL.replace("data/chats.jsonl", "owner/name\ndataset_config: small\ndataset_train_split: part")
    assert importing.import_config(config(place, text)).recipe.sources["name"].path == "hf://owner/name/small:part"


def test_names_of_runs():
    assert slug("saves/Qwen3 4B/lora/sft") == "qwen3-4b-lora-sft"
    assert slug("./outputs/run_1/") == "run_1"
    assert slug("/out") == "out"
    assert slug("über/größe") == "gr--e"
    assert slug("...") == "imported"


def test_values_cannot_leave_their_comment(place):
    text = LLAMA_FACTORY + 'odd: "a\\nname: evil"\n"key\\nname: worse": 1\n'
    done = importing.import_config(config(place, text))
    assert done.recipe.name == "qwen3-lora-sft"
    assert "\nname: evil" not in done.text
    assert "\nname: worse" not in done.text


def test_the_command(place):
    config(place, TRL)
    done = etude(place, "import-config", "config.yaml", "-o", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "not carried over: push_to_hub" in done.stderr
    assert (place / "mine.yaml").read_text(encoding="utf-8") == GOLDEN["trl"]
    assert etude(place, "import-config", "config.yaml", "-o", "mine.yaml").returncode == 2
    said = json.loads(etude(place, "import-config", "config.yaml", "--json").stdout)
    assert said["tool"] == "trl"
    assert said["mapped"]["max_length"] == ["tune.max_tokens"]
    assert said["recipe"]["tune"]["method"]["r"] == 32
    config(place, LLAMA_FACTORY.replace("stage: sft", "stage: dpo"))
    assert etude(place, "import-config", "config.yaml").returncode == 2
