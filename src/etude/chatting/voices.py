"""Who answers in a chat: a model on this machine, or a server; an answer comes in pieces and may be left at any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from etude.failures import DataError, Failure, RecipeError, ServerGaveUp, nearest
from etude.loading import Loaded
from etude.models import Sampling
from etude.records import Conversation, Message, identify

KEY = "OPENAI_API_KEY"
"""Where OpenAI's own key is; no other server is sent it unless it is named."""
PATIENCE = 300.0
"""Seconds to wait for a server's next piece."""


class Voice(Protocol):
    """Answers a conversation."""

    @property
    def name(self) -> str:
        """Who it is."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether it waits for others, so that only an exception can interrupt it."""
        ...

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer's text in pieces; closing the iterator ends the work on it."""
        ...

    def close(self) -> None:
        """Nobody asks any more."""
        ...


class LocalVoice:
    """A model on this machine. What it has read of a conversation it does not read again."""

    blocking = False

    def __init__(self, loaded: Loaded) -> None:
        from etude.models.live.batching import Engine

        self.name = loaded.name
        self.local = loaded.local
        self.context = loaded.local.context()
        self.engine = Engine(loaded.local, rows=1, remembered=self.context or 16384)

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer's text in pieces. Raises DataError where the conversation leaves no room for one."""
        from etude.models.live.guests import Ask, Piece

        asked = conversation(messages)
        prompt = tuple(self.local.encoder.ids(self.local.form.prompt(asked)))
        if self.context and len(prompt) >= self.context:
            raise DataError(f"the conversation has {len(prompt)} tokens, and the model reads {self.context}; /new begins another")
        room = self.context - len(prompt) if self.context else sampling.max_new_tokens
        bounded = sampling.model_copy(update={"max_new_tokens": min(sampling.max_new_tokens, room)})
        pieces: list[Piece] = []
        guests = self.engine.submit([Ask(prompt, bounded, (asked.id, 0))], [pieces.append])
        try:
            left = True
            while left:
                left = self.engine.step()
                for piece in pieces:
                    if piece.error:
                        raise piece.error
                    if piece.text:
                        yield piece.text
                pieces.clear()
        finally:
            self.engine.cancel(guests)
            self.engine.step()

    def close(self) -> None:
        """Nothing is open."""


class RemoteVoice:
    """A model behind OpenAI's API."""

    blocking = True

    def __init__(self, url: str, model: str | None, key_env: str | None) -> None:
        import openai

        address = urlsplit(url)
        own = (address.hostname or "").endswith(".openai.com")
        name = key_env or (KEY if own else "")
        key = os.environ.get(name, "") if name else "none"
        if not key:
            raise RecipeError(f"the environment variable {name} holds no key for {url}")
        self.client = openai.OpenAI(base_url=url, api_key=key, max_retries=2, timeout=PATIENCE)
        self.url = url
        self.hint = "" if name else "; --key-env NAME names the environment variable that holds its key"
        try:
            self.name = self.chosen(model)
        except Failure:
            self.close()
            raise

    def close(self) -> None:
        """Close its connections."""
        self.client.close()

    def chosen(self, model: str | None) -> str:
        """The model's name, or the server's only one; raises RecipeError where there is a choice to make."""
        if model:
            return model
        import openai

        try:
            names = [one.id for one in self.client.models.list()]
        except openai.OpenAIError as error:
            raise self.gave_up(error) from error
        if len(names) != 1:
            raise RecipeError(f"{self.url} serves {len(names)} models; name one with --model{nearest('', names[:20])}")
        return names[0]

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer's text in pieces; raises ServerGaveUp where the server fails."""
        import openai

        given: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens}
        if sampling.top_p < 1:
            given["top_p"] = sampling.top_p
        plain: Any = [{"role": message.role, "content": message.content} for message in messages]
        try:
            with self.client.chat.completions.create(model=self.name, messages=plain, stream=True, **given) as stream:
                for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content
        except openai.OpenAIError as error:
            raise self.gave_up(error) from error

    def gave_up(self, error: Exception) -> ServerGaveUp:
        """Why the server did not answer."""
        hint = self.hint if getattr(error, "status_code", 0) in (401, 403) else ""
        return ServerGaveUp(f"{self.url}: {' '.join(str(error).split())[:400]}{hint}")


def conversation(messages: Sequence[Message]) -> Conversation:
    """The messages as a conversation, whose id is the hash of them."""
    return Conversation(identify({"messages": [{"role": m.role, "content": m.content} for m in messages]}), tuple(messages))
