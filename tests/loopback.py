"""A scripted OpenAI-compatible server on 127.0.0.1, asyncio in a thread of its own: tests and benchmarks say what it replies.

A script is a function of what was asked; it returns a `Reply`, which may be late, slow, cut short or a reset connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `number` counts all (from 0), `again` those with the same path and body (from 0)."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    number: int
    again: int

    @property
    def words(self) -> str:
        """The last message, or the prompt."""
        return self.body["messages"][-1]["content"] if "messages" in self.body else self.body["prompt"]


@dataclass(frozen=True, slots=True)
class Reply:
    """`cut`: close after so many bytes of the body. `drip`: send one byte, then one more each so many seconds. `reset`: no reply,
    a TCP reset. `hold`: reply only when the server's `gate` is opened."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    drip: float | None = None
    reset: bool = False
    hold: bool = False


Script = Callable[[Asked], Reply]


def chat(
    *texts: str | None, model: str = "small", finish: str | None = "stop", usage: tuple[int, int] | None = (10, 5), **message: Any
) -> Reply:
    """A chat completion with these texts as its choices; `usage` is (prompt tokens, completion tokens)."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish} for i, text in enumerate(texts)
    ]
    body: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 0, "model": model, "choices": choices}
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Reply(body)


def error(status: int, message: str = "no", code: str = "", headers: Mapping[str, str] | None = None) -> Reply:
    """An error as OpenAI writes it."""
    return Reply({"error": {"message": message, "type": code or None, "code": code or None, "param": None}}, status, headers or {})


def echo(asked: Asked) -> Reply:
    """Answers every question with itself, turned round."""
    return chat(*[asked.words[::-1]] * asked.body.get("n", 1), model=asked.body["model"])


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection; requests carry a Content-Length."""

    def __init__(self, server: Loopback) -> None:
        self.server = server
        self.buffer = b""
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server.connections.add(self)
        self.server.opened += 1

    def connection_lost(self, reason: Exception | None) -> None:
        self.server.connections.discard(self)
        for task in self.tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            size = int(headers.get("content-length", 0))
            if len(self.buffer) < end + 4 + size:
                return
            body = self.buffer[end + 4 : end + 4 + size]
            self.buffer = self.buffer[end + 4 + size :]
            method, path, _ = lines[0].split(" ")
            self.answer(self.server.reply(method, path, headers, body))

    def answer(self, reply: Reply) -> None:
        if reply.reset:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        head = {"Content-Type": "application/json", **reply.headers, "Content-Length": str(len(body))}
        start = f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head.items()) + "\r\n"
        if reply.cut is None and reply.drip is None and not reply.hold:
            self.transport.write(start.encode() + body)
            return
        task = asyncio.get_running_loop().create_task(self.slowly(start.encode(), body, reply))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def slowly(self, start: bytes, body: bytes, reply: Reply) -> None:
        if reply.hold:
            self.server.held += 1
            await self.server.gate.wait()
        self.transport.write(start)
        if reply.drip is not None:
            for place in range(len(body)):
                self.transport.write(body[place : place + 1])
                await asyncio.sleep(reply.drip)
        else:
            self.transport.write(body[: reply.cut])
        if reply.cut is not None:
            self.transport.close()


class Loopback:
    """The server: `with Loopback(script) as server`, then `server.url`. `asked` holds every request in order, `most` how many were
    open together at most."""

    def __init__(self, script: Script = echo, keep: bool = True) -> None:
        self.script = script
        self.keep = keep
        self.asked: list[Asked] = []
        self.count = 0
        self.seen: Counter[bytes] = Counter()
        self.connections: set[Connection] = set()
        self.opened = 0
        self.held = 0
        self.url = ""

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What the script says; a script that fails is a 500 with its error."""
        again = self.seen[path.encode() + body] if self.keep else 0
        asked = Asked(method, path, headers, json.loads(body or b"null"), self.count, again)
        self.count += 1
        if self.keep:
            self.seen[path.encode() + body] += 1
            self.asked.append(asked)
        return self.script(asked)

    def release(self) -> None:
        """Let every held reply go."""
        self.loop.call_soon_threadsafe(self.gate.set)

    async def serve(self, ready: Callable[[], None]) -> None:
        """Listen until `stop`."""
        self.loop = asyncio.get_running_loop()
        self.gate = asyncio.Event()
        self.ended = asyncio.Event()
        server = await self.loop.create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready()
        await self.ended.wait()
        server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def __enter__(self) -> Loopback:
        ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self.thread.start()
        ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(10)


def main() -> None:
    """Serve echoes alone in this process, print the address, end with standard input (for benchmarks)."""
    import sys

    with Loopback(keep=False) as server, contextlib.suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        sys.stdin.read()
        print(server.count, flush=True)


if __name__ == "__main__":
    main()
