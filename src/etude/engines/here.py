"""One job after the other, in this process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence

from etude.catalog import Settings
from etude.engines import Job, Result


class Here(Settings):
    """This process, one job after the other."""

    def map(self, work: str, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """(index, result) in the order of the jobs."""
        do = named(work)
        for index, job in enumerate(jobs):
            yield index, do(job)


def named(work: str) -> Callable[[Job], Result]:
    """The function "module:function"."""
    module, _, name = work.partition(":")
    found: Callable[[Job], Result] = getattr(importlib.import_module(module), name)
    return found
