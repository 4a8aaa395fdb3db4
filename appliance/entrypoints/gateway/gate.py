"""Between a judged request and its admission: may this key ask this now, and when is its turn.

What refuses here leaves no record and the engine does not hear of it. Everything is decided in
memory; only a request that carries an Idempotency-Key costs a query.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog

from appliance.adapters.sql_ledger.repeats import SqlRepeats
from appliance.adapters.sql_ledger.tenancy import SqlTenancyRegister
from appliance.domain.errors import LedgerUnavailable, QuotaExceeded
from appliance.domain.quotas import Measure, Remaining
from appliance.domain.tenancy import is_within, networks_of
from appliance.domain.usage import ApiKey, UsageOutcome, UsageState
from appliance.entrypoints.gateway.answers import RETRY_AFTER, Header, Scope
from appliance.entrypoints.gateway.caller import Caller
from appliance.entrypoints.gateway.dialect import EngineRequest
from appliance.entrypoints.gateway.refusals import ClientGone, Refusal
from appliance.entrypoints.gateway.tracing import Phases
from appliance.services.queueing import FairQueue, Standing, Turn
from appliance.services.quotas import Lease, QuotaBook, estimate_tokens

log = structlog.get_logger()

IDEMPOTENCY_KEY = b"idempotency-key"
IDEMPOTENCY_CHARACTERS = 255
IDEMPOTENCY_HOLDS = timedelta(hours=24)
_LOOK_EACH_S = 1.0
_RETRY_NO_MORE: Header = (b"x-should-retry", b"false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """By which codes a request and a repetition of it are known: HMAC-SHA-256 under the caller's secret."""

    idempotency_mac: str
    body_mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A judged request, and whose it is."""

    request_id: str
    key: ApiKey
    request: EngineRequest
    repetition: Repetition | None
    at: datetime
    phases: Phases
    caller_request_id: str | None


class Gate:
    """Lets requests pass: scope of the key, repetition, quota, turn."""

    def __init__(self, *, book: QuotaBook, queue: FairQueue, repeats: SqlRepeats) -> None:
        self._book = book
        self._queue = queue
        self._repeats = repeats
        self._running: dict[str, tuple[str, str]] = {}

    def enter(self, asked: Asked, caller: Caller) -> Passage:
        """Count the request, or refuse it. Raises Refusal."""
        check_model(asked.key, asked.request.model)
        self._refuse_repetition(asked)
        try:
            reserve = estimate_tokens(asked.request.body) if self._book.is_limiting else 0
            lease = self._book.admit(asked.key, reserve=reserve, at=asked.at)
        except QuotaExceeded as problem:
            log.info("quota_exceeded", request_id=asked.request_id, key_id=asked.key.key_id, detail=problem.detail)
            raise _over_quota(problem) from problem
        mac = None if asked.repetition is None else asked.repetition.idempotency_mac
        if asked.repetition is not None:
            self._running[asked.repetition.idempotency_mac] = asked.request_id, asked.repetition.body_mac

        def over() -> None:
            if mac is not None:
                self._running.pop(mac, None)

        return Passage(self._queue, asked=asked, caller=caller, lease=lease, over=over)

    def _refuse_repetition(self, asked: Asked) -> None:
        """Let a request pass that is new, or whose predecessors have all failed. Raises Refusal."""
        mine = asked.repetition
        if mine is None:
            return
        running = self._running.get(mine.idempotency_mac)
        if running is not None:
            _compare(running[1], mine)
            raise _still_running(running[0])
        try:
            earlier = self._repeats.newest(mine.idempotency_mac, since=asked.at - IDEMPOTENCY_HOLDS)
        except LedgerUnavailable as problem:
            log.error("repeats_not_readable", reason=problem.detail)  # noqa: TRY400  the reason says it all
            told = f"{problem.detail} {problem.remedy}"
            raise Refusal(503, told, code=problem.code, headers=(RETRY_AFTER,)) from problem
        if earlier is None:
            return
        _compare(earlier.body_mac, mine)
        if earlier.state is UsageState.ADMITTED:
            raise _still_running(earlier.request_id)
        if earlier.outcome is UsageOutcome.COMPLETED:
            told = (
                f"Request {earlier.request_id} with this Idempotency-Key was answered whole "
                f"({earlier.prompt_tokens} prompt tokens, {earlier.completion_tokens} completion tokens). "
                "Answers are stored nowhere; to ask again, send another Idempotency-Key."
            )
            raise Refusal(409, told, code="idempotency-answered", headers=(_first(earlier.request_id), _RETRY_NO_MORE))


class Passage:
    """A request on its way through the gate. Use as a context manager; `settle` when it has cost something."""

    def __init__(
        self, queue: FairQueue, *, asked: Asked, caller: Caller, lease: Lease, over: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._asked = asked
        self._caller = caller
        self._over = over
        self._turn: Turn | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.lease = lease

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lease.cancel()  # which does nothing where the request was settled
        if self._turn is not None:
            self._queue.leave(self._turn)
        self._over()

    async def wait(self) -> None:
        """Return when it is this request's turn. Raises Refusal if it has to make room, ClientGone."""
        key = self._asked.key
        self._turn = turn = self._queue.enter(
            key.team,
            weight=key.priority.weight,
            size_bytes=len(self._asked.request.body),
            wake=self._wake,
        )
        if turn.standing is Standing.WAITING:
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            self._caller.tell(_Leaving(waiter))
            try:
                if not self._caller.is_gone:
                    await waiter
            finally:
                self._caller.tell(None)
        if turn.standing is Standing.DROPPED:
            many = "Too many requests wait for the engine, most of them your team's. Try again soon."
            raise Refusal(503, many, code="busy", headers=(RETRY_AFTER,))
        if self._caller.is_gone:
            raise ClientGone

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def headers(self) -> tuple[Header, ...]:
        """What is left of the quotas, in OpenAI's words."""
        return rate_headers(self.lease.remaining)


class _Leaving:
    """`caller.Relay` of a request that waits: nothing is written yet, so only leaving matters."""

    def __init__(self, waiter: asyncio.Future[None]) -> None:
        self._waiter = waiter

    def caller_left(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(None)

    def caller_is_full(self) -> None: ...

    def caller_has_room(self) -> None: ...


class PolicyWatch:
    """Brings teams' entities and quotas from the ledger into the book, each second or so."""

    def __init__(self, register: SqlTenancyRegister, book: QuotaBook, *, boot_id: str) -> None:
        self._register = register
        self._book = book
        self._boot_id = boot_id
        self._version: tuple[int, ...] | None = None

    async def look(self) -> None:
        """Read what has changed, if anything has. Raises LedgerUnavailable."""
        version = await asyncio.to_thread(self._register.version)
        if version == self._version:
            return
        quotas = await asyncio.to_thread(self._register.quotas)
        entities = {team.team: team.entity for team in await asyncio.to_thread(self._register.teams)}
        for period in self._book.missing(quotas):
            start = period.start(datetime.now(UTC))
            earlier = await asyncio.to_thread(self._register.earlier_use, start, except_boot_id=self._boot_id)
            self._book.add_earlier(period, start, earlier, entities)
        self._book.install(quotas)
        self._version = version
        log.info("quotas_installed", quotas=len(quotas), teams=len(entities))

    async def follow(self) -> None:
        """Look again each second, for ever: what was read last holds while the ledger cannot be read."""
        while True:
            await asyncio.sleep(_LOOK_EACH_S)
            try:
                await self.look()
            except LedgerUnavailable as problem:
                log.error("quotas_not_readable", reason=problem.detail)  # noqa: TRY400  the reason says it all


def check_network(key: ApiKey, scope: Scope) -> None:
    """Raise Refusal if a key may not be used from where the caller is."""
    if not key.networks:
        return
    client = scope.get("client")
    address = client[0] if client else ""
    if not is_within(address, networks_of(key.networks)):
        log.warning("key_used_from_elsewhere", key_id=key.key_id, team=key.team, address=address)
        raise Refusal(403, "This API key may not be used from your network.", code="network-not-allowed")


def check_model(key: ApiKey, model: str) -> None:
    """Raise Refusal if a key may not ask a model."""
    if key.models and model not in key.models:
        raise Refusal(403, f"This API key may not ask {model}.", code="model-not-allowed")


def repetition_of(headers: Iterable[Header], *, secret: str, path: str, body: bytes) -> Repetition | None:
    """Return the codes of a request that carries an Idempotency-Key. Raises Refusal for one that is none."""
    given = next((value for name, value in headers if name == IDEMPOTENCY_KEY), None)
    if given is None:
        return None
    text = given.decode("latin-1")
    if not 1 <= len(text) <= IDEMPOTENCY_CHARACTERS or not (text.isascii() and text.isprintable()):
        wrong = f"An Idempotency-Key has 1 to {IDEMPOTENCY_CHARACTERS} printable characters of ASCII."
        raise Refusal(400, wrong, code="idempotency-key-invalid")
    key = secret.encode("latin-1")
    return Repetition(
        idempotency_mac=hmac.new(key, b"key\n" + given, "sha256").hexdigest(),
        body_mac=hmac.new(key, b"body\n" + path.encode() + b"\n" + body, "sha256").hexdigest(),
    )


def rate_headers(remaining: Iterable[Remaining]) -> tuple[Header, ...]:
    """Write `x-ratelimit-*` as OpenAI's clients read it; times in seconds."""
    headers: list[Header] = []
    for one in remaining:
        name = one.measure.value.encode()
        headers.append((b"x-ratelimit-limit-" + name, b"%d" % one.limit))
        headers.append((b"x-ratelimit-remaining-" + name, b"%d" % one.left))
        if one.measure is not Measure.CONCURRENCY:
            headers.append((b"x-ratelimit-reset-" + name, b"%ds" % one.resets_in_s))
    return tuple(headers)


def _over_quota(problem: QuotaExceeded) -> Refusal:
    wait: Header = (b"retry-after", b"%d" % problem.retry_after_s)
    headers = (wait, *rate_headers(problem.remaining))
    return Refusal(429, f"{problem.detail} {problem.remedy}", code="rate_limit_exceeded", headers=headers)


def _compare(body_mac: str, mine: Repetition) -> None:
    if not hmac.compare_digest(body_mac, mine.body_mac):
        other = "This Idempotency-Key was sent with another request. Use a new one for each request."
        raise Refusal(422, other, code="idempotency-mismatch")


def _still_running(request_id: str) -> Refusal:
    told = f"Request {request_id} with this Idempotency-Key is under way."
    return Refusal(409, told, code="idempotency-running", headers=(_first(request_id), RETRY_AFTER))


def _first(request_id: str) -> Header:
    return (b"x-leeward-first-request-id", request_id.encode())
