"""How much the engine still makes for a caller that has left, streaming and not.

    python -m tests.bench.gateway_leaving_bench [--callers 40] [--gap-ms 50]

Callers of either kind leave when the engine has made five tokens of 300; a little later the stand-in
engine is asked how many it made in all. The goal is at most three more.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import structlog
import uvloop

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from tests.api.gateway.conftest import Ledger, gateway_of
from tests.bench.gateway_callers import Caller, Door, connected
from tests.support.fake_engine import FakeEngine

LEAVES_AT = 5
GOAL = 3


async def leave(engine: FakeEngine, door: Door, caller: Caller, gap_s: float, *, stream: bool) -> int:
    """Ask, leave after five tokens and return how many were made afterwards."""
    seen = len(engine.seen)
    answer = caller.ask(door, stream=stream, tokens=300)
    while len(engine.seen) == seen or engine.seen[seen].generated < LEAVES_AT:  # noqa: ASYNC110  it tells nobody
        await asyncio.sleep(gap_s / 10)
    caller.transport.abort()
    await asyncio.wait({answer}, timeout=1.0)
    answer.cancelled() or answer.exception()
    await asyncio.sleep(gap_s * 10)
    return engine.seen[seen].generated - LEAVES_AT


async def run(options: argparse.Namespace, folder: Path) -> int:
    path, gap_s = folder / "ledger.db", options.gap_ms / 1000
    create_ledger(path, os.getuid(), os.getgid())
    database = open_ledger(path)
    keys, usage = SqlKeyRegister(database), SqlUsageReader(database)
    key, secret = keys.create(name="bench", team="bench", at=datetime.now(UTC))
    engine = FakeEngine()
    engine.script.tokens, engine.script.gap_s = 300, gap_s
    await engine.start(folder / "engine.sock")
    worst = 0
    async with gateway_of(Ledger(path=path, keys=keys, usage=usage, key=key, secret=secret), folder) as gateway:
        door = Door(port=int(gateway.url.rsplit(":", 1)[1]), tls=gateway.tls.client_context(), secret=secret)
        for stream in (True, False):
            more: Counter[int] = Counter()
            for caller in await connected(door, options.callers):
                more[await leave(engine, door, caller, gap_s, stream=stream)] += 1
            worst = max(worst, *more)
            told = ", ".join(f"{count} x {number}" for number, count in sorted(more.items()))
            sys.stdout.write(f"{'streams' if stream else 'whole answers'}: tokens made after the caller left: {told}\n")
    await engine.stop()
    sys.stdout.write(f"ledger: {usage.counts()[0]} records, {usage.counts()[1]} unsettled\n")
    database.dispose()
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=40)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="leeward-leaving-") as folder:
        worst = uvloop.run(run(options, Path(folder)))
    sys.exit(0 if worst <= GOAL else 1)


if __name__ == "__main__":
    main()
