"""What the model will see, and the mask doctor: the checks that fail a run before it trains the wrong tokens.

Every check is made on the finished ids, again and independently of how formats and encoding made them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from etude.encoding import Encoder, Piece, Truncation, fit
from etude.failures import DataError
from etude.formats import ChatFormat, renderings, text
from etude.formats.borders import stretches
from etude.records import IGNORED, Conversation, Encoded, Segment

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)

END = "every answer's end of turn is trained"
TEXT = "the prompt in training is the prompt when asked, as text"
IDS = "the prompt in training is the prompt when asked, as token ids"
BOS = "there is no BOS beyond the format's own"
PAD = "the pad token is not an end of turn"
TRAINED = "every row has a trained token"
DATA = "nothing in the data became a special token"
WRITTEN = "the format can write every row"
CHECKS = (WRITTEN, TRAINED, END, TEXT, IDS, BOS, PAD, DATA)


@dataclass(frozen=True, slots=True)
class Token:
    """One token, or the few that together spell one character, as text with its ids."""

    text: str
    ids: tuple[int, ...]
    trained: bool
    special: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example as the model will see it."""

    id: str
    origin: str
    tokens: tuple[Token, ...]
    cut: int


@dataclass(frozen=True, slots=True)
class Check:
    """A named check: how often it was broken, and the first row that did with what was found."""

    name: str
    broken: int = 0
    example: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """The numbers of one data set: `examples` may exceed `rows` where a format gives one an answer;
    `lengths` are the QUANTILES of tokens an example; `unknown` counts tokens the vocabulary lacks."""

    name: str
    rows: int
    examples: int
    tokens: int
    trained: int
    lengths: tuple[int, ...]
    truncated: int
    untrained: int
    dropped: tuple[tuple[str, int], ...]
    unknown: int

    @property
    def share(self) -> float:
        """Trained tokens out of all, 0 to 1."""
        return self.trained / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Preview:
    """Samples, numbers a data set, and checks."""

    format: str
    stops: tuple[str, ...]
    samples: tuple[Sample, ...]
    sets: tuple[DataSet, ...]
    checks: tuple[Check, ...]

    @property
    def failures(self) -> list[str]:
        """One line for each check that failed, naming the first row that broke it; empty is good."""
        return [f"not so: {c.name}; {c.broken} time{'s' * (c.broken != 1)}, first {c.example}" for c in self.checks if c.broken]


@dataclass(slots=True)
class Tally:
    """Counts of one data set while it is read."""

    rows: int = 0
    truncated: int = 0
    untrained: int = 0
    unknown: int = 0
    trained: int = 0
    lengths: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Doctor:
    """Collects what broke a check."""

    broken: dict[str, list[str]] = field(default_factory=dict)

    def note(self, check: str, where: str, found: str) -> None:
        """A row broke a check."""
        self.broken.setdefault(check, []).append(f"{where}: {found}")

    def checks(self) -> tuple[Check, ...]:
        """Every check with what broke it."""
        return tuple(Check(name, len(self.broken.get(name, [])), (self.broken.get(name) or [""])[0]) for name in CHECKS)


def preview(
    conversations: Sequence[Conversation],
    form: ChatFormat,
    encoder: Encoder,
    n: int = 3,
    *,
    most_tokens: int | None = None,
    truncation: Truncation = "cut_middle",
    name: Callable[[Conversation], str] = lambda c: c.task or "data",
) -> Preview:
    """Write and encode every conversation as training will, check each, and keep `n` samples spread over them.

    `name` says which data set a conversation belongs to. Raises nothing for broken rows: they are in `failures`,
    and the caller decides (the command line raises CheckFailed).
    """
    doctor, tallies = Doctor(), dict[str, Tally]()
    shown = {i * len(conversations) // n for i in range(min(n, len(conversations)))} if n > 0 else set()
    samples: list[Sample] = []
    for number, conversation in enumerate(conversations):
        where = str(conversation.origin or conversation.id)
        tally = tallies.setdefault(name(conversation), Tally())
        tally.rows += 1
        try:
            rendered = renderings(form, conversation)
            rows = [encoder.pieces(segments) for segments in rendered]
            results = [fit(conversation.id, pieces, most_tokens, truncation) for pieces in rows]
            examine(doctor, where, conversation, form, encoder, rendered, rows)
        except DataError as error:
            doctor.note(WRITTEN, where, str(error).removeprefix(f"{where}: "))
            tally.dropped["cannot be written"] += 1
            continue
        if not any(piece.trained for pieces in rows for piece in pieces):
            tally.untrained += 1
            doctor.note(TRAINED, where, "no token of this row is trained")
        for result in results:
            if isinstance(result, Encoded):
                count(tally, encoder, result)
                if number in shown:
                    samples.append(Sample(conversation.id, where, tokens(encoder, result), result.cut))
            else:
                tally.dropped[result.reason] += 1
    sets = tuple(summary(key, tally) for key, tally in tallies.items())
    return Preview(form.name, form.stops(), tuple(samples), sets, doctor.checks())


def examine(
    doctor: Doctor,
    where: str,
    conversation: Conversation,
    form: ChatFormat,
    encoder: Encoder,
    rendered: Sequence[Sequence[Segment]],
    rows: Sequence[Sequence[Piece]],
) -> None:
    """Put one row's renderings, and their pieces uncut, to every check of the mask."""
    turns = [i for i, m in enumerate(conversation.messages) if m.role == "assistant"]
    stops = {encoder.tokenizer.convert_tokens_to_ids(stop) for stop in form.stops()}
    pad = encoder.tokenizer.pad_token_id
    for k, (segments, pieces) in enumerate(zip(rendered, rows, strict=True)):
        ids = [i for piece in pieces for i in piece.ids]
        spans = trained_spans(pieces)
        asked = turns if len(rendered) == 1 else [turns[k]]
        if len(asked) != len(spans):
            doctor.note(END, where, f"{len(spans)} trained stretches for {len(asked)} answers")
        for _, end in spans:
            if ids[end - 1] not in stops:
                doctor.note(END, where, f"a trained stretch ends with {encoder.tokenizer.decode(ids[end - 1 : end])!r}")
            if pad is not None and ids[end - 1] == pad:
                doctor.note(PAD, where, f"both are {encoder.tokenizer.pad_token!r}")
        for turn, (start, _), (before, _) in zip(asked, spans, stretches(segments), strict=False):
            prompt = form.prompt(replace(conversation, messages=conversation.messages[: turn + 1]))
            if text(prompt) != before:
                doctor.note(TEXT, where, f"message {turn + 1}: {apart(before, text(prompt))}")
            if encoder.ids(prompt) != ids[:start]:
                doctor.note(IDS, where, f"message {turn + 1}: {apart(ids[:start], encoder.ids(prompt))}")
        examine_specials(doctor, where, encoder, pieces)


def examine_specials(doctor: Doctor, where: str, encoder: Encoder, pieces: Sequence[Piece]) -> None:
    """Check that special ids come from markup only and that BOS is not doubled."""
    written = [piece.ids[0] for piece in pieces if piece.special]
    hidden = set(encoder.added.values()) - {encoder.tokenizer.unk_token_id}
    stray = [i for piece in pieces if not piece.special for i in piece.ids if i in hidden]
    if stray:
        doctor.note(DATA, where, f"{encoder.tokenizer.decode(stray[:1])!r}")
    bos = encoder.tokenizer.bos_token_id
    if bos is not None and (bos in stray or written[:2] == [bos, bos]):
        doctor.note(BOS, where, f"{encoder.tokenizer.bos_token!r} stands there {stray.count(bos) + written.count(bos)} times")


def trained_spans(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Start and end, in tokens, of each run of trained pieces."""
    spans: list[tuple[int, int]] = []
    at = 0
    for piece in pieces:
        if piece.trained:
            start = spans.pop()[0] if spans and spans[-1][1] == at else at
            spans.append((start, at + len(piece.ids)))
        at += len(piece.ids)
    return spans


def apart(trained: str | list[int], asked: str | list[int]) -> str:
    """Where two prompts part."""
    at = next((i for i, (a, b) in enumerate(zip(trained, asked, strict=False)) if a != b), min(len(trained), len(asked)))
    return f"they part at {at}: {trained[at : at + 20]!r} in training, {asked[at : at + 20]!r} when asked"


def count(tally: Tally, encoder: Encoder, encoded: Encoded) -> None:
    """Add one example to its data set's counts."""
    tally.lengths.append(len(encoded.ids))
    tally.trained += int((encoded.labels != IGNORED).sum())
    tally.truncated += encoded.cut > 0
    if encoder.tokenizer.unk_token_id is not None:
        tally.unknown += int((encoded.ids == encoder.tokenizer.unk_token_id).sum())


def summary(name: str, tally: Tally) -> DataSet:
    """The counts as numbers to show."""
    lengths = tuple(int(q) for q in np.quantile(tally.lengths, QUANTILES, method="nearest")) if tally.lengths else ()
    return DataSet(
        name=name,
        rows=tally.rows,
        examples=len(tally.lengths),
        tokens=sum(tally.lengths),
        trained=tally.trained,
        lengths=lengths,
        truncated=tally.truncated,
        untrained=tally.untrained,
        dropped=tuple(tally.dropped.most_common()),
        unknown=tally.unknown,
    )


def tokens(encoder: Encoder, encoded: Encoded) -> tuple[Token, ...]:
    """The example's tokens as texts; those that spell one character together are shown as one."""
    found: list[Token] = []
    special = set(encoder.added.values())
    held: list[int] = []
    flags = [bool(label != IGNORED) for label in encoded.labels]
    ids = [int(i) for i in encoded.ids]
    for i, (token, trained) in enumerate(zip(ids, flags, strict=True)):
        held.append(token)
        spelled = encoder.tokenizer.decode(held, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        last = i + 1 == len(ids) or flags[i + 1] != trained or ids[i + 1] in special
        # A byte-level token may be a part of a character; four bytes are the longest in UTF-8.
        if "�" not in spelled or last or len(held) == 4:
            found.append(Token(spelled, tuple(held), trained, token in special))
            held = []
    return tuple(found)


def as_json(found: Preview) -> dict[str, Any]:
    """The preview as plain lists and dicts, with `failures` and each data set's `share`."""
    sets = [{**asdict(one), "share": one.share} for one in found.sets]
    return {**asdict(found), "sets": sets, "quantiles": QUANTILES, "failures": found.failures}


def as_text(found: Preview, colour: bool = False) -> str:
    """The preview for a terminal: each sample's tokens apart at `│` with the trained ones green, or in `⟦ ⟧`
    without colour, then its ids; the numbers of each data set; the checks. Control characters are escaped."""
    lines = [f"format {found.format}; an answer ends with {' or '.join(map(visible, found.stops))}"]
    for sample in found.samples:
        ids = sum(len(t.ids) for t in sample.tokens)
        trained = sum(len(t.ids) for t in sample.tokens if t.trained)
        cut = f", {sample.cut} cut out of the prompt" if sample.cut else ""
        lines += ["", f"{visible(sample.origin)}: {ids} tokens, {trained} trained{cut}"]
        lines += painted(sample.tokens, colour, lambda t: visible(t.text), "│").replace("\\n│", "\\n│\n").split("\n")
        lines.append("ids " + painted(sample.tokens, colour, lambda t: " ".join(map(str, t.ids)), " "))
    lines.append("")
    for one in found.sets:
        numbers = f"{one.rows:,} rows, {one.examples:,} examples, {one.tokens:,} tokens, {one.trained:,} trained ({one.share:.1%})"
        lengths = ", ".join(f"{q:.0%} {n}" for q, n in zip(QUANTILES, one.lengths, strict=False))
        trouble = f"{one.truncated:,} cut, {one.untrained:,} without a trained token, {one.unknown:,} unknown tokens"
        lines += [f"{visible(one.name)}: {numbers}", f"  lengths {lengths or 'none'}; {trouble}"]
        lines += [f"  {count:,} dropped: {visible(reason)}" for reason, count in one.dropped]
    for check in found.checks:
        paint = ("\x1b[31m", "\x1b[0m") if colour and check.broken else ("", "")
        found_out = f": {check.broken:,} time{'s' * (check.broken != 1)}, first {visible(check.example)}" if check.broken else ""
        lines.append(f"{paint[0]}{'NO' if check.broken else 'ok'}  {check.name}{found_out}{paint[1]}")
    return "\n".join(lines)


def painted(shown: Sequence[Token], colour: bool, word: Callable[[Token], str], border: str) -> str:
    """The tokens' words between borders, runs of trained ones coloured or bracketed."""
    start, end = ("\x1b[30;42m", "\x1b[0m") if colour else ("⟦", "⟧")
    runs = []
    for trained, run in groupby(shown, key=lambda t: t.trained):
        words = border.join(map(word, run))
        runs.append(f"{start}{words}{end}" if trained else words)
    return border.join(runs)


def visible(text: str) -> str:
    """The text with every character that does not print (control, bidirectional, surrogate) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
