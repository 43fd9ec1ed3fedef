"""Multiple choice: by the letter or text an output names, or by which choice the model finds likeliest.

How an output names a choice (`read_choice`), `by: text`:
1. a letter after the last "answer is", "answer:", "option" or "choice";
2. a letter at the start of the first line: "B", "(B)", "B.", "B) because";
3. the output (or what follows "answer is") equals a choice's text, without case, space and punctuation at the ends;
4. the only letter in brackets anywhere, "(B)";
5. else none of them, and wrong. "A" before a word is the article, not the letter.

`by: loglikelihood` takes the choice with the largest log-probability, the first of several, as lm-evaluation-harness does:
`normalize: none` is its `acc`, `characters` its `acc_norm` (it divides by `len` of the choice's text), `bytes` its
`acc_bytes`; `tokens` divides by the number of tokens.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from etude.catalog import Settings
from etude.failures import nearest
from etude.metrics.classification import MARKER, bare, folded
from etude.metrics.items import RowError, averaged, check_references, described, field_of, logprob, mean
from etude.records import Prediction

if TYPE_CHECKING:
    import numpy as np

LETTERS = string.ascii_uppercase
ALONE = re.compile(r"[\s*_`\"'(\[]*([A-Z])(?=[)\]\"'*_`]*(?:[.:,;)\]]|\s*$|\s*[-–—]\s|\*|\n))")
"""A letter that is a whole answer or begins one."""
LOWER = re.compile(r"[\s*_`\"']*\(?([a-z])\)?[.:*_`\"']*\s*")
"""A small letter counts only where it is all there is."""
BRACKETED = re.compile(r"\(([A-Z])\)")
CHOSEN = re.compile(r"\b(?:option|choice)(?:\s+is\b)?\s*:?\s*(?=[(\[*\"']*[A-Z](?:\W|$))", re.IGNORECASE)


def read_choice(output: str, choices: Sequence[str], count: int) -> int | None:
    """The place of the choice that an output names, None for none; `choices` may be empty where only letters are known."""
    ends = [match.end() for pattern in (MARKER, CHOSEN) for match in pattern.finditer(output)]
    tails = [output[max(ends) :]] if ends else []
    for text in (*tails, output):
        line = next((line for line in text.splitlines() if line.strip()), "")
        letter = LOWER.fullmatch(line) or ALONE.match(line)
        if letter and LETTERS.index(letter[1].upper()) < count:
            return LETTERS.index(letter[1].upper())
        named = [i for i, choice in enumerate(choices) if bare(folded(choice)) == bare(folded(line))]
        if len(named) == 1:
            return named[0]
    marked = {letter for letter in BRACKETED.findall(output) if LETTERS.index(letter) < count}
    return LETTERS.index(marked.pop()) if len(marked) == 1 else None


def right_ones(prediction: Prediction, choices: Sequence[str]) -> set[int]:
    """The places of the right choices: a reference is a choice's text or its letter."""
    check_references(prediction)
    places = set()
    for reference in prediction.references:
        texts = [i for i, choice in enumerate(choices) if choice.strip() == reference.strip()]
        letter = reference.strip().strip("()[].").upper()
        if texts:
            places.add(texts[0])
        elif len(letter) == 1 and letter in LETTERS and (not choices or LETTERS.index(letter) < len(choices)):
            places.add(LETTERS.index(letter))
        else:
            known = [*choices, *LETTERS[: len(choices)]]
            raise RowError(
                prediction.id, f"the reference {reference!r} is neither a choice's text nor its letter{nearest(reference, known)}"
            )
    return places


def choices_of(prediction: Prediction) -> tuple[str, ...]:
    """The texts of the item's choices, () where it does not say; raises RowError for what are no texts."""
    choices = prediction.fields.get("choices") or ()
    if isinstance(choices, str) or not all(isinstance(choice, str) for choice in choices) or len(choices) > len(LETTERS):
        raise RowError(prediction.id, f"'choices' must be a list of at most {len(LETTERS)} texts, not {choices!r:.80}")
    return tuple(choices)


class MultipleChoice(Settings):
    """The share of items whose right choice is named, or is the likeliest."""

    scale: ClassVar[float] = 1.0

    by: Literal["text", "loglikelihood"] = "text"
    """text: what the output names; loglikelihood: the likeliest of the item's `choice_logprobs`."""
    normalize: Literal["none", "characters", "bytes", "tokens"] = "none"
    """What a choice's log-likelihood is divided by: nothing (lm-evaluation-harness's acc), the length of its text in characters
    (its acc_norm) or bytes (acc_bytes), or its tokens."""

    @property
    def reads_outputs(self) -> bool:
        """Whether outputs matter."""
        return self.by == "text"

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys of `Prediction.fields` without which an item cannot be scored."""
        return () if self.by == "text" else ("choice_logprobs",)

    def stats(self, predictions: Sequence[Prediction]) -> np.ndarray:
        """float64, shape (predictions, 2): share of the item's outputs that are right (or whether the likeliest choice is), and 1.

        An item's fields: `choices` (texts; needed for texts as references and for `characters` and `bytes`), `choice_logprobs`
        (a list of numbers, or of lists of the tokens' numbers). Raises DataError for an item that lacks what is needed.
        """
        import numpy as np

        rows = np.ones((len(predictions), 2))
        for i, prediction in enumerate(predictions):
            choices = choices_of(prediction)
            if self.by == "loglikelihood":
                likeliest = self.likeliest(prediction, choices)
                rows[i, 0] = float(likeliest in right_ones(prediction, choices))
            else:
                right = right_ones(prediction, choices)
                count = len(choices) or len(LETTERS)
                rows[i] = averaged([prediction], 2, lambda o, _, c=choices, n=count, r=right: (float(read_choice(o, c, n) in r), 1.0))[0]  # type: ignore[misc]
        return rows

    def likeliest(self, prediction: Prediction, choices: Sequence[str]) -> int:
        """The place of the choice with the largest (normalised) log-likelihood, the first of several."""
        given = field_of(prediction, "choice_logprobs", "each choice's log-probability, or its tokens'")
        if not isinstance(given, list | tuple) or not given or (choices and len(choices) != len(given)):
            raise RowError(prediction.id, f"'choice_logprobs' must be a list with one entry for each of {len(choices) or 'the'} choices")
        scores = []
        for place, value in enumerate(given):
            tokens: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
            total = sum(logprob(prediction, "choice_logprobs", token) for token in tokens)
            scores.append(total / self.length(prediction, choices, place, value))
        return scores.index(max(scores))

    def length(self, prediction: Prediction, choices: Sequence[str], place: int, value: Any) -> float:
        """What the log-likelihood of a choice is divided by."""
        if self.normalize == "none":
            return 1.0
        if self.normalize == "tokens":
            if not isinstance(value, list | tuple) or not value:
                raise RowError(prediction.id, "normalize: tokens needs each choice's log-probabilities as a list, one a token")
            return float(len(value))
        if not choices or not choices[place]:
            raise RowError(prediction.id, f"normalize: {self.normalize} needs the texts of the choices in the field 'choices'")
        return float(len(choices[place] if self.normalize == "characters" else choices[place].encode("utf-8", "surrogatepass")))

    def signature(self, predictions: Sequence[Prediction] = ()) -> str:
        """How the number was made."""
        how = {"by": self.by, "normalize": self.normalize} if self.by == "loglikelihood" else {"by": self.by, "read": "letter-or-text"}
        return described("multiple_choice", {**how}, predictions)

    def score(self, totals: np.ndarray) -> float:
        """The share that is right, 0 to 1, from summed statistics, shape (2,)."""
        return mean(totals)
