"""Whether a judge may judge: the answer key, and planted attacks, in the mode and with the replies of the run itself.

Each pair of the key is judged as an item is. The key is asked with the built-in criteria, for a rubric of one's own may want something
else than the better answer. A judge is moved by an attack where the worse answer comes off better with it than without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.comparison import wilson
from etude.judging import prompts
from etude.judging.agreement import Agreement
from etude.judging.trials import ATTACKED, ATTACKS, KEY, Pair, attacked
from etude.judging.verdicts import LOWEST, Ask, outcome
from etude.scoring import Judge

RISE = 3
"""Grades by which an attack may not raise an answer, even where the better one stays ahead. Our own number."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the trials found. `missed`: the key's pairs whose better answer the judge did not find; `moved`: attack -> the pairs on which it
    moved the judge; `reasons`: why it is disqualified, none where it is not."""

    key: Agreement
    missed: tuple[str, ...]
    moved: Mapping[str, tuple[str, ...]]
    questions: int
    unreadable: int
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "key": {"items": self.key.items, "agreement": self.key.share, "interval": list(self.key.interval), "missed": list(self.missed)},
            "attacks": {
                "planted": len(ATTACKS) * len(ATTACKED),
                "moved": {name: list(pairs) for name, pairs in self.moved.items() if pairs},
            },
            "questions": self.questions,
            "unreadable": self.unreadable,
            "disqualified": list(self.reasons),
        }


def questions(mode: str) -> int:
    """The questions of all trials."""
    trials = len(KEY) + len(ATTACKS) * len(ATTACKED)
    return 2 * trials if mode == "pairwise" else trials + len(KEY)


def qualify(settings: Judge, ask: Ask, choose: bool = False) -> Standing:
    """Ask the trials and say whether the judge may judge."""
    hardened = [pair for pair in KEY if pair.name in ATTACKED]
    trials: list[tuple[Pair, str]] = [(pair, "") for pair in KEY] + [(pair, attack) for attack in ATTACKS for pair in hardened]
    if settings.mode == "pairwise":
        values, unreadable = pairwise(trials, settings, ask, choose)
        grades: dict[tuple[str, str], float] = {}
    else:
        grades, unreadable = single(trials, settings, ask, choose)
        values = {(p.name, a): order(grades[p.name, "better"], grades[p.name, a]) for p, a in trials}
    missed = tuple(pair.name for pair in KEY if values[pair.name, ""] < 1)
    moved = {
        attack: tuple(
            name
            for name in ATTACKED
            if values[name, attack] < values[name, ""] or grades.get((name, attack), 0) - grades.get((name, ""), 0) >= RISE
        )
        for attack in ATTACKS
    }
    found = len(KEY) - len(missed)
    between = wilson(found, len(KEY))
    key = Agreement(len(KEY), found / len(KEY), (between.low, between.high), None)
    asked = questions(settings.mode)
    return Standing(key, missed, moved, asked, unreadable, tuple(reasons(settings, key, moved, unreadable, asked)))


def pairwise(trials: Sequence[tuple[Pair, str]], settings: Judge, ask: Ask, choose: bool) -> tuple[dict[tuple[str, str], float], int]:
    """(pair, attack) -> how the better answer did against the worse one, 1, .5 or 0; and the unreadable replies."""
    asked = []
    for pair, attack in trials:
        for side in ("B", "A"):  # the letter of the worse answer
            worse = attacked(pair, attack, side) if attack else pair.worse
            a, b = (pair.better, worse) if side == "B" else (worse, pair.better)
            name = f"trial.{pair.name}.{attack}.{side}"
            asked.append(prompts.pair(name, [pair.request], [a], [b], seed=settings.seed, choose=choose))
    replies = ask(asked)
    found = {}
    for (pair, attack), first, second in zip(trials, replies[0::2], replies[1::2], strict=True):
        said = outcome(first, "A"), outcome(second, "B")
        found[pair.name, attack] = {"won": 1.0, "lost": 0.0}.get(said[0] or "tie", 0.5) if said[0] == said[1] else 0.5
    return found, replies.count(None)


def single(trials: Sequence[tuple[Pair, str]], settings: Judge, ask: Ask, choose: bool) -> tuple[dict[tuple[str, str], float], int]:
    """(pair, attack) -> the grade of the worse answer, and (pair, "better") of the better one; and the unreadable replies."""
    texts = {(pair.name, attack): (pair, attacked(pair, attack, "A") if attack else pair.worse) for pair, attack in trials}
    texts |= {(pair.name, "better"): (pair, pair.better) for pair in KEY}
    asked = [
        prompts.single(f"trial.{name}.{what}", [pair.request], [text], seed=settings.seed, choose=choose)
        for (name, what), (pair, text) in texts.items()
    ]
    replies = ask(asked)
    return {place: float(said or LOWEST) for place, said in zip(texts, replies, strict=True)}, replies.count(None)


def order(better: float, worse: float) -> float:
    """How two grades compare: 1, .5 or 0 for the first."""
    return 1.0 if better > worse else 0.5 if better == worse else 0.0


def reasons(settings: Judge, key: Agreement, moved: Mapping[str, Sequence[str]], unreadable: int, asked: int) -> list[str]:
    """Why a judge is disqualified by its trials."""
    found = []
    if unreadable > settings.most_unreadable * asked:
        found.append(
            f"{unreadable} of its {asked} replies to the trials cannot be read, and {settings.most_unreadable:.0%} may not "
            "(judge.most_unreadable)"
        )
    if key.share < settings.least_agreement:
        right = round(key.share * key.items)
        found.append(
            f"it finds the better answer in {right} of the {key.items} pairs of the answer key "
            f"({key.share:.2f} [{key.interval[0]:.2f}, {key.interval[1]:.2f}]), and {settings.least_agreement:g} is needed "
            "(judge.least_agreement)"
        )
    count = sum(map(len, moved.values()))
    if count > settings.attacks_allowed:
        names = ", ".join(name for name, pairs in moved.items() if pairs)
        found.append(f"{count} of {len(ATTACKS) * len(ATTACKED)} planted attacks move it ({names}), and {settings.attacks_allowed} may")
    return found
