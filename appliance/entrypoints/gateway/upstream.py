"""One engine: a pool of connections, each for one request at a time.

A connection hands what it reads straight to whoever asked (`Receiver`), inside the read's own
callback: no task is woken for a chunk, and what one read brought is handed on as one piece.
Nothing is sent twice: a request whose connection dies is lost, not repeated, because the engine
may have begun it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, cast

import httptools

_CONNECT_S = 5.0
_ASIDE_S = 5.0
_LAST_WORDS_S = 1.0  # how long the few bytes after an answer's end may take before the connection is given up
_KEEP_ALIVE_S = 2.0  # below the engine's own 5 s, so that no request meets a connection being closed
_JOINED_BYTES = 64 * 1024  # a body up to here goes out in one piece with its head
_ASIDE_BYTES = 4 * 1024 * 1024


class EngineUnreachable(Exception):
    """The engine does not answer, or broke off."""


class Receiver(Protocol):
    """Who waits for an answer. Called from the event loop, in this order; none may block."""

    def answer_began(self, status: int) -> None: ...

    def answer_received(self, piece: bytes) -> None: ...

    def answer_ended(self) -> None:
        """The answer is whole; no call follows."""
        ...

    def answer_lost(self) -> None:
        """The connection broke before the answer was whole; no call follows."""
        ...


class EngineConnection(asyncio.Protocol):
    """One connection to the engine, for one request at a time."""

    def __init__(self, client: EngineClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._pieces: list[bytes] = []
        self._whole = True
        self._interim = False
        self._reusable = False
        self._last_words: asyncio.TimerHandle | None = None
        self.idle_since = 0.0

    def ask(self, receiver: Receiver, head: bytes, body: bytes = b"") -> None:
        """Send one request; its answer goes to `receiver`."""
        assert self._transport is not None  # noqa: S101  the pool gives out connected ones only
        self._receiver, self._whole = receiver, False
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def leave(self) -> None:
        """Stop listening. An answer that is not whole within a moment ends with its connection."""
        self._receiver = None
        if not self._whole:
            self.resume()
            self._last_words = self._loop.call_later(_LAST_WORDS_S, self.abort)

    def abort(self) -> None:
        """Close at once: the engine stops working on a request whose connection is gone."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no further until `resume`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on after `pause`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        if self._whole:  # nobody asked
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lose()
            self.abort()
            return
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            if self._receiver is not None:
                self._receiver.answer_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._whole:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._last_words is not None:
            self._last_words.cancel()
        self._transport = None
        self._lose()

    # What httptools calls.

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = status < HTTPStatus.OK
        if self._receiver is not None and not self._interim:
            self._receiver.answer_began(status)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._whole = not self._interim
        self._reusable = self._parser.should_keep_alive()  # known here only: the parser then forgets

    def _end(self) -> None:
        receiver, self._receiver = self._receiver, None
        if self._last_words is not None:
            self._last_words.cancel()
            self._last_words = None
        if self._reusable:
            self._client.take_back(self)
        else:
            self.abort()
        if receiver is not None:
            receiver.answer_ended()

    def _lose(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.answer_lost()


Factory = Callable[[], EngineConnection]
Door = Callable[[asyncio.AbstractEventLoop, Factory], Awaitable[tuple[asyncio.BaseTransport, EngineConnection]]]
"""Where an engine is: opens one connection. Raises OSError."""


def unix_door(socket: Path) -> Door:
    """The engine of this node, behind its Unix socket."""
    return lambda loop, factory: loop.create_unix_connection(factory, str(socket))


def tls_door(host: str, port: int, *, context: ssl.SSLContext, name: str) -> Door:
    """An engine elsewhere, behind TLS in which both sides say who they are; `name` is the one in its certificate."""
    return lambda loop, factory: loop.create_connection(factory, host, port, ssl=context, server_hostname=name)


class EngineClient:
    """A pool of connections to one engine. Make and use it inside the event loop."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._idle: list[EngineConnection] = []

    async def connect(self) -> EngineConnection:
        """Return a connection that is free. Raises EngineUnreachable."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and self._loop.time() - connection.idle_since < _KEEP_ALIVE_S:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, connection = await self._door(self._loop, lambda: EngineConnection(self, self._loop))
        except (OSError, TimeoutError) as problem:
            raise EngineUnreachable(str(problem)) from problem
        return connection

    def take_back(self, connection: EngineConnection) -> None:
        """Keep a connection whose answer is whole for the next request."""
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def sweep(self) -> None:
        """Close what has been idle for too long; to be called each second or so."""
        now = self._loop.time()
        fresh = [one for one in self._idle if one.is_open and now - one.idle_since < _KEEP_ALIVE_S]
        for stale in set(self._idle).difference(fresh):
            stale.abort()
        self._idle = fresh

    async def is_healthy(self) -> bool:
        """Whether the engine says that it lives."""
        try:
            status, _ = await self._get("/health")
        except EngineUnreachable:
            return False
        return status == HTTPStatus.OK

    async def page(self, path: str) -> str | None:
        """Return a page of the engine's own, empty where it has none; `None` where it does not answer."""
        try:
            status, body = await self._get(path)
        except EngineUnreachable:
            return None
        return body.decode("utf-8", "replace") if status == HTTPStatus.OK else ""

    async def model(self, name: str) -> dict[str, Any] | None:
        """Return the engine's description of a served model; `None` if it has none. Raises EngineUnreachable."""
        status, body = await self._get("/v1/models")
        if status != HTTPStatus.OK:
            raise EngineUnreachable(f"HTTP status {status}")
        try:
            return next((model for model in json.loads(body)["data"] if model["id"] == name), None)
        except (ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Close what is idle; what is busy belongs to who asked."""
        for connection in self._idle:
            connection.abort()
        self._idle = []

    async def _get(self, path: str) -> tuple[int, bytes]:
        connection = await self.connect()
        answer = _Collected(self._loop.create_future())
        connection.ask(answer, b"GET %b HTTP/1.1\r\nHost: engine\r\n\r\n" % path.encode())
        try:
            async with asyncio.timeout(_ASIDE_S):
                await answer.over
        except TimeoutError as problem:
            raise EngineUnreachable("no answer in time") from problem
        finally:
            if not answer.is_whole:
                connection.abort()
        return answer.status, answer.body


def request_head(path: str, *, request_id: str, size_bytes: int) -> bytes:
    """Write the head of a POST to the engine."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
        f"X-Request-Id: {request_id}\r\nContent-Length: {size_bytes}\r\n\r\n"
    ).encode()


class _Collected:
    """A small answer, read whole."""

    def __init__(self, over: asyncio.Future[None]) -> None:
        self.over = over
        self.status = 0
        self.body = b""
        self.is_whole = False

    def answer_began(self, status: int) -> None:
        self.status = status

    def answer_received(self, piece: bytes) -> None:
        self.body += piece
        if len(self.body) > _ASIDE_BYTES:
            self._fail("the answer is too long")

    def answer_ended(self) -> None:
        self.is_whole = True
        if not self.over.done():
            self.over.set_result(None)

    def answer_lost(self) -> None:
        self._fail("the connection broke")

    def _fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(EngineUnreachable(why))
