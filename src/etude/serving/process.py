"""uvicorn as we run it: clients that are too slow are cut off, signals are kept for `serve`, the engine hears first of the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 30
"""Seconds that a client may take for the head of a request, or leave a full connection unread."""
GRACE = 10
"""Seconds that streams have to hear of the end when the server stops."""
CONNECTIONS = 1024
"""Most connections; requests on more are answered with 503."""
HEAD = 64 << 10
"""Most bytes of a request's head."""


class Connection(H11Protocol):
    """HTTP/1.1 with clients that are too slow to ask, or to listen, cut off."""

    asking: asyncio.TimerHandle | None = None
    listening: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self.expect()

    def data_received(self, data: bytes) -> None:
        """A client says something."""
        super().data_received(data)
        self.expect()

    def expect(self) -> None:
        """Run the clock while the head of a request is outstanding, from its first byte on."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.asking is None:
            self.asking = self.loop.call_later(PATIENCE, self.transport.abort)
        elif not idle and self.asking is not None:
            self.asking.cancel()
            self.asking = None

    def pause_writing(self) -> None:
        """The client reads slower than is written."""
        super().pause_writing()
        self.listening = self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self.listening is not None:
            self.listening.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        for clock in (self.asking, self.listening):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)


class Process(uvicorn.Server):
    """A uvicorn server. `caught`: the signal that ended it, 0 for none; `close` is called before it waits for its connections,
    `ready` when it listens."""

    def __init__(self, config: uvicorn.Config, close: Callable[[], None], ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.caught = 0
        self.close = close
        self.ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the server; what was done with them before is put back, and not done to this one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come; a second one waits for nobody."""
        self.force_exit = bool(self.caught)
        self.caught = self.caught or sig
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open and wait for it."""
        self.close()
        await super().shutdown(sockets)


def server(application: Any, close: Callable[[], None], ready: Callable[[], None]) -> Process:
    """The server of an ASGI application."""
    config = uvicorn.Config(
        application,
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,  # uvicorn's own would close every handler there is, with the streams they write to
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=PATIENCE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=HEAD,
    )
    return Process(config, close, ready)
