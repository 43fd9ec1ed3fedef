"""The manifest of a run: everything needed to know how its numbers came about. No key and no secret."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from etude import journal
from etude.models.weights import Weights
from etude.recipe import Recipe
from etude.runs import SCHEMA, record

PACKAGES = ("etude", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "scipy", "sacrebleu")


def now() -> str:
    """The time in UTC; SOURCE_DATE_EPOCH, where set, makes it reproducible."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(given) if given.isdigit() else None))


def versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system."""
    import psutil

    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write(folder: Path, recipe: Recipe, weights: Weights, inputs: Mapping[str, str], began: str, ended: str = "") -> None:
    """Write manifest.json."""
    licences = {name: getattr(source, "licence", "") for name, source in recipe.sources.items()}
    journal.write_json(
        folder / "manifest.json",
        {
            "schema": SCHEMA,
            "name": recipe.name,
            "recipe": recipe.digest(),
            "model": {"name": weights.name, "digest": weights.digest, "description": weights.description, "licence": weights.licence},
            "inputs": dict(inputs),
            "licences": licences,
            "seeds": {"recipe": recipe.seed, "training": recipe.training_seed(), "split": recipe.split.seed},
            "versions": versions(),
            "machine": machine(),
            "llms": curated.facts.get("llms", {}) if (curated := record(folder, "curated")) else {},
            "began": began,
            "ended": ended,
        },
    )
