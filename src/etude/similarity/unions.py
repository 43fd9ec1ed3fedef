"""Sets that merge (union-find): which of n things belong together, given pairs that do."""

from __future__ import annotations

import numpy as np


class UnionFind:
    """A partition of 0 .. size - 1; each set is named by its smallest member, whatever the order of the pairs.

    4 bytes a thing.
    """

    def __init__(self, size: int) -> None:
        self.parent = np.arange(size, dtype=np.int32)

    def find(self, one: int) -> int:
        """The smallest member of the set of `one`."""
        parent = self.parent
        while (up := int(parent[one])) != one:
            parent[one] = parent[up]  # path halving
            one = int(parent[one])
        return one

    def join(self, left: int, right: int) -> None:
        """Merge the sets of `left` and `right`."""
        left, right = self.find(left), self.find(right)
        self.parent[max(left, right)] = min(left, right)

    def roots(self) -> np.ndarray:
        """The name of everything's set, shape (size,), int32."""
        while True:
            up = self.parent[self.parent]
            if np.array_equal(up, self.parent):
                return up
            self.parent = up

    def groups(self) -> list[list[int]]:
        """The sets of two or more, each ascending, by their smallest members."""
        roots = self.roots()
        several = np.flatnonzero((np.bincount(roots, minlength=1) > 1)[roots])
        order = several[np.argsort(roots[several], kind="stable")]
        cuts = np.flatnonzero(np.diff(roots[order])) + 1
        return [part.tolist() for part in np.split(order, cuts)] if len(order) else []
