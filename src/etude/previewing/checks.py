"""The checks of the mask: pure functions of one row as training has it.

Each is made on the finished ids, again and independently of how formats and encoding made them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from etude.encoding import MIDDLE, Cutting, Encoder, Piece, joined
from etude.failures import DataError
from etude.formats import ChatFormat, text
from etude.formats.training_turns import trained_turns
from etude.records import IGNORED, Conversation, Encoded, Fate, Segment

WRITTEN = "the format can write every row"
TRAINED = "every row has a trained token"
ASKED = "the answers to be trained are trained, and nothing else"
END = "every answer's end of turn is trained"
STOP = "the tuned model stops at every end of turn (generation_config)"
TEXT = "the prompt in training is the prompt when asked, as text"
IDS = "the prompt in training is the prompt when asked, as token ids"
BOS = "there is no BOS beyond the format's own"
PAD = "the pad token is not an end of turn"
DATA = "nothing in the data became a special token"
CUT = "truncation takes nothing of an answer"
CHECKS = (WRITTEN, TRAINED, ASKED, END, STOP, TEXT, IDS, BOS, PAD, DATA, CUT)

SHOWN = 30
"""Characters or tokens shown of two prompts from where they part."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as training has it: its renderings (one, or one an answer where the format rewrites earlier
    turns), the tokens of each before truncation, what each became, and how it was cut where it was."""

    conversation: Conversation
    rendered: Sequence[Sequence[Segment]]
    pieces: Sequence[Sequence[Piece]]
    results: Sequence[Encoded | Fate]
    cutting: Cutting = MIDDLE

    @property
    def where(self) -> str:
        """The row's place in its data set."""
        return str(self.conversation.origin or self.conversation.id)


class Finding(NamedTuple):
    """A check that a row broke, and what was found there."""

    check: str
    found: str


@dataclass(frozen=True, slots=True)
class Ids:
    """The token ids that checks ask for: `stops` end an answer of the format, `ends` those at which the saved model
    stops (None: not known), `hidden` only markup may become."""

    stops: frozenset[int]
    ends: frozenset[int] | None
    hidden: frozenset[int]
    bos: int | None
    pad: int | None
    unknown: int | None

    @staticmethod
    def of(form: ChatFormat, encoder: Encoder, ends: Collection[int] | None = None) -> Ids:
        """Looked up once, because asking a tokenizer is slow."""
        tokenizer = encoder.tokenizer
        unknown = tokenizer.unk_token_id
        return Ids(
            stop_ids(form, encoder),
            None if ends is None else frozenset(ends),
            frozenset(encoder.added.values()) - {unknown},
            tokenizer.bos_token_id,
            tokenizer.pad_token_id,
            unknown,
        )


def stop_ids(form: ChatFormat, encoder: Encoder) -> frozenset[int]:
    """The ids of the tokens that end an answer of this format; those the tokenizer has (as `models.local` stops)."""
    named = [encoder.added.get(stop, encoder.added.get(stop.strip())) for stop in form.stops()]
    return frozenset(i for i in named if i is not None)


def generation_ends(folder: Path) -> frozenset[int] | None:
    """The ids at which the model of a folder stops by itself: `eos_token_id` of its generation_config.json, else of its
    config.json (as transformers reads them); None where neither file is there. Raises DataError for one that is no JSON object."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            try:
                ends: Any = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            except (ValueError, AttributeError) as error:
                raise DataError(f"{path}: not a JSON object: {error}") from error
            listed = ends if isinstance(ends, list) else [ends]
            return frozenset(int(i) for i in listed if i is not None)
    return None


def excused(conversation: Conversation) -> int:
    """How many of the assistant's messages ask not to be trained."""
    return sum(m.role == "assistant" and m.trained is False for m in conversation.messages)


def examine(row: Row, form: ChatFormat, encoder: Encoder, ids: Ids, thorough: bool = True) -> Iterator[Finding]:
    """What is wrong with a row; nothing is good.

    The prompt is compared as text and as token ids with what `form.prompt` gives. Token ids follow from the joined
    segments alone, so where those are equal the ids are; `thorough` tokenises the prompt again all the same.
    """
    asked = trained_turns(row.conversation)
    if not any(piece.trained and piece.ids for pieces in row.pieces for piece in pieces) and not (excused(row.conversation) and not asked):
        yield Finding(TRAINED, "no token of this row is trained")
    several = len(row.rendered) > 1
    if several and len(row.rendered) != len(asked):
        yield Finding(ASKED, f"{len(row.rendered)} examples, one an answer, for {len(asked)} answers")
    for k, (segments, pieces) in enumerate(zip(row.rendered, row.pieces, strict=True)):
        turns = asked[k : k + 1] if several else asked
        starts = [i for i, s in enumerate(segments) if s.trained and not (i and segments[i - 1].trained)]
        if len(starts) != len(turns) and not (several and k >= len(asked)):
            yield Finding(ASKED, f"{len(starts)} trained stretches for {len(turns)} answers")
        for at, start in enumerate(starts):
            before = joined(segments[:start])
            message = f"message {turns[at] + 1}: " if at < len(turns) else ""
            end = next((i for i in range(start, len(segments)) if not segments[i].trained), len(segments))
            yield from examine_end(pieces[len(before) : len(joined(segments[:end]))], encoder, ids, message)
            if at < len(turns) and row.conversation.messages[turns[at]].role == "assistant":
                prompt = form.prompt(replace(row.conversation, messages=row.conversation.messages[: turns[at] + 1]))
                yield from examine_prompt(segments[:start], before, pieces, prompt, encoder, thorough, message)
        yield from examine_specials(segments, pieces, encoder, ids)
        if k < len(row.results) and isinstance(row.results[k], Encoded):
            yield from examine_cut(pieces, row.results[k])  # type: ignore[arg-type]  # narrowed a line above


def examine_end(pieces: Sequence[Piece], encoder: Encoder, ids: Ids, message: str) -> Iterator[Finding]:
    """Check the last token of one trained stretch."""
    last = next((piece.ids[-1] for piece in reversed(pieces) if piece.ids), None)
    if last is None:
        return
    if last not in ids.stops:
        yield Finding(END, f"{message}a trained stretch ends with {encoder.tokenizer.decode([last])!r}")
    elif ids.ends is not None and last not in ids.ends:
        yield Finding(
            STOP,
            f"{message}the answer ends with {encoder.tokenizer.decode([last])!r}; add {last} to eos_token_id in generation_config.json",
        )
    if last == ids.pad:
        yield Finding(PAD, f"{message}both are {encoder.tokenizer.pad_token!r}")


def examine_prompt(
    segments: Sequence[Segment],
    before: Sequence[Segment],
    pieces: Sequence[Piece],
    prompt: Sequence[Segment],
    encoder: Encoder,
    thorough: bool,
    message: str,
) -> Iterator[Finding]:
    """Compare what stands before an answer in training (`segments`, joined as `before`) with its `prompt` when asked."""
    trained, asked = text(segments), text(prompt)
    if trained != asked:
        yield Finding(TEXT, message + apart(trained, asked))
    if thorough or [(s.text, s.special) for s in joined(prompt)] != [(s.text, s.special) for s in before]:
        mine = [i for piece in pieces[: len(before)] for i in piece.ids]
        theirs = encoder.ids(prompt)
        if mine != theirs:
            yield Finding(IDS, message + apart(mine, theirs))


def examine_specials(segments: Sequence[Segment], pieces: Sequence[Piece], encoder: Encoder, ids: Ids) -> Iterator[Finding]:
    """Check that special ids come from markup only, and that every BOS is one that the format wrote, and not doubled."""
    for piece in pieces:
        if not piece.special and not ids.hidden.isdisjoint(piece.ids):
            stray = next(i for i in piece.ids if i in ids.hidden)
            yield Finding(DATA, f"{encoder.tokenizer.decode([stray])!r}")
            break
    if ids.bos is not None:
        there = sum(piece.ids.count(ids.bos) for piece in pieces)
        written = sum(s.special and encoder.added.get(s.text, encoder.added.get(s.text.strip())) == ids.bos for s in segments)
        if there != written:
            yield Finding(BOS, f"{encoder.tokenizer.bos_token!r} stands there {times(there)}, and the format writes it {times(written)}")
        elif [i for piece in pieces[:2] for i in piece.ids][:2] == [ids.bos, ids.bos]:
            yield Finding(BOS, f"the row begins with {encoder.tokenizer.bos_token!r} twice")


def examine_cut(pieces: Sequence[Piece], encoded: Encoded) -> Iterator[Finding]:
    """Check that what is trained in the end is what was to be trained before truncation."""
    wanted = [i for piece in pieces if piece.trained for i in piece.ids]
    trained = encoded.labels != IGNORED
    if encoded.labels[trained].tolist() != wanted:
        yield Finding(CUT, f"{int(trained.sum())} tokens are trained of {len(wanted)} that the answers have")
    elif len(encoded.ids) == len(encoded.labels) and (encoded.ids[trained] != encoded.labels[trained]).any():
        yield Finding(CUT, "some labels are not the tokens that they stand under")


def apart(trained: str | list[int], asked: str | list[int]) -> str:
    """Where two prompts part."""
    at = next((i for i, (a, b) in enumerate(zip(trained, asked, strict=False)) if a != b), min(len(trained), len(asked)))
    what = "character" if isinstance(trained, str) else "token"
    return f"they part at {what} {at}: {trained[at : at + SHOWN]!r} in training, {asked[at : at + SHOWN]!r} when asked"


def times(count: int) -> str:
    """`once`, `3 times`."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
