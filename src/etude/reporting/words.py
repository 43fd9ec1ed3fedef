"""Numbers and texts as people read them: one spelling for the page, report.md and the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from etude.reporting.findings import Contamination, Findings, Interval, Measure, bounds, finite

MISSING = "–"
MINUS = "−"

METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "exact_match": "exact match",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "bleu": "BLEU",
    "chrf": "chrF",
}

BASELINES = {
    "copy": "the copied question",
    "lead": "the first three sentences",
    "tfidf": "logistic regression on word counts",
    "majority": "the majority class alone",
    "few_shot": "a few-shot start model",
    "constrained": "the start model held to the labels",
}

SHORT = {
    "copy": "The question",
    "lead": "First sentences",
    "tfidf": "TF-IDF, logistic",
    "majority": "Majority class",
    "few_shot": "Few-shot start model",
    "constrained": "Start, labels only",
}
"""The same where room is short: beside a bar."""

HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)
"""Characters that act on a screen or hide: controls (ANSI escapes begin with one), direction marks
and overrides, invisible spaces and tags, halves of surrogate pairs. Tab and newline stay; so do the
joiners U+200C and U+200D, which scripts and emoji need."""


def visible(text: str) -> str:
    """The text with every character that would act or hide shown as a mark: `⟨U+001B⟩`, `⟨U+202E⟩`."""
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def clip(text: str, most: int = 6000) -> str:
    """The text, cut after `most` characters with the number of those left out."""
    return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} more characters"


def name(text: str, most: int = 100) -> str:
    """A name on one line, not over `most` characters, that cannot close the backticks around it."""
    line = " ".join(visible(text[: most * 8]).replace("`", "'").split())
    return line if len(line) <= most and len(text) <= most * 8 else f"{line[: most - 1]}…"


def metric_name(metric: str) -> str:
    """`rougeL` -> `ROUGE-L`; an unknown metric by its own name; `task.metric`, of another task, with the task before it."""
    task, dot, own = metric.partition(".")
    if dot and metric not in METRICS:
        return f"{name(task)}: {metric_name(own)}"
    return METRICS.get(metric, name(metric.replace("_", " ")))


def baseline_name(baseline: str) -> str:
    """`majority` -> `the majority class alone`; an unknown baseline by its own name."""
    return BASELINES.get(baseline, f"the baseline `{name(baseline)}`")


def number(value: float | None, scale: float = 1.0) -> str:
    """`.142` on 0-1, `3.85` on 0-100, a dash where there is none."""
    known = finite(value)
    if known is None:
        return MISSING
    digits = f"{abs(known):.2f}" if scale > 1 else f"{abs(known):.3f}".removeprefix("0")
    return f"{MINUS}{digits}" if known < 0 and digits.strip("0.") else digits


def signed(value: float | None, scale: float = 1.0) -> str:
    """As `number`, with a plus where it is positive."""
    text = number(value, scale)
    return f"+{text}" if (finite(value) or 0) > 0 and text.strip("0.") else text


def span(interval: Interval | None, scale: float = 1.0) -> str:
    """`[.120, .160]`, or "" where there is none."""
    ends = bounds(interval)
    return f"[{number(ends[0], scale)}, {number(ends[1], scale)}]" if ends else ""


def probability(p: float | None) -> str:
    """`p < .001`, `p = .032`; near .05 with a digit more, so that rounding hides no verdict; "" for None."""
    known = finite(p)
    if known is None:
        return ""
    if known < 0.001:
        return "p < .001"
    return f"p = {known:.4f}".replace("0.", ".", 1) if round(known, 3) == 0.05 else f"p = {number(known)}"


def count(value: float | None) -> str:
    """`12,345`."""
    known = finite(value)
    return MISSING if known is None else f"{known:,.0f}"


def fixed(value: float | None, decimals: int) -> str:
    """A plain number with so many decimals, a dash where there is none."""
    known = finite(value)
    return MISSING if known is None else f"{known:.{decimals}f}"


def rate(value: float | None) -> str:
    """A learning rate: `0.0005`, `1.2e-05`."""
    known = finite(value)
    return MISSING if known is None else f"{known:.3g}"


def share(part: float, whole: float) -> str:
    """`12.3 %` of a whole; small shares keep two digits."""
    if not whole:
        return MISSING
    percent = 100 * part / whole
    return f"{percent:.1f}\u00a0%" if percent >= 1 or not percent else f"{percent:.2g}\u00a0%"


def rows(value: int) -> str:
    """`1 row`, `60 rows`."""
    return f"{value:,} row" if value == 1 else f"{value:,} rows"


def duration(seconds: float | None) -> str:
    """`0.42 s`, `84 s`, `3 min 32 s`, `2 h 05 min`."""
    known = finite(seconds)
    if known is None:
        return MISSING
    if known < 9.95:
        return f"{known:.2f} s" if known < 1 else f"{known:.1f} s"
    whole = round(known)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{round(whole / 60) // 60} h {round(whole / 60) % 60:02d} min"


def against(measure: Measure) -> str:
    """What the strongest baseline reaches, and plainly so where the tuned model is not above it; or ""."""
    tuned, rivals = finite(measure.tuned), measure.rivals()
    if tuned is None or not rivals:
        return ""
    rival, value = rivals[0]
    ends = bounds(measure.tuned_interval)
    if measure.beaten():
        relation = ", below the tuned model, which is better" if measure.lower else ", above the tuned model"
    elif value == tuned:
        relation = ", the same as the tuned model"
    else:
        near = ends and (value <= ends[1] if measure.lower else value >= ends[0])
        relation = ", inside the tuned model's interval" if near else ""
    words = baseline_name(rival)
    return f"{words[0].upper()}{words[1:]} reaches {number(value, measure.scale)}{relation}."


def detail(measure: Measure) -> str:
    """Why a measure could not be tested, or what its test could have seen, as a sentence; or ""."""
    text = name(measure.detail, 200)
    if seen := re.fullmatch(r"could have seen >= ([0-9.]+)", text):
        return f"A difference of {number(float(seen[1]), measure.scale)} could have been seen."
    return f"{text[0].upper()}{text[1:]}." if text else ""


def judged(task: str, measure: Measure) -> str:
    """The verdict on one task in one or two plain sentences."""
    what, where, scale = metric_name(measure.metric), f"`{name(task)}`", measure.scale

    def value(number_of: float | None, interval: Interval | None) -> str:
        return f"{number(number_of, scale)} {span(interval, scale)}".strip()

    start, tuned = value(measure.base, measure.base_interval), value(measure.tuned, measure.tuned_interval)
    change = f"{signed(measure.difference, scale)} {span(measure.interval, scale)}".strip()
    limits = "; ".join(part for part in (probability(measure.chance), name(measure.label)) if part)
    behind = f"on {held_out(measure)}{f' ({limits})' if limits else ''}"
    if measure.kind in ("better", "worse"):
        verb = "raised" if (measure.kind == "better") != measure.lower else "lowered"
        less = f" (less is better, so the tuned model is {measure.kind})" if measure.lower else ""
        first = f"Tuning {verb} {what} on {where} from {start} to {tuned}{less}, a difference of {change} {behind}."
    elif measure.kind == "no difference":
        first = f"No difference shown in {what} on {where}: {start} at the start, {tuned} tuned, a difference of {change} {behind}."
    else:
        known = [f"{word} {text}" for word, text in (("start", start), ("tuned", tuned)) if text != MISSING]
        first = f"Whether tuning changed {what} on {where} cannot be tested: {', '.join(known) or 'no number'} {behind}."
    return " ".join(part for part in (first, detail(measure), against(measure)) if part)


def held_out(measure: Measure) -> str:
    """`60 held-out rows`, or `60 held-out rows in 21 groups by file`."""
    groups = f" in {measure.groups:,} groups by {name(measure.group)}" if measure.groups else ""
    return f"{measure.items:,} held-out {'row' if measure.items == 1 else 'rows'}{groups}"


def sentence(findings: Findings) -> str:
    """The verdict of the run in one or two plain sentences; names stand in backticks."""
    leading = findings.leading()
    if not leading:
        return "Nothing was scored, so there is no verdict."
    if len(leading) == 1:
        return next(judged(task, measure) for task, measure in leading.items())
    found = {"better": "better on", "worse": "worse on", "no difference": "no difference shown on", "cannot test": "cannot be tested on"}
    parts = []
    for kind, words in found.items():
        listed = [
            f"`{name(task)}` ({metric_name(measure.metric)} {signed(measure.difference, measure.scale)})".replace(f" {MISSING})", ")")
            for task, measure in leading.items()
            if measure.kind == kind
        ]
        if listed:
            parts.append(f"{words} {listed[0] if len(listed) == 1 else ', '.join(listed[:-1]) + ' and ' + listed[-1]}")
    text = f"Over {len(leading)} tasks, the tuned model against the start: {'; '.join(parts)}."
    beaten = [f"`{name(task)}`" for task, measure in leading.items() if measure.beaten()]
    return f"{text} A baseline scores above the tuned model on {', '.join(beaten)}." if beaten else text


def contaminated(found: Contamination) -> str:
    """The contamination check in one sentence."""
    if not found.found:
        return f"None of {rows(found.rows)} for training holds a question or answer of an evaluation set."
    left = "all of them left" if found.dropped == found.found else f"{found.dropped:,} of them left" if found.dropped else "they were kept"
    rate = share(found.found, found.rows)
    return f"{found.found:,} of {rows(found.rows)} for training ({rate}) hold something of an evaluation set; {left}."


def forgetting(measures: Sequence[Measure]) -> str:
    """What tuning cost, in one sentence."""
    worse = [name(measure.metric) for measure in measures if measure.kind == "worse"]
    about = "Both models read prose and code that lie on this machine and take a few small tasks, whatever the recipe is about. "
    if worse:
        return f"{about}The tuned model lost something: {', '.join(worse)} got worse."
    return f"{about}No loss is shown."
