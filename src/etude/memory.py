"""How much memory a piece of work took at its peak: of the process on a CPU, of torch's allocator on a GPU."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def peak() -> Iterator[Callable[[], float]]:
    """Inside the block the function given says the highest memory since its beginning, in GiB.

    Linux forgets the process's earlier peak when asked to; elsewhere the peak is since the process began. On CUDA it is what torch held.
    """
    cuda = _cuda()
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    yield (lambda: cuda.max_memory_allocated() / 2**30) if cuda is not None else resident


def resident() -> float:
    """The process's highest resident memory in GiB."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**20
    unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, others kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _cuda() -> Any:
    """torch.cuda where it is loaded and has a device."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None
