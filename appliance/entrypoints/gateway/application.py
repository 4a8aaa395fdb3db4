"""The gateway's ASGI application: the hot routes, and FastAPI for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import Engine
from starlette.exceptions import HTTPException as StarletteHTTPException

from appliance.adapters.capture import Capture
from appliance.adapters.sql_ledger import KeyLookup, LedgerWriter, SqlTenancyRegister, SqlUsageReader, open_ledger
from appliance.adapters.sql_ledger.repeats import SqlRepeats
from appliance.domain.errors import LedgerUnavailable
from appliance.entrypoints.gateway.answers import Receive, Scope, Send, error_object
from appliance.entrypoints.gateway.chat import ChatDialect, CompletionDialect
from appliance.entrypoints.gateway.dialect import Dialect
from appliance.entrypoints.gateway.engines import EnginePlace, Engines
from appliance.entrypoints.gateway.exchange import Exchange, Means
from appliance.entrypoints.gateway.exposition import MetricsAccess, MetricsText
from appliance.entrypoints.gateway.gate import Gate, PolicyWatch, check_network
from appliance.entrypoints.gateway.messages import CountDialect, MessagesDialect
from appliance.entrypoints.gateway.messages import error_object as anthropic_error
from appliance.entrypoints.gateway.metrics import GatewayMetrics
from appliance.entrypoints.gateway.metrics_route import MetricsRoute, Watched
from appliance.entrypoints.gateway.models import (
    ANTHROPIC_HEADER,
    anthropic_list,
    anthropic_model,
    model_list,
    model_object,
)
from appliance.entrypoints.gateway.pages import add_pages
from appliance.entrypoints.gateway.records import Records
from appliance.entrypoints.gateway.refusals import Refusal
from appliance.entrypoints.gateway.responses import ResponsesDialect
from appliance.entrypoints.gateway.route import HotRoute, key_of
from appliance.entrypoints.gateway.salt import CacheSalt
from appliance.entrypoints.gateway.sign_in import add_sign_in
from appliance.entrypoints.gateway.tracing import SlowLimits, SlowLog
from appliance.entrypoints.gateway.upstream import EngineUnreachable, unix_door
from appliance.gateway_settings import OWN_ENGINE
from appliance.services.queueing import FairQueue, QueueLimits
from appliance.services.quotas import QuotaBook
from appliance.services.request_body import ChatLimits

log = structlog.get_logger()

TICK_S = 1.0
_HEALTH_CACHE_S = 1.0
_CODES = {401: "invalid_api_key", 503: "engine-not-ready"}
NOT_SERVED = {
    "/v1/conversations": "Nothing is stored here: send the whole conversation with each request.",
    "/v1/embeddings": "This node serves no model for embeddings.",
    "/v1/fim/": "The served model does not fill in the middle.",
    "/v1/files": "Nothing is stored here: give images as data: URLs.",
    "/v1/messages/batches": "Batches are not served: send each message by itself.",
    "/v1/responses/": "Responses are not stored here: each is told once, to whoever asked for it.",
}
"""What some paths get instead of a bare 404, by how they begin."""

_LAST_WORDS_TURNS = 500  # of 10 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """What one gateway process serves and where its neighbours are.

    `engines` are all the engines; without any, the one behind `engine_socket` is. `queue.slots` is how
    many requests they take together.
    """

    engine_socket: Path
    ledger: Path
    served_model: str
    limits: ChatLimits = field(default_factory=ChatLimits)
    reserve_bytes: int = 64 * 1024 * 1024
    queue: QueueLimits = field(default_factory=QueueLimits)
    metrics: MetricsAccess | None = None
    slow: SlowLimits = field(default_factory=SlowLimits)
    engines: tuple[EnginePlace, ...] = ()
    drained: Path | None = None
    standings: Path | None = None
    sign_in: Path | None = None
    capture_order: Path = Path("/nonexistent")

    @property
    def places(self) -> tuple[EnginePlace, ...]:
        """Every engine."""
        own = EnginePlace(name=OWN_ENGINE, door=unix_door(self.engine_socket), slots=self.queue.slots)
        return self.engines or (own,)


class GatewayApplication:
    """The ASGI application. It opens ledger and engine at lifespan startup and closes them at shutdown."""

    def __init__(self, options: GatewayOptions, *, boot_id: str) -> None:
        self._options = options
        self._boot_id = boot_id
        self._hot: dict[str, HotRoute] = {}
        self._keys: KeyLookup | None = None
        self._engines: Engines | None = None
        self._ledger: LedgerWriter | None = None
        self._health: tuple[float, bool] = (0.0, False)
        self._metrics: MetricsRoute | None = None
        self._other = _fastapi(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._hot.get(scope["path"]) if scope["type"] == "http" else None
        await (route or self._other)(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Open everything, run, and close once the last exchange is settled."""
        options = self._options
        ledger = LedgerWriter(options.ledger, boot_id=self._boot_id, reserve_bytes=options.reserve_bytes)
        reading: Engine | None = None
        aside: list[asyncio.Task[None]] = []
        in_flight: dict[str, Exchange] = {}
        capture = Capture(options.capture_order, options.ledger.parent / "captured")
        queue = FairQueue(options.queue)
        engines = Engines(options.places, drained=options.drained, standings=options.standings, changed=queue.resize)
        try:
            records = Records(ledger)
            abandoned = ledger.open()
            reading = open_ledger(options.ledger)
            self._keys, self._engines, self._ledger = KeyLookup(reading), engines, ledger
            means = Means(
                engines=engines,
                records=records,
                in_flight=in_flight,
                metrics=GatewayMetrics(),
                slow=SlowLog(options.slow),
                capture=capture,
            )
            book = QuotaBook()
            policy = PolicyWatch(SqlTenancyRegister(reading), book, boot_id=self._boot_id)
            await policy.look()
            gate = Gate(book=book, queue=queue, repeats=SqlRepeats(reading))
            self._metrics = self._metrics_route(means, queue, ledger, reading)
            self._hot = {
                dialect.path: HotRoute(dialect, means=means, keys=self._keys, gate=gate) for dialect in self._dialects()
            }
            engines.look_for_drained()
            capture.look()
            aside = [
                asyncio.create_task(work)
                for work in (_tick(means), policy.follow(), engines.follow(), _follow(capture))
            ]
            log.info("gateway_started", served_model=options.served_model, boot_id=self._boot_id, abandoned=abandoned)
            yield
        finally:
            self._hot = {}
            for task in aside:
                task.cancel()
            await _wait_for_last_words(in_flight)
            engines.close()
            await asyncio.to_thread(capture.close)
            await asyncio.to_thread(ledger.close)
            if reading is not None:
                reading.dispose()
            log.info("gateway_stopped", unsettled=len(in_flight))

    def _dialects(self) -> tuple[Dialect, ...]:
        """Make the hot routes' dialects."""
        options, salt = self._options, CacheSalt()
        kinds = (ChatDialect, CompletionDialect, ResponsesDialect, MessagesDialect, CountDialect)
        return tuple(kind(served_model=options.served_model, limits=options.limits, salt=salt) for kind in kinds)

    def _metrics_route(
        self, means: Means, queue: FairQueue, writer: LedgerWriter, reading: Engine
    ) -> MetricsRoute | None:
        """Make the page of metrics, if the site has said who reads it."""
        options = self._options
        if options.metrics is None:
            return None
        watched = Watched(
            model=options.served_model,
            queue=queue,
            in_flight=means.in_flight,
            ledger=options.ledger,
            reserve_bytes=options.reserve_bytes,
            writer=writer,
            reader=SqlUsageReader(reading),
            engines=means.engines,
        )
        return MetricsRoute(options.metrics, text=MetricsText(means.metrics), watched=watched)

    async def metrics(self, request: Request) -> Response:
        """Return the page of metrics. Raises HTTPException: 404 where the site wants none, 401."""
        if self._metrics is None:
            raise HTTPException(404, "There is no page of metrics: see [metrics] in the site configuration.")
        return await self._metrics.answer(request)

    async def is_engine_healthy(self) -> bool:
        """Ask the engine, at most once a second."""
        asked_at, healthy = self._health
        if time.monotonic() - asked_at > _HEALTH_CACHE_S:
            healthy = self._engines is not None and await self._engines.is_healthy()
            self._health = (time.monotonic(), healthy)
        return healthy

    def has_room(self) -> bool:
        """Whether the ledger takes more records."""
        return self._ledger is not None and self._ledger.has_room()

    async def model(self) -> dict[str, Any]:
        """Describe the served model. Raises HTTPException with 503."""
        if self._engines is None:
            raise HTTPException(503, "The gateway is starting.")
        try:
            seen = await self._engines.model(self._options.served_model)
        except EngineUnreachable:
            seen = None
        if seen is None:
            raise HTTPException(503, "The engine does not answer. Try again soon.", {"Retry-After": "5"})
        return model_object(self._options.served_model, seen)

    def require_key(self, request: Request) -> None:
        """Raise 401 unless the request carries a valid key, 503 if that cannot be known."""
        try:
            key = None if self._keys is None else key_of(request.scope["headers"], self._keys)
        except LedgerUnavailable as problem:
            raise HTTPException(503, problem.detail, {"Retry-After": "5"}) from problem
        if key is None:
            raise HTTPException(401, "No valid API key was given.", {"WWW-Authenticate": "Bearer"})
        try:
            check_network(key, request.scope)
        except Refusal as refusal:
            raise HTTPException(refusal.status, refusal.message) from refusal

    @property
    def sign_in(self) -> Path | None:
        """Where the site's sign-in service listens, if it does."""
        return self._options.sign_in

    @property
    def served_model(self) -> str:
        """The one model that is served."""
        return self._options.served_model


def _fastapi(gateway: GatewayApplication) -> FastAPI:
    """Make the routes where a framework's cost does not matter. No docs pages: they load scripts from afar."""
    api = FastAPI(title="Leeward gateway", openapi_url=None, lifespan=gateway.lifespan, redirect_slashes=False)

    @api.get("/healthz")
    async def healthz() -> Response:
        healthy = await gateway.is_engine_healthy()
        admits = gateway.has_room()
        state = {"engine": "ok" if healthy else "unreachable", "ledger": "ok" if admits else "not writable"}
        return JSONResponse(state, status_code=200 if healthy and admits else 503)

    @api.get("/metrics")
    async def metrics(request: Request) -> Response:
        return await gateway.metrics(request)

    @api.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        gateway.require_key(request)
        seen = await gateway.model()
        return anthropic_list(seen) if ANTHROPIC_HEADER in request.headers else model_list(seen)

    @api.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        gateway.require_key(request)
        if name != gateway.served_model:
            raise HTTPException(404, "This node does not serve the model that was asked for.")
        seen = await gateway.model()
        return anthropic_model(seen) if ANTHROPIC_HEADER in request.headers else seen

    @api.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, problem: Exception) -> Response:
        if not isinstance(problem, StarletteHTTPException):
            raise problem
        status, path = problem.status_code, request.url.path
        why = next((why for start, why in NOT_SERVED.items() if path.startswith(start)), str(problem.detail))
        body = error_object(status, why, code=_CODES.get(status, "not-served"))
        if ANTHROPIC_HEADER in request.headers or path.startswith("/v1/messages"):
            body = anthropic_error(status, why)
        return JSONResponse(body, status_code=status, headers=problem.headers)

    add_sign_in(api, gateway.sign_in)
    add_pages(api, gateway.served_model)
    return api


async def _tick(means: Means) -> None:
    """Write running counts each second, so that a kill hides at most the last second's tokens."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(TICK_S)
        means.engines.sweep()
        exchanges, now = tuple(means.in_flight.values()), loop.time()
        running = [progress for exchange in exchanges if (progress := exchange.progress())]
        if running:
            means.records.progress(running)
        for exchange in exchanges:
            exchange.watch(now)


async def _follow(capture: Capture) -> None:
    """Hold to a change of the order to capture within a second or so."""
    while True:
        await asyncio.sleep(TICK_S)
        await asyncio.to_thread(capture.look)


async def _wait_for_last_words(in_flight: dict[str, Exchange]) -> None:
    for _ in range(_LAST_WORDS_TURNS):
        if not in_flight:
            return
        await asyncio.sleep(0.01)
