"""How much a row's instruction helps a model with its answer: IFD, the instruction-following difficulty of Li et al. (2024, "From
quantity to quality", Cherry LLM; "Superfiltering" uses a small model as this does).

IFD = perplexity of the answer given the question / perplexity of the answer alone. Near 0: the question gives the answer away. Near 1: it
hardly helps, the row is hard. Above 1: it misleads, question and answer do not belong together, and Cherry LLM leaves such rows out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from etude import journal
from etude.catalog import Settings
from etude.curation.deciding import EXAMPLES, Found, settle
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import closed
from etude.failures import DataError, RecipeError
from etude.models import Scores
from etude.records import Conversation, Message

CHUNK = 32
"""Rows scored before the journal is written; what a kill costs at most."""


class Difficulty(Settings):
    """Rows whose IFD is outside the bounds, or not among the hardest.

    The model must give log-probabilities (a local one). "Alone" is the answer after an empty question in the same chat format, so that
    both sides end their turn alike. Of several turns the last answer is judged, given all before it. Rows of closed tasks are not judged
    unless `labels` says so: the loss of a one-word label says how sure the model is, not how hard the row.
    Scores are kept in `Beside.folder` (difficulty.jsonl), so a killed run scores only what is missing.
    """

    asks_model: ClassVar[bool] = True

    model: str
    """A name of the recipe's `llms`, or `start` for its start model."""
    ratio: Literal["perplexity", "loss"] = "perplexity"
    """The ratio of perplexities (the papers' formula), or of mean losses."""
    least: Annotated[float, Field(ge=0)] | None = None
    """Rows with a smaller IFD leave: they are too easy."""
    most: Annotated[float, Field(ge=0)] | None = 1.0
    """Rows with a larger IFD leave: the question does not lead to the answer."""
    hardest: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the rows within the bounds, the share that stays, largest IFD first; Cherry LLM takes .05 to .15."""
    labels: bool = False
    """Also judge rows of tasks with a closed label set."""
    unscored: Literal["keep", "drop"] = "keep"
    """What becomes of rows that cannot be scored (longer than the model's context, or without an answer)."""

    @model_validator(mode="after")
    def ordered(self) -> Difficulty:
        """Least is at most most."""
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least is {self.least:g} and most is {self.most:g}: no row is both")
        return self

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop rows by IFD. Raises RecipeError where the recipe has no such model or it gives no log-probabilities."""
        if beside.model is None:
            raise RecipeError(f"difficulty: there is no model here; {self.model!r} must be a model of the recipe")
        model: Any = beside.model(self.model)
        if not hasattr(model, "logprobs"):
            raise RecipeError(f"difficulty: the model {self.model!r} gives no log-probabilities; name a local one")
        judged = [place for place, row in enumerate(rows) if self.labels or not closed(row, beside)]
        losses = self.losses([rows[place] for place in judged], model, beside)
        values: dict[int, float] = {}
        why: dict[int, str] = {}
        for place, found in zip(judged, losses, strict=True):
            if isinstance(found, str):
                why[place] = found
            else:
                given, alone = found
                values[place] = math.exp(min(given - alone, 50.0)) if self.ratio == "perplexity" else given / max(alone, 1e-9)
        return self.settled(rows, values, why)

    def settled(self, rows: Sequence[Row], values: dict[int, float], why: dict[int, str]) -> Verdicts:
        """Verdicts from the IFD of rows by place, and from the reasons why others have none."""
        found: list[Found | None] = [None] * len(rows)
        inside = []
        for place, value in values.items():
            seen = f"{value:.2f}: {rows[place].instruction} -> {rows[place].answer}"
            if self.least is not None and value < self.least:
                found[place] = Found(f"difficulty below {self.least:g}", seen)
            elif self.most is not None and value > self.most:
                found[place] = Found(f"difficulty above {self.most:g}", seen)
            else:
                inside.append(place)
        if self.hardest is not None:
            stay = math.ceil(self.hardest * len(inside))
            for place in sorted(inside, key=lambda p: (-values[p], rows[p].id))[stay:]:
                seen = f"{values[place]:.2f}: {rows[place].instruction} -> {rows[place].answer}"
                found[place] = Found(f"not among the hardest {self.hardest:.0%}", seen)
        if self.unscored == "drop":
            for place, reason in why.items():
                found[place] = Found("difficulty not known", reason)
        ordered = sorted(values.values())
        tenths = [0] * 15
        for value in ordered:
            tenths[min(14, int(10 * value))] += 1
        return settle(
            rows,
            found,
            judged=len(values),
            quartiles=[round(ordered[int(q * (len(ordered) - 1))], 3) for q in (0, 0.25, 0.5, 0.75, 1)] if ordered else [],
            tenths=tenths,
            unscored=len(why),
            unscored_examples=[{"id": rows[place].id, "why": reason} for place, reason in list(why.items())[:EXAMPLES]],
        )

    def losses(self, rows: Sequence[Row], model: Scores, beside: Beside) -> list[tuple[float, float] | str]:
        """For each row the mean loss (nats a token) of its answer given its question and alone, or why there is none."""
        path = beside.folder / "difficulty.jsonl" if beside.folder else None
        known = {line["key"]: line for line in journal.read(path)} if path and path.exists() else {}
        keys = [journal.digest([self.model, [(m.role, m.words()) for m in row.conversation.messages]]) for row in rows]
        missing = list({key: place for place, key in reversed(list(enumerate(keys))) if key not in known}.values())[::-1]
        with ExitStack() as stack:
            kept = stack.enter_context(journal.Journal(path)) if path else None
            beside.progress(len(rows) - len(missing))
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                for place, found in zip(chunk, scored([rows[p] for p in chunk], model), strict=True):
                    pair = {"why": found} if isinstance(found, str) else {"given": found[0], "alone": found[1]}
                    known[keys[place]] = line = {"key": keys[place], "id": rows[place].id, **pair}
                    if kept:
                        kept.append(line)
                beside.progress(len(chunk))
        return [known[key].get("why") or (known[key]["given"], known[key]["alone"]) for key in keys]


def scored(rows: Sequence[Row], model: Scores) -> list[tuple[float, float] | str]:
    """(loss given the question, loss alone) of each row's last answer; a row that the model refuses gets its reason alone."""
    asked = [row for row in rows if row.answer]
    pairs = [pair for row in asked for pair in (given(row), alone(row))]
    try:
        found = [-float(values.mean()) if len(values) else math.nan for values in model.logprobs(pairs)] if pairs else []
    except DataError as error:
        if len(asked) == 1:
            return [str(error) if row.answer else "no answer" for row in rows]
        return [found for row in rows for found in scored([row], model)]
    there = iter(zip(found[::2], found[1::2], strict=True))
    each = [next(there) if row.answer else "no answer" for row in rows]
    return [pair if isinstance(pair, str) or all(map(math.isfinite, pair)) else "no token of the answer could be scored" for pair in each]


def given(row: Row) -> Conversation:
    """The row with only its last answer trained."""
    turns = row.conversation.messages
    before = tuple(replace(m, trained=False) if m.role == "assistant" else m for m in turns[:-1])
    return replace(row.conversation, messages=(*before, replace(turns[-1], trained=True)))


def alone(row: Row) -> Conversation:
    """The row's last answer after an empty question."""
    return Conversation(
        f"{row.id}.alone", (Message("user", ""), Message("assistant", row.answer, trained=True)), task=row.conversation.task
    )
