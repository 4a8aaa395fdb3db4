"""A hot route: who asks, what for, and may it go on.

Raw ASGI, because a framework's request and response objects cost more per chunk than all that is
done here. A refused request leaves no usage record, and the engine does not hear of it. Its body,
if it was not read, is dropped by the server as it comes in: closing instead would cost the caller
the answer.
"""

from __future__ import annotations

import asyncio
import os
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
    send_answer,
)
from appliance.entrypoints.gateway.caller import Caller, caller_of
from appliance.entrypoints.gateway.dialect import Dialect
from appliance.entrypoints.gateway.exchange import Exchange, Means
from appliance.entrypoints.gateway.gate import Asked, Gate, check_network, repetition_of
from appliance.entrypoints.gateway.refusals import ClientGone, Refusal
from appliance.entrypoints.gateway.request_ids import caller_request_id, id_headers
from appliance.entrypoints.gateway.tracing import Phases

log = structlog.get_logger()

MAX_IN_FLIGHT = 1_024
CALLER_LEFT = "caller-left"
"""Counted as the reason where nobody waited any more when a request's turn came."""
_BODY_PATIENCE_S = 120.0


class HotRoute:
    """One path of the API, as an ASGI application for `CallerConnection`."""

    def __init__(self, dialect: Dialect, *, means: Means, keys: KeyLookup, gate: Gate) -> None:
        self._dialect = dialect
        self._means = means
        self._keys = keys
        self._gate = gate
        self._time = asyncio.get_running_loop().time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or carry the request through. The gate is the last that can refuse it."""
        request_id = new_request_id(datetime.now(UTC), os.urandom(10))
        callers_id = caller_request_id(scope["headers"])
        marks = id_headers(request_id, callers_id)
        dialect, metrics, time = self._dialect, self._means.metrics, self._time
        phases = Phases(arrived=time())
        try:
            key = self._admit(scope)
            caller = caller_of(scope)
            body = await self._read(scope, receive, caller)
            asked = Asked(
                request_id=request_id,
                key=key,
                request=dialect.read(body, key),
                repetition=repetition_of(
                    scope["headers"], secret=secret_of(scope["headers"]), path=dialect.path, body=body
                ),
                at=datetime.now(UTC),
                phases=phases,
                caller_request_id=callers_id,
            )
            phases.judged = time()
            await self._pass(asked, caller)
        except Refusal as refusal:
            metrics.refused(dialect.path, refusal.code)
            told = dialect.error(refusal.status, refusal.message, code=refusal.code)
            await send_answer(send, refusal.status, told, [*marks, *refusal.headers])
        except ChatRefused as refused:
            metrics.refused(dialect.path, refused.code)
            log.info(
                "request_refused",
                request_id=request_id,
                caller_request_id=callers_id,
                key_id=key.key_id,
                detail=refused.detail,
            )
            status = refused.http_status
            more = [CLOSE] if status == HTTPStatus.REQUEST_TIMEOUT else []
            await send_answer(send, status, _told(dialect, refused), [*marks, *more])
        except ClientGone:
            metrics.refused(dialect.path, CALLER_LEFT)

    async def _pass(self, asked: Asked, caller: Caller) -> None:
        """Wait for the request's turn and carry it through. Raises Refusal, ClientGone."""
        key, request, repetition = asked.key, asked.request, asked.repetition
        with self._gate.enter(asked, caller) as passage:
            await passage.wait()
            asked.phases.granted = self._time()
            admission = Admission(
                request_id=asked.request_id,
                key_id=key.key_id,
                team=key.team,
                model=request.model,
                endpoint=self._dialect.path,
                stream=request.stream,
                admitted_at=asked.at,
                idempotency_mac=None if repetition is None else repetition.idempotency_mac,
                body_mac=None if repetition is None else repetition.body_mac,
                caller_request_id=asked.caller_request_id,
            )
            copy = self._means.capture.begin()
            exchange = Exchange(
                self._means,
                admission=admission,
                dialect=self._dialect,
                request=request,
                caller=caller,
                passage=passage,
                phases=asked.phases,
                copy=copy,
            )
            try:
                await exchange.run()
            finally:
                if copy is not None and exchange.was_asked:
                    self._means.capture.keep(admission, request.body, copy)

    def _admit(self, scope: Scope) -> ApiKey:
        """Return whose key it is, if anything can be done for it now. Raises Refusal."""
        if scope["method"] != "POST":
            raise Refusal(405, "This path takes POST.", code="method-not-allowed", headers=((b"allow", b"POST"),))
        try:
            key = key_of(scope["headers"], self._keys)
        except LedgerUnavailable as problem:
            log.error("keys_not_readable", reason=problem.detail)  # noqa: TRY400  the reason says it all
            raise Refusal(
                503, f"{problem.detail} {problem.remedy}", code=problem.code, headers=(RETRY_AFTER,)
            ) from problem
        if key is None:
            raise Refusal(401, NO_KEY, code="invalid_api_key", headers=((b"www-authenticate", b"Bearer"),))
        check_network(key, scope)
        if len(self._means.in_flight) >= MAX_IN_FLIGHT:
            many = "This node has too many requests under way. Try again soon."
            raise Refusal(429, many, code="busy", headers=(RETRY_AFTER,))
        if not self._means.records.has_room():
            log.error("ledger_disk_nearly_full")
            full = "The node's disk is nearly full; requests wait."
            raise Refusal(503, full, code="ledger-unavailable", headers=(RETRY_AFTER,))
        return key

    async def _read(self, scope: Scope, receive: Receive, caller: Caller) -> bytes:
        limit = self._dialect.body_bytes
        whole = caller.take_body()
        if whole is not None:
            if len(whole) > limit:
                raise _too_large(limit)
            return whole
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


NO_KEY = "No API key was given, or it is wrong, revoked or expired. Send `Authorization: Bearer lwd_...`."


def key_of(headers: Iterable[Header], keys: KeyLookup) -> ApiKey | None:
    """Return the valid key that a request's headers carry (`Authorization: Bearer` or `x-api-key`).

    Raises LedgerUnavailable.
    """
    secret = secret_of(headers)
    return keys.find(secret) if secret else None


def secret_of(headers: Iterable[Header]) -> str:
    """Return the secret that a request's headers carry; empty if there is none."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            return value.strip().decode("latin-1")
    return ""


def _too_large(limit: int) -> ChatRefused:
    return ChatRefused(
        detail=f"The body is larger than {limit:,} bytes.",
        remedy="Send fewer or smaller images.",
        http_status=413,
    )


def _told(dialect: Dialect, refused: ChatRefused) -> bytes:
    code = "model_not_found" if refused.http_status == HTTPStatus.NOT_FOUND else refused.code
    return dialect.error(refused.http_status, f"{refused.detail} {refused.remedy}", code=code, param=refused.param)
