"""What every test may lean on: a tokenizer trained in-process, tiny models built from config, a model
folder as transformers writes one, and the shared real data where it exists. Nothing here needs a network."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

settings.register_profile("same-every-time", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("same-every-time")

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = "<think>"
"""An added token that is *not* flagged special: markup may use it, data must not reach it either."""

TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a small model under test.<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, with a system turn of its own where the conversation has none (as SmolLM2's has)."""

SENTENCES = (
    "The system reads the user's question, and the assistant writes a short answer.",
    "Below is an instruction that describes a task. Write a response that completes the request.",
    "def total(values): return sum(values)  # the sum of all values, 0 for none",
    "Profit rose 12 percent in the third quarter; the outlook is positive, not neutral or negative.",
    "Why is the sky blue? Because air scatters short waves more than long ones.\n\nThat is all.",
    "### Instruction:\nList three colours.\n\n### Response:\nred, green and blue",
    "A test is only worth its failure: break the code, and see that it is noticed.",
)

MODELS = ("llama", "qwen2", "gpt2", "opt")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not look through it again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power, and what was written outlives a killed process without fsync. Processes of their own
    (tests/test_cli.py has some) call the real one; tests/test_journal.py sees that its errors are told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Tiny matrices are slower on many threads, and sums must not depend on how many there are."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """A factory: a fresh 300-token byte-level BPE; `template=None` gives one without a chat template."""

    def make(template: str | None = TEMPLATE, **settings: object) -> PreTrainedTokenizerFast:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=299, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        backend.train_from_iterator(SENTENCES, trainer)
        names: dict[str, object] = {"pad_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2], **settings}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
        tokenizer.add_tokens([AddedToken(THINK, special=False, normalized=False)])
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer: Callable[..., PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """300 tokens: every byte, a few merges, `<|endoftext|>` (pad), `<|im_start|>` (bos), `<|im_end|>`
    (eos) and the non-special added token `<think>`; a ChatML template. Shared: do not change it."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: PreTrainedTokenizerFast) -> Callable[..., PreTrainedModel]:
    """A factory `tiny(name, seed=0, **config)`: a new 2-layer float32 model in eval mode, no dropout."""

    def make(name: str = "llama", seed: int = 0, **overrides: object) -> PreTrainedModel:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        size = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        deep = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
        wide = {"intermediate_size": 64, "num_key_value_heads": 2, "attention_dropout": 0.0}
        settings: dict[str, object] = {
            "llama": {**size, **ends, **deep, **wide, "tie_word_embeddings": True},
            "qwen2": {**size, **ends, **deep, **wide},
            "gpt2": {**size, **ends, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
            | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
            "opt": {**size, **deep, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0, "attention_dropout": 0.0}
            | {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id},
        }[name]  # type: ignore[assignment]
        config = AutoConfig.for_model(name, **{**settings, **overrides})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tiny_models(tiny: Callable[..., PreTrainedModel]) -> dict[str, Callable[..., PreTrainedModel]]:
    """Name -> a factory of that tiny model; `MODELS` (importable from conftest) has the names for parametrize."""
    return {name: (lambda name=name, **given: tiny(name, **given)) for name in MODELS}


@pytest.fixture(scope="session")
def model_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Path]:
    """A factory `model_folder(name="llama", **config)`: a new folder with a tiny model and the tokenizer, as transformers saves them."""

    def make(name: str = "llama", **overrides: object) -> Path:
        folder = tmp_path_factory.mktemp(f"tiny-{name}")
        tiny(name, **overrides).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: ../shared/data (relative to the repository) is absent")
    return folder


@pytest.fixture(scope="session")
def real_tokenizer() -> PreTrainedTokenizerFast:
    """The default model's own tokenizer, if `etude` has already made that model on this machine; else a skip."""
    from etude.models import weights

    found = sorted((weights.home() / "models").glob("smollm2-135m-instruct-*/tokenizer.json"))
    if not found:
        pytest.skip("the default model is not in etude's cache (any `etude run` or `make quickstart` puts it there)")
    return weights.load_tokenizer(found[0].parent)
