"""What the gateway keeps of prompts and answers: nothing, unless there is an order; then for one reader alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.adapters.capture import CaptureOrderFile
from appliance.domain.capture import CaptureOrder
from bundles.capture import Captured, fingerprint, unseal
from tests.api.gateway.conftest import Ledger, Running, gateway_of
from tests.support.fake_engine import MODEL, FakeEngine

KEY = ec.generate_private_key(ec.SECP384R1())
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "a very private prompt"}]}


def order(*, lasts: timedelta = timedelta(hours=1)) -> CaptureOrder:
    public, now = KEY.public_key(), datetime.now(UTC)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return CaptureOrder(
        auditor_pem=pem, auditor=fingerprint(public), reason="r", by="root", since=now - timedelta(hours=2),
        until=now + lasts,
    )  # fmt: skip


def captured(ledger: Ledger) -> list[Captured]:
    files = sorted(ledger.path.with_name("captured").glob("*.jsonl"))
    return [unseal(line, KEY) for file in files for line in file.read_bytes().splitlines()]


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def orders(tmp_path: Path) -> CaptureOrderFile:
    return CaptureOrderFile(tmp_path / "capture.json")


@pytest.fixture
async def gateway(
    tmp_path: Path, ledger: Ledger, engine: FakeEngine, orders: CaptureOrderFile
) -> AsyncIterator[Running]:
    assert engine.generated == 0
    orders.write(order())
    async with gateway_of(ledger, tmp_path, capture_order=tmp_path / "capture.json") as running:
        yield running


async def ask(gateway: Running, *, stream: bool) -> str:
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", json=ASK | {"stream": stream})
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


async def written(gateway: Running, number: int) -> list[Captured]:
    for _ in range(500):
        if len(found := captured(gateway.ledger)) >= number:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was captured")


async def test_with_an_order_each_exchange_is_kept_for_the_auditor_alone(
    gateway: Running, engine: FakeEngine, tmp_path: Path
) -> None:
    whole, stream = await ask(gateway, stream=False), await ask(gateway, stream=True)

    first, second = await written(gateway, 2)
    assert (first.request_id, second.request_id) == (whole, stream)
    assert (first.team, first.endpoint) == ("research", "/v1/chat/completions")
    assert json.loads(first.request)["messages"] == ASK["messages"]
    assert json.loads(first.answer)["choices"][0]["message"]["content"] == " word" * engine.script.tokens
    assert second.answer.endswith("data: [DONE]\n\n")
    salts = {seen.body["cache_salt"] for seen in engine.seen}
    assert not any(salt in first.request + second.request for salt in salts)
    kept = everything(tmp_path)
    assert b"very private" not in kept
    assert b" word word" not in kept


async def test_a_caller_who_leaves_and_a_refusal_are_told_apart(gateway: Running, engine: FakeEngine) -> None:
    engine.script.tokens, engine.script.gap_s = 200, 0.01
    async with gateway.http() as http:
        async with http.stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as answer:
            async for _ in answer.aiter_raw():
                break
        refused = await http.post("/v1/chat/completions", json=ASK | {"cache_salt": "mine"})

    (left,) = await written(gateway, 1)
    assert refused.status_code == 400
    assert left.request_id == answer.headers["x-request-id"]
    assert left.answer.startswith("data: ")
    assert "[DONE]" not in left.answer


async def test_without_an_order_or_after_its_end_nothing_is_kept(
    tmp_path: Path,
    ledger: Ledger,
    engine: FakeEngine,
    orders: CaptureOrderFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("appliance.entrypoints.gateway.application.TICK_S", 0.02)
    assert engine.generated == 0
    async with gateway_of(ledger, tmp_path, capture_order=tmp_path / "capture.json") as gateway:
        await ask(gateway, stream=True)
        for content in (order(lasts=-timedelta(seconds=1)), None):
            orders.write(content)
            await asyncio.sleep(0.3)
            await ask(gateway, stream=True)
        (tmp_path / "capture.json").write_text("{")
        await asyncio.sleep(0.3)
        await ask(gateway, stream=True)

    assert not ledger.path.with_name("captured").exists()
    assert b"very private" not in everything(tmp_path)


async def test_capture_takes_no_room_that_the_ledger_needs_and_stops_nobody(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.adapters.capture.LEAST_ROOM_BYTES", 1 << 60)

    await ask(gateway, stream=False)

    await asyncio.sleep(0.2)
    assert captured(gateway.ledger) == []
    assert [record.state for record in gateway.ledger.records()] == ["settled"]
