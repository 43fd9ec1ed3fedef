"""What a run found, as the report takes it: frozen, complete, and in no model's or file's format.

Whoever runs the stages fills a `Findings`; this package only shows it. Nothing here reads a clock,
a file or a model, so equal findings give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from etude.curation.diversity import Figures
from etude.failures import Failure
from etude.reporting import generated
from etude.reporting.generated import Generation, Levels

SCHEMA = 1
"""Version of results.json; raised when a key changes its meaning."""

Interval = tuple[float, float]

KINDS = ("better", "worse", "no difference", "cannot test")
"""What `Measure.verdict` may begin with; anything after it ("no difference shown; ...") is detail."""


class Baseline(TypedDict):
    """What a trivial method reaches on the same rows; either may be None."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric on one task: the start model (`base`), the tuned one and their paired difference.

    Values are in the metric's own unit, 0 to `scale` (100 for BLEU and chrF, else 1), and larger is
    better unless `lower` says the opposite. None (or a number that is not finite) stands for what could not be computed. `interval`
    and `p` belong to the difference. `verdict` begins with one of KINDS; `label` limits its claim
    ("these checkpoints only"). An interval about no number is taken as None; a verdict that begins with
    nothing known, or goes against the sign of its own difference, is a Failure. `groups`: in how many groups the items come, by the
    field `group`; 0 where each stands for itself.
    """

    metric: str
    base: float | None
    base_interval: Interval | None
    tuned: float | None
    tuned_interval: Interval | None
    difference: float | None
    interval: Interval | None
    p: float | None
    items: int
    signature: str = ""
    scale: float = 1.0
    verdict: str = "cannot test"
    label: str = ""
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    lower: bool = False
    groups: int = 0
    group: str = ""

    def __post_init__(self) -> None:
        if not self.verdict.startswith(KINDS):
            raise Failure(f"metric {self.metric}: verdict {self.verdict!r} begins with none of: {', '.join(KINDS)}")
        pairs = (("base_interval", self.base), ("tuned_interval", self.tuned), ("interval", self.difference))
        for name, value in pairs:
            if finite(value) is None:
                object.__setattr__(self, name, None)
        change = finite(self.difference)
        if change is None:
            return
        gain = -change if self.lower else change
        if (self.verdict.startswith("better") and gain <= 0) or (self.verdict.startswith("worse") and gain >= 0):
            raise Failure(f"metric {self.metric}: verdict {self.verdict!r} contradicts its difference {change}")

    @property
    def kind(self) -> str:
        """The verdict as one of KINDS; without both numbers and their difference nothing is claimed."""
        if None in (finite(self.base), finite(self.tuned), finite(self.difference)):
            return "cannot test"
        return next(kind for kind in KINDS if self.verdict.startswith(kind))

    @property
    def chance(self) -> float | None:
        """The p-value, or None where nothing was tested."""
        return None if self.kind == "cannot test" else finite(self.p)

    @property
    def detail(self) -> str:
        """What the verdict says beyond its kind and its numbers: why not tested, what could have been seen."""
        if self.kind in ("better", "worse") or not self.verdict.startswith(self.kind):
            return ""
        return self.verdict.removeprefix(self.kind).removeprefix(" shown").lstrip(" :;,").rstrip(" .")

    def rivals(self) -> tuple[tuple[str, float], ...]:
        """Baselines that have a number, best first: (name, value)."""
        known = [(name, finite(baseline["value"])) for name, baseline in self.baselines.items()]
        sign = 1 if self.lower else -1
        return tuple(sorted(((name, value) for name, value in known if value is not None), key=lambda pair: sign * pair[1]))

    def beaten(self) -> bool:
        """Whether some baseline scores above the tuned model."""
        tuned, rivals = finite(self.tuned), self.rivals()
        if tuned is None or not rivals:
            return False
        return rivals[0][1] < tuned if self.lower else rivals[0][1] > tuned


@dataclass(frozen=True, slots=True)
class Example:
    """One scored row, answered by both models; scores are of the task's primary metric, or None."""

    id: str
    question: str
    reference: str
    base: str
    tuned: str
    base_score: float | None = None
    tuned_score: float | None = None
    lower: bool = False
    base_cut: bool = False
    tuned_cut: bool = False
    """Whether the limit on new tokens ended the answer."""

    @property
    def group(self) -> str:
        """`improved`, `unchanged`, `worse`, or `unscored`."""
        base, tuned = finite(self.base_score), finite(self.tuned_score)
        if base is None or tuned is None:
            return "unscored"
        return "unchanged" if math.isclose(base, tuned, abs_tol=1e-9) else "improved" if (tuned > base) != self.lower else "worse"


class Probe(NamedTuple):
    """A question without a reference, answered by the start model and the tuned one."""

    question: str
    base: str
    tuned: str


@dataclass(frozen=True, slots=True)
class Point:
    """One line of the training log: after `step` steps, `tokens` tokens and `seconds` seconds.
    Losses are in nats a trained token; either may be None (step 0 has only a validation loss)."""

    step: int
    epoch: float
    tokens: int
    seconds: float
    loss: float | None
    validation_loss: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one source: read, bad (could not become a conversation), dropped by reason, and used."""

    name: str
    read: int
    bad: int = 0
    train: int = 0
    validation: int = 0
    test: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    licence: str = ""


class Clean(NamedTuple):
    """A metric on the rows of an evaluation set that no training row touches: start and tuned, in the metric's unit."""

    metric: str
    base: float | None
    tuned: float | None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Touched:
    """An evaluation set: its rows, those that some training row holds, and the scores on the others (none where none is touched)."""

    name: str
    rows: int
    touched: int
    clean: tuple[Clean, ...] = ()


@dataclass(frozen=True, slots=True)
class Contamination:
    """Training rows that were looked at, that hold something of an evaluation set, and that left for it; and the sets."""

    rows: int
    found: int
    dropped: int
    sets: tuple[Touched, ...] = ()


@dataclass(frozen=True, slots=True)
class Mixed:
    """One source's share of what was trained (the last row, `all`, sums up): rows there are, asked, drawn, different ones among them,
    repeats, tokens and trained tokens, and its share of all trained tokens."""

    source: str
    rows: int
    asked: int
    drawn: int
    distinct: int
    repeats: int
    tokens: int
    trained: int
    trained_share: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """The training rows as tokens: rows, all tokens, trained tokens, rows whose prompt was cut, and
    `lengths`: a histogram of tokens a row as (from, below, rows), in order."""

    rows: int
    tokens: int
    trained: int
    truncated: int = 0
    lengths: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the weights were tuned. `details` holds further facts to show, by name."""

    method: str
    trainable: int
    total: int
    steps: int | None = None
    best_step: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    details: Mapping[str, str | int | float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report shows of one run.

    `tasks`: measures by task; `primary`: the metric that decides, by task (the first when absent).
    `examples`: by task, every scored row in the order of the test set: the page counts them all and
    shows the first of each group, so nobody picks. `seconds`: by stage in order; stages in `reused`
    were not run again and show what they took when they ran. `level`: coverage of all intervals.
    `generated`: what models made of the data; `levels`: tokens an answer by level of reasoning, of sources.
    `notes`: limits of the claims, one sentence each; `created`: when, as text to show.
    """

    name: str
    model: str
    created: str
    tasks: Mapping[str, tuple[Measure, ...]] = field(default_factory=dict)
    primary: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    forgetting: tuple[Measure, ...] = ()
    curve: tuple[Point, ...] = ()
    sources: tuple[Source, ...] = ()
    tokens: Tokens | None = None
    contamination: Contamination | None = None
    mixture: tuple[Mixed, ...] = ()
    figures: Figures | None = None
    generated: Generation | None = None
    levels: Mapping[str, Levels] = field(default_factory=dict)
    tuning: Tuning | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    reused: tuple[str, ...] = ()
    recipe: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    level: float = 0.95

    def leading(self) -> dict[str, Measure]:
        """The measure that decides, by task; tasks without any measure are left out."""
        return {
            task: next((measure for measure in measures if measure.metric == self.primary.get(task)), measures[0])
            for task, measures in self.tasks.items()
            if measures
        }


def finite(value: float | None) -> float | None:
    """The number, or None where there is none (None, NaN, infinity)."""
    return float(value) if value is not None and math.isfinite(value) else None


def bounds(interval: Interval | None) -> list[float] | None:
    """An interval as [low, high], or None where either end is not a number."""
    if interval is None:
        return None
    low, high = finite(interval[0]), finite(interval[1])
    return None if low is None or high is None else [low, high]


def ends(baseline: Baseline) -> Interval | None:
    """A baseline's interval, or None about no number."""
    return None if finite(baseline["value"]) is None else baseline["interval"]


def results(findings: Findings) -> dict[str, Any]:
    """The numbers for other programs (results.json): `{"tasks": {task: {metric: {"base", "base_interval",
    "tuned", "tuned_interval", "difference", "interval", "p", "items", "signature", "baselines"}}},
    "seconds": {stage: s}, "schema": 1}`; `base` is the start model, null is "could not be computed"."""

    def key(name: str) -> str:  # lone surrogates cannot be written as UTF-8
        return name.encode("utf-8", "replace").decode()

    def row(measure: Measure) -> dict[str, Any]:
        return {
            "base": finite(measure.base),
            "base_interval": bounds(measure.base_interval),
            "tuned": finite(measure.tuned),
            "tuned_interval": bounds(measure.tuned_interval),
            "difference": finite(measure.difference),
            "interval": bounds(measure.interval),
            "p": finite(measure.p),
            "items": measure.items,
            **({"groups": measure.groups, "group": key(measure.group)} if measure.groups else {}),
            "signature": key(measure.signature),
            "baselines": {
                key(name): {"value": finite(baseline["value"]), "interval": bounds(ends(baseline))}
                for name, baseline in measure.baselines.items()
            },
        }

    found = findings.contamination
    return {
        **({"forgetting": {key(m.metric): row(m) for m in findings.forgetting}} if findings.forgetting else {}),
        **({"contamination": contaminated(found)} if found else {}),
        **({"generated": generated.results(findings.generated)} if findings.generated else {}),
        **({"levels": {key(name): dict(one) for name, one in findings.levels.items()}} if findings.levels else {}),
        "tasks": {key(task): {key(m.metric): row(m) for m in measures} for task, measures in findings.tasks.items()},
        "seconds": {key(stage): finite(seconds) for stage, seconds in findings.seconds.items()},
        "schema": SCHEMA,
    }


def contaminated(found: Contamination) -> dict[str, Any]:
    """Contamination for results.json."""
    sets = {
        one.name: {
            "rows": one.rows,
            "touched": one.touched,
            "clean": {c.metric: {"base": finite(c.base), "tuned": finite(c.tuned)} for c in one.clean},
        }
        for one in found.sets
    }
    return {"training_rows": found.rows, "contaminated": found.found, "dropped": found.dropped, "sets": sets}
