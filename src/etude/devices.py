"""What a model and a tuning method need of memory, and how fast named devices are: for planning, before anything is loaded.

Memory of tuning, in bytes: the weights; what learns once more as gradient and twice as AdamW's moments; the activations that one pass keeps
for its backward pass; its logits; and what torch itself takes. All in float32 but on devices with bfloat16, where activations take half
(weights stay float32 under accelerate's mixed precision). The counts were fitted to five runs of this machine (docs/log.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Device(NamedTuple):
    """Memory in GiB, dense matrix products in tera-FLOP/s in the precision that training uses, and the memory's bandwidth in TB/s (makers'
    data sheets, no sparsity)."""

    memory: float
    teraflops: float
    bandwidth: float
    precision: str = "bfloat16"


DEVICES: dict[str, Device] = {
    "t4": Device(15, 65, 0.32, "float16"),
    "rtx-3090": Device(24, 71, 0.94),
    "rtx-4090": Device(24, 165, 1.01),
    "l4": Device(22, 121, 0.30),
    "a10": Device(22, 125, 0.60),
    "l40s": Device(45, 362, 0.86),
    "a100-40gb": Device(40, 312, 1.56),
    "a100-80gb": Device(80, 312, 2.04),
    "h100-80gb": Device(80, 989, 3.35),
    "h200": Device(141, 989, 4.8),
    "mi300x": Device(192, 1307, 5.3),
}
REACHED = 0.35
"""Share of a device's matrix products that a tuning step is thought to reach; not measured here: no GPU was at hand."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's size: parameters, width, layers, vocabulary, and the width of its feed-forward layers."""

    parameters: int
    width: int
    layers: int
    vocabulary: int
    inner: int


SIZES: dict[str, Shape] = {
    "135M": Shape(134_515_008, 576, 30, 49_152, 1_536),
    "0.5B": Shape(494_032_768, 896, 24, 151_936, 4_864),
    "1.5B": Shape(1_543_714_304, 1_536, 28, 151_936, 8_960),
    "3B": Shape(3_085_938_688, 2_048, 36, 151_936, 11_008),
    "7B": Shape(7_615_616_512, 3_584, 28, 152_064, 18_944),
    "13B": Shape(13_015_864_320, 5_120, 40, 32_000, 13_824),
    "70B": Shape(70_553_706_496, 8_192, 80, 128_256, 28_672),
}
"""Usual models (SmolLM2, Qwen2.5, Llama 2 and 3 by their configurations), for the table in the docs."""

LEARNING = {
    "full": 1.0,
    "lora": 0.012,
    "adalora": 0.012,
    "qlora": 0.012,
    "ia3": 0.0003,
    "prefix": 0.002,
    "p_tuning": 0.007,
    "prompt": 0.0001,
}
"""Share of the parameters that a method learns with its default settings on a 135M model (docs/tuning.md); less on larger ones."""
DROPPED = 2.5
"""Numbers kept for every one that goes into a layer whose adapter has dropout (such layers are not fused)."""
OVERHEAD = 0.55
"""GiB of Python, torch and its libraries, once they are loaded."""


def shape_of(folder: Path, parameters: int) -> Shape:
    """A model's size by its config.json, under the names that transformers' architectures have for it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {**config, **config.get("text_config", {})}

    def first(*names: str) -> int:
        return int(next((config[name] for name in names if config.get(name)), 0))

    width, layers = first("hidden_size", "n_embd", "d_model"), first("num_hidden_layers", "n_layer", "num_layers")
    layers += first("num_decoder_layers") if config.get("is_encoder_decoder") else 0
    inner = first("intermediate_size", "n_inner", "ffn_dim", "d_ff") or 4 * width
    return Shape(parameters, width, layers, first("vocab_size"), inner)


def memory_gb(
    shape: Shape,
    method: str,
    tokens: int,
    *,
    answered: float = 0.5,
    dropped: bool = False,
    checkpointed: bool = False,
    half: bool = False,
) -> float:
    """GiB at the peak of tuning with passes of `tokens` tokens, `answered` of which are trained and so have logits.

    `dropped`: dropout in the adapters keeps what every layer was given once more; `half`: activations in 16 bits; `checkpointed`: kept at
    layer borders only.
    """
    weights = shape.parameters * (0.6 if method == "qlora" else 4.0)  # 4-bit weights with their scales, embeddings as they are
    learning = shape.parameters * LEARNING.get(method, 0.012) * 12.0  # gradient and two moments
    if method not in ("full", "qlora"):
        learning += shape.parameters * LEARNING.get(method, 0.012) * 4.0  # adapters stand beside the weights
    size = 2 if half else 4
    kept: float = 2 * shape.width
    if not checkpointed:
        kept = 12 * shape.width + 3 * shape.inner + (DROPPED * (6 * shape.width + shape.inner) if dropped else 0.0)
    activations = tokens * shape.layers * kept * size
    logits = 4.0 * tokens * shape.vocabulary * 4 * answered  # as they are, their probabilities, and the gradients of both
    return (weights + learning + activations + logits) / 2**30 + OVERHEAD


def fits(shape: Shape, method: str, device: Device, tokens: int = 1024) -> str:
    """How a method fits a device: "yes", "checkpointed" (with gradient checkpointing), or "no". A tenth of the memory is left free."""
    half, room = device.precision == "bfloat16", 0.9 * device.memory
    if memory_gb(shape, method, tokens, half=half) <= room:
        return "yes"
    return "checkpointed" if memory_gb(shape, method, tokens, half=half, checkpointed=True) <= room else "no"


def rate(parameters: int, full: bool, device: Device, tokens: int = 1024) -> float:
    """Tokens a second of tuning in passes of `tokens` tokens, by the roofline (Williams et al. 2009): what takes longer, the products
    (4 FLOPs a parameter and token with frozen weights, 6 where they learn, at `REACHED` of the device's) or reading the weights in
    float32, once forward and once back, and where they learn with gradients and moments read and written."""
    products = tokens * (6 if full else 4) * parameters / (device.teraflops * 1e12 * REACHED)
    read = parameters * 4.0 * (9 if full else 2) / (device.bandwidth * 1e12)
    return tokens / max(products, read)


def per_million(hourly: float, tokens_per_second: float) -> float:
    """Money for a million tokens on a device that costs so much an hour."""
    return hourly / 3600 / tokens_per_second * 1e6
