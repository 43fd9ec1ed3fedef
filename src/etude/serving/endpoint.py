"""The endpoint itself: which path does what, answers whole and streamed, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from etude.models import Answer
from etude.models.live.batching import Engine
from etude.models.live.choosing import TokenChance
from etude.models.live.detokenizing import byte_reader
from etude.models.live.guests import Ask, Closed, Full, Piece
from etude.serving import asking, guarding, requests
from etude.serving.asking import Limits, Wanted
from etude.serving.failing import Refused
from etude.serving.guarding import Guard, Receive, Scope, Send
from etude.serving.replies import Shape, usage

ALIVE = 15.0
"""Seconds of silence after which a stream sends a comment, so that nobody between takes it for dead."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model under its name, the engine that answers for it, and what requests may take."""

    name: str
    created: int
    fingerprint: str
    engine: Engine
    limits: Limits
    guard: Guard
    most_bytes: int = 4 << 20


Handler = Callable[["Served", dict[str, str], Receive], Awaitable[Response]]


LOG = logging.getLogger("etude.serving")
"""What went wrong on this side, with its trace; without a handler Python prints it on standard error."""


def app(served: Served) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application."""
    routes: dict[str, tuple[str, Handler]] = {
        "/health": ("GET", health),
        "/v1/models": ("GET", models),
        "/v1/chat/completions": ("POST", chat),
        "/v1/completions": ("POST", completion),
    }

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        sharing: dict[str, str] = {}
        try:
            headers = guarding.headers_of(scope)
            served.guard.check(scope["method"], scope["path"], headers)
            sharing = served.guard.sharing(headers)
            response = await answered(served, routes, scope, headers, receive)
        except Refused as refused:
            response = JSONResponse(refused.body(), refused.status, refused.headers)
        except Exception:
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            fault = Refused(500, "a fault of the server's own; its log says more", code="internal_error")
            response = JSONResponse(fault.body(), fault.status)
        for name, value in sharing.items():
            response.headers[name] = value
        await response(scope, receive, send)

    return handle


async def answered(
    served: Served, routes: dict[str, tuple[str, Handler]], scope: Scope, headers: dict[str, str], receive: Receive
) -> Response:
    """The reply of the path's handler; raises Refused where there is none."""
    path, method = scope["path"].rstrip("/") or "/", scope["method"]
    if method == "OPTIONS":
        return Response(status_code=204)
    if path.startswith("/v1/models/") and method == "GET":
        return JSONResponse(card(served, path.removeprefix("/v1/models/")))
    if path not in routes:
        raise Refused(404, f"there is no {path} here; there is {', '.join(routes)}", code="unknown_url")
    wanted, handler = routes[path]
    if method != wanted:
        raise Refused(405, f"{path} is asked with {wanted}, not {method}", code="method_not_allowed", allow=wanted)
    return await handler(served, headers, receive)


async def health(served: Served, headers: dict[str, str], receive: Receive) -> Response:
    """Whether answers can be had."""
    if served.engine.closed:
        return JSONResponse({"status": "stopping"}, 503)
    return JSONResponse({"status": "ok"})


async def models(served: Served, headers: dict[str, str], receive: Receive) -> Response:
    """The one model there is."""
    return JSONResponse({"object": "list", "data": [card(served, served.name)]})


def card(served: Served, name: str) -> dict[str, Any]:
    """A model as the API lists it; raises Refused for one that is not served."""
    if name != served.name:
        raise Refused(404, f"the model {name!r} is not served here; {served.name!r} is", "model", "model_not_found")
    return {"id": name, "object": "model", "created": served.created, "owned_by": "etude", "max_model_len": served.limits.context}


async def chat(served: Served, headers: dict[str, str], receive: Receive) -> Response:
    """`POST /v1/chat/completions`."""
    given = requests.parse(await guarding.body_of(headers, receive, served.most_bytes))
    request = requests.checked(requests.Chat, given)
    card(served, request.model or served.name)
    # reading a long prompt into tokens takes a while, and others must not wait for it
    wanted = await asyncio.to_thread(asking.chat, request, served.engine.local, served.limits)
    return await reply(served, wanted, shape(served, True, request.logprobs), receive)


async def completion(served: Served, headers: dict[str, str], receive: Receive) -> Response:
    """`POST /v1/completions`."""
    given = requests.parse(await guarding.body_of(headers, receive, served.most_bytes))
    request = requests.checked(requests.Completion, given)
    card(served, request.model or served.name)
    wanted = await asyncio.to_thread(asking.completion, request, served.engine.local, served.limits)
    return await reply(served, wanted, shape(served, False, request.logprobs is not None), receive)


def shape(served: Served, chat: bool, logprobs: bool) -> Shape:
    """The reply's shape."""
    return Shape.of(chat, served.name, served.fingerprint, byte_reader(served.engine.local.encoder), logprobs)


class Pieces:
    """The pieces of all answers of a request as they come, the ask's index with each; leaving it lets the engine's rows go."""

    def __init__(self, engine: Engine, asks: Sequence[Ask]) -> None:
        self.engine = engine
        loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()

        def teller(index: int) -> Callable[[Piece], None]:
            def tell(piece: Piece) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens any more
                    loop.call_soon_threadsafe(self.queue.put_nowait, (index, piece))

            return tell

        try:
            self.guests = engine.submit(asks, [teller(index) for index in range(len(asks))])
        except Full as full:
            raise Refused(429, str(full), code="queue_full", Retry_After=str(full.seconds)) from full
        except Closed as closed:
            raise Refused(503, str(closed), code="shutting_down", connection="close") from closed
        self.left = len(self.guests)

    async def next(self) -> tuple[int, Piece]:
        """The next piece; raises Refused where an answer failed."""
        index, piece = await self.queue.get()
        if piece.error is not None:
            if isinstance(piece.error, Closed):
                raise Refused(503, str(piece.error), code="shutting_down", connection="close")
            LOG.error("an answer failed", exc_info=piece.error)
            raise Refused(500, f"the answer failed: {piece.error}", code="answer_failed") from piece.error
        self.left -= piece.answer is not None
        return index, piece

    def leave(self) -> None:
        """Nobody wants what is not finished yet."""
        self.engine.cancel(self.guests)


async def reply(served: Served, wanted: Wanted, form: Shape, receive: Receive) -> Response:
    """The answers, streamed or whole."""
    pieces = Pieces(served.engine, wanted.asks)
    if wanted.stream:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return Events(pieces, events(pieces, wanted, form), headers)
    whole = asyncio.ensure_future(collected(pieces, wanted, form))
    gone = asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
        return JSONResponse(whole.result()) if whole.done() else Response(status_code=499)
    finally:
        pieces.leave()
        for task in (whole, gone):
            task.cancel()


class Events(StreamingResponse):
    """A stream of events. However it ends, also before its first event, the engine's rows are let go."""

    def __init__(self, pieces: Pieces, content: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self.pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.pieces.leave()


async def left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def collected(pieces: Pieces, wanted: Wanted, form: Shape) -> dict[str, Any]:
    """The whole reply."""
    answers: dict[int, Answer] = {}
    chances: dict[int, list[TokenChance]] = {index: [] for index in range(len(wanted.asks))}
    cached: dict[int, int] = {}
    while pieces.left:
        index, piece = await pieces.next()
        chances[index] += piece.chances
        if piece.answer:
            answers[index], cached[index] = piece.answer, piece.cached
    told = [form.choice(i * wanted.copies + copy, answers[i], chances[i]) for i in sorted(answers) for copy in range(wanted.copies)]
    return form.frame(False, told, usage=spent(wanted, answers, cached))


def spent(wanted: Wanted, answers: dict[int, Answer], cached: dict[int, int]) -> dict[str, Any]:
    """What a request took: an answer that is given several times was computed, and counts, once."""
    first = {ask.prompt: cached.get(index, 0) for index, ask in reversed(list(enumerate(wanted.asks)))}
    return usage(wanted.prompts, list(answers.values()), min(sum(first.values()), wanted.prompts))


async def events(pieces: Pieces, wanted: Wanted, form: Shape) -> AsyncIterator[bytes]:
    """The reply as server-sent events. It ends with [DONE], or with an event that holds an error."""
    more: dict[str, Any] = {"usage": None} if wanted.usage else {}
    answers: dict[int, Answer] = {}
    cached: dict[int, int] = {}
    told = [0] * len(wanted.asks)
    try:
        if form.chat:
            for index in range(len(wanted.asks) * wanted.copies):
                yield event(form.frame(True, [form.opening(index)], **more))
        while pieces.left:
            try:
                index, piece = await asyncio.wait_for(pieces.next(), ALIVE)
            except TimeoutError:
                yield b": waiting\n\n"
                continue
            if piece.answer:
                answers[index], cached[index] = piece.answer, piece.cached
            for copy in range(wanted.copies):
                for choice in form.chunks(index * wanted.copies + copy, piece, told[index]):
                    yield event(form.frame(True, [choice], **more))
            told[index] += len(piece.text)
        if wanted.usage:
            yield event(form.frame(True, [], usage=spent(wanted, answers, cached)))
        yield b"data: [DONE]\n\n"
    except Refused as refused:
        yield event(refused.body())


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n\n"
