"""The gateway's own TLS transport, against the event loop's and the standard library's clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.entrypoints.gateway import tls
from appliance.entrypoints.gateway.tls import TlsServer, listeners_on
from tests.support.certificates import LoopbackTls, make_loopback_tls

MUCH = bytes(range(256)) * 16_384  # 4 MiB


class Peer(asyncio.Protocol):
    """Keeps what it hears of its connection."""

    def __init__(self) -> None:
        self.received = b""
        self.paused = 0
        self.resumed = 0
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.resumed += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@dataclass(slots=True)
class Door:
    port: int
    tls: LoopbackTls
    server: TlsServer
    peers: list[Peer] = field(default_factory=list)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Peer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls.client_context())
        await until(lambda: bool(self.peers))
        return reader, writer, self.peers[-1]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    loopback = make_loopback_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(loopback.certificate, loopback.key)
    peers: list[Peer] = []

    def made() -> Peer:
        peers.append(Peer())
        return peers[-1]

    server = TlsServer(listeners_on("127.0.0.1", 0, backlog=16), context, made)
    yield Door(server.sockets[0].getsockname()[1], loopback, server, peers)
    server.close()
    await server.wait_closed()
    for peer in peers:
        peer.transport.abort()
    await asyncio.sleep(0.02)  # both ends' transports hear of it


async def test_a_slow_reader_holds_the_writer_up_and_gets_every_byte_in_order(door: Door) -> None:
    reader, writer, peer = await door.open()
    peer.transport.write(b"first ")
    peer.transport.write(MUCH)
    peer.transport.write(b" last")
    assert (peer.paused, peer.resumed) == (1, 0)
    await asyncio.sleep(0.05)
    got = await reader.readexactly(len(MUCH) + 11)
    assert got == b"first " + MUCH + b" last"
    await until(lambda: peer.resumed == 1)
    assert peer.transport.get_write_buffer_size() == 0
    assert peer.paused == 1
    assert not peer.lost
    writer.transport.abort()


async def test_a_long_body_arrives_whole_and_not_while_reading_is_paused(door: Door) -> None:
    _, writer, peer = await door.open()
    peer.transport.pause_reading()
    writer.write(MUCH)
    await asyncio.sleep(0.05)
    assert peer.received == b""
    peer.transport.resume_reading()
    await until(lambda: len(peer.received) == len(MUCH))
    assert peer.received == MUCH
    writer.transport.abort()


async def test_closing_sends_what_is_buffered_even_to_a_peer_that_still_sends(door: Door) -> None:
    reader, writer, peer = await door.open()
    writer.write(MUCH)  # more than the gateway will ever read
    await until(lambda: bool(peer.received))
    peer.transport.write(MUCH)
    peer.transport.close()
    assert peer.transport.is_closing()
    got = await reader.readexactly(len(MUCH))
    assert got == MUCH
    writer.transport.abort()
    await until(lambda: peer.lost == [None])


async def test_a_peer_that_ignores_the_farewell_holds_nothing_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LINGER_S", 0.05)
    with socket.create_connection(("127.0.0.1", door.port)) as plain:
        wrapped = await asyncio.to_thread(door.tls.client_context().wrap_socket, plain, server_hostname="localhost")
        await until(lambda: bool(door.peers))
        door.peers[0].transport.close()
        await until(lambda: door.peers[0].lost == [None])
        wrapped.close()


async def test_who_leaves_is_noticed_at_once(door: Door) -> None:
    _, writer, peer = await door.open()
    writer.transport.abort()
    await until(lambda: len(peer.lost) == 1)
    peer.transport.write(b"nobody reads this")
    assert peer.transport.get_write_buffer_size() == 0


async def test_who_does_not_speak_tls_meets_no_protocol(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.1)
    silent, idle = await asyncio.open_connection("127.0.0.1", door.port)
    plain, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: n\r\n\r\n")
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in await plain.read()
        assert await silent.read() == b""
    assert not door.peers
    writer.transport.abort()
    idle.transport.abort()


async def test_a_closed_door_takes_nobody_up_but_keeps_who_is_inside(door: Door) -> None:
    reader, writer, peer = await door.open()
    door.server.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", door.port)
    peer.transport.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.transport.abort()
