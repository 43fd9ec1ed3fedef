"""A model's folder as it lies on the disk: what must be in it, what is refused, and its digest. Nothing is loaded here."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from etude import journal
from etude.failures import DataError, NoSpace, RecipeError

TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))
"""Files that make a tokenizer; one of these sets must be in a model's folder."""

PARTS = (".safetensors", ".json", ".model", ".jinja", ".txt")
"""Endings of the files that make a model: weights, configuration, tokenizer, chat template."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder, or DataError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def check(folder: Path) -> None:
    """Refuse a folder that cannot be loaded safely, by what is in it and without running any of it."""
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        hint = ""
        if "adapter_config.json" in names:
            base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
            hint = f"; it is an adapter: name its base model ({base})"
        elif files := sorted(name for name in names if name.endswith(".gguf")):
            hint = f"; name the file instead: {folder / files[0]}"
        raise RecipeError(f"model folder {folder}: no config.json{hint}")
    for part in ("config.json", "tokenizer_config.json"):
        if part in names and read_json(folder / part).get("auto_map"):
            raise RecipeError(
                f"model folder {folder}: {part} has 'auto_map', so the model brings Python code of its own; etude never runs code from a "
                "model's folder. Use a model whose architecture transformers knows"
            )
    if not any(name.endswith(".safetensors") for name in names):
        pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        if pickles:
            raise RecipeError(
                f"model folder {folder}: its weights are pickled only ({pickles[0]}), and loading a pickle runs code from it; etude "
                "reads safetensors only. Take the model's safetensors version, or convert it where you trust it "
                "(save_pretrained writes safetensors)"
            )
        raise RecipeError(f"model folder {folder}: no weights; looked for *.safetensors")
    if not any(names.issuperset(files) for files in TOKENIZERS):
        wanted = ", ".join(" with ".join(files) for files in TOKENIZERS)
        raise RecipeError(f"model folder {folder}: no tokenizer; looked for {wanted}. Copy the tokenizer of the model it was made from")


def file_digest(path: Path, memory: Path) -> str:
    """SHA-256 of a file, remembered with its size and time of change so that it is not read again."""
    return remembered(path, [path], memory)[path.name]


def folder_digest(folder: Path, memory: Path) -> str:
    """SHA-256 over names and contents of the files that make the model, remembered likewise."""
    skipped = {"etude.json", "trainer_state.json", "training_args.json"}
    files = [path for path in sorted(folder.iterdir()) if path.suffix in PARTS and path.name not in skipped and path.is_file()]
    return journal.digest(remembered(folder, files, memory))


def remembered(key: Path, files: list[Path], memory: Path) -> dict[str, str]:
    """File name -> SHA-256; only files whose size or time changed since the last call are read. What is remembered lies in
    the folder `memory`, never beside a user's files; when that cannot be written, the files are read each time."""
    memory = memory / f"{journal.digest(str(key.resolve()))[:16]}.json"
    known: dict[str, Any] = {}
    with contextlib.suppress(DataError):
        known = read_json(memory) if memory.is_file() else {}
    now: dict[str, Any] = {}
    for path in files:
        status = path.stat()
        mark = [status.st_size, status.st_mtime_ns, status.st_ino]
        before = known.get(path.name)
        same = isinstance(before, dict) and before.get("mark") == mark
        now[path.name] = before if same else {"mark": mark, "sha256": journal.file_digest(path)}
    if now != known:
        with contextlib.suppress(OSError, NoSpace):
            journal.write_json(memory, now)
    return {name: entry["sha256"] for name, entry in now.items()}


def licence_of(folder: Path) -> str:
    """The `license:` line at the head of a model card, or ""."""
    card = folder / "README.md"
    head = card.read_text(errors="replace")[:4000] if card.is_file() else ""
    match = re.search(r"\A---\n(?:.*\n)*?license:\s*[\"']?([\w.-]+)", head)
    return match[1] if match else ""
