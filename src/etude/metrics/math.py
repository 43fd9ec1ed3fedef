r"""Mathematics: whether the final answer is right, however it is written.

How the final answer of an output is found (`final_answer`):
1. the marked answer that stands last: `\boxed{...}` (or `\fbox{...}`, `\boxed 5`; braces may nest), the rest of the line
   after `####`, or what follows "the answer is", "answer:" or "answer =";
2. else the last number (or the whole output, if that equals the reference).
A reference's is the marked one (GSM8K's `####`), else the reference itself.
How two answers are compared: as exact rational numbers where both are numbers (`number`), else as text without case, space,
dollar signs, `\left`, `\right`, `\text{}` and a last full stop. A number with a unit or words around it is that number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from etude.catalog import Settings
from etude.metrics.items import described, mean, valued
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
NUMBER = re.compile(
    rf"(?<![\w.])[-−–+]?\s?[$€£¥]?\s?-?(?:\d+\s+(?=\d+\s?/\s?\d))?(?:{DIGITS})(?:[eE][-+]?\d{{1,3}}(?!\w))?(?:\s?/\s?\d+(?![\d.,]*\d/))?(?:\s?\\?%)?"
)
"""A number in running text: sign, currency, thousands separators, decimals, exponent, a fraction, a percent sign."""
LATEX_FRACTION = re.compile(r"([-−]?)\s?(\d{1,9})?\s?\\[dt]?frac\s?(?:\{\s*(-?[\d.]+)\s*\}\s*\{\s*(-?[\d.]+)\s*\}|(\d)\s*(\d))")
MIXED = re.compile(r"([-−]?)(\d+)\s+(\d+)\s?/\s?(\d+)")
PLAIN = re.compile(rf"([-−–+]?)[$€£¥]?([-−+]?)({DIGITS})(?:[eE]([-+]?\d{{1,3}}))?(?:/(\d+))?(%?)")
MARKED = re.compile(
    r"\\f?boxed\s*(?P<box>\{)|\\f?boxed\s+(?P<bare>[^\s$.,]+)|####(?P<hash>[^\n]*)|(?P<said>\banswer\s*(?:is|:|=)\s*:?)", re.IGNORECASE
)
LONGEST = 1000
"""A longer text is no number: Python reads at most some thousand digits."""
Extract = Literal["auto", "boxed", "hash", "phrase", "number"]


def braced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and the one that closes it; None where none does."""
    depth = 0
    for place in range(start, len(text)):
        if text[place - 1 : place] == "\\":
            continue
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start + 1 : place]
    return None


def final_answer(text: str, extract: Extract = "auto") -> str:
    """The final answer as it is written, "" if there is none; `extract` allows one way of marking it only."""
    found = marked(text, extract) if extract != "number" else None
    if found is None and extract in ("auto", "number"):
        numbers = [*LATEX_FRACTION.finditer(text), *NUMBER.finditer(text)]
        return max(numbers, key=lambda m: m.end()).group().strip() if numbers else ""
    return found or ""


def marked(text: str, extract: Extract = "auto") -> str | None:
    """The marked answer that stands last, None if there is none."""
    found = None
    for match in MARKED.finditer(text):
        if match["said"] and extract in ("auto", "phrase"):
            found = phrase(text[match.end() :]) or found
        elif match["hash"] is not None and extract in ("auto", "hash"):
            found = match["hash"].strip() or found
        elif match["bare"] and extract in ("auto", "boxed"):
            found = match["bare"]
        elif match["box"] and extract in ("auto", "boxed"):
            inside = braced(text, match.start("box"))
            found = inside.strip() if inside is not None else found
    return found


def phrase(rest: str) -> str:
    """What "the answer is" announces: the first number on its line (after the last equals sign), else its first clause."""
    line = next((line for line in rest.splitlines() if line.strip()), "").strip().strip("*").strip()
    line = re.split(r"\\f?boxed|####", line)[0]  # these are read by themselves
    if not any(map(str.isalnum, line)):
        return ""
    sums = line.rpartition("=")[2]
    number = min((m for m in (LATEX_FRACTION.search(sums), NUMBER.search(sums)) if m), key=lambda m: m.start(), default=None)
    return number.group().strip() if number else re.split(r"[.;](?:\s|$)", line)[0]


def number(text: str) -> Fraction | None:
    r"""The exact value of a written number, or None: `1,234.50`, `$5`, `-3/4`, `\frac{3}{4}`, `2\frac12`, `1e3`, `50%` (50: the
    percent sign is left out, as currency is, since references write either)."""
    if len(text) > LONGEST:
        return None
    text = text.strip().strip("*").strip()
    text = re.sub(r"\\[,;! ]|\\text\{[^}]*\}|\\(?:left|right)|[{}]*\\%", lambda m: "%" if m.group().endswith("%") else "", text)
    text = text.replace("\\$", "$").strip("$ ").rstrip(".").strip()
    if match := LATEX_FRACTION.fullmatch(text):
        sign, whole, above, below, short, under = match.groups()
        above, below = (above, below) if above is not None else (short, under)
        try:
            value = Fraction(whole or 0) + Fraction(above) / Fraction(below)
        except (ValueError, ZeroDivisionError):
            return None
        return -value if sign else value
    if mixed := MIXED.fullmatch(text):
        sign, whole, above, below = mixed.groups()
        return (-1 if sign else 1) * (int(whole) + Fraction(int(above), int(below))) if int(below) else None
    match = PLAIN.fullmatch(re.sub(r"\s", "", text))
    if not match:
        return None
    before, after, digits, exponent, below, _ = match.groups()
    value = Fraction(digits.replace(",", "")) * Fraction(10) ** int(exponent or 0)
    if below:
        if not int(below):
            return None
        value /= int(below)
    return -value if (before in "-−–" and before) or (after in "-−" and after) else value


def measured(text: str) -> Fraction | None:
    """The number in an answer with words or a unit around it, "5 apples" or "x = 5"; None where there is another number, an
    operator, or a letter that may be a variable right behind it."""
    found = list(NUMBER.finditer(text))
    if len(found) != 1 or re.search(r"[\^_*+\\(){}/]", text.replace("\\$", "").replace(found[0].group(), "")):
        return None
    return None if re.match(r"[A-Za-z]\b", text[found[0].end() :]) else number(found[0].group())


def same(answer: str, reference: str, tolerance: float) -> bool:
    """Whether two final answers are equal; numbers may differ by `tolerance` of the reference."""
    ours, theirs = number(answer), number(reference)
    if ours is None or theirs is None:
        if plain(answer) and plain(answer) == plain(reference):
            return True
        ours, theirs = (measured(text) if value is None else value for text, value in ((answer, ours), (reference, theirs)))
    if ours is not None and theirs is not None:
        return abs(ours - theirs) <= Fraction(tolerance) * abs(theirs)
    return False


def plain(text: str) -> str:
    """An answer that is no number, as it is compared."""
    text = re.sub(r"\\(?:left|right|displaystyle|,|;|!| )", "", text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}", r"\1", text)
    return re.sub(r"[\s$*]+", "", text).rstrip(".").casefold()


class Math(Settings):
    """The share of outputs whose final answer equals the reference's, as numbers where both are."""

    scale: ClassVar[float] = 1.0

    extract: Extract = "auto"
    r"""Where outputs have their answer: `boxed` (\boxed{...}), `hash` (####), `phrase` ("the answer is"), `number` (the last
    one), or `auto`, the last one marked in any way, else the last number."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How far a number may be off, as a part of the reference's; 0 is exactly equal."""

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): share of the item's outputs that are right, and 1."""

        def right(output: str, references: tuple[str, ...]) -> float:
            answers = [final_answer(output, self.extract), *([output] if self.extract == "auto" and marked(output) is None else [])]
            truths = [marked(reference) or reference for reference in references]
            return float(any(same(answer, truth, self.tolerance) for answer in answers for truth in truths))

        return valued(predictions, right)

    def score(self, totals: np.ndarray) -> float:
        """The share that is right, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        return described("math", {"extract": self.extract, "tolerance": self.tolerance, "refs": "any"}, predictions)
