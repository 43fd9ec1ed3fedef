"""OpenAI's shapes of what is answered: whole, and in pieces."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etude.models import Answer
from etude.models.live.choosing import TokenChance
from etude.models.live.guests import Piece

Bytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Shape:
    """One reply: `chat` or plain completion, under this model's name; `spell` gives a token's bytes; `logprobs`: whether
    log-probabilities were asked for."""

    chat: bool
    model: str
    fingerprint: str
    spell: Bytes
    logprobs: bool
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    @staticmethod
    def of(chat: bool, model: str, fingerprint: str, spell: Bytes, logprobs: bool) -> Shape:
        """A reply with an id of its own."""
        return Shape(chat, model, fingerprint, spell, logprobs, ("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12))

    def frame(self, streamed: bool, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """The reply around its choices."""
        kind = ("chat.completion.chunk" if streamed else "chat.completion") if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": list(choices),
            **more,
        }

    def choice(self, index: int, answer: Answer, chances: Sequence[TokenChance]) -> dict[str, Any]:
        """One whole answer."""
        told = self.odds(chances, 0)
        if self.chat:
            message = {"role": "assistant", "content": answer.text, "refusal": None}
            return {"index": index, "message": message, "logprobs": told, "finish_reason": answer.finish}
        return {"index": index, "text": answer.text, "logprobs": told, "finish_reason": answer.finish}

    def opening(self, index: int) -> dict[str, Any]:
        """The first chunk of one answer of a chat: who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def chunks(self, index: int, piece: Piece, before: int) -> list[dict[str, Any]]:
        """A piece of one answer as choices of chunks; `before`: characters of it already told."""
        told = self.odds(piece.chances, before) if piece.chances else None
        finish = piece.answer.finish if piece.answer else None
        if not self.chat:
            return [{"index": index, "text": piece.text, "logprobs": told, "finish_reason": finish}]
        found: list[dict[str, Any]] = []
        if piece.text or told:
            found.append({"index": index, "delta": {"content": piece.text}, "logprobs": told, "finish_reason": None})
        if finish:
            found.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": finish})
        return found

    def odds(self, chances: Sequence[TokenChance], before: int) -> dict[str, Any] | None:
        """Log-probabilities as the endpoint writes them."""
        if not self.logprobs:
            return None
        if self.chat:
            return {"content": [self.odd(c.token, c.logprob, c.top) for c in chances], "refusal": None}
        offsets, place = [], before
        for chance in chances:
            offsets.append(place)
            place += len(self.spell(chance.token).decode("utf-8", "replace"))
        return {
            "tokens": [self.text(c.token) for c in chances],
            "token_logprobs": [c.logprob for c in chances],
            "top_logprobs": [{self.text(token): log for token, log in c.top} for c in chances],
            "text_offset": offsets,
        }

    def odd(self, token: int, logprob: float, top: Sequence[tuple[int, float]] | None = None) -> dict[str, Any]:
        """One token of a chat with its log-probability, bytes, and perhaps the likeliest in its place."""
        found: dict[str, Any] = {"token": self.text(token), "logprob": logprob, "bytes": list(self.spell(token))}
        return found if top is None else {**found, "top_logprobs": [self.odd(*one) for one in top]}

    def text(self, token: int) -> str:
        """A token as text; bytes that are no character are shown as replacement characters."""
        return self.spell(token).decode("utf-8", "replace")


def usage(prompts: int, answers: Sequence[Answer], cached: int) -> dict[str, Any]:
    """Tokens read and written: ends of turn count, each prompt counts once; `cached` were not read again."""
    new = sum(answer.tokens for answer in answers)
    return {
        "prompt_tokens": prompts,
        "completion_tokens": new,
        "total_tokens": prompts + new,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
