"""An engine that plays back what the real one sent (`recorded/`), event by event, and can break off.

The recordings are vLLM 0.32's own bytes, taken from the tiny model on a CPU.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.fake_engine import MODEL

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def recording_of(path: str) -> str:
    """Name the recording for a path: its first word, and chat's own."""
    return path.removeprefix("/v1/").partition("/")[0]


@dataclass(slots=True)
class PlayedEngine:
    gap_s: float = 0.0
    break_after: int | None = None
    refusal: tuple[int, bytes] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    played: int = 0
    generated: int = 0  # as the fake engine has it
    _runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        app = web.Application()
        app.router.add_post("/v1/{rest:.*}", self._play)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "created": 1, "max_model_len": 262144}]})

    async def _play(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if self.refusal is not None:
            return web.Response(status=self.refusal[0], body=self.refusal[1], content_type="application/json")
        name = recording_of(request.path)
        if request.path.endswith("count_tokens"):
            return web.Response(body=b'{"input_tokens":20}', content_type="application/json")
        if not body.get("stream"):
            return web.Response(body=recorded(f"{name}.json"), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for number, event in enumerate(recorded(f"{name}.sse").split(b"\n\n")[:-1]):
            if number == self.break_after and request.transport is not None:
                request.transport.abort()
                raise ConnectionResetError
            await response.write(event + b"\n\n")
            self.played += 1
            await asyncio.sleep(self.gap_s)
        return response
