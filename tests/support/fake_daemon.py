"""A management daemon that remembers instead of acting: the real API on a real Unix socket.

It speaks the routes of docs/design.md with the codec of `appliance.domain.wire`. What it says is
handed in; what it was asked is kept in `asked`, so that a test can also assert what did not happen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from appliance.domain.errors import NotFound, OperationConflict
from appliance.domain.events import CancelRequested, Event, EventRecord, OperationStarted
from appliance.domain.health import HealthReport
from appliance.domain.operation import STEPS, OperationId, OperationKind
from appliance.domain.preflight import Finding
from appliance.domain.projection import OperationView, fold_all
from appliance.domain.status import NodeStatus
from appliance.domain.wire import to_plain
from bundles.errors import LeewardError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[web.Request, Any], Any]


class FakeDaemon:
    """Serves what it was given. `stop` and `start` again is a daemon that goes and comes back."""

    def __init__(
        self,
        *,
        socket: Path,
        status: NodeStatus,
        health: HealthReport,
        now: Callable[[], datetime],
        findings: tuple[Finding, ...] = (),
    ) -> None:
        self.socket = socket
        self.status = status
        self.health = health
        self.findings = findings
        self.refusal: LeewardError | None = None
        self.answers: dict[tuple[str, str], Answer] = {}
        """What other routes say, by method and path; a path that ends in / stands for all below it."""
        self.journals: dict[OperationId, list[EventRecord]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self._now = now
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application(middlewares=[self._problems])
        app.add_routes([
            web.get("/v1/status", self._get_status),
            web.get("/v1/health", self._get_health),
            web.get("/v1/preflight", self._get_preflight),
            web.get("/v1/operations", self._get_operations),
            web.post("/v1/operations", self._post_operation),
            web.get("/v1/operations/{id}", self._get_operation),
            web.get("/v1/operations/{id}/events", self._get_events),
            web.post("/v1/operations/{id}/cancel", self._post_cancel),
            web.route("*", "/v1/{rest:.*}", self._any_other),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.socket.unlink(missing_ok=True)

    async def happen(self, operation_id: OperationId, *events: Event, at: datetime | None = None) -> None:
        """Append events to an operation's journal and wake who waits for them."""
        journal = self.journals.setdefault(operation_id, [])
        for event in events:
            seq = len(journal) + 1
            journal.append(EventRecord(operation_id=operation_id, seq=seq, at=at or self._now(), event=event))
        async with self._news:
            self._news.notify_all()

    def view(self, operation_id: OperationId) -> OperationView:
        view = fold_all(None, self.journals.get(operation_id, []))
        if view is None:
            raise NotFound(detail=f"No operation {operation_id}.", remedy="Run `leeward operations`.")
        return view

    def unfinished(self) -> OperationView | None:
        views = [self.view(operation_id) for operation_id in self.journals]
        return next((view for view in views if not view.state.ended), None)

    @web.middleware
    async def _problems(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, body))
        try:
            return await handler(request)
        except LeewardError as error:
            code = {NotFound: 404, OperationConflict: 409}.get(type(error), 422)
            problem = {
                "type": f"urn:leeward:error:{error.code}", "title": error.title, "status": code,
                "detail": error.detail, "code": error.code, "remedy": error.remedy,
            }  # fmt: skip
            return web.json_response(problem, status=code, content_type="application/problem+json")

    async def _get_status(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(to_plain(replace(self.status, unfinished=self.unfinished())))

    async def _get_health(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(to_plain(self.health))

    async def _get_preflight(self, _: web.Request) -> web.StreamResponse:
        if self.refusal is not None:
            raise self.refusal
        return web.json_response([to_plain(finding) for finding in self.findings])

    async def _get_operations(self, _: web.Request) -> web.StreamResponse:
        return web.json_response([to_plain(self.view(operation_id)) for operation_id in reversed(self.journals)])

    async def _get_operation(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(to_plain(self.view(OperationId(request.match_info["id"]))))

    async def _post_operation(self, request: web.Request) -> web.StreamResponse:
        busy = self.unfinished()
        if busy is not None:
            raise OperationConflict(detail=f"{busy.id} has not ended.", remedy="Wait for it, or stop it.")
        kind = OperationKind((await request.json())["kind"])
        operation_id = OperationId(f"01900000-0000-7000-8000-{len(self.journals) + 1:012}")
        started = OperationStarted(kind=kind, actor=self.status.caller, node=self.status.node, steps=STEPS[kind])
        await self.happen(operation_id, started)
        return web.json_response(to_plain(self.view(operation_id)), status=202)

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        operation_id = OperationId(request.match_info["id"])
        after, wait_s = int(request.query.get("after", "0")), float(request.query.get("wait", "0"))
        self.view(operation_id)
        journal = self.journals[operation_id]
        if len(journal) <= after and wait_s:
            async with self._news:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait_for(lambda: len(journal) > after), wait_s)
        return web.json_response([to_plain(record) for record in journal[after:]])

    async def _any_other(self, request: web.Request) -> web.StreamResponse:
        whole, below = request.path, request.path.rpartition("/")[0] + "/"
        answer = self.answers.get((request.method, whole)) or self.answers.get((request.method, below))
        if answer is None:
            raise NotFound(detail=f"No answer was given for {request.method} {whole}.", remedy="Give the scene one.")
        said = answer(request, await request.json() if request.body_exists else None)
        return web.Response(status=204) if said is None else web.json_response(to_plain(said))

    async def _post_cancel(self, request: web.Request) -> web.StreamResponse:
        operation_id = OperationId(request.match_info["id"])
        self.view(operation_id)
        await self.happen(operation_id, CancelRequested(actor=self.status.caller))
        return web.json_response(to_plain(self.view(operation_id)), status=202)
