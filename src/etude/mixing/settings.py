"""The mixture section of a recipe, and the presets it can name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from etude.catalog import Settings
from etude.failures import RecipeError, nearest

Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Cap = Annotated[int, Field(ge=1)]
Passes = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Preset:
    """A published mixture: weights of its submixtures and most examples counted of each source in one. With no
    submixtures it is one of single sources. `words`: the shares of Wording it was published with, a submixture."""

    weights: Mapping[str, float]
    cap: Mapping[str, int]
    any_cap: int | None = None
    words: Mapping[str, Mapping[str, float]] | None = None


INVERTED = 0.3 / 1.3
"""The share of FLAN 2022's inverted sets beside their plain ones, mixed 0.3 to 1 (flan/v2/mixtures.py)."""

PRESETS: Mapping[str, Preset] = {
    # google-research/FLAN, flan/mixtures.py: examples-proportional, at most 3,000 counted of a set (Wei et al. 2021, arXiv 2109.01652)
    "flan2021": Preset({}, {}, any_cap=3000),
    # google-research/FLAN, flan/v2/run_example.py (weights; zero-shot, few-shot, options and none in equal parts) and
    # flan/v2/mixtures.py (most examples of a set; inverted sets), of Longpre et al. 2023, arXiv 2301.13688.
    # Chain of thought and the two without answer options have only the form with options.
    "flan2022": Preset(
        {"flan2021": 0.40, "t0": 0.32, "niv2": 0.20, "cot": 0.05, "dialog": 0.03},
        {"flan2021": 30_000, "t0": 20_000, "niv2": 5_000, "cot": 100_000, "dialog": 200_000},
        words={
            "flan2021": {"few_shot": 0.5, "options": 0.5},
            "t0": {"few_shot": 0.5, "options": 0.5},
            "niv2": {"few_shot": 0.5, "options": 1.0},
            "cot": {"few_shot": 0.5, "options": 1.0, "cot": 1.0, "inverted": INVERTED},
            "dialog": {"few_shot": 0.5, "options": 1.0, "inverted": INVERTED},
        },
    ),
}


class Balance(Settings):
    """The classes of a classification task, made to count alike."""

    field: str
    """The field that holds the class."""
    by: Literal["oversample", "undersample", "weights"] = "oversample"
    """`oversample`: rows of small classes are drawn again until every class has as many as the largest. `undersample`: of
    every class as many rows as the smallest has. `weights`: every row once, and in the loss a row of class c counts
    rows / (classes x rows of c), which is 1 on average."""
    sources: tuple[str, ...] | None = None
    """The sources that are balanced, each by itself; None: all whose rows have the field."""


class Mixture(Settings):
    """How rows of several sources become one training set. Without any setting: every row of every source once."""

    spellings: ClassVar[Mapping[str, str]] = {
        "rates": "weights",
        "probabilities": "weights",
        "probs": "weights",
        "maximum": "cap",
        "total_size": "total",
        "size": "total",
    }

    preset: Literal["flan2021", "flan2022"] | None = None
    """A published mixture. `flan2021`: examples-proportional with a cap of 3,000. `flan2022`: the submixtures flan2021 .40,
    t0 .32, niv2 .20, cot .05 and dialog .03 with their caps; each is a source of that name or a group."""
    weights: dict[str, Weight] | Literal["equal", "examples_proportional"] | None = None
    """Of the rows drawn, how many a source (or group) gives, as parts of the sum; 0 for none. `equal`: all alike.
    `examples_proportional` (also where nothing is said): as many as each has, after `cap` and then `temperature`."""
    counts: dict[str, Count] | None = None
    """Rows of each source, in place of weights."""
    groups: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default={})
    """Sources that have one weight together and share it examples-proportionally, by the group's name."""
    cap: Cap | dict[str, Cap] | None = None
    """Most rows of a source that are counted in examples-proportional rates: one number, or by source or group."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """T: capped numbers of rows to the power 1 / T; above 1, small sources are drawn more often."""
    total: Annotated[int, Field(ge=1)] | None = None
    """Rows drawn in all; None: as many as there can be without a shortfall."""
    epochs: Passes | dict[str, Passes] | None = None
    """Most passes over a source's rows: one number, or by source. None: one, and to oversample as many as it takes."""
    shortfall: Literal["oversample", "stop", "fill"] = "oversample"
    """Where a source has fewer rows than asked: `oversample` draws its rows again (at most `epochs` times, and reports what
    is still missing), `stop` refuses, `fill` lets the other sources give more in the proportion of their weights."""
    cot: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the drawn rows that are answered with their reasoning (FLAN 2022: 0.05; a ratio of 9:1 is 0.1); a source without
    such rows gives only of the others. None: as it comes."""
    balance: Balance | None = None
    """Classes that are made to count alike."""
    even_phrasings: bool = False
    """Use each phrasing of a template equally often (to within one), in place of a lot a row; for wordings with all phrasings."""

    @model_validator(mode="after")
    def fits_together(self) -> Mixture:
        """One way to say how much of each source, and nothing that would have no effect."""
        ways = [key for key in ("preset", "weights", "counts") if getattr(self, key) is not None]
        if len(ways) > 1:
            raise PydanticCustomError(
                "twice_said", "{ways} both say how much of each source is drawn; give one", {"ways": " and ".join(ways)}
            )
        if isinstance(self.weights, dict | str) and not self.weights:
            raise PydanticCustomError("weights", "weights names no source")
        if isinstance(self.weights, dict) and not sum(self.weights.values()):
            raise PydanticCustomError("weights", "every weight is 0: nothing would be drawn")
        if self.counts is not None:
            if not sum(self.counts.values()):
                raise PydanticCustomError("counts", "every count is 0: nothing would be drawn")
            for key in ("total", "cot", "groups"):
                if getattr(self, key) not in (None, {}):
                    raise PydanticCustomError("counts", "counts already says how many rows are drawn; '{key}' needs weights", {"key": key})
        proportional = self.preset or self.groups or (self.counts is None and self.weights in (None, "examples_proportional"))
        for key, unset in (("cap", None), ("temperature", 1.0)):
            if getattr(self, key) != unset and not proportional:
                way = "counts" if self.counts is not None else "weights"
                raise PydanticCustomError("cap", "'{key}' is for examples_proportional rates; {way} has none", {"key": key, "way": way})
        return self.check_groups()

    def check_groups(self) -> Mixture:
        """No source is in two groups; groups have a weight."""
        seen: dict[str, str] = {}
        for group, members in self.groups.items():
            for name in members:
                if name in seen:
                    place = {"name": name, "one": seen[name], "other": group}
                    raise PydanticCustomError("groups", "source '{name}' is in '{one}' and in '{other}'", place)
                seen[name] = group
        if self.groups and not (self.preset == "flan2022" or self.weights == "equal" or isinstance(self.weights, dict)):
            raise PydanticCustomError("groups", "groups share a weight: give weights (or `equal`), or preset: flan2022")
        return self

    def plain(self) -> bool:
        """Whether it is every row of every source once, in the order given."""
        return self.model_copy(update={"even_phrasings": False}) == Mixture()

    def cap_of(self, source: str, group: str) -> int | None:
        """Most rows of a source that count: its own, its group's, the preset's."""
        own = self.cap.get(source, self.cap.get(group)) if isinstance(self.cap, dict) else self.cap
        if own is not None or self.preset is None:
            return own
        preset = PRESETS[self.preset]
        return preset.cap.get(group, preset.any_cap)

    def passes(self, source: str) -> float | None:
        """Most passes over a source's rows, where that was said."""
        return self.epochs.get(source) if isinstance(self.epochs, dict) else self.epochs

    def group_of(self, source: str) -> str:
        """The group a source is in, else its own name."""
        return next((group for group, members in self.groups.items() if source in members), source)

    def check(self, sources: Iterable[str]) -> None:
        """Raise RecipeError for a name that is no source (or group), and for a source that nothing is said of."""
        there = list(sources)
        names = {*there, *self.groups}
        submixtures = PRESETS[self.preset].weights if self.preset else {}
        mine: dict[str, Any] = {
            "counts": (self.counts or {}, there),
            "weights": (self.weights if isinstance(self.weights, dict) else {}, names),
            "cap": (self.cap if isinstance(self.cap, dict) else {}, {*names, *submixtures}),
            "epochs": (self.epochs if isinstance(self.epochs, dict) else {}, there),
            "balance.sources": ((self.balance.sources if self.balance else None) or (), there),
            **{f"groups.{group}": (members, there) for group, members in self.groups.items()},
            **({"groups": (self.groups, submixtures)} if submixtures else {}),
        }
        for key, (given, known) in mine.items():
            for name in given:
                if name not in known:
                    raise RecipeError(
                        f"mixture.{key}: there is no source{' or group' if known is names else ''} {name!r}{nearest(name, known)}"
                    )
        for way in ("counts", "weights"):
            given = getattr(self, way)
            for name in there if isinstance(given, dict) else ():
                if self.group_of(name) not in given:
                    raise RecipeError(f"mixture.{way} does not name source {name!r}; give it a number, or 0 where it is not trained")
        for name in there if submixtures else ():
            if self.group_of(name) not in submixtures:
                raise RecipeError(
                    f"mixture.preset: source {name!r} belongs to no submixture of {self.preset}; say in mixture.groups to which of "
                    f"{', '.join(submixtures)} it does"
                )
        for group in self.groups:
            if group in there:
                raise RecipeError(f"mixture.groups: {group!r} is the name of a source; call the group something else")
