"""Completions, responses and messages through the same door as chat: relay, metering, aborts, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.usage import TokenUsage, UsageRecord, UsageSource, UsageState
from tests.api.gateway.conftest import Ledger, Running
from tests.api.gateway.played_engine import PlayedEngine, recorded, recording_of
from tests.support.fake_engine import MODEL

ASK: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": MODEL, "prompt": "Who"},
    "/v1/responses": {"model": MODEL, "input": "Who"},
    "/v1/messages": {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Who?"}]},
}
COUNTS = {
    "/v1/completions": TokenUsage(prompt_tokens=3, completion_tokens=9, cached_tokens=0),
    "/v1/responses": TokenUsage(prompt_tokens=19, completion_tokens=12, cached_tokens=0, reasoning_tokens=0),
    "/v1/messages": TokenUsage(prompt_tokens=20, completion_tokens=40, cached_tokens=0),
}
every_dialect = pytest.mark.parametrize("path", list(ASK))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[PlayedEngine]:
    played = PlayedEngine()
    await played.start(tmp_path / "engine.sock")
    yield played
    await played.stop()


async def one_closed(ledger: Ledger) -> UsageRecord:
    for _ in range(200):
        (record,) = ledger.records()
        if record.state is not UsageState.ADMITTED:
            return record
        await asyncio.sleep(0.02)
    raise AssertionError("the record was not closed")


@every_dialect
async def test_a_whole_answer_is_the_engines_bytes_and_is_metered(
    gateway: Running, engine: PlayedEngine, path: str
) -> None:
    async with gateway.http() as http:
        answer = await http.post(path, json=ASK[path])

    (record,) = gateway.ledger.records()
    assert answer.content == recorded(f"{recording_of(path)}.json")
    assert (record.endpoint, record.state, record.outcome) == (path, UsageState.SETTLED, "completed")
    assert record.usage == COUNTS[path]
    assert 1 <= len(engine.bodies[0]["cache_salt"]) <= 1024


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_a_stream_of_named_events_passes_byte_for_byte_and_is_metered(
    gateway: Running, engine: PlayedEngine, path: str
) -> None:
    async with gateway.http() as http:
        answer = await http.post(path, json=ASK[path] | {"stream": True})

    (record,) = gateway.ledger.records()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == recorded(f"{recording_of(path)}.sse")
    assert (record.state, record.usage_source) == (UsageState.SETTLED, UsageSource.FINAL)
    assert record.usage == COUNTS[path]
    assert record.first_token_at is not None
    assert "stream_options" not in engine.bodies[0]


async def test_completions_are_streamed_without_the_counts_that_nobody_asked_for(
    gateway: Running, engine: PlayedEngine
) -> None:
    async with gateway.http() as http:
        bare = await http.post("/v1/completions", json=ASK["/v1/completions"] | {"stream": True})

    (record,) = gateway.ledger.records()
    assert b'"usage"' not in bare.content
    assert bare.content.endswith(b"data: [DONE]\n\n")
    assert record.usage.completion_tokens == 9
    assert engine.bodies[0]["stream_options"]["continuous_usage_stats"] is True


@pytest.mark.parametrize(
    ("path", "known"),
    [("/v1/completions", 3), ("/v1/responses", None), ("/v1/messages", 20)],
)
async def test_a_caller_that_leaves_stops_the_engine_and_unknown_counts_stay_unknown(
    gateway: Running, engine: PlayedEngine, path: str, known: int | None
) -> None:
    engine.gap_s = 0.1
    async with gateway.http() as http, http.stream("POST", path, json=ASK[path] | {"stream": True}) as answer:
        async for _ in answer.aiter_bytes():
            break

    record = await one_closed(gateway.ledger)
    played = engine.played
    await asyncio.sleep(0.4)
    assert (record.state, record.outcome) == (UsageState.PARTIAL, "client_closed")
    assert record.usage.prompt_tokens == known
    assert (record.usage.completion_tokens is None) == (path != "/v1/completions")
    assert engine.played <= played + 1


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_a_stream_that_breaks_off_ends_with_the_dialects_own_error(
    gateway: Running, engine: PlayedEngine, path: str
) -> None:
    engine.break_after, engine.gap_s = 4, 0.01
    async with gateway.http() as http:
        answer = await http.post(path, json=ASK[path] | {"stream": True})

    (record,) = gateway.ledger.records()
    event, data = answer.text.strip().split("\n\n")[-1].split("\n")
    told = json.loads(data.removeprefix("data: "))
    assert event == "event: error"
    assert told["type"] == "error"
    assert "broke off" in (told["error"] if path == "/v1/messages" else told)["message"]
    assert (record.state, record.outcome) == (UsageState.PARTIAL, "upstream_lost")


async def test_counting_tokens_leaves_a_record_that_costs_nothing(gateway: Running, engine: PlayedEngine) -> None:
    path = "/v1/messages/count_tokens"
    async with gateway.http() as http:
        answer = await http.post(path, json={"model": MODEL, "messages": [{"role": "user", "content": "Who?"}]})

    (record,) = gateway.ledger.records()
    assert answer.json() == {"input_tokens": 20}
    assert (record.endpoint, record.state) == (path, UsageState.SETTLED)
    assert record.usage == TokenUsage(prompt_tokens=0, completion_tokens=0)
    assert "cache_salt" not in engine.bodies[0]


@pytest.mark.parametrize(
    "refusal",
    [
        b'{"type":"error","error":{"type":"BadRequestError","message":"too long"}}',
        b'{"error":{"message":"too long","type":"Bad Request","param":null,"code":400}}',
    ],
)
async def test_what_the_engine_refuses_is_told_in_anthropics_words(
    gateway: Running, engine: PlayedEngine, refusal: bytes
) -> None:
    engine.refusal = (400, refusal)
    async with gateway.http() as http:
        answer = await http.post("/v1/messages", json=ASK["/v1/messages"])

    (record,) = gateway.ledger.records()
    assert answer.status_code == 400
    assert answer.json() == {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}
    assert record.outcome == "upstream_refused"


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/completions", {"suffix": "x"}),
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/messages", {"mcp_servers": [{"url": "http://x"}]}),
        ("/v1/messages/count_tokens", {"messages": []}),
    ],
)
async def test_a_refused_request_is_told_in_its_dialect_and_leaves_no_record(
    gateway: Running, engine: PlayedEngine, path: str, change: dict[str, Any]
) -> None:
    ask = ASK["/v1/messages"] if path.startswith("/v1/messages") else ASK[path]
    async with gateway.http() as http:
        refused = await http.post(path, json=ask | change)
        stranger = await http.post(path, json=ask, headers={"Authorization": "Bearer lwd_wrong"})
        elsewhere = await http.post(path, json=ask | {"model": "other"})

    assert (refused.status_code, stranger.status_code, elsewhere.status_code) == (400, 401, 404)
    for answer, kind in ((refused, "invalid_request_error"), (stranger, "authentication_error")):
        told = answer.json()
        assert told["error"]["type"] == kind
        assert told.get("type") == ("error" if path.startswith("/v1/messages") else kind)
    assert engine.bodies == []
    assert gateway.ledger.records() == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/fim/completions", "does not fill in the middle"),
        ("/v1/embeddings", "no model for embeddings"),
        ("/v1/responses/resp_1", "not stored"),
        ("/v1/responses/resp_1/cancel", "not stored"),
        ("/v1/messages/batches", "Batches are not served"),
    ],
)
async def test_what_is_not_served_is_refused_in_words(
    gateway: Running, engine: PlayedEngine, path: str, words: str
) -> None:
    async with gateway.http() as http:
        answer = await http.post(path, json={})

    assert answer.status_code == 404
    assert words in answer.json()["error"]["message"]
    assert engine.bodies == []
