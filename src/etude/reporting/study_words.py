"""A study's verdict in words, for the page, the terminal and a paper. Names stand in backticks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from etude.comparison import Comparison
from etude.reporting.findings import finite
from etude.reporting.studied import Arm, Studied
from etude.reporting.words import MISSING, metric_name, name, number, probability, signed, span

KINDS = ("better", "worse", "equivalent", "no difference", "cannot test")
BADGES = {
    "better": "Better",
    "worse": "Worse",
    "equivalent": "Equivalent",
    "no difference": "No difference shown",
    "cannot test": "Cannot be tested",
    "baseline": "Baseline",
    "failed": "Failed",
}

STATES = {key.split()[0]: text.lower() for key, text in BADGES.items()}
"""The same by their first word, inside a sentence or a picture."""
EXPLORED = (
    "Nobody announced these: q is p after Benjamini and Hochberg, over all arms and other metrics, and over all arms and slices, judged "
    "at 10 %. They suggest, and decide nothing."
)
LOST = (
    "Mean change from the start model to the tuned one on texts and small tasks that have nothing to do with the study. "
    "In bits a token less is better, so a plus is a loss; in tasks more is better, so a minus is."
)


def sentence(found: Studied) -> str:
    """The verdict in one sentence: which arms are better or worse than the baseline, and what else could have been seen."""
    base = called(found.baseline)
    others = [arm for arm in found.arms if arm.name != found.baseline]
    tested = [arm for arm in others if found.metric in arm.against]
    lost = [arm for arm in others if found.metric not in arm.against]
    if not tested:
        why = next(
            (f": every run of {base} failed" for arm in found.arms if arm.name == found.baseline and arm.failed and not arm.reached), ""
        )
        return f"No arm can be tested against {base}{why}."
    kinds: dict[str, list[Arm]] = {}
    for arm in tested:
        kinds.setdefault(kind_of(arm, found), []).append(arm)
    parts = []
    for kind in ("better", "worse"):
        if own := kinds.get(kind):
            parts.append(f"{listed(told(arm, found) for arm in own)} {be(own)} {kind} than {base}")
    if own := kinds.get("equivalent"):
        parts.append(
            f"{listed(called(arm.name) for arm in own)} {be(own)} equivalent to {base}, within ±{number(found.margin, found.scale)}"
        )
    if own := kinds.get("no difference"):
        seen = [value for arm in own if (value := finite(arm.against[found.metric].smallest)) is not None]
        reach = f" (one of {number(max(seen), found.scale)} or more would probably have been seen)" if seen else ""
        parts.append(f"no difference from {base} is shown for {listed(called(arm.name) for arm in own)}{reach}")
        if blind := [called(arm.name) for arm in own if arm.against[found.metric].smallest == inf]:
            parts.append(f"for {listed(blind)} there was too little to have seen one")
    if own := kinds.get("cannot test"):
        parts.append(f"{listed(called(arm.name) for arm in own)} cannot be tested")
    if lost:
        parts.append(f"there is no result for {listed(called(arm.name) for arm in lost)}")
    limits = [limit] if (limit := checkpoints(found)) else []
    limits += [f"not strictly comparable: other {listed(differing(found.forced))}"] if found.forced else []
    return f"On {called(found.task)}, by {scored(found)}, {'; '.join([*parts, *limits])}."


def differing(reasons: Sequence[str]) -> list[str]:
    """What differs between arms, once each: `other questions: of 9 items in ...` -> questions."""
    return list(dict.fromkeys(name(reason.partition(":")[0].removeprefix("other "), 60) for reason in reasons))


def checkpoints(found: Studied) -> str:
    """Which verdicts stand on one training seed, and so speak of checkpoints and not of methods; "" for none."""
    tests = {arm.name: arm.against[found.metric] for arm in found.arms if found.metric in arm.against}
    alone = [called(arm) for arm, one in tests.items() if max(one.seeds) == 1 and not one.why]
    left = f"one of {len(found.seeds)} seeds is left" if len(found.seeds) > 1 else "one seed"
    if not alone:
        return ""
    of = "" if len(alone) == len(tests) else f" of {listed(alone)}"
    return f"{left}{of}, so this speaks of these checkpoints only"


def be(arms: Sequence[Arm]) -> str:
    """`is` or `are`."""
    return "is" if len(arms) == 1 else "are"


def called(text: str) -> str:
    """A name in backticks."""
    return f"`{name(text)}`"


def scored(found: Studied) -> str:
    """The primary metric, and where less of it is better."""
    return metric_name(found.metric) + (" (less is better)" if found.lower else "")


def kind_of(arm: Arm, found: Studied) -> str:
    """The kind of an arm's verdict, by its first words."""
    return kind(arm.against[found.metric])


def kind(one: Comparison) -> str:
    """The kind of a verdict, by its first words."""
    return next((kind for kind in KINDS if one.verdict.startswith(kind)), "cannot test")


def state(arm: Arm, found: Studied) -> str:
    """What an arm is shown as: the kind of its verdict, `baseline`, or `failed` where no run is left."""
    if found.metric in arm.against:
        return kind_of(arm, found)
    if arm.failed and not arm.reached:
        return "failed"
    return "baseline" if arm.name == found.baseline else "cannot test"


def tone(arm: Arm, found: Studied) -> str:
    """The word that picks an arm's colour: the first of its state."""
    return state(arm, found).split()[0]


def told(arm: Arm, found: Studied) -> str:
    """An arm with its difference and p."""
    one = arm.against[found.metric]
    chance = probability(one.adjusted)
    adjusted = f", {'adjusted ' if one.family > 1 else ''}{chance}" if chance else ""
    also = ", yet equivalent" if one.equivalent else ""
    return f"{called(arm.name)} ({signed(one.difference, found.scale)}{adjusted}{also})"


def detail(one: Comparison) -> str:
    """What stands beside the badge of a verdict: why there is none, or what a correction took away."""
    if one.why:
        return one.why
    if one.verdict.startswith("no difference shown after"):
        return "not after the correction"
    if one.equivalent:
        within = f"within ±{number(one.margin, one.scale)}"
        return f"yet equivalent {within}" if kind(one) in ("better", "worse") else within
    return ""


def chance(one: Comparison, adjusted: bool = False) -> str:
    """A p (or q) for a column; a dash where nothing was tested."""
    text = "" if one.why else probability(one.adjusted if adjusted else one.p)
    return text.removeprefix("p ").removeprefix("= ") or MISSING


def between(one: Comparison) -> str:
    """The interval of a difference; "" where there is none."""
    return "" if finite(one.difference) is None or one.why else span((one.interval.low, one.interval.high), one.scale)


def explained(found: Studied) -> str:
    """What stands in the columns of the table of arms."""
    tests = [arm.against[found.metric] for arm in found.arms if found.metric in arm.against]
    family = max((one.family for one in tests), default=1)
    said = "Differences are an arm minus the baseline"
    said += ", so a minus is better." if found.lower else "."
    if family > 1:
        said += f" Adjusted p: Holm over {family} comparisons; intervals are not adjusted."
    said += " Could have seen: the smallest difference that would have been found with 80 % power."
    if any(one.won or one.lost for one in tests):
        said += " Won and lost: rows on which the arm is better and worse than the baseline, seeds averaged; on all others they agree."
    methods = merged([one.method for one in tests if not one.why])
    return f"{said} Tested by {'; '.join(name(one, 200) for one in methods)}." if methods else said


def merged(methods: Sequence[str]) -> list[str]:
    """Tests by name, each once; those that differ in their degrees of freedom alone as one, from the fewest to the most."""
    found: dict[str, list[float]] = {}
    for method in methods:
        before, _, number = method.partition(" (")
        freedom = re.fullmatch(r"([\d.]+) degrees of freedom\)", number)
        found.setdefault(before if freedom else method, []).extend([float(freedom[1])] if freedom else [])
    return [
        f"{test} ({min(some):g}{f' to {max(some):g}' if max(some) > min(some) else ''} degrees of freedom)" if some else test
        for test, some in found.items()
    ]


def compact(value: float | None) -> str:
    """`850`, `12.5k`, `4.88M`, `1.24B`."""
    known = finite(value)
    if known is None:
        return MISSING
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(known) >= size * 0.9995:
            return f"{known / size:.3g}{letter}"
    return f"{known:,.3g}"


def listed(names: Iterable[str]) -> str:
    """Names with commas and an `and`."""
    known = list(names)
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"


# ---- trials ------------------------------------------------------------------------------------------


def setting(changes: Mapping[str, Any]) -> str:
    """A combination as people write it: `learning_rate 0.0003, r 16`; keys without their section."""
    return ", ".join(f"{key.rpartition('.')[2]} {value:g}" if isinstance(value, float) else f"{key.rpartition('.')[2]} {value}"
                     for key, value in changes.items())  # fmt: skip


def measured(value: float | None) -> str:
    """A validation value, of whatever measure: four digits."""
    known = finite(value)
    return MISSING if known is None else f"{known:.4g}"


def changes(arm: Arm) -> list[tuple[str, str]]:
    """What an arm changes in the recipe, as (key, value) texts."""
    return [
        (str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for key, value in arm.changes.items()
    ]


def searched(found: Studied) -> bool:
    """Whether arms tried anything before their final runs."""
    return any(len(arm.trials) > 1 or any(trial.value is not None or trial.why for trial in arm.trials) for arm in found.arms)


def chosen(arm: Arm) -> str:
    """The combination an arm went on with; "" where there was no choice."""
    return next((setting(trial.changes) for trial in arm.trials if trial.chosen), "")


def judged_by(found: Studied) -> str:
    """What trials were chosen by."""
    recipe = (found.manifest.get("recipes") or {}).get(found.baseline) or {}
    by = str((recipe.get("tune") or {}).get("best_by", ""))
    return "validation loss, the lower the better" if by in ("", "validation_loss", "loss") else f"`{name(by)}` on validation rows"


def tried(found: Studied) -> str:
    """What was tried, counted honestly, in a few sentences."""
    if not searched(found):
        return "Nothing was tried beforehand: every arm ran with its recipe's own settings."
    each = {arm.name: len({repr(sorted(trial.changes.items(), key=str)) for trial in arm.trials}) for arm in found.arms}
    total, trainings = sum(each.values()), sum(len(arm.trials) for arm in found.arms)
    failed = sum(finite(trial.value) is None for arm in found.arms for trial in arm.trials)
    counts = set(each.values())
    if len(counts) == 1:
        first = f"Every arm tried {counts.pop()} combinations, {total} in all"
    else:
        first = f"The arms tried unequally many combinations: {', '.join(f'{called(arm)} {n}' for arm, n in each.items())}; {total} in all"
    more = f", in {trainings} trainings, some of them shortened" if trainings > total else ""
    gone = f"; {failed} of {trainings} failed or have no value" if failed else ""
    seed = f" with seed {found.seeds[0]}" if found.seeds else ""
    return f"{first}{more}{gone}. Each was judged{seed} by {judged_by(found)}; the test rows had no part in it."


# ---- more data ---------------------------------------------------------------------------------------


def more_data(rows: Sequence[tuple[str, int, float]], found: Studied) -> str:
    """What the curve over rows says, and what it does not; `rows`: (arm, rows, score), the smallest first."""
    (_, few, low), (_, many, high) = rows[-2], rows[-1]
    step = signed(high - low, found.scale)
    whole = signed(rows[-1][2] - rows[0][2], found.scale)
    said = f"From {few:,} to {many:,} rows the score moved by {step}; from {rows[0][1]:,} to {many:,} by {whole}."
    gained = low - high if found.lower else high - low
    if gained <= 0:
        return f"{said} The last step brought nothing: more rows of this kind are not shown to help."
    return f"{said} Arms are tested against the baseline alone, so the last step is no verdict, and nothing is known beyond {many:,} rows."


# ---- a paper -----------------------------------------------------------------------------------------


def paragraph(found: Studied) -> str:
    """A paragraph to paste into a paper: what was compared, how it was tested, what was found, with which software. No markup."""
    return " ".join(part for part in (design(found), testing(found), outcome(found), software(found)) if part).replace("`", "")


def design(found: Studied) -> str:
    """Arms, seeds, rows, trials."""
    arms, seeds = [name(arm.name) for arm in found.arms], ", ".join(map(str, found.seeds))
    count = f"{len(found.seeds)} training seeds ({seeds})" if len(found.seeds) > 1 else f"one training seed ({seeds})"
    said = f"We compared {len(arms)} conditions ({', '.join(arms)}), each trained from {name(found.model)} with {count}."
    if searched(found):
        tries = {len({repr(sorted(trial.changes.items(), key=str)) for trial in arm.trials}) for arm in found.arms}
        keys = sorted({key for arm in found.arms for trial in arm.trials for key in trial.changes})
        most = f"{max(tries)} combinations" if len(tries) == 1 else f"between {min(tries)} and {max(tries)} combinations"
        of = f" of {listed(name(key) for key in keys)}" if keys else ""
        said += f" Before the final runs every condition tried {most}{of} on validation rows only."
    when = found.manifest.get("announced")
    announced = f" was fixed before training ({name(str(when))})" if when else " was fixed beforehand"
    metric, task, base = scored(found), name(found.task), name(found.baseline)
    return f"{said} The primary metric, {metric} on {found.items:,} held-out rows of {task},{announced}, as was the baseline {base}."


def testing(found: Studied) -> str:
    """The test, the correction, what was reported."""
    tests = [arm.against[found.metric] for arm in found.arms if found.metric in arm.against and not arm.against[found.metric].why]
    if not tests:
        return ""
    methods = list(dict.fromkeys(one.method.partition(" (")[0] if "(" in one.method else one.method for one in tests))
    groups = f", with items clustered by {name(found.group)}" if found.group else ""
    family = max(one.family for one in tests)
    holm = f"; p-values are adjusted by Holm's method for {family} comparisons, intervals are not" if family > 1 else ""
    alone = "; results of one seed speak of these checkpoints, not of the methods" if checkpoints(found) else ""
    return f"Paired differences on the same rows were tested two-sided at .05 ({'; '.join(map(name, methods))}{groups}){holm}{alone}."


def outcome(found: Studied) -> str:
    """What every arm reached."""
    parts = []
    for arm in sorted(found.arms, key=lambda arm: arm.name != found.baseline):
        own = arm.reached.get(found.metric)
        if own is None:
            parts.append(f"{name(arm.name)} has no result ({len(arm.failed)} of {len(found.seeds)} runs failed)")
            continue
        part = (
            f"{name(arm.name)} reached {number(own.value, found.scale)} {span((own.interval.low, own.interval.high), found.scale)}".strip()
        )
        part += " (the baseline)" if arm.name == found.baseline else ""
        part += f" with {len(own.seeds)} of {len(found.seeds)} seeds" if arm.failed else ""
        if (one := arm.against.get(found.metric)) is not None:
            part += f", {compared(one)}"
        parts.append(part)
    return f"Results, with 95 % intervals in brackets: {'; '.join(parts)}." if parts else ""


def compared(one: Comparison) -> str:
    """One comparison with its numbers."""
    if one.why:
        return f"which cannot be tested ({name(one.why)})"
    chance_of = f"{'adjusted ' if one.family > 1 else ''}{probability(one.adjusted)}"
    gap = f"a difference of {signed(one.difference, one.scale)} {between(one)}, {chance_of}"
    words = {
        "better": "better",
        "worse": "worse",
        "equivalent": f"equivalent within ±{number(one.margin, one.scale)}",
        "no difference": f"no difference shown, and {number(one.smallest, one.scale)} or more would have been seen with 80 % power"
        if finite(one.smallest) is not None
        else "no difference shown, and too little to have seen one",
    }
    return f"{gap} ({words[kind(one)]})"


def software(found: Studied) -> str:
    """The versions that were used, by the plan."""
    versions = found.manifest.get("versions") or {}
    known = [f"{key} {versions[key]}" for key in ("etude", "torch", "transformers", "peft", "python") if key in versions]
    return f"Software: {', '.join(map(name, known))}." if known else ""
