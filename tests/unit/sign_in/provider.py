"""An OpenID provider for tests: it makes tokens, and serves its description and keys over TLS on loopback."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from tests.support.certificates import LoopbackTls, make_loopback_tls

AUDIENCE = "leeward"
ALGORITHMS = ["RS256", "ES256"]


@dataclass
class Provider:
    issuer: str = "https://id.site"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    rsa: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "rsa-1"}))
    ec: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "ec-1"}))
    description: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def claims(self, **changes: object) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "jane",
            "iat": int(self.now.timestamp()),
            "exp": int((self.now + timedelta(minutes=5)).timestamp()),
            "groups": ["cn=llm-research,ou=groups,dc=site"],
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, *, algorithm: str = "RS256", key: RSAKey | ECKey | None = None, **changes: object) -> str:
        key = key or (self.rsa if algorithm == "RS256" else self.ec)
        return jwt.encode({"alg": algorithm, "kid": key.kid}, self.claims(**changes), key, algorithms=ALGORITHMS)

    @property
    def public(self) -> dict[str, Any]:
        return {"keys": [self.rsa.as_dict(private=False), self.ec.as_dict(private=False)]}

    def key_set(self, _kid: object = None) -> KeySet:
        return KeySet.import_key_set(self.public)  # type: ignore[arg-type]  # plain JSON


@contextmanager
def served(folder: Path) -> Iterator[tuple[Provider, LoopbackTls]]:
    """Run a provider on loopback, with a certificate of its own authority."""
    tls, provider = make_loopback_tls(folder), Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            pages = {"/.well-known/openid-configuration": provider.description, "/keys": provider.public}
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", f"{provider.issuer}/keys")
                self.end_headers()
                return
            body = json.dumps(pages.get(self.path, {})).encode()
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        provider.issuer = f"https://127.0.0.1:{server.server_address[1]}"
        provider.description = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys"}
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield provider, tls
        server.shutdown()
        thread.join()
