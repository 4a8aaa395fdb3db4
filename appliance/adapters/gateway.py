"""The gateway, asked as a tenant asks it: over TLS, with an API key.

The answer must come under the very certificate that lies on the node: that file is the only trust
anchor, so no host name has to match the loopback address.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from appliance.domain.errors import GatewayNotReady
from appliance.ports import GatewayAnswer

REQUEST_ID_HEADER = "x-request-id"


class TlsGatewayProbe:
    """`appliance.ports.GatewayProbe` on the loopback address."""

    def __init__(self, *, port: int, certificate: Path) -> None:
        self._port = port
        self._certificate = certificate

    def ask(self, secret: str, *, model: str, prompt: str, max_tokens: int, timeout_s: float) -> GatewayAnswer:
        """Post one chat request; raises GatewayNotReady where nobody answers."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        url = f"https://127.0.0.1:{self._port}/v1/chat/completions"
        try:
            with httpx.Client(verify=self._context(), timeout=timeout_s, trust_env=False) as client:
                response = client.post(url, json=body, headers={"authorization": f"Bearer {secret}"})
        except (httpx.HTTPError, OSError) as error:
            raise GatewayNotReady(
                detail=f"{url}: {error or type(error).__name__}",
                remedy="Read `journalctl -u leeward-gateway`, correct what it names, then run `leeward provision`.",
            ) from error
        return GatewayAnswer(status=response.status_code, request_id=response.headers.get(REQUEST_ID_HEADER, ""))

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._certificate))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context
