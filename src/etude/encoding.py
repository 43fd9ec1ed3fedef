"""Segments -> token ids and labels, for decoder-only and encoder-decoder models.

The rules that keep the mask honest:

- Adjacent plain segments with the same trained flag are one text; the border of a trained stretch is
  always a border of tokens, so the prompt is tokenised exactly as it will be when asked, and the answer is
  appended to it. Where an answer is history in a prompt, an empty segment keeps that border.
- A special segment is one added token, by id. Plain text goes through a copy of the tokenizer in which added
  tokens do not exist and nothing is added at either end, so `<|im_end|>` in data stays text and there is no
  BOS beyond what the format writes.
- Truncation takes tokens out of the prompt (its middle, start or end), or drops or refuses the row; it never
  takes an answer or its end.

An encoder-decoder's row (`Encoder.paired`) is its source and then its target in one array: the target is what stands
from the first trained token on, and is tokenised as a text of its own, as the decoder will write it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from etude.failures import DataError, RecipeError, nearest
from etude.formats import ChatFormat, renderings
from etude.records import IGNORED, Conversation, Encoded, Fate, Segment

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Truncation = Literal["cut_middle", "cut_start", "cut_end", "drop", "refuse"]

EDGE = 8
"""Tokens kept at each end of a prompt stretch that is cut: room for `user\\n`, `\\n\\n### Response:` and the like."""
SHORT, MOST_KNOWN = 40, 4096
"""Texts of at most so many characters, and so many of them, are remembered with their ids."""


class Lengths(NamedTuple):
    """Most tokens of an encoder-decoder's row: of its source and of its target, each with its end (None: no limit)."""

    source: int | None
    target: int | None


Limit = int | Lengths | None
"""Most tokens of a row: of the whole row, or of an encoder-decoder's two texts."""


class Cutting(NamedTuple):
    """Where a prompt that is too long is cut, and how many tokens of each stretch stay at an end that is."""

    truncation: Truncation = "cut_middle"
    edge: int = EDGE


MIDDLE = Cutting()


class Piece(NamedTuple):
    """A run of tokens that is trained as a whole or not at all, and is one added token or plain text."""

    ids: list[int]
    trained: bool
    special: bool


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A tokenizer made safe. `added`: text -> id of the added tokens that only markup may become; `first`,
    `later` and `joined` tokenise plain text at the start, after an added token, and after other plain text."""

    tokenizer: PreTrainedTokenizerFast = field(repr=False)
    added: Mapping[str, int]
    first: Tokenizer = field(repr=False)
    later: Tokenizer = field(repr=False)
    joined: Tokenizer = field(repr=False)
    known: dict[tuple[int, str], list[int]] = field(default_factory=dict, repr=False)
    """Short texts met before -> their ids: a format's headers come with every row."""
    paired: bool = False
    """Whether the rows are an encoder-decoder's: source and target are two texts."""

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerFast, paired: bool = False) -> Encoder:
        """An encoder for a fast tokenizer; `paired` for an encoder-decoder's. Raises RecipeError for a slow tokenizer, and
        for one that cannot be kept from reading an added token's text as that token."""
        if not getattr(tokenizer, "is_fast", False):
            raise RecipeError(
                f"the tokenizer ({type(tokenizer).__name__}) is a slow one, which cannot keep special tokens out of data; "
                "the model folder needs a tokenizer.json (save_pretrained of a fast tokenizer writes one)"
            )
        added = {t.content: int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.content.strip()}
        first = plain(json.loads(tokenizer.backend_tokenizer.to_str()), added)
        later = unprefixed(first, after_plain=False)
        first_one, later_one, joined_one = build([first, later, unprefixed(later, after_plain=True)])
        encoder = Encoder(tokenizer, added, first_one, later_one, joined_one, paired=paired)
        for text in added:
            if set(encoder.ids([Segment(text)])) & (set(added.values()) - {tokenizer.unk_token_id}):
                raise RecipeError(f"the tokenizer reads the text {text!r} as a special token even when told not to")
        return encoder

    def ids(self, segments: Sequence[Segment]) -> list[int]:
        """The token ids of `segments`. Raises DataError as `pieces` does."""
        return [i for piece in self.pieces(segments) for i in piece.ids]

    def count(self, text: str) -> int:
        """Tokens of a plain text."""
        return len(self.ids([Segment(text)]))

    def pieces(self, segments: Sequence[Segment]) -> list[Piece]:
        """The tokens of `segments`, one piece for each added token and each joined plain text. Raises DataError
        for a special segment that is no added token and for text that is no Unicode."""
        pieces: list[Piece] = []
        begun: set[bool] = set()  # of an encoder-decoder's two texts, untrained and trained, those that have words
        for segment in joined(segments):
            if segment.special:
                pieces.append(Piece([self._token(segment.text)], segment.trained, True))
            elif segment.text:
                begins = not pieces or (self.paired and segment.trained not in begun)
                begun.add(segment.trained)
                tokenise = self.first if begins else self.later if pieces[-1].special else self.joined
                key = (id(tokenise), segment.text)
                if key in self.known:
                    pieces.append(Piece(self.known[key], segment.trained, False))
                    continue
                try:
                    ids = tokenise.encode(segment.text, add_special_tokens=False).ids
                except TypeError as error:  # what tokenizers raises for text that UTF-8 cannot hold
                    lone = next((c for c in segment.text if "\ud800" <= c <= "\udfff"), "")
                    raise DataError(f"the text cannot be tokenised: it holds half a character ({lone!r}, a lone surrogate)") from error
                if len(segment.text) <= SHORT and len(self.known) < MOST_KNOWN:
                    self.known[key] = ids
                pieces.append(Piece(ids, segment.trained, False))
        return pieces

    def _token(self, text: str) -> int:
        # Markup may carry the white space that a token declared lstrip or rstrip swallows.
        found = self.added.get(text, self.added.get(text.strip()))
        if found is None:
            raise DataError(f"the format writes {text!r} as a special token, but the tokenizer has none{nearest(text, self.added)}")
        return found

    def encode(
        self,
        id: str,
        segments: Sequence[Segment],
        most_tokens: Limit = None,
        truncation: Truncation = "cut_middle",
        where: str = "",
    ) -> Encoded | Fate:
        """The row `id` as ids and labels of at most `most_tokens` tokens (None: no limit), or why it is dropped.

        A row that is too long is cut in the middle of its longest prompt stretches (`cut_middle`; `cut` counts the tokens
        taken; dropped when the rest alone is too long) or from the start or end of the prompt on (`cut_start`, `cut_end`),
        dropped (`drop`), or raises DataError naming `where` (`refuse`). A row without a trained token is dropped, and so is an
        encoder-decoder's with a target that is too long. Nothing of an answer is ever cut.
        """
        try:
            return fit(id, self.pieces(segments), most_tokens, self.cutting(truncation))
        except DataError as error:
            raise DataError(f"{where or id}: {error}") from error

    def cutting(self, truncation: Truncation) -> Cutting:
        """How rows are cut. An encoder's source has no markup at its ends that must stay: cut from a side, it loses what a
        tokenizer's own truncation takes there."""
        return Cutting(truncation, 0 if self.paired and truncation != "cut_middle" else EDGE)

    def limit(self, row: int | None, target: int | None) -> Limit:
        """Most tokens of a row: `row` of a whole one, or of an encoder-decoder's source, and `target` of its target."""
        return Lengths(row, target) if self.paired else row

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids, without special tokens and with its white space as it is."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def examples(
    encoder: Encoder,
    form: ChatFormat,
    conversation: Conversation,
    most_tokens: Limit = None,
    truncation: Truncation = "cut_middle",
) -> list[Encoded | Fate]:
    """A conversation as training examples, all with its id: one, or one an answer where the format rewrites
    earlier turns. A conversation without an answer is one Fate. Raises DataError as `renderings` and `encode` do."""
    rendered = renderings(form, conversation)
    where = str(conversation.origin or conversation.id)
    return [encoder.encode(conversation.id, segments, most_tokens, truncation, where) for segments in rendered] or [
        Fate.drop(conversation.id, "no trained token")
    ]


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """The segments with adjacent plain ones of the same trained flag made one. An empty one is a border: plain
    text before and after it stays apart; it is left out itself."""
    out: list[Segment] = []
    apart = True
    for segment in segments:
        if not segment.text:
            apart = True
        elif not (apart or segment.special or out[-1].special) and out[-1].trained == segment.trained:
            out[-1] = Segment(out[-1].text + segment.text, segment.trained)
        else:
            out.append(segment)
            apart = False
    return out


def fit(id: str, pieces: Sequence[Piece], limit: Limit, cutting: Cutting = MIDDLE) -> Encoded | Fate:
    """The pieces as one example within `limit`, or why the row is dropped (see `Encoder.encode`)."""
    if not any(piece.trained and piece.ids for piece in pieces):
        return Fate.drop(id, "no trained token")
    what, length, most = "", sum(len(piece.ids) for piece in pieces), limit
    if isinstance(limit, Lengths):
        target = sum(len(piece.ids) for piece in pieces if piece.trained)
        if limit.target and target > limit.target:
            if cutting.truncation == "refuse":
                raise DataError(f"the answer has {target} tokens, more than the limit of {limit.target}; raise the limit")
            return Fate.drop(id, f"answer longer than {limit.target} tokens")
        what, length, most = "source ", length - target, limit.source
    over = max(length - most, 0) if isinstance(most, int) and most else 0
    if over and cutting.truncation == "drop":
        return Fate.drop(id, f"{what}longer than {most} tokens")
    if over and cutting.truncation == "refuse":
        raise DataError(f"{what}{length} tokens, more than the limit of {most}; raise the limit, or let truncation be cut_middle or drop")
    shorter = shorten(pieces, over, cutting) if over else pieces
    if shorter is None:
        return Fate.drop(id, "answer longer than the limit")
    ids = np.array([i for piece in shorter for i in piece.ids], dtype=np.int32)
    trained = np.array([piece.trained for piece in shorter for _ in piece.ids], dtype=bool)
    return Encoded(id, ids, np.where(trained, ids, np.int32(IGNORED)), over)


def shorten(pieces: Sequence[Piece], over: int, cutting: Cutting = MIDDLE) -> list[Piece] | None:
    """The pieces with `over` tokens less, or None where prompts have not so many to give (see `kept`)."""
    ends = kept(pieces, over, cutting)
    if ends is None:
        return None
    return [
        p if head + tail == len(p.ids) else Piece(p.ids[:head] + p.ids[len(p.ids) - tail :], p.trained, p.special)
        for p, (head, tail) in zip(pieces, ends, strict=True)
    ]


def kept(pieces: Sequence[Piece], over: int, cutting: Cutting = MIDDLE) -> list[tuple[int, int]] | None:
    """How many tokens of each piece stay at its start and at its end when `over` tokens go, or None where that is impossible.

    Only untrained plain pieces give any. `cut_start` and `cut_end` empty them one after the other from that side, down to
    the edges. Else the longest ones are levelled down first; each keeps its two ends (at least EDGE tokens each), because
    a prompt says what to do at its start or its end.
    """
    sizes, edge = [len(p.ids) for p in pieces], cutting.edge
    free = [i for i, p in enumerate(pieces) if not p.trained and not p.special and sizes[i] > 2 * edge]
    if sum(sizes[i] - 2 * edge for i in free) < over:
        return None
    ends = [(size, 0) for size in sizes]
    if cutting.truncation in ("cut_start", "cut_end"):
        for i in free if cutting.truncation == "cut_start" else reversed(free):
            gone = min(over, sizes[i] - 2 * edge)
            over -= gone
            if gone:
                ends[i] = (edge, sizes[i] - edge - gone) if cutting.truncation == "cut_start" else (sizes[i] - edge - gone, edge)
        return ends
    keep = sum(sizes[i] for i in free) - over
    left = sorted(free, key=lambda i: sizes[i])
    for done, i in enumerate(left):  # from the shortest on: all of it, or an equal share of what remains
        level = min(sizes[i], keep // (len(left) - done))
        keep -= level
        if level < sizes[i]:
            ends[i] = ((level + 1) // 2, level // 2)
    return ends


def plain(backend: dict[str, Any], added: Mapping[str, int]) -> dict[str, Any]:
    """A tokenizer.json in which no text spells one of the `added` tokens; without post-processor, truncation and padding.

    Some vocabularies (SentencePiece's) hold the added tokens as ordinary entries too: there they keep their id
    and get a name that nobody can write, because it is drawn anew each time. Added tokens of white space alone
    stay, with their ids: they are vocabulary.
    """
    model = dict(backend["model"])
    secret = secrets.token_hex(16)
    names = {text: f"{secret}:{i}" for text, i in added.items()}
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    elif model.get("vocab"):
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("merges"):
        pairs = [(merge, merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in model["merges"]]
        model["merges"] = [merge for merge, (a, b) in pairs if a + b not in names and a not in names and b not in names]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    # Ids of added tokens are given in order, so none may be left out where one stays.
    tokens = [{**token, "content": names.get(token["content"], token["content"])} for token in backend.get("added_tokens") or []]
    stays = any(not token["content"].strip() for token in tokens)
    return {**backend, "model": model, "added_tokens": tokens if stays else [], "post_processor": None, "truncation": None, "padding": None}


def unprefixed(backend: dict[str, Any], after_plain: bool) -> dict[str, Any]:
    """The tokenizer.json for text that is not the first: without the space that is put before a first word
    only; `after_plain`, before any word."""

    def change(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        kind = part.get("type")
        if kind == "Sequence":
            inner = "normalizers" if "normalizers" in part else "pretokenizers"
            return {**part, inner: [p for p in map(change, part[inner]) if p is not None]}
        if kind == "Metaspace" and part.get("prepend_scheme", "always") in (("first", "always") if after_plain else ("first",)):
            return {**part, "prepend_scheme": "never"}
        if after_plain and kind == "ByteLevel" and part.get("add_prefix_space"):
            return {**part, "add_prefix_space": False}
        return None if after_plain and kind == "Prepend" else part

    return {**backend, "normalizer": change(backend.get("normalizer")), "pre_tokenizer": change(backend.get("pre_tokenizer"))}


def build(backends: Sequence[dict[str, Any]]) -> list[Tokenizer]:
    """The tokenizers of these tokenizer.json, one object for equal ones (most tokenizers know no prefix)."""
    from tokenizers import Tokenizer

    made: list[Tokenizer] = []
    for i, backend in enumerate(backends):
        same = [made[k] for k in range(i) if backends[k] == backend]
        made.append(same[0] if same else Tokenizer.from_str(json.dumps(backend)))
    return made
