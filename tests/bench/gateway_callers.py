"""Callers for the gateway's bench: connections that stay open, questions, and what came of them."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any

from tests.bench.paced_engine import MODEL

_MARK = b'"content":" word'
_CHUNKED_END = b"0\r\n\r\n"


@dataclass(slots=True)
class Door:
    """Where a target listens."""

    port: int | None = None
    socket: str | None = None
    tls: ssl.SSLContext | None = None
    secret: str = "none"  # noqa: S105  no key, for those who want none


class Caller(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.over: asyncio.Future[None] | None = None
        self.tokens = 0
        self.first_s: float | None = None
        self._asked_at = 0.0
        self._tail = b""
        self._size: int | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.over is not None and not self.over.done():
            self.over.set_exception(exc or ConnectionResetError())

    def ask(self, door: Door, *, stream: bool, tokens: int) -> asyncio.Future[None]:
        """Ask; the future is done with the answer's last byte."""
        question = {
            "model": MODEL,
            "stream": stream,
            "max_tokens": tokens,
            "messages": [{"role": "user", "content": "x"}],
        }
        body = json.dumps(question).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {door.secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.over = asyncio.get_running_loop().create_future()
        self.tokens, self.first_s, self._tail, self._size, self._received = 0, None, b"", None, 0
        self._asked_at = time.perf_counter()
        self.transport.write(head.encode() + body)
        return self.over

    def data_received(self, data: bytes) -> None:
        if found := data.count(_MARK):
            self.tokens += found
            if self.first_s is None:
                self.first_s = time.perf_counter() - self._asked_at
        if self._received == 0:
            assert data.startswith(b"HTTP/1.1 200"), data
            head, _, data = data.partition(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    self._size = int(line.split(b":")[1])
            self._received = 1  # the head is read
        self._received += len(data)
        self._tail = (self._tail + data)[-5:]
        whole = self._tail == _CHUNKED_END if self._size is None else self._received > self._size
        if whole and self.over is not None and not self.over.done():
            self.over.set_result(None)


async def connect(door: Door) -> Caller:
    loop = asyncio.get_running_loop()
    if door.socket is not None:
        _, caller = await loop.create_unix_connection(Caller, door.socket)
    else:
        name = "localhost" if door.tls else None
        _, caller = await loop.create_connection(Caller, "127.0.0.1", door.port, ssl=door.tls, server_hostname=name)
    return caller


async def connected(door: Door, number: int) -> list[Caller]:
    """Open many connections, a few at a time."""
    callers: list[Caller] = []
    while len(callers) < number:
        callers += await asyncio.gather(*(connect(door) for _ in range(min(16, number - len(callers)))))
    return callers
