"""The numbers of one data set, counted row by row; what is kept does not grow with the rows."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etude.encoding import Piece, joined, shorten
from etude.formats.training_turns import trained_turns
from etude.previewing.checks import Ids, Row, excused
from etude.records import IGNORED, Encoded, Message, Segment

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
BARS = 12
"""Most bars of a histogram; what is longer than 99 of 100 examples shares the last one."""

MARKUP = "markup"
"""The role of what the format writes around the messages: role names, ends of turn, preambles, tool lists."""


@dataclass(frozen=True, slots=True)
class Role:
    """The tokens of one role's words, and how many are trained."""

    name: str
    tokens: int
    trained: int

    @property
    def share(self) -> float:
        """Trained tokens out of the role's own, 0 to 1."""
        return self.trained / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class DataSet:
    """The numbers of one data set: `examples` may exceed `rows` where a format gives one an answer; `lengths` are the
    QUANTILES of tokens an example and `histogram` its bars as (from, below, examples); `cut` counts tokens that truncation took
    out of `truncated` examples; `untrained` counts rows without a trained token, `excused` answers that asked not to be
    trained; `unknown` counts tokens the vocabulary lacks."""

    name: str
    rows: int
    examples: int
    tokens: int
    trained: int
    lengths: tuple[int, ...]
    histogram: tuple[tuple[int, int, int], ...]
    roles: tuple[Role, ...]
    truncated: int
    cut: int
    untrained: int
    excused: int
    calls: int
    dropped: tuple[tuple[str, int], ...]
    unknown: int

    @property
    def share(self) -> float:
        """Trained tokens out of all, 0 to 1."""
        return self.trained / self.tokens if self.tokens else 0.0


@dataclass(slots=True)
class Tally:
    """Counts of one data set while it is read."""

    rows: int = 0
    truncated: int = 0
    cut: int = 0
    untrained: int = 0
    excused: int = 0
    calls: int = 0
    unknown: int = 0
    trained: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    roles: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row, ids: Ids) -> None:
        """Count one row (its `rows` is counted by the caller, as a row that cannot be written is one too)."""
        self.excused += excused(row.conversation)
        self.calls += sum(len(message.tool_calls) for message in row.conversation.messages)
        self.untrained += not any(piece.trained and piece.ids for pieces in row.pieces for piece in pieces)
        asked = trained_turns(row.conversation)
        for k, result in enumerate(row.results):
            if not isinstance(result, Encoded):
                self.dropped[result.reason] += 1
                continue
            self.lengths[len(result.ids)] += 1
            self.trained += int((result.labels != IGNORED).sum())
            self.truncated += result.cut > 0
            self.cut += result.cut
            if ids.unknown is not None:
                self.unknown += int((result.ids == ids.unknown).sum())
            messages = row.conversation.messages
            if len(row.rendered) > 1 and k < len(asked):
                messages = messages[: asked[k] + 1]
            pieces = shorten(row.pieces[k], result.cut, row.cutting) if result.cut else row.pieces[k]
            for role, tokens, trained in shares(row.rendered[k], messages, pieces or row.pieces[k]):
                self.roles[role][0] += tokens
                self.roles[role][1] += trained

    def summary(self, name: str) -> DataSet:
        """The counts as numbers to show."""
        return DataSet(
            name=name,
            rows=self.rows,
            examples=self.lengths.total(),
            tokens=sum(length * n for length, n in self.lengths.items()),
            trained=self.trained,
            lengths=quantiles(self.lengths),
            histogram=histogram(self.lengths),
            roles=tuple(Role(role, round(tokens), round(trained)) for role, (tokens, trained) in sorted(self.roles.items(), key=in_order)),
            truncated=self.truncated,
            cut=self.cut,
            untrained=self.untrained,
            excused=self.excused,
            calls=self.calls,
            dropped=tuple(self.dropped.most_common()),
            unknown=self.unknown,
        )


def in_order(item: tuple[str, object]) -> tuple[int, str]:
    """System, user, assistant, tool, others, markup."""
    known = ["system", "user", "assistant", "tool"]
    role = item[0]
    return (known.index(role) if role in known else len(known) + (role == MARKUP), role)


def shares(segments: Sequence[Segment], messages: Sequence[Message], pieces: Sequence[Piece]) -> list[tuple[str, float, float]]:
    """(role, tokens, trained tokens) of one example. Words of messages count for their role, all else as MARKUP; a trained
    text in which no message's words are found (a tool call as the format spells it) is the assistant's.

    A token may hold the end of markup and the start of words, so the tokens of a stretch that holds both are shared out by its characters.
    """
    spans = words_at(segments, messages)
    found: list[tuple[str, float, float]] = []
    at, first = 0, 0
    for segment, piece in zip(joined(segments), pieces, strict=False):
        start, at = at, at + len(segment.text)
        size, count = at - start, len(piece.ids)
        while first < len(spans) and spans[first][1] <= start:
            first += 1
        rest = float(count)
        for a, b, role in itertools.islice(spans, first, None):
            if a >= at:
                break
            part = count * (min(b, at) - max(a, start)) / size
            found.append((role, part, part if piece.trained else 0.0))
            rest -= part
        if rest > 1e-9:
            lone = rest == count and piece.trained and not piece.special
            found.append(("assistant" if lone else MARKUP, rest, rest if piece.trained else 0.0))
    return found


def words_at(segments: Sequence[Segment], messages: Sequence[Message]) -> list[tuple[int, int, str]]:
    """Where messages' words stand in the rendered text: (start, end, role) in characters, in order. Words that the
    format changed or left out are not found, which is no error here."""
    spans: list[tuple[int, int, str]] = []
    places = list(itertools.accumulate((len(segment.text) for segment in segments), initial=0))
    index, offset = 0, 0  # the segment to look in next, and from which character on
    for message in messages:
        whole = message.words().strip()
        for words in [whole] if place(segments, whole, index, offset) else [message.content.strip(), message.context.strip()]:
            found = place(segments, words, index, offset)
            if found:
                index, begin = found
                spans.append((places[index] + begin, places[index] + begin + len(words), message.role))
                offset = begin + len(words)
    return spans


def place(segments: Sequence[Segment], words: str, index: int, offset: int) -> tuple[int, int] | None:
    """The first plain segment (and the character in it) that is these words alone, else the first that holds them."""
    if not words:
        return None
    for i in range(index + (offset > 0), len(segments)):
        own = segments[i].text
        if not segments[i].special and len(own) >= len(words) and own.strip() == words:
            return i, own.index(words)
    for i in range(index, len(segments)):
        if not segments[i].special and (at := segments[i].text.find(words, offset if i == index else 0)) >= 0:
            return i, at
    return None


def quantiles(lengths: Mapping[int, int]) -> tuple[int, ...]:
    """The QUANTILES of counted lengths, each one that occurs (the nearest rank); () of none."""
    total = sum(lengths.values())
    ordered = sorted(lengths)
    ranks = list(itertools.accumulate(lengths[length] for length in ordered))
    return tuple(next(n for n, rank in zip(ordered, ranks, strict=True) if rank >= max(1, q * total)) for q in QUANTILES) if total else ()


def histogram(lengths: Mapping[int, int], bars: int = BARS) -> tuple[tuple[int, int, int], ...]:
    """Bars (from, below, examples) of equal round width; the last one also holds what is longer than the 99 % quantile
    and so may be wider. () of nothing."""
    if not lengths:
        return ()
    low, usual, high = min(lengths), quantiles(lengths)[-2], max(lengths)
    rough = max(1, math.ceil((usual + 1 - low) / (bars - 1)))
    power = 10 ** (len(str(rough)) - 1)
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    edges = list(range(low // step * step, usual + 1, step))
    edges.append(max(edges[-1] + step, high + 1))
    counts = [0] * (len(edges) - 1)
    for length, n in lengths.items():
        counts[min((length - edges[0]) // step, len(counts) - 1)] += n
    return tuple(zip(edges, edges[1:], counts, strict=False))
