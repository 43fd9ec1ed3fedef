"""Rows to look at: their words, and every token with what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from etude.encoding import MIDDLE, Cutting, Encoder, Piece, kept
from etude.previewing.checks import Row
from etude.records import Encoded


@dataclass(frozen=True, slots=True)
class Token:
    """One token, or the few that together spell one character, as text with its ids. `cut`: truncation took it out."""

    text: str
    ids: tuple[int, ...]
    trained: bool
    special: bool
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One message in words: `calls` are its tool calls as `name(arguments)`, `name` and `call_id` say of which tool, and
    which call, a result is; `trained` is as the message says it (None: as the recipe says)."""

    role: str
    text: str
    calls: tuple[str, ...] = ()
    name: str = ""
    call_id: str = ""
    trained: bool | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example as the model will see it. `part` of `parts`: which answer's example it is where a row gives
    several; `cut` counts the tokens that truncation took out (they are in `tokens`, marked); `dropped` says why a row is not
    trained on; `tools` are the names of the functions on offer; `source` is, for an encoder-decoder, how many of `tokens`
    are the source's (the others are the target's)."""

    id: str
    origin: str
    data: str
    turns: tuple[Turn, ...]
    tokens: tuple[Token, ...]
    cut: int = 0
    dropped: str = ""
    part: int = 1
    parts: int = 1
    tools: tuple[str, ...] = ()
    source: int | None = None


def samples(row: Row, encoder: Encoder, data: str) -> Iterator[Sample]:
    """The examples of a row, to look at."""
    turns = tuple(
        Turn(m.role, m.words(), tuple(f"{call.name}({call.arguments})" for call in m.tool_calls), m.name, m.call_id, m.trained)
        for m in row.conversation.messages
    )
    tools = tuple(tool_name(tool) for tool in row.conversation.tools)
    for k, (pieces, result) in enumerate(zip(row.pieces, row.results, strict=False)):
        spelled = tuple(tokens(encoder, pieces, result.cut if isinstance(result, Encoded) else 0, row.cutting))
        yield Sample(
            id=row.conversation.id,
            origin=row.where,
            data=data,
            turns=turns,
            tokens=spelled,
            cut=result.cut if isinstance(result, Encoded) else 0,
            dropped="" if isinstance(result, Encoded) else result.reason,
            part=k + 1,
            parts=len(row.pieces),
            tools=tools,
            source=next((i for i, token in enumerate(spelled) if token.trained), len(spelled)) if encoder.paired else None,
        )


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a function in OpenAI's form, with or without its `function` envelope."""
    inner = tool.get("function")
    return str((inner if isinstance(inner, Mapping) else tool).get("name", "?"))


def tokens(encoder: Encoder, pieces: list[Piece] | Any, cut: int = 0, cutting: Cutting = MIDDLE) -> Iterator[Token]:
    """Every token of an example as text, those that truncation took out marked; tokens that spell one character
    together are one. Joined, the texts are the text that was tokenised."""
    ends = (kept(pieces, cut, cutting) if cut else None) or [(len(piece.ids), 0) for piece in pieces]
    before: list[int] = []
    for piece, (head, tail) in zip(pieces, ends, strict=True):
        last = len(piece.ids) - tail
        for start, stop, out in ((0, head, False), (head, last, True), (last, len(piece.ids), False)):
            held: list[int] = []
            for at in range(start, stop):
                held.append(piece.ids[at])
                spelled = said(encoder, before, held)
                # A byte-level token may be a part of a character; four bytes are the longest in UTF-8.
                if "\ufffd" not in spelled or at + 1 == stop or len(held) == 4:
                    yield Token(spelled, tuple(held), piece.trained, piece.special, out)
                    before, held = held, []


def said(encoder: Encoder, before: list[int], ids: list[int]) -> str:
    """The text of ids after those `before`: decoders of SentencePiece drop the space with which a text begins."""

    def decode(given: list[int]) -> str:
        return str(encoder.tokenizer.decode(given, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    context = decode(before) if before else ""
    whole = decode([*before, *ids])
    return whole[len(context) :] if whole.startswith(context) else decode(ids)
