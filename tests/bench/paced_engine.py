"""A stand-in engine that costs little: it answers chat as vLLM does, each stream at a fixed pace.

    python -m tests.bench.paced_engine SOCKET PORT GAP_MS

It listens on the Unix socket and on a loopback TCP port, for proxies that know no Unix sockets.
The answer's length is the request's `max_tokens`. One write a token, chunked, with running counts
if they were asked for. Words differ, because LiteLLM breaks off an answer that repeats one too often.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

MODEL = "mistral-medium-3.5"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
COMMON = '"id":"chatcmpl-01934f3e","object":"chat.completion%s","created":1764000000,"model":"mistral-medium-3.5"'
START = (
    "data: {"
    + COMMON % ".chunk"
    + ',"choices":[{"index":0,"delta":{"content":" word%d"},"logprobs":null,"finish_reason":%s}]'
)


def framed(event: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event.encode())


def counts(tokens: int) -> str:
    return f'"usage":{{"prompt_tokens":11,"total_tokens":{11 + tokens},"completion_tokens":{tokens}}}'


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self, gap_s: float) -> None:
        self.gap_s = gap_s
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.transport: Any = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(fields.get(b"content-length", b"0"))
        if len(rest) < size:
            return
        self.buffer = rest[size:]
        if head.startswith(b"POST"):
            self.answer(json.loads(rest[:size]))
        else:
            listed = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1}]}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(listed), listed))

    def answer(self, request: dict[str, Any]) -> None:
        tokens = request.get("max_tokens") or 16
        if request.get("stream"):
            options = request.get("stream_options") or {}
            self.transport.write(HEAD)
            self.step(
                1,
                tokens,
                usage=bool(options.get("include_usage")),
                running=bool(options.get("continuous_usage_stats")),
                due=self.loop.time(),
            )
            return
        message = '{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}' % (
            " word" * tokens
        )
        body = "{" + COMMON % "" + f',"choices":[{message}],{counts(tokens)}}}'
        kind = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        self.transport.write(f"{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def step(self, number: int, tokens: int, *, usage: bool, running: bool, due: float) -> None:
        last = number == tokens
        event = START % (number % 10, '"stop"' if last else "null") + (
            f",{counts(number)}}}\n\n" if running else "}\n\n"
        )
        out = framed(event)
        if not last:
            self.transport.write(out)
            due += self.gap_s
            self.timer = self.loop.call_at(
                due, lambda: self.step(number + 1, tokens, usage=usage, running=running, due=due)
            )
            return
        if usage:
            out += framed("data: {" + COMMON % ".chunk" + f',"choices":[],{counts(tokens)}}}\n\n')
        self.transport.write(out + framed("data: [DONE]\n\n") + b"0\r\n\r\n")


async def serve(socket: str, port: int, gap_s: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(lambda: Answering(gap_s), socket, backlog=1024)
    await loop.create_server(lambda: Answering(gap_s), "127.0.0.1", port, backlog=1024)
    print("ready", flush=True)  # noqa: T201  the parent waits for this line
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
