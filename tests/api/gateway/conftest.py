from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import openai
import pytest
import uvicorn

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.usage import ApiKey, UsageRecord
from appliance.entrypoints.gateway.application import GatewayApplication, GatewayOptions
from appliance.entrypoints.gateway.engines import EnginePlace
from appliance.entrypoints.gateway.exposition import MetricsAccess
from appliance.entrypoints.gateway.server import make_server
from appliance.entrypoints.gateway.tracing import SlowLimits
from appliance.services.queueing import QueueLimits
from tests.support.certificates import LoopbackTls, make_loopback_tls
from tests.support.fake_engine import MODEL, FakeEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    path: Path
    keys: SqlKeyRegister
    usage: SqlUsageReader
    key: ApiKey
    secret: str

    def records(self) -> list[UsageRecord]:
        return [record for _, record in self.usage.records()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    url: str
    tls: LoopbackTls
    ledger: Ledger
    server: uvicorn.Server

    def sdk(self, secret: str | None = None) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=secret or self.ledger.secret,
            max_retries=0,
            http_client=httpx.AsyncClient(verify=self.tls.client_context()),
        )

    def http(self, secret: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {secret or self.ledger.secret}"}
        return httpx.AsyncClient(base_url=self.url, verify=self.tls.client_context(), headers=headers)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    path = tmp_path / "ledger.db"
    create_ledger(path, tmp_path.stat().st_uid, tmp_path.stat().st_gid)
    engine = open_ledger(path)
    keys = SqlKeyRegister(engine)
    key, secret = keys.create(name="pipeline", team="research", at=datetime.now(UTC))
    yield Ledger(path=path, keys=keys, usage=SqlUsageReader(engine), key=key, secret=secret)
    engine.dispose()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    fake = FakeEngine()
    await fake.start(tmp_path / "engine.sock")
    yield fake
    await fake.stop()


MONITORING = "read-only-for-monitoring"


@asynccontextmanager
async def gateway_of(
    ledger: Ledger,
    folder: Path,
    queue: QueueLimits | None = None,
    *,
    metrics: MetricsAccess | None = None,
    slow: SlowLimits | None = None,
    engines: tuple[EnginePlace, ...] = (),
    drained: Path | None = None,
    standings: Path | None = None,
    sign_in: Path | None = None,
    capture_order: Path = Path("/nonexistent"),
) -> AsyncIterator[Running]:
    """Run a gateway before the engine whose socket lies in `folder`."""
    tls = make_loopback_tls(folder)
    options = GatewayOptions(
        engine_socket=folder / "engine.sock",
        ledger=ledger.path,
        served_model=MODEL,
        queue=queue or QueueLimits(),
        metrics=metrics,
        slow=slow or SlowLimits(),
        engines=engines,
        drained=drained,
        standings=standings,
        sign_in=sign_in,
        capture_order=capture_order,
    )
    application = GatewayApplication(options, boot_id=str(uuid4()))
    server = make_server(application, host="127.0.0.1", port=0, tls_cert=tls.certificate, tls_key=tls.key)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        assert not serving.done()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Running(url=f"https://127.0.0.1:{port}", tls=tls, ledger=ledger, server=server)
    server.should_exit = True
    await serving


@pytest.fixture
async def gateway(tmp_path: Path, ledger: Ledger, engine: FakeEngine) -> AsyncIterator[Running]:
    assert engine.generated == 0
    async with gateway_of(ledger, tmp_path) as running:
        yield running
