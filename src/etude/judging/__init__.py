"""Judges: a model that says which of two answers is better, or how good one is, and may do so only after trials.

Every judge first takes the answer key and the planted attacks (`trials`, `qualifying`); one that fails is disqualified, asked nothing
more, and gives no score. Then come the items: pairs in both orders, or grades. Replies are kept (`asking`), so a run that was killed
asks nothing twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from etude import comparison, journal
from etude.failures import DataError
from etude.judging import lengths, qualifying, verdicts
from etude.judging.asking import Asking
from etude.judging.items import Item, Row, items_of
from etude.judging.verdicts import Verdict
from etude.metrics import Metric
from etude.records import Prediction
from etude.scoring import Judge, Measured, Task


@dataclass(frozen=True)
class Mean:
    """The mean of verdicts as a metric, so that intervals and tests are those of every other number."""

    name: str
    scale: ClassVar[float]
    bounds: ClassVar[tuple[float, float]]

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64 (predictions, 2): each item's `verdict` (one of its fields), and 1."""
        return np.array([[float(one.fields["verdict"]), 1.0] for one in predictions], dtype=np.float64).reshape(-1, 2)

    def score(self, totals: np.ndarray) -> float:
        """The mean."""
        return float(totals[0] / totals[1])

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return self.name


class WinRate(Mean):
    """Wins and half the ties, 0 to 1."""

    scale: ClassVar[float] = 1.0
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)


class Grade(Mean):
    """The mean grade, 1 to 10."""

    scale: ClassVar[float] = 10.0
    bounds: ClassVar[tuple[float, float]] = (1.0, 10.0)


@dataclass(frozen=True)
class Judgement:
    """What came of judging `arms` (one or two names). `disqualified`: why the judge may not judge; then there are no `verdicts`, or none
    that count, and `scores` is None. `warnings`: what a reader must know beside the scores."""

    settings: Judge
    arms: tuple[str, ...]
    items: tuple[Item, ...]
    standing: qualifying.Standing
    verdicts: tuple[Verdict, ...]
    disqualified: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def measured(self) -> tuple[Metric, dict[str, Measured]]:
        """The verdicts as a metric over each arm (`measured`)."""
        return measured(self.settings.mode, self.arms, self.verdicts, self.signature())

    def signature(self) -> str:
        """How the verdicts were made."""
        rubric = journal.digest(self.settings.rubric)[:8] if self.settings.rubric else "built-in"
        shown = f"references:{self.settings.references}|rubric:{rubric}|reply:{self.facts.get('reply', '')}"
        return f"judge|llm:{self.settings.llm}|mode:{self.settings.mode}|{shown}"

    def unreadable(self) -> int:
        """Questions about items without a readable reply."""
        return sum(one.unreadable for one in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """All but the single verdicts, as plain data."""
        scored = None if self.disqualified else (paired if self.settings.mode == "pairwise" else graded)(self)
        return {
            "mode": self.settings.mode,
            "llm": self.settings.llm,
            "arms": list(self.arms),
            "items": len(self.items),
            "turns": sum(len(item.requests) for item in self.items),
            "standing": self.standing.as_json(),
            "disqualified": list(self.disqualified),
            "warnings": list(self.warnings),
            "unreadable": {"questions": self.unreadable(), "of": sum(len(one.said) for one in self.verdicts), "as": self.treated()},
            "shortened": sum(item.shortened for item in self.items),
            "scores": scored,
            "signature": self.signature(),
            **self.facts,
        }

    def treated(self) -> str:
        """What an unreadable reply counts as."""
        return "a tie" if self.settings.mode == "pairwise" else f"grade {verdicts.LOWEST:g}"


def judge(items: Sequence[Item], settings: Judge, ask: Asking, arms: Sequence[str], warnings: Sequence[str] = ()) -> Judgement:
    """Try the judge, then have it judge the items. `arms`: the names of the items' answers; over a pair the first is the one whose win rate
    is told. Raises ValueError for a pair of anything but two arms, and what the model raises.
    """
    if settings.mode == "pairwise" and len(arms) != 2:
        raise ValueError(f"a pair has two arms, not {len(arms)}")
    standing = qualifying.qualify(settings, ask, ask.choose)
    found: list[Verdict] = []
    why = list(standing.reasons)
    if not why:
        found = (verdicts.compare if settings.mode == "pairwise" else verdicts.grade)(items, settings, ask, ask.choose)
        lost, asked = sum(one.unreadable for one in found), sum(len(one.said) for one in found)
        if lost > settings.most_unreadable * asked:
            why.append(f"{lost} of its {asked} replies cannot be read, and {settings.most_unreadable:.0%} may not (judge.most_unreadable)")
    return Judgement(settings, tuple(arms), tuple(items), standing, tuple(found), tuple(why), tuple(warnings), ask.facts())


def questions(items: Sequence[Item], settings: Judge) -> int:
    """The questions a judge is asked at most, trials included: for a bar."""
    turns = sum(len(item.requests) * (len(item.answers) if settings.mode == "single" else 2) for item in items)
    return turns + qualifying.questions(settings.mode)


def own_taste(judge: Sequence[str], arms: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A warning where the judge is an arm's model (models prefer their own answers: Panickssery et al. 2024, arXiv 2404.13076).
    `judge` and each of `arms`: what the model is known by, its names and the digest of its weights."""
    known = {plain_name(name) for name in judge if name}
    same = [arm for arm, names in arms.items() if known & {plain_name(name) for name in names if name}]
    if not same:
        return ()
    return (f"the judge is the model of {' and '.join(same)}: models prefer answers of their own kind; take another judge to be sure",)


def plain_name(name: str) -> str:
    """A model's name without owner and revision, in small letters; a path as it is."""
    bare = name.removeprefix("hf://").split("@")[0]
    return (bare.rsplit("/", 1)[-1] if bare.count("/") == 1 and not bare.startswith((".", "/")) else bare).casefold()


# ---- in numbers ------------------------------------------------------------------------------------


def values(mode: str, found: Sequence[Verdict], arm: int = 0) -> dict[str, float]:
    """Each item's own number, the mean of its turns: the first arm's wins over a pair (`arm` 1: the second's), else the arm's grade."""
    parts: dict[str, list[float]] = {}
    for one in found:
        if mode == "pairwise" or one.arm == arm:
            parts.setdefault(one.id, []).append(1 - one.value if mode == "pairwise" and arm else one.value)
    return {id: sum(own) / len(own) for id, own in parts.items()}


def measured(mode: str, arms: Sequence[str], found: Sequence[Verdict], signature: str) -> tuple[Metric, dict[str, Measured]]:
    """Verdicts as a metric over each arm, for `comparison` and the report: win rates against each other, or mean grades."""
    metric: Mean = (WinRate if mode == "pairwise" else Grade)(signature)
    # an arm whose grades are all 1 must not look like one that is always right: 0 and 1 would be taken for shares
    least = 0.0 if mode == "pairwise" else 1.0 + 1e-9
    numbers = {arm: np.array([[max(least, one), 1.0] for one in values(mode, found, place).values()]) for place, arm in enumerate(arms)}
    return metric, {arm: Measured(metric.score(stats.sum(axis=0)), signature, stats) for arm, stats in numbers.items()}


def paired(found: Judgement) -> dict[str, Any]:
    """The win rate of the first arm with interval and test, its ties, by turn and category, how the orders agreed, and at equal lengths."""
    metric, both = found.measured()
    first, second = (both[arm] for arm in found.arms)
    compared = comparison.compare(second.stats, first.stats, metric, found.settings.seed)
    between = comparison.interval(first.stats, metric, found.settings.seed)
    counts = Counter({1.0: "wins", 0.0: "losses"}.get(one.value, "ties") for one in found.verdicts)
    asked = [one.said for one in found.verdicts if one.said]
    split = [said for said in asked if None not in said and said[0] != said[1]]
    scores: dict[str, Any] = {
        "win_rate": first.value,
        "interval": [between.low, between.high],
        "p": compared.p,
        "verdict": compared.verdict,
        **{name: counts[name] for name in ("wins", "ties", "losses")},
        "identical": sum(not one.said for one in found.verdicts),
        "orders": {
            "asked": len(asked),
            "disagree": len(split),
            "for_a": sum(said == ("won", "lost") for said in split),
            "for_b": sum(said == ("lost", "won") for said in split),
        },
        **parts(found),
    }
    if found.settings.length_control:
        pairs = [(item.lengths[0], item.lengths[1]) for item in found.items]
        own = list(values("pairwise", found.verdicts).values())
        scores["length_controlled"] = lengths.controlled(own, pairs, found.settings.seed).as_json()
    return scores


def graded(found: Judgement) -> dict[str, Any]:
    """Each arm's mean grade with its interval, what it would be had every unreadable grade been the best one, and two arms compared."""
    metric, each = found.measured()
    scores: dict[str, Any] = {"arms": {}}
    for place, (arm, one) in enumerate(each.items()):
        between = comparison.interval(one.stats, metric, found.settings.seed)
        own = [verdict for verdict in found.verdicts if verdict.arm == place]
        best = sum(Grade.bounds[1] if verdict.unreadable else verdict.value for verdict in own) / len(own)
        scores["arms"][arm] = {
            "mean": one.value,
            "interval": [between.low, between.high],
            "unreadable": sum(verdict.unreadable for verdict in own),
            "at_most": best,
            **parts(found, place),
        }
    if len(each) == 2:
        first, second = each.values()
        compared = comparison.compare(second.stats, first.stats, metric, found.settings.seed)
        scores |= {"difference": compared.difference, "interval": [compared.interval.low, compared.interval.high]}
        scores |= {"p": compared.p, "verdict": compared.verdict}
    return scores


def parts(found: Judgement, arm: int = 0) -> dict[str, Any]:
    """The mean by turn and by category, where there are several."""
    own = [one for one in found.verdicts if one.arm == arm]
    category = {item.id: item.category for item in found.items}
    by_turn: dict[str, list[float]] = {}
    by_category: dict[str, list[float]] = {}
    for one in own:
        by_turn.setdefault(str(one.turn), []).append(one.value)
        by_category.setdefault(category[one.id], []).append(one.value)
    means = {"by_turn": by_turn, "by_category": by_category}
    return {name: {key: sum(v) / len(v) for key, v in sorted(groups.items())} for name, groups in means.items() if len(groups) > 1}


# ---- on disk ---------------------------------------------------------------------------------------


def stem(task: Task) -> str:
    """What the files about a task are called."""
    return task.task if task.split == "test" else f"{task.task}.{task.split}"


def save(found: Judgement, folder: Path, name: str) -> None:
    """Write `<name>.json` (what `as_json` says) and `<name>.verdicts.jsonl`, a line a verdict."""
    lines = (
        {"id": one.id, "turn": one.turn, "arm": found.arms[one.arm] if found.settings.mode == "single" else None, "value": one.value}
        | {"said": list(one.said)}
        for one in found.verdicts
    )
    journal.write_rows(folder / f"{name}.verdicts.jsonl", lines)
    journal.write_json(folder / f"{name}.json", found.as_json())


def load(folder: Path, name: str) -> tuple[dict[str, Any], Metric | None, dict[str, Measured]]:
    """What `save` wrote: the facts, and the verdicts as a metric over each arm; None and no arm where the judge is disqualified."""
    facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    if facts["disqualified"]:
        return facts, None, {}
    arms = list(facts["arms"])
    lines = journal.read(folder / f"{name}.verdicts.jsonl")
    found = [Verdict(r["id"], r["turn"], r["value"], tuple(r["said"]), arms.index(r["arm"]) if r["arm"] else 0) for r in lines]
    return facts, *measured(facts["mode"], arms, found, facts["signature"])


def beside(folder: Path, task: Task) -> tuple[tuple[str, Metric, dict[str, dict[str, Measured]]] | None, tuple[str, ...]]:
    """What `save` wrote about a task, for the report: the name of the number, its metric, and arm -> name -> number (None where the judge
    is disqualified); and what has to be said beside it. Raises DataError where the task was not judged."""
    if not (folder / f"{stem(task)}.json").is_file():
        raise DataError(f"{folder}: {task.task!r} has not been judged; `etude run` goes on from there")
    facts, metric, arms = load(folder, stem(task))
    key = f"judge_{'win_rate' if facts['mode'] == 'pairwise' else 'grade'}"
    number = (key, metric, {arm: {key: one} for arm, one in arms.items()}) if metric else None
    return number, (*sentences(task.task, facts), *(f"{task.task}: {text}." for text in facts["warnings"]))


def sentences(task: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """How far a judge can be trusted, in words."""
    if facts["disqualified"]:
        return (f"{task}: the judge {facts['llm']} is disqualified and gives no score: {'; '.join(facts['disqualified'])}.",)
    key, attacks, scores, lost = (*(facts["standing"][name] for name in ("key", "attacks")), facts["scores"], facts["unreadable"])
    moved = sum(map(len, attacks["moved"].values()))
    said = (
        f"{task}: judged by {facts['llm']}, which finds {key['agreement']:.2f} [{key['interval'][0]:.2f}, {key['interval'][1]:.2f}] of the "
        f"answer key; {moved} of {attacks['planted']} planted attacks move it."
    )
    if facts["mode"] == "pairwise":
        said += f" Of {scores['orders']['asked']} pairs asked in both orders {scores['orders']['disagree']} disagree and count as ties."
        level = scores.get("length_controlled")
        if level and level["win_rate"] is not None:
            said += f" At equal lengths the win rate is {level['win_rate']:.3f} [{level['interval'][0]:.3f}, {level['interval'][1]:.3f}]."
        elif level:
            said += f" At equal lengths the win rate cannot be told: {level['why']}."
    if lost["questions"]:
        said += f" {lost['questions']} of {lost['of']} replies cannot be read; each counts as {lost['as']}."
    return (said,)


__all__ = [
    "Asking",
    "Grade",
    "Item",
    "Judgement",
    "Row",
    "Verdict",
    "WinRate",
    "beside",
    "items_of",
    "judge",
    "load",
    "measured",
    "own_taste",
    "questions",
    "save",
    "stem",
    "values",
]
