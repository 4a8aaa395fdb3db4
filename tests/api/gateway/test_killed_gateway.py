"""A gateway process that is killed under load loses no request and counts none twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import httpx

from appliance.domain.usage import UsageSource, UsageState
from tests.api.gateway.conftest import Ledger
from tests.support.certificates import LoopbackTls, make_loopback_tls
from tests.support.fake_engine import MODEL

TOKENS = 12
CALLERS = 12
KILLS = 4
GATEWAY = "from appliance.entrypoints.gateway import main; main()"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def start_engine(folder: Path) -> Process:
    script = json.dumps({"tokens": TOKENS, "gap_s": 0.02})
    arguments = ["-m", "tests.support.fake_engine", str(folder / "engine.sock"), str(folder / "engine.log"), script]
    engine = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    assert engine.stdout is not None
    assert await engine.stdout.readline() == b"ready\n"
    return engine


async def start_gateway(folder: Path, ledger: Ledger, tls: LoopbackTls, port: int) -> Process:
    options = {
        "--socket": folder / "engine.sock",
        "--ledger": ledger.path,
        "--tls-cert": tls.certificate,
        "--tls-key": tls.key,
        "--host": "127.0.0.1",
        "--port": port,
        "--served-model": MODEL,
    }
    arguments = [str(part) for option in options.items() for part in option]
    with (folder / "gateway.log").open("ab") as log:
        gateway = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            GATEWAY,
            *arguments,
            stdout=log,
            stderr=log,
            env=os.environ | {"LEEWARD_ROOT": str(folder)},
        )
    for _ in range(1_000):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert gateway.returncode is None, (folder / "gateway.log").read_text()
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return gateway
    raise AssertionError("the gateway did not start")


async def call_until(stop: asyncio.Event, http: httpx.AsyncClient, complete: list[str]) -> None:
    while not stop.is_set():
        try:
            answer = await http.post("/v1/chat/completions", json=ASK)
        except httpx.HTTPError:
            await asyncio.sleep(0.02)
        else:
            assert answer.status_code == 200, answer.text
            if answer.content.endswith(b"data: [DONE]\n\n"):
                complete.append(answer.headers["x-request-id"])


async def test_no_request_is_lost_or_counted_twice_when_the_gateway_is_killed_under_load(
    tmp_path: Path, ledger: Ledger
) -> None:
    tls, port, complete = make_loopback_tls(tmp_path), free_port(), list[str]()
    engine = await start_engine(tmp_path)
    gateway = await start_gateway(tmp_path, ledger, tls, port)
    stop = asyncio.Event()
    http = httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        verify=tls.client_context(),
        headers={"Authorization": f"Bearer {ledger.secret}"},
        timeout=20,
    )
    callers = [asyncio.create_task(call_until(stop, http, complete)) for _ in range(CALLERS)]
    try:
        for number in range(KILLS):
            await asyncio.sleep(1.2 + 0.37 * number)
            gateway.send_signal(signal.SIGKILL)
            await gateway.wait()
            gateway = await start_gateway(tmp_path, ledger, tls, port)
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*callers)
        gateway.terminate()
        assert await gateway.wait() == -signal.SIGTERM  # what systemd takes for a clean end
    finally:
        for process in (engine, gateway):
            if process.returncode is None:
                process.kill()
                await process.wait()
        await http.aclose()

    last_words = json.loads((tmp_path / "gateway.log").read_text().splitlines()[-1])
    assert (last_words["event"], last_words["unsettled"]) == ("gateway_stopped", 0)
    seen = [json.loads(line) for line in (tmp_path / "engine.log").read_text().splitlines()]
    began = [entry["request_id"] for entry in seen if entry.get("began")]
    made = {entry["request_id"]: entry["generated"] for entry in seen if "generated" in entry}
    records = {record.request_id: record for record in ledger.records()}
    states = Counter(record.state for record in records.values())
    assert len(records) == len(ledger.records()) == ledger.usage.counts()[0]
    assert len(began) == len(set(began))
    assert set(began) <= set(records)
    assert set(complete) <= {i for i, record in records.items() if record.state is UsageState.SETTLED}
    assert states[UsageState.ADMITTED] == 0
    assert 1 <= states[UsageState.ABANDONED] <= KILLS * CALLERS
    assert len(complete) > CALLERS
    for request_id, record in records.items():
        if record.state is UsageState.SETTLED:
            assert record.usage.completion_tokens == made[request_id] == TOKENS
        else:
            assert (record.usage.completion_tokens or 0) <= made.get(request_id, 0)
            assert record.usage_source is not UsageSource.FINAL
