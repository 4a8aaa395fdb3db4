"""One admitted request, from its admission to its settlement.

The order is the promise: the admission is on disk before the engine hears of the request, and the
settlement is on disk (or the ledger has had five seconds for it) before the caller sees the end
of the answer. Whatever ends the exchange, it is settled once: here at the latest, in `finally`.

A stream's chunks go from the engine's connection through the meter to the caller's inside the
callback that read them; the task of the exchange sleeps meanwhile and wakes at the end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import structlog

from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage import Admission, Progress, Settlement, UsageOutcome, UsageSource, UsageState
from appliance.entrypoints.gateway.answers import RETRY_AFTER, Header, Send, send_answer
from appliance.entrypoints.gateway.caller import CallerConnection
from appliance.entrypoints.gateway.dialect import Dialect, EngineRequest, Meter
from appliance.entrypoints.gateway.records import Records
from appliance.entrypoints.gateway.upstream import EngineClient, EngineConnection, EngineUnreachable, request_head
from appliance.services.metering import StreamBroken, Tally

log = structlog.get_logger()

SETTLE_PATIENCE_S = 5.0
SILENCE_S = 900.0
"""How long the engine may say nothing (a long prompt behind a full queue), or a caller take nothing."""

_CLIENT_CLOSED_STATUS = 499  # nginx's number for a caller that left before it had an answer
_PASSED_ON = frozenset({400, 404, 413, 422, 429})
_STREAM_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an exchange works with."""

    engine: EngineClient
    records: Records
    in_flight: dict[str, Exchange]


class Exchange:
    """Forwards one request and keeps its record. Use once. It is the engine's receiver and the caller's relay."""

    def __init__(
        self, means: Means, *, admission: Admission, dialect: Dialect, request: EngineRequest, caller: CallerConnection
    ) -> None:
        self._means = means
        self._admission = admission
        self._dialect = dialect
        self._request = request
        self._caller = caller
        self._tally = Tally()
        self._first_token_at: datetime | None = None
        self._status = _CLIENT_CLOSED_STATUS
        self._settlement: asyncio.Future[None] | None = None
        self._admitted = True  # until the ledger says otherwise; settling what is not there changes nothing
        self._ticked: object = None

        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._heard_at = loop.time()
        self._begun = loop.create_future()  # a stream's first news, or the end
        self._over = loop.create_future()
        self._connection: EngineConnection | None = None  # while an answer is under way, and no longer
        self._engine_status = 0
        self._meter: Meter | None = None
        self._pieces: list[bytes] = []  # of an answer that is not a stream
        self._held = b""  # of a stream: what the caller may not have yet
        self._flows = False
        self._lost = False

    async def run(self, send: Send) -> None:
        """Carry the request through; returns when the caller has its answer or is gone."""
        self._means.in_flight[self._admission.request_id] = self
        outcome = UsageOutcome.GATEWAY_ERROR
        try:
            await self._means.records.admit(self._admission)
            await self._relay(send)
            outcome = UsageOutcome.CLIENT_CLOSED  # unless it was settled otherwise before
        except LedgerUnavailable as problem:
            self._admitted = False
            log.error("admission_not_durable", request_id=self._admission.request_id, reason=problem.detail)  # noqa: TRY400  the reason says it all
            body = self._dialect.error(503, f"{problem.detail} {problem.remedy}", code=problem.code)
            await send_answer(send, 503, body, self._headers(RETRY_AFTER))
        except asyncio.CancelledError:
            outcome = UsageOutcome.GATEWAY_STOPPED
            raise
        finally:
            self._caller.relay = None
            self._abort()
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

    def watch(self, now: float) -> None:
        """Give up on an engine that has said nothing for too long, or on a caller that took nothing."""
        if now - self._heard_at > SILENCE_S:
            self.answer_lost()

    # What the engine's connection calls.

    def answer_began(self, status: int) -> None:
        self._engine_status = status
        if status == HTTPStatus.OK and self._request.stream:
            self._meter = self._request.meter()
            self._tally = self._meter.tally
            _wake(self._begun)

    def answer_received(self, piece: bytes) -> None:
        self._heard_at = self._time()
        meter = self._meter
        if meter is None:
            self._pieces.append(piece)
            return
        try:
            rest = meter.feed(piece)
        except StreamBroken:
            self.answer_lost()
            return
        tally = meter.tally
        if self._first_token_at is None and tally.has_tokens:
            self._first_token_at = datetime.now(UTC)
        if tally.done:  # the end waits for the settlement
            self._held += rest
            self._end()
        elif not self._flows:
            self._held += rest
        elif rest:
            self._caller.write_chunk(rest)

    def answer_ended(self) -> None:
        self._connection = None
        self._end()

    def answer_lost(self) -> None:
        self._lost = True
        self._end()

    # What the caller's connection calls.

    def caller_left(self) -> None:
        self._abort()
        self._end()

    def caller_is_full(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def caller_has_room(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    # The exchange's own task.

    async def _relay(self, send: Send) -> None:
        caller, request = self._caller, self._request
        if caller.is_gone:
            return
        try:
            connection = await self._means.engine.connect()
        except EngineUnreachable:
            await self._fail(send, 503, UsageOutcome.UPSTREAM_ERROR)
            return
        self._connection = connection
        if caller.is_gone:
            return
        caller.relay = self
        request_id = self._admission.request_id
        head = request_head(request.path, request_id=request_id, size_bytes=len(request.body))
        connection.ask(self, head, request.body)
        await self._begun
        if self._meter is not None:
            await self._stream(send, self._meter)
        elif not caller.is_gone:
            await self._whole(send)

    async def _whole(self, send: Send) -> None:
        body, status = b"".join(self._pieces), self._engine_status
        if status != HTTPStatus.OK:
            if status in _PASSED_ON and not self._lost:
                await self._answer(send, status, body, UsageOutcome.UPSTREAM_REFUSED)
            else:
                await self._fail(send, 502, UsageOutcome.UPSTREAM_ERROR)
        elif self._lost:
            await self._fail(send, 502, UsageOutcome.UPSTREAM_LOST)
        else:
            self._tally = self._request.tally_of(body)  # when its first token was made, nobody here can know
            await self._answer(send, 200, body, UsageOutcome.COMPLETED)

    async def _fail(self, send: Send, status: int, outcome: UsageOutcome) -> None:
        """Speak for the engine."""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            body = self._dialect.error(status, "The engine does not answer. Try again soon.", code="engine-not-ready")
        else:
            body = self._dialect.error(status, "The engine failed on this request.", code="engine-failed")
        await self._answer(send, status, body, outcome)

    async def _answer(self, send: Send, status: int, body: bytes, outcome: UsageOutcome) -> None:
        self._status = status
        await self._settle_and_wait(outcome)
        extra = (RETRY_AFTER,) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
        await send_answer(send, status, body, self._headers(*extra))

    async def _stream(self, send: Send, meter: Meter) -> None:
        self._status = 200
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS + self._headers()})
        if not self._over.done():
            self._flows = True
            if self._held:
                self._caller.write_chunk(self._held)
                self._held = b""
            await self._over
        if self._caller.is_gone:
            return
        rest = self._held
        if not (meter.tally.done or self._lost):
            rest += self._last_event(meter)
        outcome = _stream_outcome(meter.tally)
        self._leave()
        await self._settle_and_wait(outcome)
        if outcome is UsageOutcome.UPSTREAM_LOST:
            rest += self._dialect.broken_off("The engine's answer broke off.", code="engine-lost")
        await send({"type": "http.response.body", "body": rest})

    def _last_event(self, meter: Meter) -> bytes:
        try:
            return meter.finish()
        except StreamBroken:
            self._lost = True
            return b""

    def _end(self) -> None:
        _wake(self._begun)
        _wake(self._over)

    def _leave(self) -> None:
        """Let the engine finish what little follows its last event, so that the connection can be used again."""
        if self._lost:
            self._abort()
        elif self._connection is not None:
            self._connection.leave()
            self._connection = None

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _headers(self, *more: Header) -> list[Header]:
        return [(b"x-request-id", self._admission.request_id.encode()), *more, *self._request.headers]

    async def _settle_and_wait(self, outcome: UsageOutcome) -> None:
        await asyncio.wait({self._settle(outcome)}, timeout=SETTLE_PATIENCE_S)

    def _settle(self, outcome: UsageOutcome) -> asyncio.Future[None]:
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
        self._settlement = self._means.records.settle(settlement)
        self._settlement.add_done_callback(_report_loss)
        _log_settlement(self._admission, settlement)
        return self._settlement


def _stream_outcome(tally: Tally) -> UsageOutcome:
    """A stream is complete only if it ends with [DONE] and no error was in it."""
    if tally.failed:
        return UsageOutcome.UPSTREAM_ERROR
    return UsageOutcome.COMPLETED if tally.done else UsageOutcome.UPSTREAM_LOST


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _report_loss(settlement: asyncio.Future[None]) -> None:
    problem = None if settlement.cancelled() else settlement.exception()
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
