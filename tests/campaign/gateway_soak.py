"""Many streams for long: the gateway's memory stays flat, and every answer has one record with its tokens.

    python -m tests.campaign.gateway_soak [--streams 512] [--minutes 10] [--gap-ms 200] [--tokens 50]

Callers ask again as soon as they have an answer. The stand-in engine makes as many tokens as it is
asked for, so each record must say that many. It ends with status 1 if memory has grown in the second
half, a token was lost on its way, or a record is missing, open, doubled or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.usage import UsageState
from tests.api.gateway.test_killed_gateway import free_port
from tests.bench.gateway_bench import Target, add_gateway, cpu_s, listening, memory_mb, running
from tests.bench.gateway_callers import Caller, connected
from tests.support.certificates import make_loopback_tls

_GATEWAY = """
import functools, appliance.entrypoints.gateway as gateway
gateway.QueueLimits = functools.partial(gateway.QueueLimits, slots={slots})
gateway.main()
"""  # an engine that takes all streams at a time, which a release would say

_SAMPLES = 60
_GROWTH_MB = 4.0


async def soak(target: Target, options: argparse.Namespace) -> tuple[int, int, list[float]]:
    """Return how many answers were whole, how many were not, and the gateway's memory in MB over time."""
    callers = await connected(target.door, options.streams)
    length_s = options.tokens * options.gap_ms / 1000
    ends_at = time.monotonic() + options.minutes * 60 - length_s
    whole = broken = 0

    async def one(place: int, caller: Caller) -> None:
        nonlocal whole, broken
        await asyncio.sleep(length_s * place / options.streams)
        while time.monotonic() < ends_at:
            await caller.ask(target.door, stream=True, tokens=options.tokens)
            whole += caller.tokens == options.tokens
            broken += caller.tokens != options.tokens

    asking = asyncio.gather(*(one(*pair) for pair in enumerate(callers)))
    memory: list[float] = []
    while not asking.done():
        await asyncio.wait({asking}, timeout=options.minutes * 60 / _SAMPLES)
        memory.append(memory_mb(target.pid))
        sys.stdout.write(f"{len(memory):3} of {_SAMPLES}: {memory[-1]:.1f} MB, {whole} answers\n")
        sys.stdout.flush()
    await asking
    for caller in callers:
        caller.transport.abort()
    return whole, broken, memory


async def run(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return what is wrong."""
    tls, ledger = make_loopback_tls(folder), folder / "ledger.db"
    create_ledger(ledger, os.getuid(), os.getgid())
    database = open_ledger(ledger)
    _, secret = SqlKeyRegister(database).create(name="soak", team="soak", at=datetime.now(UTC))
    async with AsyncExitStack() as stack:
        arguments = (str(folder / "engine.sock"), str(free_port()), str(options.gap_ms))
        engine = await stack.enter_async_context(running(sys.executable, "-m", "tests.bench.paced_engine", *arguments))
        assert engine.stdout is not None
        await engine.stdout.readline()
        program = _GATEWAY.format(slots=options.streams)
        target = await add_gateway(stack, folder, tls, secret, program=program)
        await listening(target.door)
        whole, broken, memory = await soak(target, options)
        used_s = cpu_s(target.pid)
    records = [record for _, record in SqlUsageReader(database).records(limit=10_000_000) if record.stream]
    database.dispose()
    states = Counter((record.state, record.usage.completion_tokens) for record in records)
    half = len(memory) // 2
    growth = max(memory[half:]) - max(memory[half // 2 : half])
    sys.stdout.write(
        f"{options.streams} streams, {options.minutes} min: {whole} whole answers, {broken} others, "
        f"{len(records)} records {dict(states)}, memory {min(memory):.1f} to {max(memory):.1f} MB, "
        f"{growth:+.1f} MB in the second half, gateway's CPU {used_s:.0f} s\n"
    )
    wrong = []
    if broken or set(states) != {(UsageState.SETTLED, options.tokens)} or len(records) != whole:
        wrong.append("answers and records differ")
    if growth > _GROWTH_MB:
        wrong.append("memory grows")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--gap-ms", type=float, default=200.0)
    parser.add_argument("--tokens", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leeward-soak-") as folder:
        wrong = uvloop.run(run(options, Path(folder)))
    sys.stdout.write("\n".join(wrong) + "\n" if wrong else "nothing lost, nothing doubled, memory flat\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
