"""Engines: where independent pieces of work run. The same jobs give the same results here, in processes of this machine, or on Ray.

A job and its result are plain data, and the work is named ("module:function"), so that any process can take it up. Work must be
safe to begin again: a job whose process died is given to another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from etude.catalog import Catalog

Job = Mapping[str, Any]
Result = Mapping[str, Any]


class Engine(Protocol):
    """Runs jobs; a frozen settings class."""

    def map(self, work: str, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """(index of the job, what `work` returned) as they finish, each index once.

        `work`: "module:function" of one job. What it raises in this process is raised; in another process it becomes a result
        `{"failed": why, "exit_code": code}`, and so does a job whose process died again and again.
        """
        ...


ENGINES = Catalog(
    "engine",
    {
        "here": "etude.engines.here:Here",
        "processes": "etude.engines.processes:Processes",
        "ray": "etude.engines.on_ray:OnRay",
    },
)
