"""Who may speak to the server: Host and Origin against DNS rebinding and foreign pages, a bearer token, bodies of bounded size.

A page that has rebound its name to this machine still sends that name as Host; an address spelled in digits cannot be
rebound, nor can `localhost`. So those names are let in, and others only where they were allowed.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from etude.serving.failing import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 30.0
"""Seconds in which a body must have come."""
DRAINED = 4
"""A body that is too long is read up to so many times the limit before the connection is closed."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`hosts`: names allowed in Host besides addresses; `local`: the server is bound to this machine only, so addresses must be
    its own; `origins`: pages that may ask; `token`: the bearer token, "" for none."""

    local: bool
    hosts: frozenset[str]
    origins: frozenset[str]
    token: str

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raises Refused where the request may not be answered."""
        host = headers.get("host", "")
        if not self.known(host):
            raise Refused(403, f"the Host header names {host!r}, which is not this server; --allow-host NAME lets it in", code="host")
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and origin.partition("://")[2] != host:
            raise Refused(403, f"pages of {origin!r} may not ask this server; --allow-origin ORIGIN lets them", code="origin")
        if not self.token or path == "/health" or method == "OPTIONS":
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            why = "is not this server's" if given else "is missing: send `Authorization: Bearer TOKEN`"
            raise Refused(401, f"the token {why}", code="invalid_api_key", WWW_Authenticate="Bearer")

    def known(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return not self.local or address.is_loopback

    def sharing(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that let an allowed page of another origin read the reply (CORS)."""
        origin = headers.get("origin", "")
        if origin not in self.origins:
            return {}
        allowed = {"access-control-allow-methods": "GET, POST", "access-control-allow-headers": "authorization, content-type"}
        return {"access-control-allow-origin": origin, "vary": "Origin", **allowed, "access-control-max-age": "600"}


def guard(host: str, token: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> Guard:
    """The guard of a server bound to `host`. `hosts` and `origins` are let in besides."""
    own = loopback(host)
    named = {name.lower() for name in hosts} | (set() if own else {host.lower(), socket.gethostname().lower()})
    return Guard(own, frozenset(named), frozenset(origin.rstrip("/") for origin in origins), token)


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name to bind to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def headers_of(scope: Scope) -> dict[str, str]:
    """A request's headers, names in lower case; raises Refused for two different Hosts, which proxies read differently."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name == "host" and name in found:
            raise Refused(400, "there are two Host headers", code="host")
        found[name] = value.decode("latin-1")
    return found


async def body_of(headers: Mapping[str, str], receive: Receive, most: int) -> bytes:
    """A request's body of at most `most` bytes; raises Refused for a longer one, a slow one, and one that is not said to be JSON."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"the body must be sent as Content-Type: application/json, not {kind or 'nothing'}", connection="close")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the body was cut off", connection="close")
                size += len(message.get("body", b""))
                if size <= most:
                    parts.append(message.get("body", b""))
                # a client reads the refusal only after it has sent its body, so a little more is taken in, and thrown away
                if not message.get("more_body") or size > DRAINED * most:
                    break
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:.0f} s", connection="close") from None
    if size > most:
        raise Refused(413, f"the body is longer than the limit of {most} bytes", connection="close")
    return b"".join(parts)
