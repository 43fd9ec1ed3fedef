"""What a study found, as its report takes it: frozen, complete, and read from no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from etude.comparison import Comparison, Interval
from etude.reporting.findings import finite

SCHEMA = 1
"""Version of a study's results.json."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination that an arm tried: the changes, the share of the whole training it got, its value on validation rows (None: it
    failed, for `why`), and whether it was chosen."""

    changes: Mapping[str, Any]
    share: float
    value: float | None
    chosen: bool = False
    why: str = ""


class Point(NamedTuple):
    """A line of the training log: the loss of the step, and on validation rows; either may be None."""

    step: int
    tokens: int
    loss: float | None
    validation: float | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A metric of one arm: the mean over seeds, its interval, and each seed's own value."""

    value: float
    interval: Interval
    seeds: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What an arm took, means over its seeds: trained parameters, seconds and tokens a second of training, peak memory in GiB, and what
    tuning cost elsewhere (probe -> mean change, positive is worse for bits a token). None where unknown."""

    trainable: int | None = None
    parameters: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    memory_gb: float | None = None
    steps: int | None = None
    tokens: int | None = None
    forgetting: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm: its changes, what it tried, the metrics it reached (the primary one first; none where every run failed), the comparison with
    the baseline a metric (none of the baseline itself), its cost, its first seed's learning curve, and the seeds that failed, with why."""

    name: str
    changes: Mapping[str, Any]
    rows: int
    drawn: int
    trials: tuple[Trial, ...] = ()
    reached: Mapping[str, Reached] = field(default_factory=dict)
    against: Mapping[str, Comparison] = field(default_factory=dict)
    cost: Cost = Cost()
    curve: tuple[Point, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """One arm against the baseline on a part of the items; exploratory."""

    arm: str
    name: str
    items: int
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Studied:
    """A whole study. `same`: what was the same in all arms, in words; `smallest`: what the plan said it could show; `start`: the start
    model's own value of the primary metric; `forced`: why arms are not strictly comparable; `sizes`: arm -> rows, where arms differ in
    nothing but the rows they train on (then "would more data help?" is drawn)."""

    name: str
    created: str
    model: str
    task: str
    metric: str
    scale: float
    lower: bool
    items: int
    group: str
    baseline: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    same: tuple[str, ...] = ()
    smallest: float | None = None
    margin: float | None = None
    start: float | None = None
    slices: tuple[Slice, ...] = ()
    forced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    study: str = ""

    def arm(self, name: str) -> Arm:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)


def results(found: Studied) -> dict[str, Any]:
    """The study for other programs (results.json); numbers that are none are null."""
    plain: dict[str, Any] = clean({**asdict(found), "schema": SCHEMA})
    return plain


def clean(value: Any) -> Any:
    """Plain data with null for numbers that are not finite, and texts as keys."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(key): clean(one) for key, one in value.items()}
    return [clean(one) for one in value] if isinstance(value, list | tuple) else value
