"""The API describes itself without loading anything from afar, and keeps to what it describes."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.gateway.conftest import Running
from tests.api.gateway.played_engine import PlayedEngine
from tests.support.fake_engine import MODEL

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 12


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[PlayedEngine]:
    played = PlayedEngine()
    await played.start(tmp_path / "engine.sock")
    yield played
    await played.stop()


async def description(gateway: Running) -> dict[str, Any]:
    async with gateway.http("none") as http:
        described: dict[str, Any] = (await http.get("/openapi.json")).json()
        return described


async def test_the_page_tells_every_route_and_loads_nothing(gateway: Running) -> None:
    async with gateway.http("none") as http:
        page = await http.get("/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in (await description(gateway))["paths"]:
        assert f" {path}</code>" in page.text
    assert re.findall(r'(?:src|href)="([^"]*)"', page.text) == ["/openapi.json"]
    assert not re.search(r"<(script|link|img|iframe)|https?://|url\(|@import", page.text)
    assert MODEL in page.text


async def test_every_path_that_is_described_is_served_and_no_other_under_v1(gateway: Running) -> None:
    described = await description(gateway)

    async with gateway.http() as http:
        for path, operations in described["paths"].items():
            for method in operations:
                answer = await http.request(method, path.replace("{model}", MODEL), json={})
                assert answer.status_code in {200, 400, 404} - ({404} if method == "get" else set()), path
        undescribed = await http.post("/v1/chat/completions/batch", json={})

    assert undescribed.status_code == 404


async def test_what_is_answered_is_what_is_described(gateway: Running, engine: PlayedEngine) -> None:
    schema = schemathesis.openapi.from_dict(await description(gateway))
    statuses: dict[str, set[int]] = defaultdict(set)

    def ask_all() -> None:
        for result in schema.get_all_operations():
            operation = result.ok()

            @settings(
                max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy())
            def ask(case: schemathesis.Case) -> None:
                headers = {"Authorization": f"Bearer {gateway.ledger.secret}"}
                response = case.call(base_url=gateway.url, headers=headers, verify=str(gateway.tls.authority))
                statuses[case.operation.path].add(response.status_code)
                case.validate_response(response, checks=CHECKS)

            ask()

    await asyncio.to_thread(ask_all)

    assert all(200 in seen for seen in statuses.values()), dict(statuses)
    assert len(statuses) == len(schema.raw_schema["paths"])
    assert len(gateway.ledger.records()) == len(engine.bodies) > 20
