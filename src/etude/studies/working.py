"""One job of a study, wherever it runs: a recipe and how far to take it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude import pipeline, runs
from etude import recipe as recipes
from etude.failures import Failure, NoSpace, Stopped
from etude.screen import Plain, Silent

WORK = "etude.studies.working:work"


class Prefixed(Plain):
    """A Watch whose lines begin with the job's name."""

    def __init__(self, name: str) -> None:
        super().__init__(30.0)
        self.name = name

    def say(self, text: str) -> None:
        """Print the line behind the name."""
        super().say(f"{self.name}: {text.strip()}")


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job `{"recipe": plain data, "folder": path, "until": "tune" | "answers" | "report", "quiet": bool}`;
    `answers` are those of the start model and the baselines, before anything is trained.

    Returns `{"tuned": facts of training}` ({} where nothing was trained), or `{"failed": why, "exit_code": code}`: an arm that fails must
    not stop the others. Raises Stopped (a signal or a budget) and NoSpace, which end the whole study.
    """
    folder = Path(job["folder"])
    watch = Silent() if job.get("quiet") else Prefixed(folder.name)
    try:
        recipe = recipes.build(job["recipe"], folder.name)
        if job["until"] == "answers":
            pipeline.score(recipe, folder, "", watch)
            return {}
        if job["until"] == "tune":
            done = pipeline.tune_only(recipe, folder, "", watch)
        else:
            pipeline.run(recipe, folder, "", watch)
            done = runs.record(folder, "tune")  # type: ignore[assignment]
        return {"tuned": dict(done.facts["trained"])}
    except (Stopped, NoSpace):
        raise
    except Failure as failure:
        return {"failed": str(failure), "exit_code": failure.exit_code}
    except Exception as error:  # a fault of one arm, whatever it is, is reported with its place and costs no other arm
        return {"failed": f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}", "exit_code": 1}
