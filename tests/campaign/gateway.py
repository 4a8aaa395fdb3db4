"""Chaos for the gateway's ledger: nothing that the engine did is lost or counted twice.

    python -m tests.campaign.gateway [--requests 10000] [--kills 50] [--engine-kills 5] [--fills 5] [--seed 1]

Callers ask, and some leave in the middle; meanwhile the gateway and the engine are killed (-9) and
the ledger's disk is filled to its last block, again and again. At the end the stand-in engine's own
log is held against the ledger, request by request. As root the ledger lies on a small tmpfs;
otherwise the disk is not filled, and that is said.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import Process
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.usage import UsageRecord, UsageState
from tests.api.gateway.conftest import Ledger
from tests.api.gateway.test_killed_gateway import ASK, TOKENS, free_port, start_engine, start_gateway
from tests.support.certificates import LoopbackTls, make_loopback_tls

_DISK = "96m"
_PAUSE_S = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen."""

    requests: int
    kills: int
    engine_kills: int
    fills: int
    seed: int
    callers: int = 24


@dataclass(slots=True)
class Account:
    """What did."""

    asked: int = 0
    left: int = 0
    refused: int = 0
    complete: set[str] = field(default_factory=set)
    kills: int = 0
    engine_kills: int = 0
    fills: int = 0


@dataclass(slots=True)
class Chaos:
    folder: Path
    ledger: Ledger
    tls: LoopbackTls
    port: int
    plan: Plan
    dice: random.Random
    engine: Process
    gateway: Process
    account: Account = field(default_factory=Account)
    harmed: bool = False

    async def call(self, http: httpx.AsyncClient) -> None:
        account = self.account
        while account.asked < self.plan.requests or not self.harmed:
            account.asked += 1
            leave_after = self.dice.randrange(1, TOKENS) if self.dice.random() < 0.3 else None
            stream = self.dice.random() < 0.8
            try:
                await self.one(http, stream=stream, leave_after=leave_after)
            except httpx.HTTPError:
                await asyncio.sleep(0.05)

    async def one(self, http: httpx.AsyncClient, *, stream: bool, leave_after: int | None) -> None:
        async with http.stream("POST", "/v1/chat/completions", json=ASK | {"stream": stream}) as answer:
            if answer.status_code != httpx.codes.OK:
                assert answer.status_code in {502, 503}, answer.status_code
                self.account.refused += 1
                await asyncio.sleep(0.05)
                return
            body, pieces = b"", 0
            async for piece in answer.aiter_raw():
                body, pieces = body + piece, pieces + 1
                if leave_after is not None and pieces > leave_after:
                    self.account.left += 1
                    return
            if (not stream or body.endswith(b"data: [DONE]\n\n")) and b'"error"' not in body:
                self.account.complete.add(answer.headers["x-request-id"])

    async def harm(self) -> None:
        plan, done = self.plan, self.account
        deeds = ["kill"] * plan.kills + ["engine"] * plan.engine_kills + ["fill"] * plan.fills
        self.dice.shuffle(deeds)
        for deed in deeds:
            await asyncio.sleep(_PAUSE_S * (0.5 + self.dice.random()))
            if deed == "kill":
                done.kills += 1
                await kill(self.gateway)
                self.gateway = await start_gateway(self.folder, self.ledger, self.tls, self.port)
            elif deed == "engine":
                done.engine_kills += 1
                await kill(self.engine)
                (self.folder / "engine.sock").unlink(missing_ok=True)
                self.engine = await start_engine(self.folder)
            else:
                done.fills += 1
                await self.fill()
        self.harmed = True

    async def fill(self) -> None:
        ballast = self.ledger.path.with_name("ballast")
        await asyncio.to_thread(fill_up, ballast)
        await asyncio.sleep(_PAUSE_S)
        ballast.unlink()


async def kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


def fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


async def run(plan: Plan, folder: Path, disk: Path) -> str:
    """Do it; return what there is to say. Raises AssertionError if a token is missing or counted twice."""
    path = disk / "ledger.db"
    create_ledger(path, os.getuid(), os.getgid())
    database = open_ledger(path)
    keys = SqlKeyRegister(database)
    key, secret = keys.create(name="chaos", team="chaos", at=datetime.now(UTC))
    ledger = Ledger(path=path, keys=keys, usage=SqlUsageReader(database), key=key, secret=secret)
    tls, port = make_loopback_tls(folder), free_port()
    chaos = Chaos(
        folder=folder,
        ledger=ledger,
        tls=tls,
        port=port,
        plan=plan,
        dice=random.Random(plan.seed),  # noqa: S311  chaos that can be repeated
        engine=await start_engine(folder),
        gateway=await start_gateway(folder, ledger, tls, port),
    )
    headers = {"Authorization": f"Bearer {secret}"}
    try:
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{port}", verify=tls.client_context(), headers=headers, timeout=60
        ) as http:
            harming = asyncio.create_task(chaos.harm())
            await asyncio.gather(*(chaos.call(http) for _ in range(plan.callers)))
            await harming
        chaos.gateway.terminate()
        await chaos.gateway.wait()
    finally:
        for process in (chaos.engine, chaos.gateway):
            if process.returncode is None:
                await kill(process)
    records = all_records(ledger.usage)
    database.dispose()
    return judge(chaos.account, records, folder / "engine.log")


def all_records(usage: SqlUsageReader) -> list[UsageRecord]:
    records: list[UsageRecord] = []
    last = 0
    while page := usage.records(after=last):
        records += [record for _, record in page]
        last = page[-1][0]
    return records


def judge(account: Account, listed: list[UsageRecord], log: Path) -> str:
    """Hold the engine's log against the ledger."""
    seen = [json.loads(line) for line in log.read_text().splitlines()]
    began = [entry["request_id"] for entry in seen if entry.get("began")]
    made = {entry["request_id"]: entry["generated"] for entry in seen if "generated" in entry}
    records = {record.request_id: record for record in listed}
    assert len(records) == len(listed), "two records for one request"
    assert len(began) == len(set(began)), "the engine was asked twice for one request"
    assert set(began) <= set(records), "the engine was asked for what is not in the ledger"
    settled = {i: record for i, record in records.items() if record.state is UsageState.SETTLED}
    assert account.complete <= set(settled), "a caller has an answer that is not settled"
    assert all(record.state is not UsageState.ADMITTED for record in listed), "a record is open"
    unlogged = set(settled) - set(made)
    assert account.engine_kills or not unlogged, "settled, but the engine's log has no end of it"
    ours = sum(record.usage.completion_tokens or 0 for record in settled.values())
    theirs = sum(made.get(i, TOKENS) for i in settled)
    assert ours == theirs, f"settled tokens: {ours} in the ledger, {theirs} by the engine"
    for request_id in set(records) - set(settled):
        counted = records[request_id].usage.completion_tokens or 0
        assert counted <= made.get(request_id, TOKENS), "more tokens than were made"
    ends = Counter(f"{record.state}/{record.outcome}" for record in listed)
    return "\n".join(
        [
            f"{account.asked} requests asked, {account.left} left by their caller, {account.refused} told 502 or 503",
            f"{account.kills} kills of the gateway, {account.engine_kills} of the engine, {account.fills} full disks",
            f"{len(listed)} records, {len(began)} requests seen by the engine, none twice, none without a record",
            f"settled tokens: {ours} in the ledger, {theirs} by the engine ({len(unlogged)} ends cut from its log)",
            *(f"  {number:>6}  {end}" for end, number in sorted(ends.items())),
        ]
    )


def campaign(plan: Plan) -> str:
    """Run in a scratch folder, with the ledger on a small disk where that can be made."""
    with tempfile.TemporaryDirectory(prefix="leeward-chaos-") as name:
        folder, disk = Path(name), Path(name) / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(disk)]
        mounted = os.getuid() == 0 and shutil.which("mount") and subprocess.run(mount, check=False).returncode == 0
        if not mounted:
            plan = Plan(
                requests=plan.requests, kills=plan.kills, engine_kills=plan.engine_kills, fills=0, seed=plan.seed
            )
        try:
            said = asyncio.run(run(plan, folder, disk))
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(disk)], check=True)
    return said if mounted else f"{said}\nthe disk was not filled: a small one could not be mounted here"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engine-kills", type=int, default=5)
    parser.add_argument("--fills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(campaign(Plan(**vars(options))) + "\n")


if __name__ == "__main__":
    main()
