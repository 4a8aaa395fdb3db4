"""One admitted request, from its admission to its settlement.

The order is the promise: the admission is on disk before the engine hears of the request, and the
settlement is on disk (or the ledger has had five seconds for it) before the caller sees the end
of the answer. Whatever ends the exchange, it is settled once: here at the latest, in `finally`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from aiohttp import ClientResponse

from appliance.adapters.sql_ledger import LedgerWriter
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage import Admission, Progress, Settlement, UsageOutcome, UsageSource, UsageState
from appliance.entrypoints.gateway.answers import (
    RETRY_AFTER,
    Header,
    Receive,
    Send,
    error_body,
    error_event,
    refusal_body,
    send_answer,
)
from appliance.entrypoints.gateway.upstream import EngineClient, EngineUnreachable
from appliance.services.admission import ChatRequest
from appliance.services.metering import StreamBroken, StreamMeter, Tally, tally_of_answer

log = structlog.get_logger()

SETTLE_PATIENCE_S = 5.0
_DRAIN_S = 1.0
_CLIENT_CLOSED_STATUS = 499  # nginx's number for a caller that left before it had an answer
_PASSED_ON = frozenset({400, 404, 413, 422, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an exchange works with."""

    engine: EngineClient
    ledger: LedgerWriter
    in_flight: dict[str, Exchange]


class Exchange:
    """Forwards one request and keeps its record. Use once."""

    def __init__(self, means: Means, admission: Admission, request: ChatRequest) -> None:
        self._means = means
        self._admission = admission
        self._request = request
        self._tally = Tally()
        self._first_token_at: datetime | None = None
        self._status = _CLIENT_CLOSED_STATUS
        self._settlement: Future[None] | None = None
        self._admitted = True  # until the ledger says otherwise; settling what is not there changes nothing
        self._ticked: object = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Carry the request through; returns when the caller has its answer or is gone."""
        self._means.in_flight[self._admission.request_id] = self
        outcome = UsageOutcome.GATEWAY_ERROR
        try:
            await asyncio.wrap_future(self._means.ledger.admit(self._admission))
            await self._relay_unless_gone(receive, send)
            outcome = UsageOutcome.CLIENT_CLOSED
        except LedgerUnavailable as problem:
            self._admitted = False
            log.error("admission_not_durable", request_id=self._admission.request_id, reason=problem.detail)  # noqa: TRY400  the reason says it all
            await send_answer(send, 503, refusal_body(problem, 503), self._headers(RETRY_AFTER))
        except asyncio.CancelledError:
            outcome = UsageOutcome.GATEWAY_STOPPED
            raise
        finally:
            if self._admitted:
                self._settle(outcome)
            del self._means.in_flight[self._admission.request_id]

    def progress(self) -> Progress | None:
        """Return running counts, if they have changed since this was last asked."""
        tally = self._tally
        if tally.counts is self._ticked or tally.source is not UsageSource.CONTINUOUS or self._settlement:
            return None
        self._ticked = tally.counts
        return Progress(
            request_id=self._admission.request_id,
            first_token_at=self._first_token_at,
            usage=tally.usage,
            usage_source=tally.source,
        )

    async def _relay_unless_gone(self, receive: Receive, send: Send) -> None:
        relay = asyncio.create_task(self._relay(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({relay, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            relay.cancel()  # nothing happens to one that is done; otherwise it closes the engine's connection
            await asyncio.wait({relay})
        if not relay.cancelled():
            relay.result()

    async def _relay(self, send: Send) -> None:
        try:
            response = await self._means.engine.chat(self._request.body, request_id=self._admission.request_id)
        except EngineUnreachable:
            await self._answer(send, 503, _unreachable(), UsageOutcome.UPSTREAM_ERROR)
            return
        try:
            if response.status != HTTPStatus.OK:
                await self._refused(response, send)
            elif self._request.stream:
                await self._stream(response, send)
            else:
                await self._whole(response, send)
        finally:
            response.close()

    async def _refused(self, response: ClientResponse, send: Send) -> None:
        """Pass on what the caller can mend; speak for the engine otherwise."""
        body = await _read_or_nothing(response)
        if body is not None and response.status in _PASSED_ON:
            await self._answer(send, response.status, body, UsageOutcome.UPSTREAM_REFUSED)
        else:
            await self._answer(send, 502, _failed(), UsageOutcome.UPSTREAM_ERROR)

    async def _whole(self, response: ClientResponse, send: Send) -> None:
        body = await _read_or_nothing(response)
        if body is None:
            await self._answer(send, 502, _failed(), UsageOutcome.UPSTREAM_LOST)
            return
        self._tally = tally_of_answer(body)  # when its first token was made, nobody here can know
        await self._answer(send, 200, body, UsageOutcome.COMPLETED)

    async def _answer(self, send: Send, status: int, body: bytes, outcome: UsageOutcome) -> None:
        self._status = status
        await self._settle_and_wait(outcome)
        extra = (RETRY_AFTER,) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
        await send_answer(send, status, body, self._headers(*extra))

    async def _stream(self, response: ClientResponse, send: Send) -> None:
        request = self._request
        meter = StreamMeter(
            choices=request.choices,
            wants_usage=request.wants_usage,
            wants_continuous_usage=request.wants_continuous_usage,
        )
        self._tally = tally = meter.tally
        self._status = 200
        kind = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": kind + self._headers()})
        rest = b""
        try:
            while not tally.done and (received := await response.content.readany()):
                rest = meter.feed(received)
                if self._first_token_at is None and tally.has_tokens:
                    self._first_token_at = datetime.now(UTC)
                if rest and not tally.done:
                    await send({"type": "http.response.body", "body": rest, "more_body": True})
                    rest = b""
            rest += meter.finish()
        except (*EngineUnreachable, StreamBroken):
            tally.done = False
        outcome = _stream_outcome(tally)
        await self._settle_and_wait(outcome)
        if outcome is UsageOutcome.UPSTREAM_LOST:
            rest += error_event("The engine's answer broke off.", code="engine-lost")
        await send({"type": "http.response.body", "body": rest})
        await _drain(response)

    def _headers(self, *more: Header) -> list[Header]:
        headers = [(b"x-request-id", self._admission.request_id.encode()), *more]
        if self._request.reasoning_effort is not None:
            headers.append((b"x-leeward-reasoning-effort", self._request.reasoning_effort.encode()))
        return headers

    async def _settle_and_wait(self, outcome: UsageOutcome) -> None:
        durable = asyncio.wrap_future(self._settle(outcome))
        await asyncio.wait({durable}, timeout=SETTLE_PATIENCE_S)
        if durable.done():
            durable.exception()  # it was logged where it happened

    def _settle(self, outcome: UsageOutcome) -> Future[None]:
        if self._settlement is not None:
            return self._settlement
        tally, now = self._tally, datetime.now(UTC)
        final = tally.source is UsageSource.FINAL
        settlement = Settlement(
            request_id=self._admission.request_id,
            state=UsageState.SETTLED if final else UsageState.PARTIAL,
            settled_at=now,
            first_token_at=self._first_token_at,
            http_status=self._status,
            outcome=outcome,
            finish_reason=tally.finish_reason,
            usage=tally.usage,
            usage_source=tally.source,
        )
        self._settlement = self._means.ledger.settle(settlement)
        self._settlement.add_done_callback(_report_loss)
        _log_settlement(self._admission, settlement)
        return self._settlement


def _stream_outcome(tally: Tally) -> UsageOutcome:
    """A stream is complete only if it ends with [DONE] and no error was in it."""
    if tally.failed:
        return UsageOutcome.UPSTREAM_ERROR
    return UsageOutcome.COMPLETED if tally.done else UsageOutcome.UPSTREAM_LOST


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_or_nothing(response: ClientResponse) -> bytes | None:
    try:
        return await response.read()
    except EngineUnreachable:
        return None


async def _drain(response: ClientResponse) -> None:
    """Read to the end what little follows [DONE], so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            while await response.content.readany():
                pass
    except EngineUnreachable:
        return
    response.release()


def _unreachable() -> bytes:
    return error_body(503, "The engine does not answer. Try again soon.", code="engine-not-ready")


def _failed() -> bytes:
    return error_body(502, "The engine failed on this request.", code="engine-failed")


def _report_loss(settlement: Future[None]) -> None:
    problem = settlement.exception()
    if isinstance(problem, LedgerUnavailable):
        log.error("settlement_not_durable", reason=problem.detail)


def _log_settlement(admission: Admission, settlement: Settlement) -> None:
    first = settlement.first_token_at
    log.info(
        "request_ended",
        request_id=admission.request_id,
        key_id=admission.key_id,
        team=admission.team,
        stream=admission.stream,
        state=settlement.state.value,
        outcome=settlement.outcome.value,
        http_status=settlement.http_status,
        prompt_tokens=settlement.usage.prompt_tokens,
        completion_tokens=settlement.usage.completion_tokens,
        usage_source=settlement.usage_source.value,
        duration_s=round((settlement.settled_at - admission.admitted_at).total_seconds(), 4),
        first_token_s=None if first is None else round((first - admission.admitted_at).total_seconds(), 4),
    )
