"""One seed -> named, independent random streams. The same name gives the same stream on every
machine and Python (hashes of text, never `hash()`), and adding a stream changes no other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def number(seed: int, *names: object) -> int:
    """A 63-bit integer that is a pure function of the seed and the names."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def share(seed: int, *names: object) -> float:
    """A uniform number in [0, 1) that is a pure function of the seed and the names."""
    return number(seed, *names) / 2**63


def stream(seed: int, *names: object) -> np.random.Generator:
    """A random generator of its own for `names`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(number(seed, *names)))
