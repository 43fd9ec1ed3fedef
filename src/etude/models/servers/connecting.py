"""The openai SDK's client for a server, and one request through it.

The SDK knows the interface (Azure's addresses, headers, proxies, TLS); retries are switched off in it, for they are ours. The key is read
from the environment when the client is made, lives in that client, and is struck out of every text that leaves here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from etude.failures import RecipeError
from etude.models.servers.retrying import retry_after

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

CONNECT_SECONDS = 10.0
"""Most seconds for a connection to stand."""
UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""httpx's errors of a request that never left."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a request. `status` 0: there was no reply, and `sent` whether the server may have had the request.
    `reply`: the body read as JSON, None where it is none. `code`, `error`: what an error reply says, or why there is none."""

    status: int
    reply: Any = None
    code: str = ""
    error: str = ""
    wait: float | None = None
    sent: bool = True


class Server(Protocol):
    """What a connection depends on, of an LLM's settings."""

    @property
    def base_url(self) -> str:
        """Where the server is."""
        ...

    @property
    def api_version(self) -> str:
        """Azure's."""
        ...

    @property
    def api_key_env(self) -> str:
        """The environment variable with the key."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """More headers."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds for a whole request."""
        ...

    @property
    def concurrency(self) -> int:
        """Connections."""
        ...


def key_of(server: Server) -> str:
    """The key from the environment, "" where the settings name no variable. Raises RecipeError where it is not set."""
    if not server.api_key_env:
        return ""
    key = os.environ.get(server.api_key_env, "").strip()
    if not key:
        raise RecipeError(
            f"{server.base_url}: the environment variable {server.api_key_env} is not set; put the key there (export "
            f"{server.api_key_env}=...), name another variable in api_key_env, or say api_key_env: '' for a server that wants none"
        )
    return key


def loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Connection:
    """One client for one server. Made and used on one event loop."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.key = key_of(server)
        self.client, self.options = client(server, self.key)

    async def post(self, path: str, body: Mapping[str, Any], wall: float) -> Sent:
        """Send one request and read its reply, within the server's timeout as a whole, however slowly bytes arrive. `wall`: the
        wall clock's seconds now, which a date in Retry-After is held against."""
        from openai import APIConnectionError, APIStatusError

        try:
            async with asyncio.timeout(self.server.timeout):
                data: bytes = await self.client.post(path, cast_to=bytes, body=body, options=self.options)
        except TimeoutError:
            return Sent(0, error=f"no whole reply within {self.server.timeout:g} seconds", code="timeout")
        except APIStatusError as error:
            wait = retry_after(error.response.headers, wall)
            where = error.response.headers.get("location")
            said = f"{error.message}{f' (sent on to {where})' if where else ''}"
            return Sent(error.status_code, None, code_of(error.body), self.clean(said), wait)
        except APIConnectionError as error:
            cause = error.__cause__ or error
            name = type(cause).__name__
            code = "timeout" if "Timeout" in name else "connection"
            return Sent(0, error=self.clean(f"{name}: {cause}"), code=code, sent=name not in UNSENT)
        try:
            reply = json.loads(data)
        except ValueError:
            return Sent(200, None, "malformed", self.clean(data[:200].decode("utf-8", "replace")))
        return self.inner(reply)

    def inner(self, reply: Any) -> Sent:
        """A reply with status 200; or the error in it, which routers (OpenRouter) send so when a server behind them fails late."""
        error = reply.get("error") if isinstance(reply, Mapping) and not reply.get("choices") else None
        if isinstance(error, Mapping) and isinstance(error.get("code"), int) and 400 <= error["code"] < 600:
            return Sent(error["code"], None, str(error.get("type") or ""), self.clean(str(error.get("message", ""))))
        return Sent(200, reply)

    def clean(self, text: str) -> str:
        """A text without the key."""
        return text.replace(self.key, "[key]") if self.key else text

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()


def code_of(body: Any) -> str:
    """The code of an error's body: OpenAI's `code`, or else its `type`."""
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    if not isinstance(inner, Mapping):
        return ""
    return str(next((inner[name] for name in ("code", "type") if isinstance(inner.get(name), str)), ""))


def client(server: Server, key: str) -> tuple[AsyncOpenAI, RequestOptions]:
    """The SDK's client, and the options of each of its requests. It retries nothing and follows no redirect (a redirected POST may
    arrive as a GET, or elsewhere with the key), and does not ask an address of this machine through a proxy.

    Raises RecipeError where the SDK is not installed."""
    try:
        import openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise RecipeError("an LLM behind HTTP needs the openai package: pip install 'etude[api]'") from error
    from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient, Omit, Timeout

    timeout = Timeout(server.timeout, connect=min(CONNECT_SECONDS, server.timeout))
    http = DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False, trust_env=not loopback(server.base_url))
    # What is given here comes before OPENAI_CUSTOM_HEADERS and its like, so that only the named variable's key is ever sent.
    told: dict[str, Any] = {"User-Agent": f"etude (openai {openai.__version__})", **server.headers}
    if server.api_version:
        azure = AsyncAzureOpenAI(
            azure_endpoint=server.base_url,
            api_version=server.api_version,
            api_key=key or "none",
            max_retries=0,
            timeout=timeout,
            default_headers=told,
            http_client=http,
        )
        return azure, {}
    if key:
        told["Authorization"] = f"Bearer {key}"
    made = AsyncOpenAI(
        base_url=server.base_url, api_key=key or "none", max_retries=0, timeout=timeout, default_headers=told, http_client=http
    )
    if not (urlsplit(server.base_url).hostname or "").endswith("openai.com"):
        made.organization = made.project = None  # from the environment, and nobody else's business
    return made, {} if key else {"headers": {"Authorization": Omit()}}
