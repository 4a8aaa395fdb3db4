"""Requests that two readers could take for different ones: each is refused, or is one request and no more."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from appliance.entrypoints.gateway import caller
from tests.api.gateway.conftest import Running
from tests.support.fake_engine import MODEL, FakeEngine

BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}]}).encode()
SECOND = b"POST /v1/chat/completions HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer %b\r\nContent-Length: 2\r\n\r\n{}"
PATH = b"/v1/chat/completions"


def request(gateway: Running, fields: bytes, body: bytes, *, target: bytes = PATH, method: bytes = b"POST") -> bytes:
    key = b"Authorization: Bearer %b\r\n" % gateway.ledger.secret.encode()
    return b"%b %b HTTP/1.1\r\nHost: n\r\n%b%b\r\n%b" % (method, target, key, fields, body)


async def answers(gateway: Running, sent: bytes, *, expected: int = 0) -> list[int]:
    """Send bytes as they are; return the status of each answer until the gateway closes, or hears no more of us."""
    port = int(gateway.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=gateway.tls.client_context())
    writer.write(sent)
    received = b""
    while True:
        try:
            async with asyncio.timeout(10.0 if received.count(b"HTTP/1.1 ") < expected else 0.5):
                part = await reader.read(65_536)
        except (TimeoutError, ConnectionError):
            break
        if not part:
            break
        received += part
    writer.transport.abort()
    return [int(rest[:3]) for rest in received.split(b"HTTP/1.1 ")[1:]]


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        pytest.param(b"Content-Length: 5\r\nContent-Length: %d\r\n" % len(BODY), BODY, id="two lengths that differ"),
        pytest.param(b"Content-Length: %d\r\nContent-Length: %d\r\n" % (len(BODY), len(BODY)), BODY, id="two lengths"),
        pytest.param(b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY)), BODY, id="a list of lengths"),
        pytest.param(b"Content-Length: +%d\r\n" % len(BODY), BODY, id="a signed length"),
        pytest.param(b"Content-Length: 0x10\r\n", BODY, id="a length in hexadecimal"),
        pytest.param(b"Content-Length: -1\r\n", BODY, id="a negative length"),
        pytest.param(b"Content-Length: 99999999999999999999999\r\n", BODY, id="a length over 64 bits"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunked(BODY), id="a length and an encoding"
        ),
        pytest.param(
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", chunked(BODY), id="an encoding and a length"
        ),
        pytest.param(b"Transfer-Encoding: chunked, identity\r\n", chunked(BODY), id="chunked is not last"),
        pytest.param(b"Transfer-Encoding: xchunked\r\n", chunked(BODY), id="an unknown encoding"),
        pytest.param(b"Transfer-Encoding : chunked\r\n", chunked(BODY), id="a space before the colon"),
        pytest.param(b"X-A: 1\r\n folded\r\nContent-Length: %d\r\n" % len(BODY), BODY, id="a folded line"),
        pytest.param(b"X-A: a\x00b\r\nContent-Length: %d\r\n" % len(BODY), BODY, id="a null byte in a value"),
        pytest.param(b"X\x00A: a\r\nContent-Length: %d\r\n" % len(BODY), BODY, id="a null byte in a name"),
        pytest.param(b"X-A: a\rContent-Length: 2\r\nContent-Length: %d\r\n" % len(BODY), BODY, id="a bare CR"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n0\r\n\r\n", id="a negative chunk"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", id="a chunk size with a prefix"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n", b"2\r\n{}xx0\r\n\r\n", id="a chunk that is longer than it says"
        ),
        pytest.param(b"Transfer-Encoding: chunked\r\n", b"2\n{}\n0\n\n", id="chunks with bare LF"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n", id="a chunk over 64 bits"),
    ],
)
async def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(
    gateway: Running, engine: FakeEngine, fields: bytes, body: bytes
) -> None:
    smuggled = SECOND % gateway.ledger.secret.encode()

    statuses = await answers(gateway, request(gateway, fields, body + smuggled))

    assert statuses in ([], [400], [413])
    assert engine.seen == []
    assert gateway.ledger.records() == []


async def test_a_request_in_chunks_is_one_request(gateway: Running, engine: FakeEngine) -> None:
    statuses = await answers(gateway, request(gateway, b"Transfer-Encoding: chunked\r\n", chunked(BODY)), expected=1)

    assert statuses == [200]
    assert len(engine.seen) == len(gateway.ledger.records()) == 1


async def test_pipelined_requests_are_answered_each_in_its_turn(gateway: Running, engine: FakeEngine) -> None:
    one = request(gateway, b"Content-Length: %d\r\n" % len(BODY), BODY)

    statuses = await answers(gateway, one + SECOND % gateway.ledger.secret.encode() + one, expected=3)

    assert statuses == [200, 400, 200]
    assert len(engine.seen) == len(gateway.ledger.records()) == 2


@pytest.mark.parametrize(
    "target", [b"http://elsewhere/v1/chat/completions", b"/v1/chat/completions?x=1", b"//v1/chat/completions", b"*"]
)
async def test_another_form_of_the_target_opens_no_other_door(
    gateway: Running, engine: FakeEngine, target: bytes
) -> None:
    statuses = await answers(gateway, request(gateway, b"Content-Length: 2\r\n", b"{}", target=target))

    assert statuses in ([400], [404], [])
    assert engine.seen == []
    assert gateway.ledger.records() == []


@pytest.mark.parametrize("size", [64 * 1024, 1024 * 1024])
async def test_a_huge_header_is_refused(gateway: Running, engine: FakeEngine, size: int) -> None:
    fields = b"X-A: %b\r\nContent-Length: %d\r\n" % (b"a" * size, len(BODY))

    statuses = await answers(gateway, request(gateway, fields, BODY))

    assert statuses in ([], [400], [431])
    assert engine.seen == []
    assert gateway.ledger.records() == []


async def test_a_caller_that_never_ends_its_head_is_let_go(
    gateway: Running, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "HEAD_PATIENCE_S", 0.2)
    port = int(gateway.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=gateway.tls.client_context())
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nX-A: ")

    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""

    writer.transport.abort()
    assert engine.seen == []


async def test_what_a_caller_calls_itself_does_not_reach_the_engine(gateway: Running, engine: FakeEngine) -> None:
    fields = b"X-Request-Id: mine\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: x-request-id\r\n"

    statuses = await answers(
        gateway, request(gateway, fields + b"Content-Length: %d\r\n" % len(BODY), BODY), expected=1
    )

    (record,) = gateway.ledger.records()
    assert statuses == [200]
    told = {name.lower(): value for name, value in engine.seen[0].headers.items()}
    assert told["x-request-id"] == engine.seen[0].request_id == record.request_id != "mine"
    assert not {"authorization", "x-forwarded-for"} & set(told)
