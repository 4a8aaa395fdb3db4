"""The engine over its Unix socket, for the gateway's few requests to it."""

from __future__ import annotations

import json
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, UnixConnector

_ORIGIN = "http://engine"
_CONNECT_S = 5.0
_SILENCE_S = 900.0  # a long prompt behind a full queue says nothing for minutes
_ASIDE = ClientTimeout(total=5.0)
_KEEP_ALIVE_S = 2.0  # below the engine's own 5 s, so that no request meets a connection being closed

_LARGE_BYTES = 1024 * 1024  # from here on aiohttp wants a file, which it sends in pieces

EngineUnreachable = (ClientError, OSError, TimeoutError)
"""What a request to the engine raises when the engine does not answer, or breaks off."""


class EngineClient:
    """A pool of connections to the engine. Make and close it inside the event loop."""

    def __init__(self, socket: Path) -> None:
        self._session = ClientSession(
            connector=UnixConnector(path=str(socket), limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def chat(self, body: bytes, *, request_id: str) -> ClientResponse:
        """Start a chat request; the answer's body is still to be read. Raises EngineUnreachable."""
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        data = body if len(body) < _LARGE_BYTES else BytesIO(body)
        return await self._session.post(f"{_ORIGIN}/v1/chat/completions", data=data, headers=headers)

    async def is_healthy(self) -> bool:
        """Whether the engine says that it lives."""
        try:
            async with self._session.get(f"{_ORIGIN}/health", timeout=_ASIDE) as response:
                return response.status == HTTPStatus.OK
        except EngineUnreachable:
            return False

    async def model(self, name: str) -> dict[str, Any] | None:
        """Return the engine's description of a served model; `None` if it has none. Raises EngineUnreachable."""
        async with self._session.get(f"{_ORIGIN}/v1/models", timeout=_ASIDE) as response:
            response.raise_for_status()
            try:
                listed = json.loads(await response.read())
                return next((model for model in listed["data"] if model["id"] == name), None)
            except (ValueError, KeyError, TypeError):
                return None

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
