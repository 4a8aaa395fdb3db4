"""What the gateway costs beside nginx, LiteLLM and vllm-router, in one run, on the loopback address.

    python -m tests.bench.gateway_bench [--nginx PATH] [--litellm] [--router] [--streams 256] [--rounds 2]

A stand-in engine streams at a fixed pace; the same callers go to it directly, through the gateway
(TLS, keys, validation, running counts asked for and taken out, every admission durable before it
is forwarded), through nginx (TLS, unbuffered, nothing else) and, if they are asked for, through
LiteLLM 1.100.5 (TLS, a master key, no database) and vllm-router 0.1.17 (no TLS, which it does not
speak, no keys, no metering). Connections are made before the clock starts.
Each target is visited in each round, in turning order, and the cheapest round counts, because
whatever else runs on the machine only ever adds. Read the ratios of CPU seconds: user and system
time of the target's processes from /proc; wall times belong to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from tests.api.gateway.test_killed_gateway import GATEWAY, free_port
from tests.bench.gateway_callers import Caller, Door, connect, connected
from tests.bench.paced_engine import MODEL
from tests.support.certificates import LoopbackTls, make_loopback_tls

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LITELLM = "litellm[proxy]==1.100.5"
LITELLM_HOME = Path(".cache/bench/litellm")
ROUTER = "vllm-router==0.1.17"
ROUTER_HOME = Path(".cache/bench/vllm-router")
MASTER_KEY = "sk-bench"

NGINX = """
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream engine {{ server unix:{folder}/engine.sock; keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024; ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://engine; }}
  }}
}}
"""


@dataclass(slots=True)
class Target:
    """One way to the engine, and what it cost in each round."""

    name: str
    door: Door
    pid: int | None
    chunk_cpu_us: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)
    request_cpu_us: list[float] = field(default_factory=list)
    first_ms: list[list[float]] = field(default_factory=list)
    memory_mb: float = 0.0


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def cpu_s(pid: int | None) -> float:
    """Return the CPU seconds of a process and its children."""
    total = 0
    for one in family(pid) if pid else ():
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def memory_mb(pid: int | None) -> float:
    total = 0
    for one in family(pid) if pid else ():
        row = next(row for row in Path(f"/proc/{one}/status").read_text().splitlines() if row.startswith("VmRSS"))
        total += int(row.split()[1])
    return total * 1024 / 1e6


async def relay_chunks(target: Target, options: argparse.Namespace) -> None:
    """Many paced streams at once; what is not there when a stream ought to be over does not count as delivered."""
    callers = await connected(target.door, options.streams)
    before = cpu_s(target.pid)
    spread_s, length_s = 1.0, options.tokens * options.gap_ms / 1000

    async def one(place: int, caller: Caller) -> None:
        await asyncio.sleep(spread_s * place / options.streams)
        await caller.ask(target.door, stream=True, tokens=options.tokens)

    asking = [asyncio.create_task(one(*pair)) for pair in enumerate(callers)]
    await asyncio.wait(asking, timeout=spread_s + length_s + 0.5)
    in_time = sum(caller.tokens for caller in callers)
    await asyncio.wait(asking, timeout=length_s)
    seen = sum(caller.tokens for caller in callers)
    target.chunk_cpu_us.append((cpu_s(target.pid) - before) / max(seen, 1) * 1e6)
    target.delivered.append(in_time / (options.streams * options.tokens))
    target.memory_mb = max(target.memory_mb, memory_mb(target.pid))
    for task, caller in zip(asking, callers, strict=True):
        caller.transport.abort()
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def take_requests(target: Target, options: argparse.Namespace) -> None:
    """Whole answers of one token from 16 callers, each asking again at once."""
    callers = await connected(target.door, 16)
    number = options.requests // 10 if target.name == "LiteLLM" else options.requests
    before, left = cpu_s(target.pid), number

    async def one(caller: Caller) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await caller.ask(target.door, stream=False, tokens=1)

    await asyncio.gather(*(one(caller) for caller in callers))
    target.request_cpu_us.append((cpu_s(target.pid) - before) / number * 1e6)
    for caller in callers:
        caller.transport.abort()


async def first_tokens(target: Target, options: argparse.Namespace) -> None:
    """The wait for a first token, 16 paced streams at any time."""
    callers = await connected(target.door, 16)
    length_s = 10 * options.gap_ms / 1000
    seen: list[float] = []

    async def one(place: int, caller: Caller) -> None:
        await asyncio.sleep(length_s * place / 16)
        for _ in range(options.asks):
            await caller.ask(target.door, stream=True, tokens=10)
            seen.append((caller.first_s or 0.0) * 1e3)
            await asyncio.sleep(0.013)

    await asyncio.gather(*(one(*pair) for pair in enumerate(callers)))
    target.first_ms.append(seen)
    for caller in callers:
        caller.transport.abort()


@asynccontextmanager
async def running(*command: str, **environment: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=PIPE if "tests.bench.paced_engine" in command else DEVNULL,
        stderr=DEVNULL,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listening(door: Door) -> None:
    for _ in range(3_000):
        try:
            caller = await connect(door)
            await caller.ask(door, stream=False, tokens=1)
        except (OSError, AssertionError):
            await asyncio.sleep(0.05)
        else:
            caller.transport.abort()
            return
    raise TimeoutError


def install(package: str, home: Path, name: str) -> Path | None:
    """Install a program into a private environment that git ignores; `None` if that cannot be done."""
    program = home / "bin" / name
    if not program.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            subprocess.run([str(home / "bin/python"), "-m", "pip", "install", "-q", package], check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
    return program


async def add_nginx(stack: AsyncExitStack, program: str, folder: Path, tls: LoopbackTls) -> Target:
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, tls=tls))
    process = await stack.enter_async_context(
        running(program, "-e", f"{folder}/nginx.log", "-c", f"{folder}/nginx.conf")
    )
    return Target("nginx", Door(port=port, tls=tls.client_context()), process.pid)


async def add_litellm(stack: AsyncExitStack, program: Path, folder: Path, tls: LoopbackTls, engine_port: int) -> Target:
    port = free_port()
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{engine_port}/v1", "api_key": "none"}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}
    (folder / "litellm.yaml").write_text(json.dumps(config))
    process = await stack.enter_async_context(
        running(
            *(str(program), "--config", f"{folder}/litellm.yaml", "--host", "127.0.0.1", "--port", str(port)),
            *("--ssl_certfile_path", str(tls.certificate), "--ssl_keyfile_path", str(tls.key)),
            LITELLM_MASTER_KEY=MASTER_KEY,
            LITELLM_LOG="ERROR",
            LITELLM_LOCAL_MODEL_COST_MAP="True",
        )
    )
    return Target("LiteLLM", Door(port=port, tls=tls.client_context(), secret=MASTER_KEY), process.pid)


async def add_router(stack: AsyncExitStack, program: Path, engine_port: int) -> Target:
    port = free_port()
    process = await stack.enter_async_context(
        running(
            *(str(program), "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())),
            *("--worker-urls", f"http://127.0.0.1:{engine_port}", "--policy", "round_robin", "--log-level", "error"),
        )
    )
    return Target("router", Door(port=port), process.pid)


async def add_gateway(
    stack: AsyncExitStack, folder: Path, tls: LoopbackTls, secret: str, *, program: str = GATEWAY
) -> Target:
    port = free_port()
    parts = {"--socket": folder / "engine.sock", "--ledger": folder / "ledger.db", "--tls-cert": tls.certificate}
    parts |= {
        "--tls-key": tls.key,
        "--host": Path("127.0.0.1"),
        "--port": Path(str(port)),
        "--served-model": Path(MODEL),
    }
    arguments = [str(part) for pair in parts.items() for part in pair]
    log = stack.enter_context((folder / "gateway.log").open("wb"))
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=log, env=os.environ | {"LEEWARD_ROOT": str(folder)}
    )
    stack.push_async_callback(gateway.wait)
    stack.callback(gateway.terminate)
    return Target("gateway", Door(port=port, tls=tls.client_context(), secret=secret), gateway.pid)


async def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Target], tuple[int, int]]:
    tls, ledger = make_loopback_tls(folder), folder / "ledger.db"
    create_ledger(ledger, os.getuid(), os.getgid())
    database = open_ledger(ledger)
    _, secret = SqlKeyRegister(database).create(name="bench", team="bench", at=datetime.now(UTC))
    socket, engine_port = folder / "engine.sock", free_port()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running(
                sys.executable, "-m", "tests.bench.paced_engine", str(socket), str(engine_port), str(options.gap_ms)
            )
        )
        assert engine.stdout is not None
        await engine.stdout.readline()
        targets = [
            Target("direct", Door(socket=str(socket)), None),
            await add_gateway(stack, folder, tls, secret),
        ]
        if options.nginx:
            targets.append(await add_nginx(stack, options.nginx, folder, tls))
        if options.litellm and (program := install(LITELLM, LITELLM_HOME, "litellm")) is not None:
            targets.append(await add_litellm(stack, program, folder, tls, engine_port))
        if options.router and (program := install(ROUTER, ROUTER_HOME, "vllm-router")) is not None:
            targets.append(await add_router(stack, program, engine_port))
        for target in targets:
            await listening(target.door)
        for number in range(options.rounds):
            for part in (relay_chunks, take_requests, first_tokens):
                for place in range(len(targets)):
                    await part(targets[(place + number) % len(targets)], options)
    counts = SqlUsageReader(database).counts()
    database.dispose()
    return targets, counts


def percentile(seen: list[float], percent: int) -> float:
    return statistics.quantiles(seen, n=100)[percent - 1]


def summary(targets: list[Target]) -> dict[str, dict[str, float]]:
    direct = targets[0].first_ms
    rows: dict[str, dict[str, float]] = {}
    for target in targets:
        added = {
            percent: min(
                percentile(ours, percent) - percentile(theirs, percent)
                for ours, theirs in zip(target.first_ms, direct, strict=True)
            )
            for percent in (50, 99)
        }
        rows[target.name] = {
            "chunk_us": min(target.chunk_cpu_us),
            "request_us": min(target.request_cpu_us),
            "ttft_p50_ms": added[50],
            "ttft_p99_ms": added[99],
            "delivered": max(target.delivered),
            "memory_mb": target.memory_mb,
        }
    return rows


def report(rows: dict[str, dict[str, float]], counts: tuple[int, int]) -> str:
    first = ("CPU ms/1,000 chunks", "CPU us/request", "TTFT added p50 ms", "p99 ms", "delivered", "memory MB")
    lines = [
        "target   " + "".join(f"{name:>{width}}" for name, width in zip(first, (21, 16, 19, 8, 11, 11), strict=True))
    ]
    lines += [
        f"{name:<9}{row['chunk_us']:>21.1f}{row['request_us']:>16.0f}{row['ttft_p50_ms']:>19.2f}"
        f"{row['ttft_p99_ms']:>8.1f}{row['delivered']:>11.1%}{row['memory_mb']:>11.0f}"
        for name, row in rows.items()
    ]
    ours = rows["gateway"]
    for name in ("nginx", "LiteLLM", "router"):
        if name in rows and rows[name]["chunk_us"] and rows[name]["request_us"]:
            chunk, request = (ours[key] / rows[name][key] for key in ("chunk_us", "request_us"))
            lines.append(f"gateway / {name}: {chunk:.3f} per chunk, {request:.3f} per whole request")
    lines.append(f"ledger: {counts[0]} records, {counts[1]} unsettled")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nginx", default=shutil.which("nginx"))
    parser.add_argument("--litellm", action="store_true", help="install and measure LiteLLM too")
    parser.add_argument("--router", action="store_true", help="install and measure vllm-router too")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--asks", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as folder:
        targets, counts = uvloop.run(measure(options, Path(folder)))
    load = Path("/proc/loadavg").read_text().split()[0]
    said = f"{options.streams} streams, {options.rounds} rounds, {time.monotonic() - began:.0f} s, load {load}"
    sys.stdout.write(f"{report(summary(targets), counts)}\n{said}\n")


if __name__ == "__main__":
    main()
