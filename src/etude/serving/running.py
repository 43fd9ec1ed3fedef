"""The server as a process: its socket, its token, its signals, and the thread on which the model works."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.failures import RecipeError, Stopped
from etude.loading import Loaded, Say

if TYPE_CHECKING:
    from etude.serving.process import Process

TOKEN = "ETUDE_SERVE_TOKEN"
"""The environment variable that holds the bearer token."""
GRACE = 10
"""Seconds in which the engine may finish its step when the server stops."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served. `port` 0 takes a free one; `rows` are answered together, `tokens` of prompts and answers are held
    (keys and values), `queue` answers may wait; `context`: most tokens of one prompt and its answer, None: what the model
    reads; `new`: tokens of an answer whose request names no number; `temperature`: where a request names none; `hosts` and
    `origins`: names in Host, and pages, that are let in besides."""

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    rows: int = 32
    tokens: int = 16384
    queue: int = 128
    context: int | None = None
    new: int = 1024
    temperature: float = 1.0
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def serve(loaded: Loaded, settings: Serving, say: Say) -> None:
    """Serve until SIGINT or SIGTERM, and then raise Stopped with that signal; streams that are open end with an error event.

    Raises RecipeError where the address cannot be had.
    """
    with listening(settings.host, settings.port) as listener, working(loaded, settings, listener, say) as server:
        server.run(sockets=[listener])
        caught = server.caught
    if caught:
        raise Stopped(f"stopped serving {settings.name or loaded.name}", signal=caught)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; raises RecipeError with the reason where there can be none."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise RecipeError(f"cannot listen on {host}: {error.strerror}; --host names an address of this machine") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RecipeError(f"cannot listen on {host} port {port}: {reason}; --port 0 takes a free one") from error
        listener.listen(128)
        yield listener


def token_for(host: str, say: Say) -> str:
    """The bearer token: the environment's; for other hosts than this machine one that is made and shown once; else none."""
    from etude.serving.guarding import loopback

    if given := os.environ.get(TOKEN, "").strip():
        say(f"requests need the bearer token in {TOKEN}")
        return given
    if loopback(host):
        return ""
    made = secrets.token_urlsafe(24)
    say(f"other machines can reach {host}, so requests need this bearer token, which is not shown again ({TOKEN} sets your own): {made}")
    return made


@contextlib.contextmanager
def working(loaded: Loaded, settings: Serving, listener: socket.socket, say: Say) -> Iterator[Process]:
    """A uvicorn server over the model, whose engine works on a thread of its own inside the block."""
    from etude.models.live.batching import Engine
    from etude.serving import endpoint, process
    from etude.serving.asking import Limits
    from etude.serving.guarding import guard

    engine = Engine(loaded.local, rows=settings.rows, tokens=settings.tokens, queue=settings.queue)
    bounds = [bound for bound in (settings.context, loaded.local.context(), settings.tokens) if bound]
    limits = Limits(min(bounds), settings.new, min(settings.rows, 128), settings.temperature)
    token = token_for(settings.host, say)
    name = settings.name or loaded.name
    gate = guard(settings.host, token, settings.hosts, settings.origins)
    served = endpoint.Served(name, int(time.time()), f"fp_{loaded.digest[:12]}", engine, limits, gate)
    thread = threading.Thread(target=engine.work, name="engine", daemon=True)
    thread.start()
    try:
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        ready = f"serving {name} ({loaded.about}) at http://{shown}:{port}/v1; Ctrl-C stops it"
        yield process.server(endpoint.app(served), engine.close, lambda: say(ready))
    finally:
        engine.close()
        thread.join(GRACE)
