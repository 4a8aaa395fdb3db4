"""The smoke test's request: over TLS, under the very certificate that lies on the node."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from appliance.adapters.gateway import TlsGatewayProbe
from appliance.domain.errors import GatewayNotReady
from appliance.ports import GatewayAnswer
from tests.support.certificates import LoopbackTls, make_loopback_tls


class Answering(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str | None, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        Answering.asked.append((self.headers["authorization"], json.loads(body)))
        self.send_response(200)
        self.send_header("x-request-id", "req-7")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
        pass


@pytest.fixture
def tls(tmp_path: Path) -> LoopbackTls:
    return make_loopback_tls(tmp_path)


@pytest.fixture
def port(tls: LoopbackTls) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    server = HTTPServer(("127.0.0.1", 0), Answering)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is the client's story
    Thread(target=server.serve_forever, daemon=True).start()
    Answering.asked.clear()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask(probe: TlsGatewayProbe) -> GatewayAnswer:
    return probe.ask("lwd_secret", model="small", prompt="Say pong.", max_tokens=4, timeout_s=5)


def test_a_question_is_asked_as_a_tenant_asks_it(port: int, tls: LoopbackTls) -> None:
    answer = ask(TlsGatewayProbe(port=port, certificate=tls.certificate))

    assert answer == GatewayAnswer(status=200, request_id="req-7")
    authorization, body = Answering.asked[0]
    assert authorization == "Bearer lwd_secret"
    assert body["messages"] == [{"role": "user", "content": "Say pong."}]


def test_another_certificate_than_the_nodes_is_refused_and_no_key_is_sent(port: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    with pytest.raises(GatewayNotReady, match="CERTIFICATE_VERIFY_FAILED"):
        ask(TlsGatewayProbe(port=port, certificate=make_loopback_tls(other).certificate))

    assert Answering.asked == []


def test_a_gateway_that_does_not_listen_or_has_no_certificate_is_said_so(tls: LoopbackTls, tmp_path: Path) -> None:
    with pytest.raises(GatewayNotReady, match=r"127\.0\.0\.1:1/"):
        ask(TlsGatewayProbe(port=1, certificate=tls.certificate))
    with pytest.raises(GatewayNotReady, match="No such file"):
        ask(TlsGatewayProbe(port=1, certificate=tmp_path / "none.crt"))
