"""GGUF files -> a transformers folder, once: every weight dequantised, the file's own tokenizer, its chat template.

Own mapping instead of transformers' `gguf_file=` loader, which drops the file's pre-tokenizer, keeps pad = end of turn and
refuses to save what it loaded. Layout of the file: the GGUF specification in ggml's documentation; names of tensors: the
map in the `gguf` package, so that a new name needs no change here. Only what has been proven equal to llama.cpp is read
(`ARCHITECTURES`, `PRE_TOKENIZERS`); everything else is refused by name.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etude import journal
from etude.failures import DataError, NoSpace, RecipeError

VERSION = 1
"""Version of the conversion; raising it makes every cached model be converted anew."""

ARCHITECTURES = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config"}
"""`general.architecture` -> configuration class in transformers."""

LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {"smollm": "digits", "gpt-2": "", "llama-bpe": LLAMA3_SPLIT, "qwen2": LLAMA3_SPLIT.replace("{1,3}", "")}
"""`tokenizer.ggml.pre` -> how text is cut before byte pairs are merged: "" is GPT-2's pattern, "digits" is that pattern after
every digit has been set apart, else a pattern of its own (the interface strings of the models' tokenizer.json)."""

ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "</s>")
"""Control tokens that end an answer wherever they exist, as in llama.cpp (its end-of-generation tokens)."""

PADS = ("<|endoftext|>", "<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<unk>", "<|vision_pad|>")
"""Tokens that may pad when the tokenizer's own pad is missing or is its end of turn; the first that exists is taken."""

CONTROL, USER_DEFINED = 3, 4
"""`tokenizer.ggml.token_type` of markup (special) and of text that is always one token (added, not special)."""


def convert(file: Path, folder: Path, provenance: Mapping[str, Any], progress: Callable[[str], None]) -> None:
    """Write `file` into the existing empty `folder` as config.json, model.safetensors (float32), tokenizer.json,
    tokenizer_config.json, chat_template.jinja, generation_config.json, and `etude.json` with `provenance` and what was read.

    float32, since a Q4_1 value (float16 scale x 4-bit integer + float16 minimum) has no exact float16 or bfloat16.
    Raises DataError on a damaged file, RecipeError on an architecture or tokenizer that is not known here.
    """
    reader = opened(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = configuration(file, reader, fields)
    tokenizer = tokenizer_of(file, fields)
    stops = [tokenizer.eos_token_id]
    stops += [tokenizer.convert_tokens_to_ids(end) for end in ENDS if end in tokenizer.all_special_tokens and end != tokenizer.eos_token]
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    needed, free = 4 * sum(int(tensor.n_elements) for tensor in reader.tensors), shutil.disk_usage(folder).free
    if free < needed:
        raise NoSpace(f"{folder.parent}: {file.name} needs {needed / 1e6:,.0f} MB as float32, {free / 1e6:,.0f} MB are free; make room")
    progress(f"dequantising {file.name} into float32 ({needed / 1e6:,.0f} MB)")
    write_tensors(folder / "model.safetensors", plan(file, reader, config))
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    generation = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": stops, "pad_token_id": tokenizer.pad_token_id}
    journal.write_json(folder / "generation_config.json", {key: value for key, value in generation.items() if value is not None})
    kinds = "+".join(sorted({tensor.tensor_type.name for tensor in reader.tensors}))
    read = {
        "architecture": fields["general.architecture"],
        "quantisation": kinds,
        "pre_tokenizer": fields.get("tokenizer.ggml.pre"),
        "licence": fields.get("general.license", ""),
        "description": f"{fields.get('general.name', file.stem)}: GGUF weights ({kinds}), dequantised to float32",
        "conversion": VERSION,
    }
    journal.write_json(folder / "etude.json", {**read, **{key: value for key, value in provenance.items() if value}})


def opened(file: Path) -> Any:
    """A `gguf.GGUFReader`, or DataError when the file is not GGUF or is cut short."""
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise DataError(f"{file}: not a readable GGUF file ({error}); it may be cut short: get it again") from error


def configuration(file: Path, reader: Any, fields: Mapping[str, Any]) -> Any:
    """The transformers configuration of a GGUF file's metadata."""
    import transformers

    kind = fields.get("general.architecture", "")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise RecipeError(f"{file}: GGUF architecture {kind!r} is not read here (only {known}); use the model's safetensors instead")

    def value(key: str, default: Any = None) -> Any:
        found = fields.get(f"{kind}.{key}", default)
        if found is None:
            raise DataError(f"{file}: the GGUF metadata lack {kind}.{key}")
        if isinstance(found, list):
            raise RecipeError(f"{file}: {kind}.{key} differs from layer to layer, which is not read here; use the model's safetensors")
        return found

    if value("expert_count", 0):
        raise RecipeError(f"{file}: mixture-of-experts GGUF files are not read here; use the model's safetensors instead")
    names = {tensor.name: tensor for tensor in reader.tensors}
    if "token_embd.weight" not in names:
        raise DataError(f"{file}: no tensor token_embd.weight; is this a vocabulary-only or a multi-part GGUF?")
    heads, width = value("attention.head_count"), value("embedding_length")
    head = fields.get(f"{kind}.attention.key_length") or width // heads
    settings: dict[str, Any] = {
        "vocab_size": int(names["token_embd.weight"].shape[1]),
        "hidden_size": width,
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": value("context_length"),
        "rms_norm_eps": shortest(value("attention.layer_norm_rms_epsilon")),
        "rope_parameters": rope(file, fields, kind, head, names.get("rope_freqs.weight")),
        "tie_word_embeddings": "output.weight" not in names,
        "dtype": "float32",
    }
    if kind == "llama":
        settings["attention_bias"] = "blk.0.attn_q.bias" in names
    config = getattr(transformers, ARCHITECTURES[kind])(**settings)
    config.architectures = [ARCHITECTURES[kind].replace("Config", "ForCausalLM")]
    return config


def shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05 for 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def rope(file: Path, fields: Mapping[str, Any], kind: str, head: int, factors: Any) -> dict[str, Any]:
    """Rotary position parameters. Llama 3.1's frequency divisors come as a tensor: they are recognised by
    computing them again (transformers' `llama3` rule with its published 1, 4 and 8192), else refused."""
    base = shortest(fields.get(f"{kind}.rope.freq_base", 10000.0))
    if fields.get(f"{kind}.rope.dimension_count", head) != head:
        raise RecipeError(f"{file}: rotary embedding over a part of each head is not read here; use the model's safetensors instead")
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling == "linear":
        return {"rope_type": "linear", "rope_theta": base, "factor": float(fields[f"{kind}.rope.scaling.factor"])}
    if scaling not in ("none", ""):
        raise RecipeError(f"{file}: rotary scaling {scaling!r} is not read here; use the model's safetensors instead")
    if factors is None:
        return {"rope_type": "default", "rope_theta": base}
    given = np.asarray(factors.data, dtype=np.float64)
    factor, low, high, length = float(given.max()), 1.0, 4.0, 8192
    wave = 2 * math.pi * base ** (np.arange(0, head, 2) / head)
    smooth = np.clip((length / wave - low) / (high - low), 0, 1)
    if given.shape != wave.shape or not np.allclose(given, 1 / ((1 - smooth) / factor + smooth), rtol=1e-4):
        raise RecipeError(f"{file}: its rope_freqs.weight follows no rule known here; use the model's safetensors instead")
    rule = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": length}
    return {"rope_type": "llama3", "rope_theta": base, "factor": shortest(factor), **rule}


def plan(file: Path, reader: Any, config: Any) -> list[tuple[str, Any, int]]:
    """Which GGUF tensor becomes which parameter: (parameter, tensor, heads to un-permute or 0), every parameter exactly
    once and no tensor left over, else DataError."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == config.model_type)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors if tensor.name != "rope_freqs.weight"}
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).state_dict()
    if config.tie_word_embeddings:
        parameters.pop("lm_head.weight", None)
    chosen = []
    for parameter, value in parameters.items():
        stem, _, suffix = parameter.rpartition(".")
        name = f"{names.get_name(stem)}.{suffix}"
        tensor = tensors.pop(name, None)
        if tensor is None:
            raise DataError(f"{file}: the tensor {name} is missing ({len(reader.tensors)} tensors are there)")
        shape = [int(size) for size in reversed(tensor.shape)]
        if shape != list(value.shape):
            raise DataError(f"{file}: the tensor {name} has shape {shape}, its metadata ask for {list(value.shape)}")
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2], 0)
        chosen.append((parameter, tensor, heads if config.model_type == "llama" else 0))
    if tensors:
        raise DataError(f"{file}: {len(tensors)} tensors have no place in a {config.model_type} model, such as {next(iter(tensors))}")
    return chosen


def unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection in transformers' order. llama.cpp's converter interleaves the two halves of each
    head for the llama architecture (it rotates neighbours, transformers rotates halves)."""
    rows = weight.shape[0]
    return weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_tensors(path: Path, chosen: Iterable[tuple[str, Any, int]]) -> None:
    """Write parameters as one float32 safetensors file, a tensor at a time, so that memory holds one of them.

    The format (its specification): the header's length as 8 bytes little-endian, the header as JSON, the data.
    """
    from gguf import dequantize

    chosen = list(chosen)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor, _ in chosen:
        end = start + 4 * int(tensor.n_elements)
        header[name] = {"dtype": "F32", "shape": [int(size) for size in reversed(tensor.shape)], "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, tensor, heads in chosen:
            weight = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype="<f4")
            out.write(np.ascontiguousarray(unpermuted(weight, heads) if heads else weight).data)


def tokenizer_of(file: Path, fields: Mapping[str, Any]) -> Any:
    """A fast tokenizer of the file's own tokens, merges, kinds and pre-tokenizer; nothing is ever added to a text
    except the beginning of text where the file asks for it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    family, pre = fields.get("tokenizer.ggml.model", ""), fields.get("tokenizer.ggml.pre", "")
    if family != "gpt2" or pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise RecipeError(f"{file}: tokenizer {family!r} / {pre!r} is not read here (only gpt2 / {known}); use the model's safetensors")
    tokens = fields["tokenizer.ggml.tokens"]
    kinds = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens) or len(kinds) != len(tokens):
        raise DataError(f"{file}: {len(tokens)} tokens, {len(vocabulary)} of them distinct, {len(kinds)} kinds: they should agree")
    merges = [tuple(merge.split(" ", 1)) for merge in fields.get("tokenizer.ggml.merges", ())]
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
    backend.pre_tokenizer = pre_tokenizer(PRE_TOKENIZERS[pre])
    backend.decoder = decoders.ByteLevel()
    added = [
        AddedToken(t, special=k == CONTROL, normalized=False) for t, k in zip(tokens, kinds, strict=True) if k in (CONTROL, USER_DEFINED)
    ]
    backend.add_tokens(added)
    backend.add_special_tokens([token for token in added if token.special])

    def named(key: str) -> str | None:
        number = fields.get(f"tokenizer.ggml.{key}_token_id", -1)
        return tokens[number] if 0 <= number < len(tokens) else None

    if named("eos") is None:
        raise DataError(f"{file}: no end of text (tokenizer.ggml.eos_token_id), so an answer could never end")
    bos = named("bos")
    if fields.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe") and bos:
        backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=named("eos"),
        unk_token=named("unknown"),
        pad_token=named("padding"),
        model_max_length=fields.get(f"{fields['general.architecture']}.context_length"),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = fields.get("tokenizer.chat_template")
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        tokenizer.pad_token = padding(tokenizer)
    return tokenizer


def pre_tokenizer(pattern: str) -> Any:
    """The `tokenizers` object for an entry of PRE_TOKENIZERS."""
    from tokenizers import Regex, pre_tokenizers

    if pattern == "digits":
        cut = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    elif pattern:
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        cut = [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), bytes_only]
    else:
        cut = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return pre_tokenizers.Sequence(cut)


def padding(tokenizer: Any) -> str | None:
    """The token that shall pad where pad is missing or is the end of turn: a known pad, the unknown token, any other
    special token that neither begins nor ends a text; None when there is no such token."""
    taken = {tokenizer.eos_token, tokenizer.bos_token, *ENDS}
    vocabulary = tokenizer.get_vocab()
    for token in (*PADS, tokenizer.unk_token):
        if token in vocabulary and token != tokenizer.eos_token:
            return str(token)
    added = sorted(tokenizer.added_tokens_decoder.items())
    return next((token.content for _, token in added if token.special and token.content not in taken), None)
