"""A stand-in for vLLM's HTTP server on a Unix socket, for tests of the gateway.

It speaks as vLLM 0.33 does (running counts in every chunk if asked, a last chunk with no choices,
`[DONE]`), counts every token it made for every request, and can be told to fail. In a process of
its own (`python -m tests.support.fake_engine SOCKET LOG`) it appends one line per request to LOG
before its first token, and one after its last.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

MODEL = "mistral-medium-3.5"
PROMPT_TOKENS = 11


@dataclass(slots=True)
class Script:
    """How the engine behaves from now on."""

    tokens: int = 5
    gap_s: float = 0.0
    first_gap_s: float = 0.0
    refuse_with: int | None = None
    error_after: int | None = None
    lose_after: int | None = None
    cached_tokens: int | None = 4
    reasoning_tokens: int | None = 2
    image_tokens: int | None = None
    metrics: str = ""


@dataclass(slots=True)
class Seen:
    """What the engine saw and did for one request."""

    request_id: str
    body: dict[str, Any]
    headers: dict[str, str]
    generated: int = 0
    finished: bool = False


@dataclass(slots=True)
class FakeEngine:
    script: Script = field(default_factory=Script)
    seen: list[Seen] = field(default_factory=list)
    log: Path | None = None
    _runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        app = web.Application(client_max_size=128 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def generated(self) -> int:
        return sum(seen.generated for seen in self.seen)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.script.metrics)

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 262144}
        return web.json_response({"object": "list", "data": [model]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.headers.get("X-Request-Id", ""), await request.json(), dict(request.headers))
        self.seen.append(seen)
        self._note({"request_id": seen.request_id, "began": True})
        if self.script.refuse_with is not None:
            error = {"message": "refused by the engine", "type": "BadRequestError", "param": None, "code": 400}
            return web.json_response({"error": error}, status=self.script.refuse_with)
        try:
            if seen.body.get("stream"):
                return await self._stream(request, seen)
            return await self._whole(request, seen)
        finally:
            self._note({"request_id": seen.request_id, "generated": seen.generated, "finished": seen.finished})

    async def _whole(self, request: web.Request, seen: Seen) -> web.Response:
        await asyncio.sleep(self.script.first_gap_s)
        tokens = self._tokens(seen)
        while seen.generated < tokens:
            seen.generated += 1
            if self.script.gap_s:
                await asyncio.sleep(self.script.gap_s)
            if seen.generated == self.script.lose_after:
                _cut(request)
        seen.finished = True
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": " word" * seen.generated},
            "finish_reason": "stop",
        }
        head = _head(seen, "chat.completion")
        return _compact_response(head | {"choices": [choice], "usage": self._usage(seen.generated, final=True)})

    async def _stream(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        options = seen.body.get("stream_options") or {}
        continuous = options.get("include_usage") and options.get("continuous_usage_stats")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await asyncio.sleep(self.script.first_gap_s)
        head = _head(seen, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], reason: str | None) -> bytes:
            choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
            usage = {"usage": self._usage(seen.generated, final=False)} if continuous else {}
            return _event(head | {"choices": choices} | usage)

        await response.write(chunk({"role": "assistant", "content": ""}, None))
        tokens = self._tokens(seen)
        while seen.generated < tokens:
            if self.script.gap_s:
                await asyncio.sleep(self.script.gap_s)
            seen.generated += 1
            last = seen.generated == tokens
            await response.write(chunk({"content": f" word{seen.generated}"}, "stop" if last else None))
            if seen.generated == self.script.lose_after:
                _cut(request)
            if seen.generated == self.script.error_after:
                await response.write(_event({"error": {"message": "boom", "type": "InternalServerError", "code": 500}}))
                await response.write(b"data: [DONE]\n\n")
                return response
        if options.get("include_usage"):
            await response.write(_event(head | {"choices": [], "usage": self._usage(seen.generated, final=True)}))
        await response.write(b"data: [DONE]\n\n")
        seen.finished = True
        return response

    def _tokens(self, seen: Seen) -> int:
        return min(self.script.tokens, seen.body.get("max_tokens") or self.script.tokens)

    def _usage(self, completion: int, *, final: bool) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": PROMPT_TOKENS,
            "total_tokens": PROMPT_TOKENS + completion,
            "completion_tokens": completion,
        }
        if final and self.script.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.script.cached_tokens}
        if final and self.script.image_tokens is not None:
            details = usage.setdefault("prompt_tokens_details", {})
            details["multimodal_tokens"] = {"image": self.script.image_tokens}
        if final and self.script.reasoning_tokens is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.script.reasoning_tokens}
        return usage

    def _note(self, entry: dict[str, Any]) -> None:
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(json.dumps(entry) + "\n")


def _head(seen: Seen, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{seen.request_id}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": seen.body.get("model", MODEL)}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk, separators=(",", ":")).encode()


def _compact_response(answer: dict[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(answer, separators=(",", ":")).encode(), content_type="application/json")


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError


async def _serve(socket: Path, log: Path | None, script: Script) -> None:
    engine = FakeEngine(script=script, log=log)
    await engine.start(socket)
    print("ready", flush=True)  # noqa: T201  the parent waits for this line
    await asyncio.Event().wait()


if __name__ == "__main__":
    settings = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None, Script(**settings)))
