"""Chaos for the gateway's ledger: nothing that the engine did is lost or counted twice.

    python -m tests.campaign.gateway [--requests 10000] [--kills 50] [--engine-kills 8] [--fills 5] [--seed 1]

Callers ask, and some leave in the middle; meanwhile the gateway and the engine are killed (-9) and
the ledger's disk is filled to its last block, again and again, spread over the whole run. At the
end the stand-in engine's own log is held against the ledger, request by request, and each record
that is not settled must have its reason among what was done to it. As root the ledger lies on a
small tmpfs; otherwise the disk is not filled, and that is said. The last line says how it ended.
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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.usage import UsageRecord, UsageState
from tests.api.gateway.conftest import Ledger
from tests.api.gateway.test_killed_gateway import ASK, TOKENS, free_port, start_engine, start_gateway
from tests.support.certificates import LoopbackTls, make_loopback_tls

_DISK = "96m"
_PAUSE_S = 0.6
_MARGIN_S = 0.05
"""How far the time of a deed, taken here, may lie beside a time that the gateway or the engine wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen."""

    requests: int
    kills: int
    engine_kills: int
    fills: int
    seed: int
    longest_s: int = 840
    callers: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From just before something was done until its end."""

    begin: datetime
    end: datetime

    def touches(self, record: UsageRecord) -> bool:
        margin = timedelta(seconds=_MARGIN_S)
        ended = record.settled_at or self.end
        return record.admitted_at <= self.end + margin and ended >= self.begin - margin

    def holds(self, record: UsageRecord) -> bool:
        return record.settled_at is not None and self.begin <= record.settled_at <= self.end


@dataclass(slots=True)
class Account:
    """What did. A request counts as answered when the head of an answer with 200 arrived."""

    answered: int = 0
    unheard: int = 0
    refused: int = 0
    left: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    kills: list[Span] = field(default_factory=list)
    engine_kills: list[Span] = field(default_factory=list)
    fills: list[Span] = field(default_factory=list)


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
        while self.account.answered < self.plan.requests or not self.harmed:
            leave_after = self.dice.randrange(1, TOKENS) if self.dice.random() < 0.3 else None
            stream = self.dice.random() < 0.8
            try:
                await self.one(http, stream=stream, leave_after=leave_after)
            except httpx.HTTPError:
                self.account.unheard += 1
                await asyncio.sleep(0.05)

    async def one(self, http: httpx.AsyncClient, *, stream: bool, leave_after: int | None) -> None:
        async with http.stream("POST", "/v1/chat/completions", json=ASK | {"stream": stream}) as answer:
            if answer.status_code != httpx.codes.OK:
                assert answer.status_code in {502, 503}, answer.status_code
                self.account.refused += 1
                await asyncio.sleep(_PAUSE_S / 2)
                return
            self.account.answered += 1
            body, pieces = b"", 0
            async for piece in answer.aiter_raw():
                body, pieces = body + piece, pieces + 1
                if leave_after is not None and pieces > leave_after:
                    self.account.left.add(answer.headers["x-request-id"])
                    return
            if (not stream or body.endswith(b"data: [DONE]\n\n")) and b'"error"' not in body:
                self.account.complete.add(answer.headers["x-request-id"])

    async def harm(self) -> None:
        plan = self.plan
        deeds = [self.kill_gateway] * plan.kills + [self.kill_engine] * plan.engine_kills + [self.fill] * plan.fills
        self.dice.shuffle(deeds)
        for number, deed in enumerate(deeds, start=1):
            while self.account.answered < plan.requests * number / (len(deeds) + 1):  # noqa: ASYNC110  counted by many
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3 * self.dice.random())
            await deed()
        self.harmed = True

    async def kill_gateway(self) -> None:
        begin = datetime.now(UTC)
        await kill(self.gateway)
        self.gateway = await start_gateway(self.folder, self.ledger, self.tls, self.port)
        self.account.kills.append(Span(begin=begin, end=datetime.now(UTC)))

    async def kill_engine(self) -> None:
        begin = datetime.now(UTC)
        await kill(self.engine)
        (self.folder / "engine.sock").unlink(missing_ok=True)
        self.engine = await start_engine(self.folder)
        self.account.engine_kills.append(Span(begin=begin, end=datetime.now(UTC)))

    async def fill(self) -> None:
        ballast = self.ledger.path.with_name("ballast")
        await asyncio.to_thread(fill_up, ballast)
        begin = datetime.now(UTC)
        await asyncio.sleep(_PAUSE_S)
        free = os.statvfs(ballast.parent).f_bavail
        self.account.fills.append(Span(begin=begin, end=datetime.now(UTC)))
        ballast.unlink()
        assert free == 0, "the disk was not full"


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
            async with asyncio.timeout(plan.longest_s):
                await asyncio.gather(chaos.harm(), *(chaos.call(http) for _ in range(plan.callers)))
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
    reasons = Counter((record.state.value, record.outcome, reason(record, account)) for record in listed)
    unexplained = [key for key in reasons if key[2] == UNEXPLAINED]
    assert not unexplained, f"records that nothing explains: {unexplained}"
    filled = sum(any(span.holds(record) for span in account.fills) for record in listed)
    kills, engine_kills, fills = len(account.kills), len(account.engine_kills), len(account.fills)
    return "\n".join(
        [
            f"{account.answered} requests answered, {len(account.left)} of them left by their caller in the middle",
            f"{account.refused} more told 502 or 503, {account.unheard} more broke off or met a dead gateway",
            f"{kills} kills of the gateway, {engine_kills} of the engine, {fills} full disks",
            f"{len(listed)} records, {len(began)} requests seen by the engine, none twice, none without a record",
            f"{filled} records closed while the disk was full to its last block",
            *(f"  {number:>6}  {state:<9} {outcome:<15} {why}" for (state, outcome, why), number in reasons.items()),
            f"settled tokens: {ours} in the ledger, {theirs} by the engine ({len(unlogged)} ends cut from its log)",
            f"PASSED: {len(settled)} settled records agree to the token, {len(listed) - len(settled)} others explained",
        ]
    )


UNEXPLAINED = "?"


def reason(record: UsageRecord, account: Account) -> str:
    """Say which deed ended a record as it did; `UNEXPLAINED` where none was done at that time."""
    if record.state is UsageState.SETTLED:
        return "the engine's final counts"
    if record.state is UsageState.ABANDONED:
        killed = any(record.admitted_at <= span.end and span.touches(record) for span in account.kills)
        return "under way when the gateway was killed" if killed else UNEXPLAINED
    if record.request_id in account.left:
        return "its caller left in the middle"
    if any(span.touches(record) for span in account.engine_kills):
        return "under way when the engine was killed, or asked before it was back"
    return UNEXPLAINED


def campaign(plan: Plan) -> str:
    """Run in a scratch folder, with the ledger on a small disk where that can be made."""
    with tempfile.TemporaryDirectory(prefix="leeward-chaos-") as name:
        folder, disk = Path(name), Path(name) / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(disk)]
        mounted = os.getuid() == 0 and shutil.which("mount") and subprocess.run(mount, check=False).returncode == 0
        if not mounted:
            plan = replace(plan, fills=0)
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
    parser.add_argument("--engine-kills", type=int, default=8)
    parser.add_argument("--fills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-s", type=int, default=840, help="Give up after so many seconds.")
    options = parser.parse_args()
    sys.stdout.write(campaign(Plan(**vars(options))) + "\n")


if __name__ == "__main__":
    main()
