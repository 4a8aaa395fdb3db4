"""An engine that is no model: it plays one edit loop, so that a coding agent has something to do.

The tiny model can call no tool but its own, so Mistral Vibe is tested against this script: read a
file, change a word in it, say so. It speaks as vLLM does (`tests.support.fake_engine`), and writes
what each request ended with to a log.

    python -m tests.clients.scripted_engine SOCKET LOG FILE OLD NEW
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

MODEL = "mistral-medium-3.5"
PROMPT_TOKENS, COMPLETION_TOKENS = 21, 7
LAST_WORDS = "The word is changed."
THOUGHT = "One word has to change."


def steps(file: str, old: str, new: str) -> list[dict[str, Any]]:
    """Return what is said in each turn, as the delta of a chunk."""

    def call(number: int, name: str, arguments: dict[str, object]) -> dict[str, Any]:
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"tool_calls": [{"id": f"call0000{number}", "type": "function", "index": 0, "function": function}]}

    return [
        {"reasoning": THOUGHT} | call(1, "read", {"file_path": file}),
        call(2, "edit", {"file_path": file, "old_string": old, "new_string": new}),
        {"content": LAST_WORDS},
    ]


class ScriptedEngine:
    def __init__(self, log: Path, turns: list[dict[str, Any]]) -> None:
        self._log = log
        self._turns = turns

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def models(self, _: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 262144}
        return web.json_response({"object": "list", "data": [model]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages = body["messages"]
        turn = sum(message["role"] == "tool" for message in messages)
        delta = self._turns[min(turn, len(self._turns) - 1)] if body.get("tools") else {"content": "A title"}
        with self._log.open("a") as log:
            entry = {
                "turn": turn,
                "last": messages[-1],
                "effort": body.get("reasoning_effort"),
                "stream": body["stream"],
            }
            log.write(json.dumps(entry | {"tools": [t["function"]["name"] for t in body.get("tools", [])]}) + "\n")
        reason = "tool_calls" if "tool_calls" in delta else "stop"
        usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": 28, "completion_tokens": COMPLETION_TOKENS}
        head = {"id": "chatcmpl-1", "created": 1, "model": MODEL}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant"} | delta, "finish_reason": reason}
            return web.json_response(head | {"object": "chat.completion", "choices": [choice], "usage": usage})
        head["object"] = "chat.completion.chunk"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        choice = {"index": 0, "delta": {"role": "assistant"} | delta, "finish_reason": reason}
        for chunk in ({"choices": [choice], "usage": usage}, {"choices": [], "usage": usage}):
            await response.write(b"data: %b\n\n" % json.dumps(head | chunk, separators=(",", ":")).encode())
        await response.write(b"data: [DONE]\n\n")
        return response


async def serve(socket: str, log: Path, turns: list[dict[str, Any]]) -> None:
    engine = ScriptedEngine(log, turns)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", engine.chat)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_get("/health", engine.health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, socket).start()
    print("ready", flush=True)  # noqa: T201  the parent waits for this line
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), steps(*sys.argv[3:6])))
