"""`etude doctor`: what this machine is, and what a run should know about it. Never shows a key."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import manifest
from etude.models import weights
from etude.sandbox import ladder

if TYPE_CHECKING:
    import torch

KEYS = ("HF_TOKEN", "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "OPENROUTER_API_KEY", "WANDB_API_KEY")
SETTINGS = (
    "ETUDE_DEVICE",
    "ETUDE_HOME",
    "ETUDE_RUNS",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "OPENAI_BASE_URL",
)


def examine() -> dict[str, Any]:
    """Everything, as plain data. Takes about two seconds, most of it two matrix products."""
    import torch

    home = weights.home()
    place = next(p for p in (home, *home.parents) if p.exists())
    return {
        "versions": manifest.versions(),
        "machine": {**manifest.machine(), "torch threads": torch.get_num_threads()},
        "torch": {"build": "CUDA" if torch.version.cuda else "CPU", "device": weights.place()},
        "arithmetic": arithmetic(),
        "cache": {
            "folder": str(home),
            "free_gb": round(shutil.disk_usage(place).free / 2**30, 1),
            "models": sorted(p.name for p in (home / "models").glob("*") if p.is_dir() and not p.name.startswith(".")),
        },
        "working folder": {"free_gb": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1)},
        "python": {
            "executable": sys.executable,
            "pip": "present" if importlib.util.find_spec("pip") else "missing: run `python -m ensurepip`; the default model needs it",
            "ensurepip": "present" if importlib.util.find_spec("ensurepip") else "missing: install your system's python3-venv package",
        },
        "sandbox": {
            **{name: "available" if there else why for name, there, why in ladder.rungs()},
            "javascript": ladder.javascript() or "no node on the PATH",
        },
        "keys": {name: "set" if os.environ.get(name) else "not set" for name in KEYS},
        "environment": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def arithmetic() -> dict[str, Any]:
    """Measured speed of matrix products and of whole transformer-like blocks, and which precision to train in.

    The block decides: where matrix products alone are several times faster in bfloat16, casts and
    elementwise work can eat all of the gain.
    """
    import torch

    single, half = (block_speed(kind) for kind in (torch.float32, torch.bfloat16))
    advice = "tune.precision=bfloat16 would be faster" if half > 1.2 * single else "float32 is the right precision on this processor"
    return {
        "float32 products": f"{gemm_speed(torch.float32):,.0f} GFLOP/s",
        "bfloat16 products": f"{gemm_speed(torch.bfloat16):,.0f} GFLOP/s",
        "float32 block": f"{single:,.0f} tokens/s",
        "bfloat16 block": f"{half:,.0f} tokens/s",
        "advice": advice,
    }


def block_speed(kind: torch.dtype, tokens: int = 1024, width: int = 576, inner: int = 1536, seconds: float = 0.8) -> float:
    """Tokens/s forward and backward through a frozen feed-forward block of the default model's shape
    with a norm and a gate, in this precision by autocast: the best of the passes that fit in `seconds`."""
    import torch
    from torch.nn.functional import linear, rms_norm, silu

    up, gate, down = torch.randn(inner, width), torch.randn(inner, width), torch.randn(width, inner)
    given = torch.randn(tokens, width, requires_grad=True)
    best, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end or best == float("inf"):
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            hidden = rms_norm(given, (width,))
            output = linear(silu(linear(hidden, gate)) * linear(hidden, up), down) + given
        torch.autograd.backward(output.float().square().mean())
        best = min(best, time.perf_counter() - began)
    return tokens / best


def gemm_speed(kind: torch.dtype, size: int = 1024, seconds: float = 0.4) -> float:
    """GFLOP/s of a square matrix product of this type: the best of the products that fit in `seconds`."""
    import torch

    a, b = torch.randn(size, size).to(kind), torch.randn(size, size).to(kind)
    a @ b
    best, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def as_text(found: Mapping[str, Any]) -> str:
    """The examination as lines."""
    lines = []
    for section, facts in found.items():
        lines.append(section)
        lines += [f"  {name:20} {', '.join(value) if isinstance(value, list) else value}" for name, value in facts.items()]
    return "\n".join(lines)
