"""pass@k: the chance that at least one of k answers passes the task's tests, run in a jail (Chen et al. 2021, arXiv 2107.03374).

An item's fields say how its answers are tested, under the data sets' own names:
- HumanEval: `prompt`, `test` (which defines `check`), `entry_point`;
- MBPP: `test_list`, perhaps `test_setup_code` or `test_imports`, perhaps `challenge_test_list` (not run, as in Austin et al. 2021);
- `language`: `python` (the default) or `javascript`, whose `test` calls the function itself (MBXP's form).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.failures import nearest
from etude.metrics.code_extraction import TAGS, Language, called, extract
from etude.metrics.items import RowError, described, mean
from etude.records import Prediction
from etude.sandbox import ladder, runner
from etude.sandbox.programs import Limits, Program, Verdict

if TYPE_CHECKING:
    import numpy as np


EMPTY = Verdict("failed", "the answer is empty")


def estimate(n: int, passed: int, k: int) -> float:
    """The unbiased estimate of pass@k from `passed` of n answers: 1 - C(n - c, k) / C(n, k), as a product (Chen et al. 2021, fig. 3).

    Raises ValueError where fewer than k answers were drawn, or more passed than that.
    """
    if not 1 <= k <= n or not 0 <= passed <= n:
        raise ValueError(f"pass@{k} of {passed} in {n} answers is not defined")
    if n - passed < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - passed + 1, n + 1))


class PassAtK(Settings):
    """The chance that one of k answers passes all of a task's tests; each answer is run in a jail, or the run ends (exit 7)."""

    scale: ClassVar[float] = 1.0
    reads_references: ClassVar[bool] = False
    """The tests say what is right."""

    k: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many answers may be tried; every item needs at least as many (`sampling.n`)."""
    extract: Literal["auto", "none"] = "auto"
    """How the program is found in an answer: fences, prose and continuations by the rule of docs/pass-at-k.md, or the answer as it is
    behind the prompt."""
    cpu_seconds: Annotated[int, Field(ge=1, le=3600)] = 3
    """Processor time of a program and its tests (HumanEval's own limit is 3 seconds on the clock)."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Time on the clock, for programs that wait."""
    memory_mb: Annotated[int, Field(ge=64)] = 512
    """Memory of a program in MiB."""
    sandbox: Literal["auto", "bubblewrap", "landlock", "container"] = "auto"
    """The jail: the first that works here, or this one and no other."""
    image: str | None = None
    """The image of the container rung, which has a Python 3.11 or later; without it that rung is not there."""
    engine: Literal["docker", "podman"] | None = None
    """The program that runs containers; by default the first of the two that is there."""
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Programs that run at a time; by default as many as there are cores."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): the item's own pass@k, and 1; an item without any answer has 0.

        Raises RowError for an item with fewer than k answers or without tests, NoSandbox where no jail can be had.
        """
        import numpy as np

        table = np.ones((len(predictions), 2))
        for row, verdicts in zip(table, self.verdicts(predictions), strict=True):
            row[0] = estimate(len(verdicts), sum(v.passed for v in verdicts), self.k) if verdicts else 0.0
        return table

    def score(self, totals: np.ndarray) -> float:
        """The mean of the items' pass@k, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made; with predictions also their number of answers and the jail that ran them."""
        counts = {len(prediction.outputs) for prediction in predictions if prediction.outputs}
        parts: dict[str, object] = {"k": self.k}
        if predictions:
            parts |= {"n": counts.pop() if len(counts) == 1 else "var", "sandbox": self.rung().described}
        limits = f"{self.cpu_seconds}s-{self.memory_mb}MiB"
        return described(self.name, {**parts, "extract": self.extract, "limits": limits, "estimator": "unbiased"}, ())

    name: ClassVar[str] = "pass_at_k"

    def rung(self) -> ladder.Rung:
        """The jail that programs run in; raises NoSandbox."""
        return ladder.choose(self.sandbox, self.image, self.engine)

    def verdicts(self, predictions: Sequence[Prediction]) -> list[list[Verdict]]:
        """The verdict on every answer of every item. Raises as `stats` does; nothing is run before every item is in order."""
        for prediction in predictions:
            if prediction.outputs and len(prediction.outputs) < self.k:
                raise RowError(
                    prediction.id,
                    f"pass@{self.k} needs at least {self.k} answers to each question, and there {plural(len(prediction.outputs))}; draw "
                    f"more (sampling: {{n: {self.k}, temperature: 0.8}}) or ask for a smaller k",
                )
        programs = [[self.program(prediction, output) for output in prediction.outputs or ("",)] for prediction in predictions]
        said = [output.strip() != "" for prediction in predictions for output in prediction.outputs or ("",)]
        asked = [program for program, any_text in zip((p for row in programs for p in row), said, strict=True) if any_text]
        limits = Limits(seconds=self.seconds, cpu_seconds=self.cpu_seconds, memory_mb=self.memory_mb)
        found = iter(remembered(asked, self.rung(), limits, self.workers) if asked else [])
        every = iter([next(found) if any_text else EMPTY for any_text in said])
        rows = [[next(every) for _ in row] for row in programs]
        return [row if prediction.outputs else [] for prediction, row in zip(predictions, rows, strict=True)]

    def program(self, prediction: Prediction, output: str) -> Program:
        """The program of one answer and its checks. Raises RowError for an item that does not say how it is tested."""
        fields = prediction.fields
        language = language_of(prediction)
        prompt = text(prediction, "prompt", required=False)
        if fields.get("test_list") is not None:
            tests = fields["test_list"]
            if not isinstance(tests, list | tuple) or not tests or not all(isinstance(test, str) for test in tests):
                raise RowError(prediction.id, f"field 'test_list' must be a list of texts with a test each, not {tests!r:.80}")
            setup = "\n".join((*listed(prediction, "test_setup_code"), *listed(prediction, "test_imports")))
            code = extract(output, called(tests, setup), "", language) if self.extract == "auto" else output
            return Program(code, "\n".join((setup, *tests)), "", language)
        test = text(prediction, "test", required=True)
        entry = text(prediction, "entry_point", required=False).strip()  # MBPP's own have spaces behind some
        checks = re.search(r"^def\s+check\s*\(", test, re.MULTILINE) if language == "python" else None
        if checks and not entry:
            raise RowError(prediction.id, "field 'test' defines check(candidate), and there is no 'entry_point' to hand it")
        if entry and not entry.replace("$", "_").isidentifier():
            raise RowError(prediction.id, f"field 'entry_point' is not a name: {entry!r:.80}")
        code = extract(output, [entry], prompt, language) if self.extract == "auto" else prompt + output
        return Program(code, f"{test}\n\ncheck({entry})\n" if checks else test, entry, language)


class PassAt10(PassAtK):
    """pass@10: `pass_at_k` with k = 10, under a name of its own, so that a task can have both."""

    name: ClassVar[str] = "pass_at_10"

    k: Annotated[int, Field(ge=1, le=10_000)] = 10
    """How many answers may be tried."""


def plural(count: int) -> str:
    """`is 1 answer`, `are 3`."""
    return f"{'is' if count == 1 else 'are'} {count}"


def language_of(prediction: Prediction) -> Language:
    """The language of an item's program; raises RowError for one that cannot be run."""
    said = str(prediction.fields.get("language") or "python").lower()
    for language, tags in TAGS.items():
        if said in tags:
            return language
    raise RowError(prediction.id, f"programs in {said!r} cannot be run{nearest(said, TAGS)}")


def text(prediction: Prediction, key: str, *, required: bool) -> str:
    """A field that is text; "" where it may be missing and is. Raises RowError."""
    value = prediction.fields.get(key)
    if value is None and not required:
        return ""
    if value is None or (required and not str(value).strip()):
        missing = f"there is no field {key!r}" if value is None else f"field {key!r} is empty"
        hint = nearest(key, prediction.fields) if prediction.fields else ""
        raise RowError(prediction.id, f"{missing}; code tasks carry 'prompt', 'test' and 'entry_point', or 'test_list'{hint}")
    if not isinstance(value, str):
        raise RowError(prediction.id, f"field {key!r} must be text, not {value!r:.80}")
    return value


def listed(prediction: Prediction, key: str) -> list[str]:
    """A field that is a text or several, as lines of code."""
    value: Any = prediction.fields.get(key) or []
    lines = [value] if isinstance(value, str) else value
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise RowError(prediction.id, f"field {key!r} must be text or a list of texts, not {value!r:.80}")
    return list(lines)


KNOWN: dict[tuple[Program, ladder.Rung, Limits], Verdict] = {}
"""Verdicts of this process: pass@1 and pass@10 of the same answers run them once."""
MOST_KNOWN = 100_000


def remembered(programs: Sequence[Program], rung: ladder.Rung, limits: Limits, workers: int | None) -> list[Verdict]:
    """The verdicts on programs, those that were judged before in this process from memory."""
    missing = [program for program in dict.fromkeys(programs) if (program, rung, limits) not in KNOWN]
    fresh = dict(zip(missing, runner.judge(missing, rung, limits, workers), strict=True))
    found = [fresh[program] if program in fresh else KNOWN[program, rung, limits] for program in programs]
    if len(KNOWN) + len(fresh) > MOST_KNOWN:
        KNOWN.clear()
    KNOWN.update({(program, rung, limits): verdict for program, verdict in fresh.items()})
    return found
