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

from appliance.adapters.capture import Capture
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.routing import affinity_of
from appliance.domain.usage import Admission, Progress, Settlement, UsageOutcome, UsageSource, UsageState
from appliance.entrypoints.gateway.answers import JSON, RETRY_AFTER, Header
from appliance.entrypoints.gateway.caller import Caller
from appliance.entrypoints.gateway.dialect import Dialect, EngineRequest, Meter
from appliance.entrypoints.gateway.engines import Engines, Held
from appliance.entrypoints.gateway.gate import Passage
from appliance.entrypoints.gateway.metrics import GatewayMetrics
from appliance.entrypoints.gateway.records import Records
from appliance.entrypoints.gateway.request_ids import id_headers
from appliance.entrypoints.gateway.tracing import Phases, SlowLog
from appliance.entrypoints.gateway.upstream import EngineConnection, EngineUnreachable, request_head
from appliance.services.metering import StreamBroken, Tally
from appliance.services.quotas import charge

log = structlog.get_logger()

SETTLE_PATIENCE_S = 5.0
SILENCE_S = 900.0
"""How long the engine may say nothing (a long prompt behind a full queue), or a caller take nothing."""

SILENCE_OF_DOWN_S = 30.0
"""The same for an engine that answers nobody else either."""

_CLIENT_CLOSED_STATUS = 499  # nginx's number for a caller that left before it had an answer
_PASSED_ON = frozenset({400, 404, 413, 422, 429})
_STREAM_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an exchange works with."""

    engines: Engines
    records: Records
    in_flight: dict[str, Exchange]
    metrics: GatewayMetrics
    slow: SlowLog
    capture: Capture


class Exchange:
    """Forwards one request and keeps its record. Use once. It is the engine's receiver and the caller's relay."""

    def __init__(
        self,
        means: Means,
        *,
        admission: Admission,
        dialect: Dialect,
        request: EngineRequest,
        caller: Caller,
        passage: Passage,
        phases: Phases,
        copy: list[bytes] | None = None,
    ) -> None:
        self._means = means
        self._copy = copy  # of the answer as it came, while content is captured
        self._phases = phases
        self._passage = passage
        self._was_asked = False  # whether the engine has heard of it
        self._admission = admission
        self._dialect = dialect
        self._request = request
        self._caller = caller
        self._tally = Tally()
        self._first_token_at: datetime | None = None
        self._status = _CLIENT_CLOSED_STATUS
        self._settlement: asyncio.Future[None] | None = None
        self._settled: asyncio.Future[None] | None = None  # on which the exchange waits for its settlement
        self._admitted = True  # until the ledger says otherwise; settling what is not there changes nothing
        self._ticked: object = None

        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._heard_at = loop.time()
        self._over = loop.create_future()
        self._connection: EngineConnection | None = None  # while an answer is under way, and no longer
        self._held: Held | None = None
        self._engine_status = 0
        self._meter: Meter | None = None
        self._pieces: list[bytes] = []  # of an answer that is not a stream
        self._end_of_stream = b""  # which the caller gets when the record is closed
        self._flows = False  # whether the caller has the beginning of a stream
        self._lost = False

    async def run(self) -> None:
        """Carry the request through; returns when the caller has its answer or is gone."""
        self._means.in_flight[self._admission.request_id] = self
        outcome = UsageOutcome.GATEWAY_ERROR
        try:
            await self._means.records.admit(self._admission)
            self._phases.admitted = self._time()
            await self._relay()
            outcome = UsageOutcome.CLIENT_CLOSED  # unless it was settled otherwise before
        except LedgerUnavailable as problem:
            self._admitted = False
            self._means.metrics.refused(self._admission.endpoint, problem.code)
            log.error("admission_not_durable", request_id=self._admission.request_id, reason=problem.detail)  # noqa: TRY400  the reason says it all
            body = self._dialect.error(503, f"{problem.detail} {problem.remedy}", code=problem.code)
            self._caller.answer(503, self._headers(JSON, RETRY_AFTER), body)
        except asyncio.CancelledError:
            outcome = UsageOutcome.GATEWAY_STOPPED
            raise
        finally:
            self._caller.tell(None)
            self._abort()
            if self._admitted:
                self._settle(outcome)
            if self._held is not None:
                answered = self._engine_status > 0 and not self._caller.is_gone
                self._held.over(answered=answered, lost=self._lost)
            del self._means.in_flight[self._admission.request_id]

    @property
    def was_asked(self) -> bool:
        """Whether the engine has heard of it."""
        return self._was_asked

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
        is_down = self._held is not None and self._held.is_down
        if now - self._heard_at > (SILENCE_OF_DOWN_S if is_down else SILENCE_S):
            self.answer_lost()
        if self._settlement is not None and now - self._phases.ended > SETTLE_PATIENCE_S:
            self._stop_waiting()

    # What the engine's connection calls.

    def answer_began(self, status: int) -> None:
        self._phases.answered = self._time()
        self._engine_status = status
        if status == HTTPStatus.OK and self._request.stream:
            self._meter = self._request.meter()
            self._tally = self._meter.tally
            self._status = status

    def answer_received(self, piece: bytes) -> None:
        self._heard_at = self._time()
        if self._copy is not None:
            self._copy.append(piece)
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
            self._phases.first_token = self._heard_at
        if tally.done:
            self._end_of_stream += rest
            self._end()
        elif self._flows:
            if rest:
                self._caller.write(rest)
        else:
            self._flow(rest)

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

    async def _relay(self) -> None:
        caller, request = self._caller, self._request
        if caller.is_gone:
            return
        try:
            self._held = held = await self._means.engines.connect(self._affinity)
        except EngineUnreachable:
            await self._fail(503, UsageOutcome.UPSTREAM_ERROR)
            return
        self._connection = connection = held.connection
        self._phases.engine = held.engine
        if caller.is_gone:
            return
        caller.tell(self)
        request_id = self._admission.request_id
        head = request_head(request.path, request_id=request_id, size_bytes=len(request.body))
        self._was_asked = True
        self._phases.asked = self._time()
        connection.ask(self, head, request.body)
        await self._over
        if caller.is_gone:
            return
        if self._meter is not None:
            await self._end_stream(self._meter)
        else:
            await self._whole()

    def _affinity(self) -> bytes:
        return affinity_of(self._admission.team, self._request.body)

    async def _whole(self) -> None:
        body, status = b"".join(self._pieces), self._engine_status
        if status != HTTPStatus.OK:
            if status in _PASSED_ON and not self._lost:
                await self._answer(status, self._dialect.refused(status, body), UsageOutcome.UPSTREAM_REFUSED)
            else:
                await self._fail(502, UsageOutcome.UPSTREAM_ERROR)
        elif self._lost:
            await self._fail(502, UsageOutcome.UPSTREAM_LOST)
        else:
            self._tally = self._request.tally_of(body)  # when its first token was made, nobody here can know
            await self._answer(200, self._request.told(body), UsageOutcome.COMPLETED)

    async def _fail(self, status: int, outcome: UsageOutcome) -> None:
        """Speak for the engine."""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            body = self._dialect.error(status, "The engine does not answer. Try again soon.", code="engine-not-ready")
        else:
            body = self._dialect.error(status, "The engine failed on this request.", code="engine-failed")
        await self._answer(status, body, outcome)

    async def _answer(self, status: int, body: bytes, outcome: UsageOutcome) -> None:
        self._status = status
        await self._settle_and_wait(outcome)
        extra = (RETRY_AFTER,) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
        self._caller.answer(status, self._headers(JSON, *extra), body)

    def _flow(self, chunk: bytes) -> None:
        self._flows = True
        self._caller.begin(200, self._headers(*_STREAM_HEADERS), chunk)

    async def _end_stream(self, meter: Meter) -> None:
        rest = self._end_of_stream
        if not (meter.tally.done or self._lost):
            rest += self._last_event(meter)
        outcome = _stream_outcome(meter.tally)
        self._leave()
        await self._settle_and_wait(outcome)
        if self._caller.is_gone:
            return
        if outcome is UsageOutcome.UPSTREAM_LOST:
            rest += self._dialect.broken_off("The engine's answer broke off.", code="engine-lost")
        if not self._flows:
            self._flow(b"")
        self._caller.end(rest)

    def _last_event(self, meter: Meter) -> bytes:
        try:
            return meter.finish()
        except StreamBroken:
            self._lost = True
            return b""

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

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
        return [
            *id_headers(self._admission.request_id, self._admission.caller_request_id),
            *more,
            *self._request.headers,
            *self._passage.headers,
        ]

    async def _settle_and_wait(self, outcome: UsageOutcome) -> None:
        """Return when the record is closed on disk, or the ledger has had its time: `watch` looks each second."""
        if not self._settle(outcome).done():
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    def _stop_waiting(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def _when_settled(self, settlement: asyncio.Future[None]) -> None:
        self._stop_waiting()
        _report_loss(settlement)

    def _settle(self, outcome: UsageOutcome) -> asyncio.Future[None]:
        if self._settlement is not None:
            return self._settlement
        tally, now = self._tally, datetime.now(UTC)
        final = tally.source is UsageSource.FINAL
        usage, lease = tally.usage, self._passage.lease
        charged = charge(usage, outcome=outcome, reserved=lease.reserved, was_asked=self._was_asked)
        lease.settle(charged)
        settlement = Settlement(
            request_id=self._admission.request_id,
            state=UsageState.SETTLED if final else UsageState.PARTIAL,
            settled_at=now,
            first_token_at=self._first_token_at,
            http_status=self._status,
            outcome=outcome,
            finish_reason=tally.finish_reason,
            usage=usage,
            usage_source=tally.source,
            charged_tokens=charged,
        )
        self._settlement = self._means.records.settle(settlement)
        self._settlement.add_done_callback(self._when_settled)
        self._phases.ended = self._time()
        self._means.metrics.settled(self._admission, settlement, self._phases)
        self._means.slow.look(self._admission, settlement, self._phases)
        _log_settlement(self._admission, settlement, engine=self._phases.engine)
        return self._settlement


def _stream_outcome(tally: Tally) -> UsageOutcome:
    """A stream is complete only if it ends with [DONE] and no error was in it."""
    if tally.failed:
        return UsageOutcome.UPSTREAM_ERROR
    return UsageOutcome.COMPLETED if tally.done else UsageOutcome.UPSTREAM_LOST


def _report_loss(settlement: asyncio.Future[None]) -> None:
    problem = None if settlement.cancelled() else settlement.exception()
    if isinstance(problem, LedgerUnavailable):
        log.error("settlement_not_durable", reason=problem.detail)


def _log_settlement(admission: Admission, settlement: Settlement, *, engine: str | None) -> None:
    """Say what did not go as it should; the ledger itself lists what did."""
    if settlement.outcome is UsageOutcome.COMPLETED:
        return
    first = settlement.first_token_at
    log.info(
        "request_not_completed",
        request_id=admission.request_id,
        caller_request_id=admission.caller_request_id,
        key_id=admission.key_id,
        team=admission.team,
        engine=engine,
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
