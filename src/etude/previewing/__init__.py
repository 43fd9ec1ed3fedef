"""What the model will see, and the mask doctor: the checks that fail a run before it trains the wrong tokens.

`Examiner` is shown rows that are rendered and encoded already, one at a time, so that a run renders and encodes each row
once; `preview` writes the rows itself. What an examiner keeps does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from etude.encoding import Encoder, Limit, Truncation, fit
from etude.failures import DataError
from etude.formats import ChatFormat, renderings
from etude.previewing.checks import (
    ASKED,
    BOS,
    CHECKS,
    CUT,
    DATA,
    END,
    IDS,
    PAD,
    STOP,
    TEXT,
    TRAINED,
    WRITTEN,
    Finding,
    Ids,
    Row,
    examine,
    generation_ends,
    stop_ids,
)
from etude.previewing.samples import Sample, Token, Turn, samples
from etude.previewing.statistics import QUANTILES, DataSet, Role, Tally
from etude.previewing.text import as_text
from etude.records import Conversation, Fate

__all__ = [
    "ASKED",
    "BOS",
    "CHECKS",
    "CUT",
    "DATA",
    "END",
    "IDS",
    "PAD",
    "QUANTILES",
    "STOP",
    "TEXT",
    "TRAINED",
    "WRITTEN",
    "Check",
    "DataSet",
    "Examiner",
    "Finding",
    "Preview",
    "Role",
    "Row",
    "Sample",
    "Token",
    "Turn",
    "as_json",
    "as_text",
    "generation_ends",
    "preview",
    "seen",
    "spread",
    "stop_ids",
    "written",
]

PLACES = 5
"""Rows named for a broken check; the others are counted."""

THOROUGH = 256, 32
"""The first so many rows, and after them one in so many, have their prompts tokenised a second time (`checks.examine`)."""


@dataclass(frozen=True, slots=True)
class Check:
    """A named check: how many rows broke it, and the first PLACES of them with what was found (`PLACE: FOUND`)."""

    name: str
    broken: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """Samples, numbers a data set, and checks. `notes` are worth knowing and break nothing."""

    format: str
    stops: tuple[str, ...]
    samples: tuple[Sample, ...]
    sets: tuple[DataSet, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        """One line for each check that failed, naming the first row that broke it; empty is good."""
        return [f"not so: {c.name}; {c.broken} row{'s' * (c.broken != 1)}, first {c.examples[0]}" for c in self.checks if c.broken]


class Examiner:
    """Puts rows to every check and counts them, one at a time; `found` says what came of it.

    `ends` are the ids at which the tuned model stops by itself as it will be saved (None: that check is left out); `shown` are
    the numbers, from 0, of the rows to keep as samples; `name` says which data set a conversation belongs to.
    """

    def __init__(
        self,
        form: ChatFormat,
        encoder: Encoder,
        *,
        ends: Collection[int] | None = None,
        shown: Collection[int] = (),
        notes: Iterable[str] = (),
        name: Callable[[Conversation], str] = lambda c: c.task or "data",
    ) -> None:
        self.form = form
        self.encoder = encoder
        self.ids = Ids.of(form, encoder, ends)
        self.shown = frozenset(shown)
        self.name = name
        self.notes = list(notes)
        self.rows = 0
        self.tallies: dict[str, Tally] = {}
        self.broken: dict[str, list[str]] = {check: [] for check in CHECKS}
        self.counts = dict.fromkeys(CHECKS, 0)
        self.samples: list[Sample] = []
        self._opens = False

    def see(self, row: Row) -> None:
        """Examine and count one row. Raises nothing for a broken one: it is in `found().failures`."""
        tally = self._tally(row.conversation)
        thorough = self.rows < THOROUGH[0] or self.rows % THOROUGH[1] == 0
        try:
            findings = list(examine(row, self.form, self.encoder, self.ids, thorough))
        except DataError as error:  # the prompt of a row whose rendering was possible
            findings = [Finding(WRITTEN, str(error).removeprefix(f"{row.where}: "))]
        self._note(row.where, findings)
        tally.add(row, self.ids)
        if self.rows in self.shown:
            self.samples += samples(row, self.encoder, self.name(row.conversation))
        if row.pieces and row.pieces[0]:
            self._opens = self._opens or row.pieces[0][0].ids[:1] == [self.ids.bos]
        self.rows += 1

    def refuse(self, conversation: Conversation, error: DataError) -> None:
        """Count one row that cannot be written (`written` raised `error`)."""
        where = str(conversation.origin or conversation.id)
        self._note(where, [Finding(WRITTEN, str(error).removeprefix(f"{where}: "))])
        self._tally(conversation).dropped["cannot be written"] += 1
        self.rows += 1

    def found(self) -> Preview:
        """What the rows seen so far are like."""
        checks = tuple(
            Check(name, self.counts[name], tuple(self.broken[name])) for name in CHECKS if name != STOP or self.ids.ends is not None
        )
        sets = tuple(tally.summary(name) for name, tally in self.tallies.items())
        notes = (*self.notes, *bos_note(self.encoder, self._opens, self.rows))
        return Preview(self.form.name, self.form.stops(), tuple(self.samples), sets, checks, notes)

    def _tally(self, conversation: Conversation) -> Tally:
        tally = self.tallies.setdefault(self.name(conversation), Tally())
        tally.rows += 1
        return tally

    def _note(self, where: str, findings: Sequence[Finding]) -> None:
        for check, what in {finding.check: finding.found for finding in reversed(findings)}.items():  # the first of each
            self.counts[check] += 1
            if len(self.broken[check]) < PLACES:
                self.broken[check].append(f"{where}: {what}")


def preview(
    conversations: Sequence[Conversation],
    form: ChatFormat,
    encoder: Encoder,
    n: int = 3,
    *,
    most_tokens: Limit = None,
    truncation: Truncation = "cut_middle",
    ends: Collection[int] | None = None,
    notes: Iterable[str] = (),
    name: Callable[[Conversation], str] = lambda c: c.task or "data",
) -> Preview:
    """Write and encode every conversation as training will, check each, and keep `n` of them as samples, spread evenly.

    The other arguments are Examiner's. Raises nothing for broken rows: they are in `failures`,
    and the caller decides (the command line raises CheckFailed).
    """
    examiner = Examiner(form, encoder, ends=ends, shown=spread(n, len(conversations)), notes=notes, name=name)
    for _ in seen(conversations, examiner, most_tokens, truncation):
        pass
    return examiner.found()


def seen(
    conversations: Iterable[Conversation], examiner: Examiner, most_tokens: Limit = None, truncation: Truncation = "cut_middle"
) -> Iterator[Row]:
    """Every conversation that can be written, as training has it, after the examiner has seen it; the others it refuses."""
    for conversation in conversations:
        try:
            row = written(conversation, examiner.form, examiner.encoder, most_tokens, truncation)
        except DataError as error:
            examiner.refuse(conversation, error)
        else:
            examiner.see(row)
            yield row


def spread(n: int, total: int) -> frozenset[int]:
    """Numbers of at most `n` rows of `total`, evenly spread, the first one among them."""
    return frozenset(i * total // n for i in range(min(n, total))) if n > 0 else frozenset()


def written(
    conversation: Conversation,
    form: ChatFormat,
    encoder: Encoder,
    most_tokens: Limit = None,
    truncation: Truncation = "cut_middle",
) -> Row:
    """A conversation rendered and encoded as `encoding.examples` does, with all that checks look at. Raises DataError as that does."""
    rendered = renderings(form, conversation)
    pieces = [encoder.pieces(segments) for segments in rendered]
    cutting = encoder.cutting(truncation)
    results = [fit(conversation.id, one, most_tokens, cutting) for one in pieces]
    return Row(conversation, rendered, pieces, results or [Fate.drop(conversation.id, "no trained token")], cutting)


def bos_note(encoder: Encoder, opens: bool, rows: int) -> list[str]:
    """What to know where the tokenizer itself begins texts with its BOS, which etude never lets it do."""
    tokenizer = encoder.tokenizer
    if not rows or tokenizer.bos_token_id is None or tokenizer("a", add_special_tokens=True)["input_ids"][:1] != [tokenizer.bos_token_id]:
        return []
    if opens:
        return [
            f"the format writes {tokenizer.bos_token!r} and the tokenizer would add another; where you tokenise a rendered prompt "
            "yourself, pass add_special_tokens=False"
        ]
    return [f"the tokenizer begins texts with {tokenizer.bos_token!r} and the format does not: the model is tuned and asked without it"]


def as_json(found: Preview) -> dict[str, Any]:
    """The preview as plain lists and dicts, with `failures` and the `share` of each data set and role."""
    sets = [
        {**asdict(one), "share": one.share, "roles": [{**asdict(role), "share": role.share} for role in one.roles]} for one in found.sets
    ]
    return {**asdict(found), "sets": sets, "quantiles": QUANTILES, "failures": found.failures}
