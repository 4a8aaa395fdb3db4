"""What the gateway costs beside nginx, in one run, on the loopback address.

    python -m tests.bench.gateway_bench [--nginx PATH] [--streams 64] [--tokens 60] [--rounds 2]

A stand-in engine streams at a fixed pace; the same callers go to it directly, through the gateway
(TLS, metered, every admission durable) and, where there is an nginx, through that (TLS, unbuffered).
Read the ratios: absolute times belong to the machine, and CPU seconds say more than wall time on a
shared one. Each target is visited in each round, in turning order. Bounded: about half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import ssl
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from tests.api.gateway.test_killed_gateway import GATEWAY, free_port
from tests.support.certificates import LoopbackTls, make_loopback_tls
from tests.support.fake_engine import MODEL

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

NGINX = """
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engine {{ server unix:{folder}/engine.sock; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://engine; }}
  }}
}}
"""


@dataclass(slots=True)
class Target:
    """One way to the engine, and what it cost."""

    name: str
    connect: Connect
    pid: int | None
    secret: str = ""
    stream_cpu_s: float = 0.0
    chunks: int = 0
    whole_cpu_s: float = 0.0
    requests: int = 0
    first_s: list[float] = field(default_factory=list)


async def ask(target: Target, *, stream: bool) -> tuple[int, float]:
    """Make one request on its own connection; return (chunks seen, seconds to the first token)."""
    question = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    body = json.dumps(question if stream else question | {"max_tokens": 1}).encode()
    reader, writer = await target.connect()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {target.secret}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    began = time.perf_counter()
    writer.write(head.encode() + body)
    chunks, first, tail = 0, 0.0, b""
    while received := await reader.read(65_536):
        text = tail + received
        chunks += text.count(b'"delta":{"content"') - tail.count(b'"delta":{"content"')
        first = first or (time.perf_counter() - began if chunks else 0.0)
        tail = text[-40:]
    writer.close()
    return chunks, first


def cpu_s(pid: int | None) -> float:
    """Return the CPU seconds of a process and its children."""
    if pid is None:
        return 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in [str(pid), *children]:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def memory_mb(pid: int | None) -> float:
    if pid is None:
        return 0.0
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


async def visit(target: Target, *, streams: int, requests: int) -> None:
    before = cpu_s(target.pid)
    seen = await asyncio.gather(*(ask(target, stream=True) for _ in range(streams)))
    target.stream_cpu_s += cpu_s(target.pid) - before
    target.chunks += sum(chunks for chunks, _ in seen)
    target.first_s += [first for _, first in seen]

    before, left = cpu_s(target.pid), requests

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await ask(target, stream=False)

    await asyncio.gather(*(caller() for _ in range(8)))
    target.whole_cpu_s += cpu_s(target.pid) - before
    target.requests += requests


@asynccontextmanager
async def running(program: str, *arguments: str, **environment: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(program, *arguments, stdout=PIPE, env=os.environ | environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listening(connect: Connect) -> None:
    for _ in range(2_000):
        try:
            _, writer = await connect()
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise TimeoutError


def over_tls(port: int, tls: LoopbackTls) -> Connect:
    context: ssl.SSLContext = tls.client_context()
    return lambda: asyncio.open_connection("127.0.0.1", port, ssl=context)


async def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Target], float, tuple[int, int]]:
    tls, ledger = make_loopback_tls(folder), folder / "ledger.db"
    create_ledger(ledger, os.getuid(), os.getgid())
    database = open_ledger(ledger)
    _, secret = SqlKeyRegister(database).create(name="bench", team="bench", at=datetime.now(UTC))
    script = json.dumps({"tokens": options.tokens, "gap_s": options.gap_ms / 1000})
    socket, port = folder / "engine.sock", free_port()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running(sys.executable, "-m", "tests.support.fake_engine", str(socket), "", script)
        )
        assert engine.stdout is not None
        await engine.stdout.readline()
        parts = {"--socket": socket, "--ledger": ledger, "--tls-cert": tls.certificate, "--tls-key": tls.key}
        parts |= {"--host": Path("127.0.0.1"), "--port": Path(str(port)), "--served-model": Path(MODEL)}
        arguments = [str(part) for pair in parts.items() for part in pair]
        with (folder / "gateway.log").open("wb") as log:
            gateway = await asyncio.create_subprocess_exec(
                sys.executable, "-c", GATEWAY, *arguments, stdout=log, env=os.environ | {"LEEWARD_ROOT": str(folder)}
            )
        stack.push_async_callback(gateway.wait)
        stack.callback(gateway.terminate)
        targets = [
            Target("direct", lambda: asyncio.open_unix_connection(socket), None),
            Target("gateway", over_tls(port, tls), gateway.pid, secret),
        ]
        if options.nginx:
            beside = free_port()
            (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=beside, tls=tls))
            nginx = await stack.enter_async_context(running(options.nginx, "-c", str(folder / "nginx.conf")))
            targets.append(Target("nginx", over_tls(beside, tls), nginx.pid))
        for target in targets:
            await listening(target.connect)
            await visit(Target("warm", target.connect, None, target.secret), streams=4, requests=8)
        for number in range(options.rounds):
            for place in range(len(targets)):
                target = targets[(place + number) % len(targets)]
                await visit(target, streams=options.streams, requests=options.requests)
        memory = memory_mb(gateway.pid)
    counts = SqlUsageReader(database).counts()
    database.dispose()
    return targets, memory, counts


def report(targets: list[Target], memory: float, counts: tuple[int, int]) -> str:
    lines = [
        f"{'target':<9}{'chunks':>8}{'CPU ms/1,000 chunks':>22}{'CPU us/request':>16}{'TTFT p50 ms':>13}{'p99':>7}"
    ]
    for target in targets:
        first = statistics.quantiles(target.first_s, n=100)
        per_chunks = f"{target.stream_cpu_s / target.chunks * 1e6:.1f}" if target.pid else "-"
        per_request = f"{target.whole_cpu_s / target.requests * 1e6:.0f}" if target.pid else "-"
        lines.append(
            f"{target.name:<9}{target.chunks:>8}{per_chunks:>22}{per_request:>16}"
            f"{first[49] * 1e3:>13.1f}{first[98] * 1e3:>7.1f}"
        )
    by_name = {target.name: target for target in targets}
    if "nginx" in by_name and by_name["nginx"].whole_cpu_s and by_name["nginx"].stream_cpu_s:
        ours, theirs = by_name["gateway"], by_name["nginx"]
        chunk_ratio = (ours.stream_cpu_s / ours.chunks) / (theirs.stream_cpu_s / theirs.chunks)
        request_ratio = (ours.whole_cpu_s / ours.requests) / (theirs.whole_cpu_s / theirs.requests)
        lines.append(f"gateway / nginx: {chunk_ratio:.2f} per chunk, {request_ratio:.2f} per whole request")
    lines.append(f"gateway's memory {memory:.0f} MB; ledger {counts[0]} records, {counts[1]} unsettled")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nginx", default=shutil.which("nginx"))
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as folder:
        targets, memory, counts = asyncio.run(measure(options, Path(folder)))
    sys.stdout.write(report(targets, memory, counts) + "\n")


if __name__ == "__main__":
    main()
