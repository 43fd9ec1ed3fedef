"""What the methods made by peft have in common: putting the adapter on, saving it, loading it over the right start model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import journal
from etude.failures import DataError, RecipeError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASE = "start_model.json"
"""The file beside an adapter that says which architecture it belongs to."""
UNSTEADY = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "pad_token_id", "architectures", "vocab_size")
"""Keys of a config that may differ between two loadings of one start model (tokens may have been added, too)."""


def task_type(model: PreTrainedModel) -> str:
    """peft's name for the model's architecture."""
    return "SEQ_2_SEQ_LM" if getattr(model.config, "is_encoder_decoder", False) else "CAUSAL_LM"


def transposed(model: PreTrainedModel) -> bool:
    """Whether the model keeps its weights as (in, out), as GPT-2 does."""
    return any(type(module).__name__ == "Conv1D" for module in model.modules())


def layers(model: PreTrainedModel) -> list[str]:
    """The last names of all layers that have weights, for error messages."""
    return sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if not list(m.children()) and list(m.parameters(False))})


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers from `seed` inside the block, and as before afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def wrap(model: PreTrainedModel, config: Any, seed: int, targets: object = None) -> PreTrainedModel:
    """The model inside a PeftModel. Raises RecipeError naming the layers there are when `targets` match none, and for any
    other setting peft refuses."""
    from peft import get_peft_model

    known, head = layers(model), "tune.method.target_modules"
    matched = [t for t in targets if isinstance(t, str)] if isinstance(targets, (list, tuple)) else []
    names = {name for name, _ in model.named_modules()}
    for target in matched:  # peft is content when one of several matches
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise RecipeError(f"{head}: {target!r} matches no layer of this model ({', '.join(known)}){nearest(target, known)}")
    try:
        with seeded(seed):
            return get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        if "not found in the base model" in said or "No modules were targeted" in said or "target_modules" in said:
            shown = "the method's own choice" if targets is None else repr(targets)
            raise RecipeError(f"{head}: {shown} matches no layer of this model ({', '.join(known)})") from error
        raise RecipeError(f"tune.method: peft cannot put {config.peft_type.value} on this model: {said}") from error


def check_ranks(model: PreTrainedModel, rank: int, key: str) -> None:
    """Raise RecipeError where the rank is above the width of a layer: it would add weights and no freedom."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "in_features"):
            least = min(module.in_features, module.out_features)
            if rank > least:
                raise RecipeError(f"tune.method.{key}: rank {rank} is above the width {least} of {name.removeprefix('base_model.model.')}")


def digest(model: PreTrainedModel) -> str:
    """SHA-256 of the start model's config, without what may differ between two loadings."""
    config = (model.get_base_model() if hasattr(model, "get_base_model") else model).config.to_dict()
    steady = {k: v for k, v in config.items() if k not in UNSTEADY and not k.startswith("_") and "dropout" not in k and "pdrop" not in k}
    return journal.digest(json.loads(json.dumps(steady, sort_keys=True, default=str)))


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapter as peft does (`PeftModel.from_pretrained` loads it), and which architecture it belongs to."""
    # "auto" would look for the start model's config on the hub
    model.save_pretrained(folder, save_embedding_layers=False)
    settle(model, folder)


def settle(model: PreTrainedModel, folder: Path) -> None:
    """Write down which architecture the adapter in `folder` belongs to."""
    journal.write_json(folder / BASE, {"model_type": model.config.model_type, "config": digest(model)})


def load(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The start model with the saved adapter, frozen; raises DataError for an adapter that is damaged or of another architecture."""
    from peft import PeftModel
    from safetensors import SafetensorError

    check_base(model, folder)
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"adapter {folder}: it does not fit this model or is damaged: {' '.join(str(error).split())[:300]}") from error


def check_base(model: PreTrainedModel, folder: Path) -> None:
    """Raise DataError where the adapter in `folder` was trained on another architecture."""
    path = folder / BASE
    if not path.is_file():
        return
    said = json.loads(path.read_text(encoding="utf-8"))
    if said.get("config") != digest(model):
        raise DataError(
            f"adapter {folder}: it was trained on another {said.get('model_type', 'model')} (config {str(said.get('config'))[:12]}, this "
            f"model's is {digest(model)[:12]}); load it over its own start model"
        )


def tokens_of(model: PreTrainedModel, texts: Sequence[str | int], key: str) -> list[int]:
    """Ids of tokens given by text or id; raises RecipeError for a text that is not one token of the model's vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    named = [text for text in texts if isinstance(text, str)]
    tokenizer = tokenizer_of(model, key) if named else None
    known = tokenizer.get_vocab() if tokenizer is not None else {}
    found = []
    for text in texts:
        index = known.get(text) if isinstance(text, str) else text
        if index is None or not 0 <= index < size:
            near = nearest(text, tokenizer.get_added_vocab()) if tokenizer is not None and isinstance(text, str) else ""
            raise RecipeError(f"{key}: {text!r} is no token of this model (it has {size} rows of embeddings){near}")
        found.append(int(index))
    return found


def tokenizer_of(model: PreTrainedModel, key: str) -> Any:
    """The tokenizer in the folder the model was loaded from; raises RecipeError where there is none."""
    from etude.models import weights

    folder = getattr(model.config, "name_or_path", "") or ""
    if not folder or not Path(folder).is_dir():
        raise RecipeError(f"{key}: the model was not loaded from a folder, so there is no tokenizer to read text with; give token ids")
    return weights.load_tokenizer(Path(folder))
