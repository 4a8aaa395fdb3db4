"""`POST /v1/chat/completions`: who asks, what for, and may it go on.

Raw ASGI, because a framework's request and response objects cost more per chunk than all that is
done here. A refused request leaves no usage record, and the engine does not hear of it. Its body,
if it was not read, is dropped by the server as it comes in: closing instead would cost the caller
the answer.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus

import structlog

from appliance.adapters.sql_ledger import KeyLookup
from appliance.domain.errors import ChatRefused, LedgerUnavailable
from appliance.domain.usage import Admission, ApiKey, new_request_id
from appliance.entrypoints.gateway.answers import (
    CLOSE,
    RETRY_AFTER,
    Header,
    Receive,
    Scope,
    Send,
    error_body,
    refusal_body,
    send_answer,
)
from appliance.entrypoints.gateway.exchange import Exchange, Means
from appliance.services.admission import ChatLimits, ChatRequest, read_chat_request

log = structlog.get_logger()

PATH = "/v1/chat/completions"
MAX_IN_FLIGHT = 1_024
_BODY_PATIENCE_S = 120.0


class ClientGone(Exception):
    """The caller left before its request was whole."""


class ChatRoute:
    """The hot route, as an ASGI application."""

    def __init__(self, *, means: Means, keys: KeyLookup, served_model: str, limits: ChatLimits) -> None:
        self._means = means
        self._keys = keys
        self._served_model = served_model
        self._limits = limits
        self._salt_key = secrets.token_bytes(32)  # new at every start: no file to guard, one cold cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id(datetime.now(UTC), os.urandom(10))
        marks: list[Header] = [(b"x-request-id", request_id.encode())]
        if scope["method"] != "POST":
            body = error_body(405, "This path takes POST.", code="method-not-allowed")
            await send_answer(send, 405, body, [*marks, (b"allow", b"POST")])
            return
        try:
            key = key_of(scope["headers"], self._keys)
        except LedgerUnavailable as problem:
            log.error("keys_not_readable", reason=problem.detail)  # noqa: TRY400  the reason says it all
            await send_answer(send, 503, refusal_body(problem, 503), [*marks, RETRY_AFTER])
            return
        if key is None:
            await send_answer(send, 401, UNAUTHORISED, [*marks, (b"www-authenticate", b"Bearer")])
            return
        if (busy := self._busy()) is not None:
            status, body = busy
            await send_answer(send, status, body, [*marks, RETRY_AFTER])
            return
        try:
            request = self._judge(await self._read(scope, receive), key)
        except ChatRefused as refused:
            log.info("request_refused", request_id=request_id, key_id=key.key_id, detail=refused.detail)
            status = refused.http_status
            more = [CLOSE] if status == HTTPStatus.REQUEST_TIMEOUT else []
            await send_answer(send, status, refusal_body(refused, status), [*marks, *more])
            return
        except ClientGone:
            return
        admission = Admission(
            request_id=request_id,
            key_id=key.key_id,
            team=key.team,
            model=request.model,
            endpoint=PATH,
            stream=request.stream,
            admitted_at=datetime.now(UTC),
        )
        await Exchange(self._means, admission, request).run(receive, send)

    def _busy(self) -> tuple[int, bytes] | None:
        if len(self._means.in_flight) >= MAX_IN_FLIGHT:
            return 429, error_body(429, "This node has too many requests under way. Try again soon.", code="busy")
        if not self._means.ledger.has_room():
            log.error("ledger_disk_nearly_full")
            return 503, error_body(503, "The node's disk is nearly full; requests wait.", code="ledger-unavailable")
        return None

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_BODY_PATIENCE_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise _too_large(limit)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise ChatRefused(
                detail=f"The body was not whole after {_BODY_PATIENCE_S:.0f} s.",
                remedy="Send it again, faster or smaller.",
                http_status=408,
            ) from None

    def _judge(self, body: bytes, key: ApiKey) -> ChatRequest:
        salt = urlsafe_b64encode(hmac.digest(self._salt_key, key.team.encode(), "sha256")).rstrip(b"=").decode()
        return read_chat_request(body, served_model=self._served_model, cache_salt=salt, limits=self._limits)


UNAUTHORISED = error_body(
    401, "No valid API key was given. Send `Authorization: Bearer lwd_...`.", code="invalid_api_key"
)


def key_of(headers: Iterable[Header], keys: KeyLookup) -> ApiKey | None:
    """Return the valid key that a request's headers carry (`Authorization: Bearer` or `x-api-key`).

    Raises LedgerUnavailable.
    """
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return keys.find(value[7:].strip().decode("latin-1"))
        if name == b"x-api-key":
            return keys.find(value.strip().decode("latin-1"))
    return None


def _too_large(limit: int) -> ChatRefused:
    return ChatRefused(
        detail=f"The body is larger than {limit:,} bytes.",
        remedy="Send fewer or smaller images.",
        http_status=413,
    )
