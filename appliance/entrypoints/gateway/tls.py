"""TLS on the sockets of the callers.

An event loop's own TLS encrypts into memory, copies the record out and hands it to a second buffer,
which is written at the end of the loop's turn. Here OpenSSL writes to the socket itself, at once: of
what a relayed chunk costs, that saves two fifths (`tests/bench/gateway_bench.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger()

HANDSHAKE_S = 30.0
"""How long a caller may take to agree on keys."""
LINGER_S = 1.0
"""How long a connection that was closed waits for the peer to have read everything."""

_HIGH_WATER_BYTES = 64 * 1024
_LOW_WATER_BYTES = 16 * 1024
_RECORD_BYTES = 16 * 1024  # the longest record, read whole: OpenSSL keeps nothing back that no event would tell of
_ACCEPTS = 64  # connections taken up in one turn of the loop
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_WAIT_FOR_DESCRIPTORS_S = 1.0

Sendable = bytes | bytearray | memoryview
ProtocolFactory = Callable[[], asyncio.Protocol]


class TlsTransport(asyncio.Transport):
    """A connection after its handshake, as asyncio's protocols want it. Not thread-safe.

    `close` sends what is buffered and the farewell, then drops what the peer still sends, for a
    second at most: closing a socket with unread data would take back what it has not read yet.
    """

    def __init__(self, connection: ssl.SSLSocket, protocol: asyncio.Protocol) -> None:
        super().__init__({"socket": connection, "sslcontext": connection.context})
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        # The socket's own `send` costs two more calls of Python for each chunk.
        self._send: Callable[[Sendable], int] = connection._sslobj.write  # type: ignore[attr-defined]  # noqa: SLF001  as said
        self._protocol = protocol
        self._unsent = bytearray()
        self._is_closing = False
        self._is_over = False
        self._protocol_waits = False
        self._is_reading = True
        self._loop.add_reader(connection, self._readable)
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what the socket takes, the rest when it has room."""
        if self._is_closing:
            return
        if self._unsent:
            self._unsent += data
        else:
            sent = self._send_now(data)
            if sent == len(data) or self._is_over:
                return
            self._unsent += memoryview(data)[sent:]
            self._loop.add_writer(self._socket, self._writable)
        if not self._protocol_waits and len(self._unsent) > _HIGH_WATER_BYTES:
            self._protocol_waits = True
            self._protocol.pause_writing()

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._unsent:
                self._say_farewell()

    def abort(self) -> None:
        self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def pause_reading(self) -> None:
        if self._is_reading and not self._is_closing:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            self._loop.add_reader(self._socket, self._readable)

    def _send_now(self, data: Sendable) -> int:
        """Return how many bytes are sent. OpenSSL gets a record at a time: of more, it would not say how many."""
        sent = 0
        try:
            if len(data) <= _RECORD_BYTES:
                return self._send(data)
            while sent < len(data):
                sent += self._send(memoryview(data)[sent : sent + _RECORD_BYTES])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as problem:
            self._lose(problem)
        return sent

    def _writable(self) -> None:
        whole = True
        while self._unsent and whole:
            # A record that was begun is gone on with as it is: the first bytes of what is unsent stay the same.
            piece = bytes(self._unsent[:_HIGH_WATER_BYTES])
            sent = self._send_now(piece)
            del self._unsent[:sent]
            whole = sent == len(piece)
        if self._is_over:
            return
        if self._protocol_waits and len(self._unsent) <= _LOW_WATER_BYTES:
            self._protocol_waits = False
            self._protocol.resume_writing()
        if not self._unsent and not self._is_over:
            self._loop.remove_writer(self._socket)
            if self._is_closing:
                self._say_farewell()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_RECORD_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as problem:
            self._lose(problem)
            return
        if not data:
            self._lose(None)
        elif not self._is_closing:
            self._protocol.data_received(data)

    def _say_farewell(self) -> None:
        """Tell the peer that no more will come, and wait for its end of the connection."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.unwrap()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        if not self._is_over:
            self._loop.add_reader(self._socket, self._drain)
            self._loop.call_later(LINGER_S, self._lose, None)

    def _drain(self) -> None:
        """Drop what a peer sends that has been told goodbye; it is not even decrypted."""
        try:
            data = socket.socket.recv(self._socket, _RECORD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(None)

    def _lose(self, problem: OSError | None) -> None:
        """End it at once; the protocol hears of it in the loop's next turn, as it would from the loop's own."""
        if self._is_over:
            return
        self._is_over = self._is_closing = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._loop.call_soon(self._tell_lost, problem)

    def _tell_lost(self, problem: OSError | None) -> None:
        try:
            self._protocol.connection_lost(problem)
        finally:
            self._socket.close()


class TlsServer:
    """Takes connections up and agrees on keys; `asyncio.Server` as far as uvicorn needs one."""

    def __init__(self, listeners: Sequence[socket.socket], context: ssl.SSLContext, factory: ProtocolFactory) -> None:
        self.sockets = tuple(listeners)
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._factory = factory
        self._is_closed = False
        for listener in self.sockets:
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Take up no more."""
        if not self._is_closed:
            self._is_closed = True
            for listener in self.sockets:
                self._loop.remove_reader(listener)
                listener.close()

    async def wait_closed(self) -> None:
        """Return: connections belong to the protocols, which uvicorn waits for itself."""

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as problem:
                if problem.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                log.error("connection_not_taken_up", reason=str(problem))  # noqa: TRY400  the reason says it all
                self._loop.remove_reader(listener)
                self._loop.call_later(_WAIT_FOR_DESCRIPTORS_S, self._accept_again, listener)
                return
            _Handshake(self._loop, self._context, connection, self._factory)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listener, self._accept, listener)


class _Handshake:
    """A connection until both sides have keys. The loop's callbacks keep it alive."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        connection: socket.socket,
        factory: ProtocolFactory,
    ) -> None:
        connection.setblocking(False)  # noqa: FBT003  the standard library's signature
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._factory = factory
        self._socket = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._patience = loop.call_later(HANDSHAKE_S, self._give_up)
        loop.add_reader(self._socket, self._go_on)

    def _go_on(self) -> None:
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.remove_writer(self._socket)
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._socket, self._go_on)
        except (OSError, ValueError):  # ValueError: the peer has gone already
            self._give_up()
        else:
            self._stop()
            TlsTransport(self._socket, self._factory())

    def _give_up(self) -> None:
        self._stop()
        self._socket.close()

    def _stop(self) -> None:
        self._patience.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)


def listeners_on(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Listen on every address of a host, with one port. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            listener = socket.create_server(address[:2], family=family, backlog=backlog)
            listener.setblocking(False)  # noqa: FBT003  the standard library's signature
            listeners.append(listener)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
