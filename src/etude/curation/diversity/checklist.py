"""The six questions that a careful person asks of instruction data (seed 1's quality checklist), answered with numbers.

A reading is `pass`, `attention` or `unknown`. The bounds are ours, stated with each question, and meant to start a look at the
rows, not to end it: a rule can count rows that refuse or stop in the middle of a sentence, and cannot tell whether an answer is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from etude.curation.diversity.figures import Figures, jsonable
from etude.curation.diversity.sampling import chosen
from etude.curation.emptiness import Echo, EmptyAnswer, OnlyPunctuation, Placeholder
from etude.curation.endings import CodeFence, CutOff
from etude.curation.following import Follows, Relevance
from etude.curation.leftovers import EndOfText, FieldOrder, LeftoverPrompt, MergedRows
from etude.curation.refusal import Refusal
from etude.curation.repetition import Repetition
from etude.curation.rows import Beside, Check, Row
from etude.curation.unsafe import Unsafe
from etude.curation.vagueness import VagueInstruction

LOOKED = 2_000
"""Rows that the checks of the list look at; chosen by their hashes."""
UNCLEAR, UNFOLLOWED, MALFORMED, HARMFUL = 0.01, 0.03, 0.02, 0.001
"""The largest shares of rows with a finding that pass."""
NEAR, CROWDED = 0.10, 0.25
"""The largest share of instructions with a neighbour over ROUGE-L .7, and of the commonest verb and object, that pass."""
MISLED, ALIKE = 0.05, 0.1
"""The largest share of rows with an IFD over 1 that passes, and the least distance between its quartiles."""

Reading = Literal["pass", "attention", "unknown"]
Groups = Mapping[str, tuple[Callable[[], Check], ...]]


@dataclass(frozen=True, slots=True)
class Answered:
    """One question: its figures in words, the reading, what the reading rests on, and a note on what it leaves open."""

    question: str
    reading: Reading
    figures: tuple[str, ...]
    rule: str
    limits: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return dict(jsonable(asdict(self)))


def checklist(rows: Sequence[Row], found: Figures, beside: Beside | None = None, seed: int = 0) -> tuple[Answered, ...]:
    """The questions about `rows`, whose figures are `found`. The checks look at no more than 2,000 rows. The rules of
    wording are for English.

    `beside` needs `labels` only, so that closed answers are judged as such.
    """
    beside = Beside(labels=(beside or Beside()).labels)
    some = chosen(rows, LOOKED, seed)
    return (clear(some, found, beside), followed(some, beside), formed(some, beside), harmless(some, beside), diverse(found), spread(found))


def clear(rows: Sequence[Row], found: Figures, beside: Beside) -> Answered:
    """Whether instructions say what is asked."""
    findings, total = counted(rows, beside, {"vague, or the material they point to is missing": (VagueInstruction,)})
    verbs = f"a verb was found by rule in {of(found.pairs.found, found.pairs.rows)}"
    return answered("Is it clear what each instruction asks for?", rows, findings, total, UNCLEAR, more=(verbs,))


def followed(rows: Sequence[Row], beside: Beside) -> Answered:
    """Whether answers do what is asked."""
    groups: Groups = {
        "answers that refuse": (Refusal,),
        "answers that miss a demand which can be counted": (Follows,),
        "answers that repeat the question": (Echo,),
        "answers that share no word with a question they should": (Relevance,),
    }
    limits = "Whether an answer is right is not looked at; the check judged asks a model."
    return answered("Does each answer do what was asked?", rows, *counted(rows, beside, groups), UNFOLLOWED, limits=limits)


def formed(rows: Sequence[Row], beside: Beside) -> Answered:
    """Whether rows are whole and written in one way."""
    groups: Groups = {
        "empty or placeholder answers": (EmptyAnswer, Placeholder, OnlyPunctuation),
        "answers that stop in the middle or loop": (CutOff, CodeFence, Repetition),
        "leftover prompt text, markers or several rows in one": (LeftoverPrompt, EndOfText, MergedRows),
        "fields in the wrong order": (FieldOrder,),
    }
    return answered("Are the rows whole, and written in one way?", rows, *counted(rows, beside, groups), MALFORMED)


def harmless(rows: Sequence[Row], beside: Beside) -> Answered:
    """Whether answers hold nothing harmful."""
    findings, total = counted(rows, beside, {"unsafe content by the documented patterns, in context": (Unsafe,)})
    limits = "A list of patterns finds what is written plainly; it finds no harm that needs knowledge to see."
    return answered("Is the data free of harmful content?", rows, findings, total, HARMFUL, limits=limits)


def diverse(found: Figures) -> Answered:
    """Whether rows differ from each other."""
    pairs = found.pairs
    said = [
        f"{pairs.distinct_pairs:,} different pairs of verb and object in {pairs.paired:,} rows with one; "
        f"the commonest: {of(pairs.top, pairs.rows)}",
        *(
            f"{one.part}s: {100 * one.equal[1]:.1f} % of the runs of two words are different ones (distinct-2, first 50,000 words)"
            for one in found.variety
            if one.equal
        ),
    ]
    rule = (
        f"pass: at most {100 * NEAR:g} % of the instructions have a neighbour over ROUGE-L .7, and no pair is more than "
        f"{100 * CROWDED:g} % of the rows"
    )
    question = "Are the rows different enough from each other?"
    if found.novelty is None or not found.novelty.looked:
        return Answered(
            question, "unknown", tuple(said), rule, "Neighbours by ROUGE-L were not looked for, or no instruction has letters a-z."
        )
    near = found.novelty.near / found.novelty.looked
    said.insert(0, f"{of(found.novelty.near, found.novelty.looked)} of the instructions looked at have a neighbour over ROUGE-L .7")
    fine = near <= NEAR and pairs.top <= CROWDED * max(1, pairs.rows)
    limits = "Enough for what: a set for one task is meant to be alike. Rows that mean the same in other words are not seen."
    return Answered(question, "pass" if fine else "attention", tuple(said), rule, limits)


def spread(found: Figures) -> Answered:
    """Whether the rows are neither all easy nor misleading."""
    question = "Is the difficulty spread as it should be?"
    rule = f"pass: at most {100 * MISLED:g} % of the rows have an IFD over 1, and its quartiles lie at least {ALIKE:g} apart"
    hard = found.hardness
    if hard is None or not hard.rows or len(hard.quartiles) != 5:
        return Answered(question, "unknown", (), rule, "Nothing was measured; the check difficulty measures IFD with a local model.")
    low, quarter, half, three, high = hard.quartiles
    name = "IFD" if hard.measure == "ifd" else "loss"
    said = [f"{name} of {hard.rows:,} rows: quartiles {quarter:g}, {half:g}, {three:g}; from {low:g} to {high:g}"]
    if hard.above is None:
        return Answered(
            question, "unknown", tuple(said), rule, "A loss alone does not say whether a row is hard or wrong; IFD does better."
        )
    said.append(f"{of(hard.above, hard.rows)} have an IFD over 1: the instruction misleads")
    fine = hard.above <= MISLED * hard.rows and three - quarter >= ALIKE
    return Answered(question, "pass" if fine else "attention", tuple(said), rule, "Measured by one model: what is hard for it.")


def counted(rows: Sequence[Row], beside: Beside, groups: Groups) -> tuple[list[str], int]:
    """Findings of each group in words, and rows with any finding."""
    said, touched = [], set()
    for words, checks in groups.items():
        own = set()
        for check in checks:
            own |= {place for place, fate in enumerate(check().judge(rows, beside).fates) if not fate.kept}
        touched |= own
        said.append(f"{words}: {of(len(own), len(rows))}")
    return said, len(touched)


def answered(
    question: str, rows: Sequence[Row], said: Sequence[str], total: int, most: float, *, more: tuple[str, ...] = (), limits: str = ""
) -> Answered:
    """A question that is read from the share of rows with a finding."""
    rule = f"pass: at most {100 * most:g} % of {len(rows):,} rows looked at have a finding; {of(total, len(rows))} have one"
    reading: Reading = "unknown" if not rows else "pass" if total <= most * len(rows) else "attention"
    return Answered(question, reading, (*said, *more), rule, limits)


def of(part: int, whole: int) -> str:
    """`12 of 2,000 (0.60 %)`."""
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.{1 if part >= 0.1 * whole else 2}f}\u00a0%)" if part else "")
