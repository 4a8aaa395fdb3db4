"""A caller's connection: uvicorn's, with a straight way out for the answers of the hot routes.

uvicorn reads requests, keeps the connection alive and serves every other route. A hot route's
answer is written here: a whole one in one piece, a stream's chunk with no coroutine for it; who
relays hears when the caller leaves and when it reads too slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from appliance.entrypoints.gateway.answers import CLOSE, Header, Scope

HEAD_BYTES = 64 * 1024
"""The longest request line and fields together, about."""
HEAD_PATIENCE_S = 30.0
"""How long a caller may take to send them."""

_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_EXTENSION = "leeward.caller"


class Relay(Protocol):
    """Who writes to a caller. Called from the event loop; none may block."""

    def caller_left(self) -> None: ...

    def caller_is_full(self) -> None:
        """The caller reads more slowly than is written to it."""
        ...

    def caller_has_room(self) -> None: ...


class CallerConnection(HttpToolsProtocol):
    """One connection of a caller."""

    relay: Relay | None = None
    is_gone = False
    _is_in_head = True
    _head_bytes = 0
    _head_patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._await_head()
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LONG)
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_patience()
        if sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            raise ValueError("the head is too long")  # which the parser turns into its own error, uvicorn into 400
        super().on_headers_complete()
        self.scope["extensions"] = {_EXTENSION: Caller(self, self.cycle)}  # type: ignore[dict-item]  # ours, beside ASGI's

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._stop_patience()
        super().connection_lost(exc)
        if self.relay is not None:
            self.relay.caller_left()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.relay is not None:
            self.relay.caller_is_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.relay is not None:
            self.relay.caller_has_room()

    def _await_head(self) -> None:
        if self._head_patience is None and not self.is_gone:
            self._head_patience = self.loop.call_later(HEAD_PATIENCE_S, self.transport.abort)

    def _stop_patience(self) -> None:
        if self._head_patience is not None:
            self._head_patience.cancel()
            self._head_patience = None


class Caller:
    """Who waits for the answer to one request. Of pipelined requests, each has its turn."""

    __slots__ = ("_connection", "_cycle", "_transport")

    def __init__(self, connection: CallerConnection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._cycle = cycle

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._connection.is_gone

    def take_body(self) -> bytes | None:
        """Return the request's body if it has come with its head, as short ones do."""
        cycle = self._cycle
        if cycle.more_body:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def tell(self, relay: Relay | None) -> None:
        """Tell `relay` from now on what happens to the connection; nobody with `None`."""
        self._connection.relay = relay

    def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Answer whole."""
        length = (b"content-length", b"%d" % len(body))
        self._transport.write(self._head(status, [*headers, length]) + body)
        self._complete()

    def begin(self, status: int, headers: Iterable[Header], chunk: bytes) -> None:
        """Begin an answer of unknown length with its first chunk, which may be empty."""
        head = self._head(status, [*headers, (b"transfer-encoding", b"chunked")])
        self._transport.write(head + _framed(chunk) if chunk else head)

    def write(self, chunk: bytes) -> None:
        """Go on with a chunk (RFC 9112, section 7.1) that is not empty."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def end(self, chunk: bytes) -> None:
        """End what was begun, with a last chunk, which may be empty."""
        self._transport.write((_framed(chunk) if chunk else b"") + b"0\r\n\r\n")
        self._complete()

    def _head(self, status: int, headers: list[Header]) -> bytes:
        """Write a head; names and values are the gateway's own and known to hold no line break."""
        self._cycle.response_started = True
        self._cycle.waiting_for_100_continue = False
        if not self._cycle.keep_alive:
            headers.append(CLOSE)
        fields = [*self._cycle.default_headers, *headers]
        return STATUS_LINE[status] + b"".join([b"%b: %b\r\n" % field for field in fields]) + b"\r\n"

    def _complete(self) -> None:
        """Do as uvicorn's `send` does after the last byte of an answer."""
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._transport.close()
        cycle.on_response()


def caller_of(scope: Scope) -> Caller:
    """Return who sent a request."""
    caller: Caller = scope["extensions"][_EXTENSION]
    return caller


def _framed(chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)
