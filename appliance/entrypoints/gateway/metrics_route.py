"""Answers `GET /metrics`: checks who asks, looks at queue, ledger and engines, writes the page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request
from fastapi.responses import Response

from appliance.adapters.sql_ledger import LedgerWriter, SqlUsageReader
from appliance.domain.errors import LedgerUnavailable
from appliance.entrypoints.gateway.engines import Engines
from appliance.entrypoints.gateway.exposition import (
    LedgerState,
    MetricsAccess,
    MetricsText,
    Snapshot,
)
from appliance.services.queueing import FairQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at."""

    model: str
    queue: FairQueue
    in_flight: Sized
    ledger: Path
    reserve_bytes: int
    writer: LedgerWriter
    reader: SqlUsageReader
    engines: Engines


class MetricsRoute:
    """The page of one gateway."""

    def __init__(self, access: MetricsAccess, *, text: MetricsText, watched: Watched) -> None:
        self._access = access
        self._text = text
        self._watched = watched

    async def answer(self, request: Request) -> Response:
        """Return the page. Raises HTTPException with 401 for whoever may not read it."""
        address = request.client.host if request.client else ""
        if not self._access.allows(request.headers.get("authorization", ""), address):
            raise HTTPException(401, "No valid token for /metrics was given.", {"WWW-Authenticate": "Bearer"})
        page, content_type = self._text.write(await self._look(), request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type, "cache-control": "no-store"})

    async def _look(self) -> Snapshot:
        watched, queue = self._watched, self._watched.queue
        engines, unsettled = await asyncio.gather(watched.engines.states(), asyncio.to_thread(self._unsettled))
        return Snapshot(
            model=watched.model,
            queue_slots=queue.slots,
            queue_running=queue.running,
            queue_waiting=queue.waiting,
            queue_waiting_bytes=queue.waiting_bytes,
            in_flight=len(watched.in_flight),
            ledger=LedgerState(
                unsettled=unsettled,
                backlog=watched.writer.backlog,
                admits=watched.writer.has_room(),
                free_bytes=_free_bytes(watched.ledger.parent),
                reserve_bytes=watched.reserve_bytes,
            ),
            engines=engines,
            retries=watched.engines.retries,
        )

    def _unsettled(self) -> int | None:
        try:
            return self._watched.reader.unsettled()
        except LedgerUnavailable:
            return None


def _free_bytes(folder: Path) -> int | None:
    try:
        free = os.statvfs(folder)
    except OSError:
        return None
    return free.f_bavail * free.f_frsize
