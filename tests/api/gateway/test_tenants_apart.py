"""What one team does at the gateway, another can't learn there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.api.gateway.conftest import Running
from tests.support.fake_engine import MODEL, FakeEngine

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_no_path_tells_another_teams_use(gateway: Running, engine: FakeEngine, prefix: str) -> None:
    _, other = gateway.ledger.keys.create(name="other", team="sales", at=datetime.now(UTC))
    async with gateway.http() as http:
        first = (await http.post("/v1/chat/completions", json=ASK)).headers["x-request-id"]
    (record,) = gateway.ledger.records()

    told = []
    async with gateway.http(other) as http:
        for path in (
            "usage",
            "usage?after=0",
            "metrics",
            "keys",
            "models",
            f"responses/{first}",
            f"chat/completions/{first}",
        ):
            answer = await http.get(f"{prefix}/{path}")
            told.append(answer.text + str(answer.headers))
        asked = await http.post("/v1/chat/completions", json=ASK)
        told.append(asked.text.replace(asked.headers["x-request-id"], ""))

    assert asked.status_code == 200
    for secret in (first, record.key_id, record.team, gateway.ledger.secret):
        assert not any(secret in each for each in told)
    assert [each.team for each in gateway.ledger.records()] == ["research", "sales"]
    assert engine.seen[0].body["cache_salt"] != engine.seen[1].body["cache_salt"]
