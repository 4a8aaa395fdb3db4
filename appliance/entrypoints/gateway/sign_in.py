"""The gateway's part of sign-in: it hands the request on to the sign-in service and the answer back.

It reads neither: tokens and passwords pass through memory only. Where no sign-in service listens,
the site has none, and the paths do not exist.
"""

from __future__ import annotations

from pathlib import Path

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response

from appliance.entrypoints.gateway.answers import RETRY_AFTER

MOST_BYTES = 32 * 1024
_TIMEOUT_S = 30.0
_PASSED = ("content-type", "cache-control")
_NO_SIGN_IN = "This node has no sign-in of the site. Ask its administrator for a key."
_BUSY = "The site's sign-in does not answer. Try again soon."


def add_sign_in(api: FastAPI, socket: Path | None) -> None:
    """Add `/v1/sign-in` and `/v1/sign-in/nonce`, which need no key: they are how one gets one."""

    @api.post("/v1/sign-in")
    async def sign_in(request: Request) -> Response:
        return await _hand_on(request, socket)

    @api.post("/v1/sign-in/nonce")
    async def nonce(request: Request) -> Response:
        return await _hand_on(request, socket)


async def _hand_on(request: Request, socket: Path | None) -> Response:
    """Raises HTTPException: 404 without a service, 413, 503."""
    if socket is None or not socket.exists():  # noqa: ASYNC240  /run is memory
        raise HTTPException(404, _NO_SIGN_IN)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"A sign-in has at most {MOST_BYTES:,} bytes.")
    try:
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)), timeout=_TIMEOUT_S, trust_env=False
        ) as http:
            answer = await http.post(
                f"http://sign-in{request.url.path}", content=bytes(body), headers={"content-type": "application/json"}
            )
    except httpx.HTTPError as problem:
        raise HTTPException(503, _BUSY, {RETRY_AFTER[0].decode(): RETRY_AFTER[1].decode()}) from problem
    headers = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
    return Response(answer.content, status_code=answer.status_code, headers=headers)
